// Stop strings end an output's content: they do not count in reasoning, nor in what calls are spelled with. What is
// which is known to who takes the output apart, and so they are looked for behind the parser: by the engine, which ends
// the choice, and by the reader, which ends the content there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "chat/output_parser.hpp"
#include "engine/request.hpp"
#include "engine/stop_matcher.hpp"
#include "serve/reading_rules.hpp"

namespace tidemill::serve {

// Ends one choice's content before its first stop string. Not thread-safe.
class ContentStops {
 public:
  explicit ContentStops(const std::vector<std::string>& stops) : matcher_(stops) {}

  // Takes what a parser has made of one more character: `delta` keeps what can no longer be a part of a stop string,
  // and nothing behind one. `waiting` is the parser's waiting_content(): white space ends content as soon as it is
  // written, though the parser waits for what follows. The result is content from before, which comes out first.
  std::string take(std::string_view waiting, chat::Delta& delta);
  // What is held back, when the output ends for another reason.
  std::string flush() { return found() ? std::string() : matcher_.flush(); }

  bool found() const { return matched_ >= 0; }
  // The index of the stop string that was found, or -1.
  int matched() const { return matched_; }

 private:
  void take_content(std::string_view text, std::string& out);

  engine::StopMatcher matcher_;
  int matched_ = -1;
};

// What makes the engine's watches for outputs that are read by `rules`.
std::function<std::unique_ptr<engine::StopWatch>()> stop_watch(const ReadingRules& rules);

}  // namespace tidemill::serve
