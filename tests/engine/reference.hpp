// What a request must answer, computed one token at a time from the fake model's definition: no cache, no blocks, no
// batch.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "base/utf8.hpp"
#include "engine/fake_model.hpp"
#include "engine/philox.hpp"
#include "engine/sampler.hpp"
#include "engine/stream.hpp"

namespace tidemill::engine::test {

// All events of one choice, joined.
struct Answer {
  std::vector<Token> tokens;
  std::vector<TokenInfo> logprobs;
  std::string text;
  FinishReason finish = FinishReason::none;
  std::string matched_stop;
  std::vector<float> embedding;
  int echoed = 0;
};

inline bool same(const TokenLogprob& a, const TokenLogprob& b) {
  return a.token == b.token && a.bytes == b.bytes && a.logprob == b.logprob;
}
inline bool same(const TokenInfo& a, const TokenInfo& b) {
  return same(a.chosen, b.chosen) &&
         std::ranges::equal(a.top, b.top, [](const auto& x, const auto& y) { return same(x, y); });
}
inline void expect_same(const Answer& actual, const Answer& expected, const std::string& what) {
  EXPECT_EQ(actual.tokens, expected.tokens) << what;
  EXPECT_EQ(actual.text, expected.text) << what;
  EXPECT_EQ(to_string(actual.finish), to_string(expected.finish)) << what;
  EXPECT_EQ(actual.matched_stop, expected.matched_stop) << what;
  EXPECT_EQ(actual.embedding, expected.embedding) << what;
  EXPECT_EQ(actual.echoed, expected.echoed) << what;
  EXPECT_TRUE(
      std::ranges::equal(actual.logprobs, expected.logprobs, [](const auto& a, const auto& b) { return same(a, b); }))
      << what << ": log-probabilities differ";
}

// Of a list of tokens: its hash after each of them.
class FakeSequence {
 public:
  void add(Token token) { values_.push_back(chain(values_.empty() ? 0 : values_.back(), token, std::ssize(values_))); }
  std::vector<float> logits() const { return logits_of(digest(values_), false); }
  std::vector<float> hidden() const { return hidden_of(digest(values_)); }

 private:
  std::vector<uint64_t> values_;
};

inline TokenInfo info_of(const text::Tokenizer& tokenizer, std::span<const float> logits, Token token, int top) {
  const auto logprobs = log_probabilities(logits, token, top);
  TokenInfo info{{token, std::string(tokenizer.piece_bytes(token)), logprobs->chosen}, {}};
  for (const auto& [other, value] : logprobs->top)
    info.top.push_back({other, std::string(tokenizer.piece_bytes(other)), value});
  return info;
}

// The earliest end of a stop string in `text`, and there the longest; npos if there is none.
inline size_t find_stop(const std::string& text, const std::vector<std::string>& stops, std::string& matched) {
  for (size_t end = 1; end <= text.size(); ++end) {
    matched.clear();
    for (const std::string& stop : stops) {
      if (text.substr(0, end).ends_with(stop) && stop.size() > matched.size()) matched = stop;
    }
    if (!matched.empty()) return end - matched.size();
  }
  return std::string::npos;
}

// Text of whole characters only, unless `final`.
inline std::string text_of(const text::Tokenizer& tokenizer, std::span<const Token> tokens, bool special, bool final) {
  std::string bytes;
  for (const Token token : tokens) {
    if (special || !tokenizer.is_special(token)) bytes += tokenizer.piece_bytes(token);
  }
  if (!final) bytes.resize(bytes.size() - base::utf8::incomplete_tail(bytes));
  return base::utf8::sanitize(bytes);
}

inline Answer reference_embedding(const Request& request, bool last) {
  FakeSequence sequence;
  std::vector<double> sum(kWidth, 0);
  for (const Token token : request.prompt) {
    sequence.add(token);
    const auto hidden = sequence.hidden();
    for (size_t i = 0; i < sum.size(); ++i)
      sum[i] = static_cast<double>(hidden[i]) + (last ? 0 : sum[i]);
  }
  double squares = 0;
  for (const double x : sum)
    squares += x * x;
  Answer answer;
  answer.finish = FinishReason::stop;
  for (const double x : sum)
    answer.embedding.push_back(static_cast<float>(x * (1 / std::sqrt(squares))));
  return answer;
}

inline Answer reference(const Request& request, int choice, const text::Tokenizer& tokenizer, int64_t max_context) {
  if (request.kind == Request::Kind::embed) return reference_embedding(request, false);
  Answer answer;
  FakeSequence sequence;
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    const Token token = request.prompt[i];
    if (request.echo && request.logprobs) {
      answer.logprobs.push_back(i > 0
                                    ? info_of(tokenizer, sequence.logits(), token, request.top_logprobs)
                                    : TokenInfo{{token, std::string(tokenizer.piece_bytes(token)), std::nullopt}, {}});
    }
    sequence.add(token);
  }
  if (request.echo) {
    answer.echoed = static_cast<int>(request.prompt.size());
    answer.tokens = request.prompt;
  }
  std::vector<Token> output;
  TokenHistory history(request.prompt);
  Sampler sampler;
  answer.finish = FinishReason::length;
  const auto generated_text = [&](bool final) {
    const std::string before = request.echo ? text_of(tokenizer, request.prompt, request.special_text, false) : "";
    std::vector<Token> all = request.echo ? request.prompt : std::vector<Token>{};
    all.insert(all.end(), output.begin(), output.end());
    return text_of(tokenizer, all, request.special_text, final).substr(before.size());
  };
  while (std::ssize(output) < request.max_tokens && std::ssize(request.prompt) + std::ssize(output) < max_context) {
    const auto logits = sequence.logits();
    const double draw = uniform(request.sampling.seed.value() + static_cast<uint64_t>(choice), output.size());
    const Token token = sampler.sample(logits, request.sampling, history, draw).value();
    if (request.logprobs) answer.logprobs.push_back(info_of(tokenizer, logits, token, request.top_logprobs));
    answer.tokens.push_back(token);
    const bool ends = (token == kEos && !request.ignore_eos) || std::ranges::count(request.stop_tokens, token) > 0;
    if (ends) {
      answer.finish = FinishReason::stop;
      break;
    }
    sequence.add(token);
    history.add_generated(token);
    output.push_back(token);
    if (find_stop(generated_text(false), request.stop, answer.matched_stop) != std::string::npos) {
      answer.finish = FinishReason::stop;
      break;
    }
  }
  std::string text = generated_text(answer.matched_stop.empty());
  std::string matched;
  if (const size_t at = find_stop(text, request.stop, matched); at != std::string::npos) text.resize(at);
  answer.text = (request.echo ? text_of(tokenizer, request.prompt, request.special_text, false) : "") + text;
  return answer;
}

// Reads a stream to its end, choice by choice.
struct Collected {
  std::vector<Answer> choices;
  std::optional<Usage> usage;
  std::optional<base::Error> error;
};
inline Collected collect(Stream& stream, int n = 1) {
  Collected collected;
  collected.choices.resize(static_cast<size_t>(n));
  while (auto event = stream.next()) {
    EXPECT_FALSE(collected.usage) << "an event after the last";
    Answer& answer = collected.choices[static_cast<size_t>(event->choice)];
    EXPECT_TRUE(event->error || answer.finish == FinishReason::none) << "an event after a choice's last";
    EXPECT_TRUE(base::utf8::is_valid(event->text));
    answer.text += event->text;
    answer.tokens.insert(answer.tokens.end(), event->tokens.begin(), event->tokens.end());
    answer.logprobs.insert(answer.logprobs.end(), event->logprobs.begin(), event->logprobs.end());
    answer.finish = event->finish;
    answer.matched_stop = event->matched_stop;
    answer.embedding = event->embedding;
    answer.echoed += event->echoed;
    if (event->usage) collected.usage = event->usage;
    if (event->error) collected.error = event->error;
  }
  EXPECT_TRUE(stream.ended());
  return collected;
}

}  // namespace tidemill::engine::test
