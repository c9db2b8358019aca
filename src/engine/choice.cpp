#include "engine/choice.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include "base/utf8.hpp"
#include "engine/philox.hpp"

namespace tidemill::engine {
namespace {

constexpr size_t kMostForced = 512;  // tokens known ahead; a longer run goes on after them

}  // namespace

TokenInfo describe(const text::Tokenizer& tokenizer, Token token, const Logprobs& logprobs) {
  TokenInfo info;
  info.chosen = {token, std::string(tokenizer.piece_bytes(token)), logprobs.chosen};
  for (const auto& [other, logprob] : logprobs.top) {
    info.top.push_back({other, std::string(tokenizer.piece_bytes(other)), logprob});
  }
  return info;
}

// With an echoed prompt, the prompt is the beginning of the text; without, it is what comes before it.
Choice::Choice(const Request& request, const text::Tokenizer& tokenizer, int index, uint64_t seed)
    : request_(request),
      tokenizer_(tokenizer),
      seed_(seed + static_cast<uint64_t>(index)),
      detokenizer_(tokenizer, request.echo ? std::span<const Token>() : request.prompt, request.special_text),
      stops_(request.stop) {
  if (request.sampling.penalised()) history_ = TokenHistory(request.prompt);
  event_.choice = index;
  if (request.grammar == nullptr) return;
  matcher_ = request.grammar->start();
  forced_ = matcher_->forced(kMostForced);
}

base::Result<const grammar::TokenMask*> Choice::allowed() {
  if (!matcher_) return nullptr;
  return matcher_->allowed();
}

std::optional<Token> Choice::forced() const {
  if (finished() || next_forced_ == forced_.size()) return std::nullopt;
  return forced_[next_forced_];
}

void Choice::advance_grammar(Token token) {
  [[maybe_unused]] const bool accepted = matcher_->accept(token);
  assert(accepted);
  if (next_forced_ < forced_.size()) {
    assert(token == forced_[next_forced_]);
    ++next_forced_;
  }
  if (next_forced_ < forced_.size()) return;
  forced_ = matcher_->forced(kMostForced);
  next_forced_ = 0;
}

double Choice::draw() const {
  return uniform(seed_, static_cast<uint64_t>(generated_));
}

void Choice::echo(std::span<const Token> prompt, std::vector<TokenInfo> infos) {
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (!infos.empty()) infos[i].text_offset = characters_;
    event_.text += spell(prompt[i]);
  }
  event_.tokens.assign(prompt.begin(), prompt.end());
  event_.echoed = static_cast<int>(prompt.size());
  event_.logprobs = std::move(infos);
}

FinishReason Choice::reason_to_stop(Token token) const {
  if (!request_.ignore_eos && tokenizer_.ends_generation(token)) return FinishReason::stop;
  if (std::ranges::find(request_.stop_tokens, token) != request_.stop_tokens.end()) return FinishReason::stop;
  return FinishReason::none;
}

std::string Choice::spell(Token token) {
  std::string text = detokenizer_.push(token);
  characters_ += base::utf8::length(text);
  return text;
}

void Choice::add(Token token, std::optional<TokenInfo> info, int64_t room) {
  ++generated_;
  if (request_.sampling.penalised()) history_.add_generated(token);
  event_.tokens.push_back(token);
  if (info) {
    info->text_offset = characters_;
    event_.logprobs.push_back(std::move(*info));
  }
  // The end of a sentence is the end, whatever else was asked to go on.
  const bool ends_sentence = matcher_ && tokenizer_.ends_generation(token);
  if (ends_sentence || reason_to_stop(token) != FinishReason::none) return end(FinishReason::stop);
  if (matcher_) advance_grammar(token);

  StopMatcher::Step step = stops_.push(spell(token));
  event_.text += step.text;
  if (step.matched >= 0) {
    finish_ = FinishReason::stop;
    event_.matched_stop = request_.stop[static_cast<size_t>(step.matched)];
  } else if (matcher_ && matcher_->must_end()) {
    end(FinishReason::stop);
  } else if (generated_ >= request_.max_tokens || room <= 0) {
    end(FinishReason::length);
  }
}

void Choice::end(FinishReason reason) {
  if (finished()) return;
  finish_ = reason;
  StopMatcher::Step step = stops_.push(detokenizer_.flush());
  event_.text += step.text;
  if (step.matched < 0) event_.text += stops_.flush();
}

Event Choice::take_event() {
  Event next;
  next.choice = event_.choice;
  event_.finish = finish_;
  return std::exchange(event_, std::move(next));
}

}  // namespace tidemill::engine
