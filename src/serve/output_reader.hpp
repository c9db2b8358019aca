// Takes the engine's events for one choice apart into reasoning, content and tool calls.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/output_parser.hpp"
#include "engine/request.hpp"
#include "serve/content_stops.hpp"
#include "serve/reading_rules.hpp"
#include "serve/reasoning_count.hpp"
#include "wire/request.hpp"

namespace tidemill::serve {

class PieceList;

// Takes one choice's events apart. Not thread-safe.
class OutputReader {
 public:
  // `rules` must outlive it; null: the text is the content. Ids that calls lack follow from `id`, the answer's, and the
  // choice.
  OutputReader(const ReadingRules* rules, std::string_view id, int choice);

  // The pieces that an event of the engine gives rise to, in the order in which they were written; at least one. The
  // last carries the finish reason. How tokens were put together into events makes no difference but to where pieces
  // begin: with probabilities each token has pieces of its own, since what they belong to depends on it.
  std::vector<wire::Event> read(engine::Event event);
  // Tokens of reasoning so far.
  int64_t reasoning_tokens() const { return reasoning_.tokens(); }

 private:
  std::vector<wire::Event> take_apart(engine::Event& event);
  void take_text(std::string_view text, PieceList& pieces);
  void take_end(engine::FinishReason finish, PieceList& pieces);
  // Puts out what the parser has found, as far as no stop string ends it.
  void put_out(chat::Delta& delta, PieceList& pieces);

  const ReadingRules* rules_;
  std::optional<chat::OutputParser> parser_;
  std::optional<ContentStops> stops_;  // where there are stop strings
  std::vector<std::string> triggers_;  // that begin a call
  bool must_call_ = false;
  int choice_;
  ReasoningCount reasoning_;
};

}  // namespace tidemill::serve
