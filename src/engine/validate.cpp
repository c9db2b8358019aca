#include "engine/validate.hpp"

#include <string_view>

#include <fmt/format.h>

#include "base/utf8.hpp"

namespace tidemill::engine {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

Error invalid(std::string_view param, std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_param(std::string(param));
}

// Written so that NaN fails.
Result<void> in_range(std::string_view param, float value, float low, float high) {
  if (value >= low && value <= high) return {};
  return invalid(param, fmt::format("{} must be from {} to {}, not {}", param, low, high, value));
}

Result<void> is_token(std::string_view param, Token token, int64_t vocabulary) {
  if (token >= 0 && token < vocabulary) return {};
  return invalid(param, fmt::format("{} has token {}, the model's tokens are 0 to {}", param, token, vocabulary - 1));
}

Result<void> validate_prompt(const Request& request, const RequestLimits& limits) {
  if (request.prompt.empty()) return invalid("prompt", "prompt must have at least one token");
  for (const Token token : request.prompt)
    TM_CHECK(is_token("prompt", token, limits.vocabulary));
  const bool generates = request.kind == Request::Kind::generate && request.max_tokens > 0;
  const int64_t most = limits.max_context - (generates ? 1 : 0);
  if (std::ssize(request.prompt) > most) {
    return Error(ErrorCode::too_large,
                 fmt::format("the prompt has {} tokens, the context takes {}{}", request.prompt.size(),
                             limits.max_context, generates ? " with at least one token to generate" : ""))
        .with_param("prompt");
  }
  return {};
}

Result<void> validate_sampling(const Sampling& sampling, int64_t vocabulary) {
  TM_CHECK(in_range("temperature", sampling.temperature, 0.0f, 2.0f));
  if (sampling.top_k < -1) {
    return invalid("top_k", fmt::format("top_k must be positive, or 0 or -1 for off, not {}", sampling.top_k));
  }
  if (!(sampling.top_p > 0.0f && sampling.top_p <= 1.0f)) {
    return invalid("top_p", fmt::format("top_p must be above 0 and at most 1, not {}", sampling.top_p));
  }
  TM_CHECK(in_range("min_p", sampling.min_p, 0.0f, 1.0f));
  TM_CHECK(
      in_range("repetition_penalty", sampling.repetition_penalty, 1 / kMaxRepetitionPenalty, kMaxRepetitionPenalty));
  TM_CHECK(in_range("frequency_penalty", sampling.frequency_penalty, -2.0f, 2.0f));
  TM_CHECK(in_range("presence_penalty", sampling.presence_penalty, -2.0f, 2.0f));
  for (const auto& [token, bias] : sampling.logit_bias) {
    TM_CHECK(is_token("logit_bias", token, vocabulary));
    TM_CHECK(in_range("logit_bias", bias, -kMaxLogitBias, kMaxLogitBias));
  }
  return {};
}

Result<void> validate_stops(const Request& request, int64_t vocabulary) {
  if (request.stop.size() > kMaxStopStrings) {
    return invalid("stop",
                   fmt::format("stop may have {} strings at most, not {}", kMaxStopStrings, request.stop.size()));
  }
  for (const std::string& stop : request.stop) {
    if (stop.empty()) return invalid("stop", "stop must not have an empty string");
    if (stop.size() > kMaxStopBytes) {
      return invalid("stop",
                     fmt::format("a stop string may have {} bytes at most, not {}", kMaxStopBytes, stop.size()));
    }
    if (!base::utf8::is_valid(stop)) return invalid("stop", "stop has a string that is not valid UTF-8");
  }
  for (const Token token : request.stop_tokens)
    TM_CHECK(is_token("stop_token_ids", token, vocabulary));
  return {};
}

Result<void> validate_reasoning(const Request& request, int64_t vocabulary) {
  if (!request.reasoning) return {};
  const ReasoningBudget& budget = *request.reasoning;
  if (budget.tokens < 0) {
    return invalid("reasoning", fmt::format("reasoning must have 0 tokens or more, not {}", budget.tokens));
  }
  if (budget.close.empty() || budget.closes.empty()) {
    return invalid("reasoning", "reasoning with a budget needs tokens and a text that end it");
  }
  if (!request.special_text) return invalid("reasoning", "reasoning with a budget needs special_text");
  for (const Token token : budget.close)
    TM_CHECK(is_token("reasoning", token, vocabulary));
  return {};
}

// What the choices' own state does not say (Choice::resume).
Result<void> validate_resumed(const Request& request, int64_t vocabulary) {
  if (request.resumed.empty()) return {};
  if (request.kind == Request::Kind::embed) return invalid("resumed", "an embedding cannot be resumed");
  if (request.kind == Request::Kind::score) return invalid("resumed", "a score cannot be resumed");
  if (std::ssize(request.resumed) != request.n) {
    return invalid("resumed", fmt::format("resumed tokens are given for {} choices, the request has {}",
                                          request.resumed.size(), request.n));
  }
  for (const std::vector<Token>& tokens : request.resumed) {
    if (std::ssize(tokens) > request.max_tokens) {
      return invalid("resumed", fmt::format("resumed are {} tokens of a choice that may have {} at most", tokens.size(),
                                            request.max_tokens));
    }
    for (const Token token : tokens)
      TM_CHECK(is_token("resumed", token, vocabulary));
  }
  return {};
}

}  // namespace

Error encodes_only(RequestLimits::Model model) {
  const bool ranks = model == RequestLimits::Model::ranks;
  return Error(ErrorCode::unsupported, ranks ? "the model is a reranker: it scores documents and generates no text"
                                             : "the model is an encoder: it makes embeddings and generates no text")
      .with_param("model");
}

namespace {

Result<void> check_kind(const Request& request, const RequestLimits& limits) {
  using Model = RequestLimits::Model;
  const auto refuse = [](std::string why) { return Error(ErrorCode::unsupported, std::move(why)).with_param("model"); };
  switch (request.kind) {
    case Request::Kind::generate:
      if (limits.model != Model::generates) return encodes_only(limits.model);
      return {};
    case Request::Kind::embed:
      if (limits.model == Model::ranks) {
        return refuse("the model is a reranker: it scores documents and makes no embeddings");
      }
      return {};
    case Request::Kind::score:
      break;
  }
  if (limits.model != Model::ranks)
    return refuse("the model is no reranker: it has no head that scores pairs of texts");
  if (request.second_text >= 1 && request.second_text < std::ssize(request.prompt)) return {};
  return invalid("second_text", fmt::format("the second text begins at token {} of {}; both texts need at least one",
                                            request.second_text, request.prompt.size()));
}

}  // namespace

Result<void> validate(const Request& request, const RequestLimits& limits) {
  TM_CHECK(check_kind(request, limits));
  if (request.n < 1 || request.n > kMaxChoices) {
    return invalid("n", fmt::format("n must be from 1 to {}, not {}", kMaxChoices, request.n));
  }
  if (request.kind != Request::Kind::generate && request.n != 1) {
    return invalid("n", fmt::format("n must be 1 for an embedding or a score, not {}", request.n));
  }
  if (request.max_tokens < 0) {
    return invalid("max_tokens", fmt::format("max_tokens must not be negative, it is {}", request.max_tokens));
  }
  if (request.top_logprobs < 0 || request.top_logprobs > kMaxTopLogprobs) {
    return invalid("top_logprobs",
                   fmt::format("top_logprobs must be from 0 to {}, not {}", kMaxTopLogprobs, request.top_logprobs));
  }
  if (request.top_logprobs > 0 && !request.logprobs) {
    return invalid("top_logprobs", "top_logprobs is given while logprobs is not true");
  }
  TM_CHECK(validate_sampling(request.sampling, limits.vocabulary));
  TM_CHECK(validate_stops(request, limits.vocabulary));
  TM_CHECK(validate_reasoning(request, limits.vocabulary));
  TM_CHECK(validate_resumed(request, limits.vocabulary));
  return validate_prompt(request, limits);
}

}  // namespace tidemill::engine
