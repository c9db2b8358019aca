#include "serve/resumption.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/checksum.hpp"
#include "base/utf8.hpp"
#include "serve/service.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

Error invalid(std::string_view member, std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message))
      .with_param(fmt::format("{}.{}", wire::resume_member, member));
}

Result<void> check_origin(const wire::StreamOrigin& origin, const Serving& serving, std::string_view prefix,
                          const EngineWork& work) {
  if (!origin.id.starts_with(prefix)) {
    return invalid("open.id", fmt::format("the stream to be resumed is '{}', and answers of this endpoint begin with "
                                          "'{}': send it where it began",
                                          origin.id, prefix));
  }
  if (origin.model != serving.fingerprint) {
    return invalid("open.model", fmt::format("the stream began with model and arithmetic '{}', this server has '{}'",
                                             base::utf8::prefix(origin.model, 80), serving.fingerprint));
  }
  if (const std::string here = prompt_checksum(work); origin.prompt != here) {
    return invalid("open.prompt", fmt::format("the stream began with another prompt (checksum '{}', here '{}'): send "
                                              "the body as it was, to a server that has the same template and sessions",
                                              base::utf8::prefix(origin.prompt, 80), here));
  }
  return {};
}

}  // namespace

bool asks_for_marks(const wire::HttpRequest& request) {
  return request.headers.find(wire::resumable_header) == "1";
}

std::string fingerprint(const LoadedModel& model, std::string_view kv_type) {
  // Products may be taken in bf16, and are not the same with every instruction set then.
  const bool exact = model.generates() && model.model().row_multiplies().alike;
  const bool floats = model.device().activations() == tensor::ActivationScheme::f32;
  return fmt::format("{:016x}{} {}{}{}{}", model.content_sample(),
                     model.hyper_parameters().for_short_contexts ? " short" : "", kv_type,
                     floats ? " f32-activations" : "", exact ? "" : " ", exact ? "" : tensor::to_string(model.isa()));
}

std::string prompt_checksum(const EngineWork& work) {
  std::vector<uint64_t> sums;
  sums.reserve(work.requests.size());
  for (const engine::Request& request : work.requests)
    sums.push_back(base::checksum(std::as_bytes(std::span(request.prompt))));
  return fmt::format("{:016x}", base::checksum(std::as_bytes(std::span(sums))));
}

void seed_requests(int64_t seed, EngineWork& work) {
  for (size_t i = 0; i < work.requests.size(); ++i) {
    const std::array<uint64_t, 2> place = {static_cast<uint64_t>(seed), i};
    work.requests[i].sampling.seed = i == 0 ? place[0] : base::checksum(std::as_bytes(std::span(place)));
  }
}

Result<void> resume_work(const wire::Resume& resume, const Serving& serving, std::string_view prefix, int n,
                         EngineWork& work) {
  TM_CHECK(check_origin(resume.origin, serving, prefix, work));
  const size_t choices = work.requests.size() * static_cast<size_t>(n);
  if (resume.tokens.size() > choices) {
    return invalid("tokens",
                   fmt::format("there are tokens of {} choices, the request has {}", resume.tokens.size(), choices));
  }
  ResumedPart& part = work.resumed;
  part.begun.assign(work.requests.size(), false);
  part.ended.assign(choices, false);
  if (resume.state) {
    int64_t prompt_tokens = 0;
    for (const engine::Request& request : work.requests)
      prompt_tokens += std::ssize(request.prompt);
    part.cached_tokens = resume.state->cached_tokens;
    if (part.cached_tokens > prompt_tokens) {
      return invalid("state.cached",
                     fmt::format("{} tokens cannot have been cached of {} in all", part.cached_tokens, prompt_tokens));
    }
    for (const int choice : resume.state->ended) {
      if (static_cast<size_t>(choice) >= choices) {
        return invalid("state.ended", fmt::format("there is no choice {}, the request has {}", choice, choices));
      }
      part.ended[static_cast<size_t>(choice)] = true;
    }
  }
  for (size_t i = 0; i < choices; ++i) {
    const size_t at = i / static_cast<size_t>(n);
    engine::Request& request = work.requests[at];
    // Choices that no token was marked of may be left out.
    const wire::TokenIds& tokens =
        request.resumed.emplace_back(i < resume.tokens.size() ? resume.tokens[i] : wire::TokenIds());
    if (part.ended[i] && (request.max_tokens > 0 || !tokens.empty())) {
      return invalid("state.ended", fmt::format("choice {} cannot have ended without a token", i));
    }
    if (part.ended[i] || !tokens.empty()) part.begun[at] = true;
  }
  for (engine::Request& request : work.requests) {
    const auto none = [](const auto& tokens) { return tokens.empty(); };
    if (std::ranges::all_of(request.resumed, none)) request.resumed.clear();
  }
  return {};
}

}  // namespace tidemill::serve
