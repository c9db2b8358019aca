#include "engine/choice.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "engine/philox.hpp"

namespace tidemill::engine {
namespace {

constexpr size_t kMostForced = 512;  // tokens known ahead; a longer run goes on after them

// An echoed prompt's tokens are those of its text: what is hidden of it (the beginning of the sequence, the space that
// the tokenizer puts before a text) is hidden of them.
void show_as(TokenInfo& info, std::string bytes) {
  info.chosen.bytes = std::move(bytes);
  for (TokenLogprob& other : info.top) {
    if (other.token == info.chosen.token) other.bytes = info.chosen.bytes;
  }
}

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
      stops_(request.stop_watch ? std::vector<std::string>() : request.stop) {
  if (request.stop_watch && !request.stop.empty()) stop_watch_ = request.stop_watch();
  if (request.sampling.penalised()) history_ = TokenHistory(request.prompt);
  event_.choice = index;
  if (request.grammar != nullptr) {
    matcher_ = request.grammar->start();
    forced_ = matcher_->forced(kMostForced);
  }
  if (request.reasoning) reasoning_.emplace(*request.reasoning);
  if (reasoning_ && reasoning_->spent() && can_close_reasoning()) closing_ = 0;
}

base::Result<const grammar::TokenMask*> Choice::allowed() {
  if (!matcher_) return nullptr;
  return matcher_->allowed();
}

std::optional<Token> Choice::forced() const {
  if (finished()) return std::nullopt;
  if (closing_) return request_.reasoning->close[*closing_];
  if (next_forced_ == forced_.size()) return std::nullopt;
  return forced_[next_forced_];
}

// Whether the tokens that end reasoning may come next, all of them.
bool Choice::can_close_reasoning() const {
  if (detokenizer_.within_character()) return false;
  if (!matcher_) return true;
  if (next_forced_ < forced_.size()) return false;
  grammar::Matcher probe = *matcher_;
  return std::ranges::all_of(request_.reasoning->close, [&](Token token) { return probe.accept(token); });
}

void Choice::follow_reasoning(std::string_view text) {
  if (!reasoning_) return;
  reasoning_->add(text);
  if (closing_ && ++*closing_ == request_.reasoning->close.size()) {
    closing_.reset();
    reasoning_->close();
  } else if (!closing_ && reasoning_->spent() && can_close_reasoning()) {
    closing_ = 0;
  }
}

void Choice::advance_grammar(Token token) {
  [[maybe_unused]] const bool accepted = matcher_->accept(token);
  assert(accepted);
  if (next_forced_ < forced_.size()) {
    assert(token == forced_[next_forced_]);
    ++next_forced_;
  }
  if (next_forced_ < forced_.size()) return;
  forced_.clear();
  next_forced_ = 0;
  const bool closing_goes_on = closing_ && *closing_ + 1 < request_.reasoning->close.size();
  if (!closing_goes_on) forced_ = matcher_->forced(kMostForced);
}

double Choice::draw() const {
  return uniform(seed_, static_cast<uint64_t>(generated_));
}

void Choice::echo(std::span<const Token> prompt, std::vector<TokenInfo> infos) {
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (!infos.empty()) {
      infos[i].text_offset = characters_;
      show_as(infos[i], std::string(detokenizer_.shown_bytes(prompt[i])));
    }
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

std::optional<std::string> Choice::refusal_of(Token token) const {
  if (finished()) return fmt::format("the choice has ended before it ({})", to_string(finish_));
  if (const std::optional<Token> only = forced(); only && *only != token) {
    return fmt::format("the request's form has only {} there", *only);
  }
  if (!matcher_) return std::nullopt;
  grammar::Matcher probe = *matcher_;
  const bool allowed = tokenizer_.ends_generation(token) ? probe.can_end() : probe.accept(token);
  if (!allowed) return "the request's form does not allow it there";
  return std::nullopt;
}

base::Result<void> Choice::resume(int64_t room) {
  const auto at = static_cast<size_t>(event_.choice);
  if (at >= request_.resumed.size() || request_.resumed[at].empty()) return {};
  const std::vector<Token>& tokens = request_.resumed[at];
  const bool infos = request_.logprobs;
  if (request_.echo) echo(request_.prompt, std::vector<TokenInfo>(infos ? request_.prompt.size() : 0));
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (const auto refusal = refusal_of(tokens[i])) {
      return base::Error(
                 base::ErrorCode::invalid_argument,
                 fmt::format("choice {} cannot have generated {} as its token {}: {}", at, tokens[i], i, *refusal))
          .with_param("resumed");
    }
    add(tokens[i], infos ? std::optional(TokenInfo()) : std::nullopt, --room);
  }
  event_.resumed = true;
  resumed_ = generated_;
  return {};
}

void Choice::complete_resumption(std::span<const TokenInfo> prompt, std::span<const TokenInfo> tokens) {
  auto target = event_.logprobs.begin();
  const auto fill = [&](const TokenInfo& info, bool echoed) {
    const size_t offset = target->text_offset;
    std::string shown = std::move(target->chosen.bytes);
    *target = info;
    if (echoed) show_as(*target, std::move(shown));
    target++->text_offset = offset;
  };
  for (size_t i = 0; event_.echoed > 0 && i < prompt.size(); ++i)
    fill(prompt[i], true);
  for (const TokenInfo& info : tokens)
    fill(info, false);
  assert(target == event_.logprobs.end());
}

void Choice::add(Token token, std::optional<TokenInfo> info, int64_t room) {
  take(token, std::move(info), room);
  event_.text_ends.push_back(event_.text.size());
}

void Choice::take(Token token, std::optional<TokenInfo> info, int64_t room) {
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

  const std::string text = spell(token);
  follow_reasoning(text);
  StopMatcher::Step step = stops_.push(text);
  event_.text += step.text;
  const int matched = stop_watch_ ? stop_watch_->push(text) : step.matched;
  if (matched >= 0) {
    finish_ = FinishReason::stop;
    event_.matched_stop = request_.stop[static_cast<size_t>(matched)];
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
  told_end_ = finished();
  return std::exchange(event_, std::move(next));
}

base::Result<std::vector<std::unique_ptr<Choice>>> start_choices(const Request& request,
                                                                 const text::Tokenizer& tokenizer, uint64_t seed,
                                                                 int64_t context) {
  std::vector<std::unique_ptr<Choice>> choices;
  for (int i = 0; i < request.n; ++i) {
    choices.push_back(std::make_unique<Choice>(request, tokenizer, i, seed));
    TM_CHECK(choices.back()->resume(context - std::ssize(request.prompt)));
  }
  return choices;
}

}  // namespace tidemill::engine
