#include "serve/output_reader.hpp"

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "base/checksum.hpp"
#include "base/utf8.hpp"

namespace tidemill::serve {

// Puts pieces of text together as long as they are of one kind.
class PieceList {
 public:
  void add(const chat::Delta& delta) {
    if (!delta.reasoning.empty()) piece(Kind::reasoning).reasoning += delta.reasoning;
    if (!delta.content.empty()) piece(Kind::content).text += delta.content;
    for (const chat::CallDelta& call : delta.calls) {
      wire::Event& target = piece(Kind::calls);
      if (!target.tool_calls.empty() && target.tool_calls.back().index == call.index) {
        target.tool_calls.back().arguments += call.arguments;
      } else {
        target.tool_calls.push_back({call.index, call.id, call.name, call.arguments});
      }
    }
  }
  void add_content(std::string_view text) {
    if (!text.empty()) piece(Kind::content).text += text;
  }

  // Gives the pieces since the last call probabilities, to the first of them (there is one then), and no more text.
  void seal(std::span<engine::TokenInfo> infos) {
    if (sealed_ == pieces_.size()) pieces_.emplace_back();
    std::vector<wire::TokenInfo>& logprobs = pieces_[sealed_].logprobs;
    for (engine::TokenInfo& info : infos)
      logprobs.push_back(to_wire(std::move(info)));
    sealed_ = pieces_.size();
    last_ = Kind::none;
  }

  // At least one, which may be empty.
  std::vector<wire::Event> take() && {
    if (pieces_.empty()) pieces_.emplace_back();
    return std::move(pieces_);
  }

 private:
  enum class Kind : uint8_t { none, reasoning, content, calls };

  wire::Event& piece(Kind kind) {
    if (kind != last_) pieces_.emplace_back();
    last_ = kind;
    return pieces_.back();
  }
  static wire::TokenLogprob to_wire(engine::TokenLogprob&& token) {
    return {.bytes = std::move(token.bytes), .logprob = token.logprob};
  }
  static wire::TokenInfo to_wire(engine::TokenInfo&& info) {
    wire::TokenInfo token{.chosen = to_wire(std::move(info.chosen)), .top = {}, .text_offset = info.text_offset};
    token.top.reserve(info.top.size());
    for (engine::TokenLogprob& other : info.top)
      token.top.push_back(to_wire(std::move(other)));
    return token;
  }

  std::vector<wire::Event> pieces_;
  size_t sealed_ = 0;
  Kind last_ = Kind::none;
};

namespace {

// Whether what a limit cut off is the beginning of a call, of which no name or argument had come yet: nobody wants to
// read that.
bool begins_call(std::string_view content, const std::vector<std::string>& triggers) {
  const size_t begin = std::min(content.find_first_not_of(" \n\t\r"), content.size());
  return std::ranges::any_of(triggers, [&](std::string_view trigger) {
    const size_t last = trigger.find_last_not_of(" \n\t\r");
    if (last == std::string_view::npos || last < 2) return false;  // too short to be sure
    return content.substr(begin).starts_with(trigger.substr(0, last + 1));
  });
}

// Numbers that follow from what they are for (SplitMix64, Steele, Lea and Flood 2014).
std::function<uint64_t()> numbers_of(std::string_view id, int choice) {
  const std::string name = fmt::format("{}/{}", id, choice);
  return [state = base::checksum(std::as_bytes(std::span(name)))]() mutable {
    uint64_t z = (state += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  };
}

}  // namespace

OutputReader::OutputReader(const ReadingRules* rules, std::string_view id, int choice)
    : rules_(rules), choice_(choice) {
  if (rules == nullptr) return;
  parser_.emplace(rules->format, rules->tools, rules->start, numbers_of(id, choice));
  if (!rules->stop.empty()) stops_.emplace(rules->stop);
  must_call_ = rules->must_call;
  if (rules->tools.empty()) return;
  triggers_ = chat::call_triggers(rules->format.syntax);
  if (rules->format.tools == chat::ToolFormat::harmony) triggers_ = {"<|channel|>", "<|start|>", "to="};
}

void OutputReader::put_out(chat::Delta& delta, PieceList& pieces) {
  if (stops_) {
    const std::string before = stops_->take(parser_->waiting_content(), delta);
    pieces.add_content(before);
  }
  pieces.add(delta);
  delta.clear();
}

// Character by character, so that pieces come out in the order in which they were written.
void OutputReader::take_text(std::string_view text, PieceList& pieces) {
  if (!parser_) return pieces.add_content(text);
  chat::Delta delta;
  while (!text.empty() && !(stops_ && stops_->found())) {
    const size_t length = std::min<size_t>(text.size(), base::utf8::decode(text).length);
    parser_->feed(text.substr(0, length), delta);
    text.remove_prefix(length);
    reasoning_.feed(length, parser_->waiting_reasoning(), !delta.reasoning.empty(), parser_->in_reasoning());
    if (stops_ || !delta.empty()) put_out(delta, pieces);
  }
}

void OutputReader::take_end(engine::FinishReason finish, PieceList& pieces) {
  if (!parser_ || (stops_ && stops_->found())) return;
  chat::Delta delta;
  const bool cut = finish == engine::FinishReason::length;
  parser_->finish(delta, cut);
  reasoning_.finish(!delta.reasoning.empty());
  if (cut && (must_call_ || begins_call(delta.content, triggers_))) delta.content.clear();
  put_out(delta, pieces);
  if (stops_) pieces.add_content(stops_->flush());
}

std::vector<wire::Event> OutputReader::take_apart(engine::Event& event) {
  PieceList pieces;
  const std::string_view text = event.text;
  const bool ends = event.finish != engine::FinishReason::none;
  std::span<engine::TokenInfo> infos = event.logprobs;
  size_t begin = 0;
  for (size_t i = 0; i < event.text_ends.size(); ++i) {
    const bool has_text = event.text_ends[i] > begin;
    reasoning_.begin_token(parser_ && parser_->in_reasoning());
    take_text(text.substr(begin, event.text_ends[i] - begin), pieces);
    reasoning_.end_token(has_text);
    begin = event.text_ends[i];
    const bool last = i + 1 == event.text_ends.size();
    if (last && ends) take_end(event.finish, pieces);
    if (infos.empty()) continue;
    // An echoed prompt comes with the first token.
    const size_t count = i == 0 ? static_cast<size_t>(event.echoed) + 1 : 1;
    pieces.seal(infos.first(count));
    infos = infos.subspan(count);
  }
  if (!event.text_ends.empty()) return std::move(pieces).take();
  take_text(text, pieces);
  if (ends) take_end(event.finish, pieces);
  if (!infos.empty()) pieces.seal(infos);
  return std::move(pieces).take();
}

std::vector<wire::Event> OutputReader::read(engine::Event event) {
  std::vector<wire::Event> pieces = take_apart(event);
  for (wire::Event& piece : pieces) {
    piece.choice = choice_;
    piece.resumed = event.resumed;
    piece.cached_tokens = event.cached_tokens;
  }
  wire::Event& last = pieces.back();
  last.matched_stop = std::move(event.matched_stop);
  // What no call came of may have been taken for one until the end.
  const bool stopped = stops_ && stops_->found();
  if (stopped) last.matched_stop = rules_->stop[static_cast<size_t>(stops_->matched())];
  if (event.finish == engine::FinishReason::length && !stopped) last.finish = wire::FinishReason::length;
  if (event.finish == engine::FinishReason::stop || (event.finish == engine::FinishReason::length && stopped)) {
    const bool called = parser_ && parser_->calls() > 0 && parser_->complete();
    last.finish = called ? wire::FinishReason::tool_calls : wire::FinishReason::stop;
  }
  last.progress.emplace().tokens.assign(event.tokens.begin() + event.echoed, event.tokens.end());
  return pieces;
}

}  // namespace tidemill::serve
