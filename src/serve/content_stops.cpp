#include "serve/content_stops.hpp"

#include <algorithm>
#include <utility>

#include "base/utf8.hpp"

namespace tidemill::serve {
namespace {

class ContentWatch final : public engine::StopWatch {
 public:
  // No id that it makes up is seen.
  explicit ContentWatch(const ReadingRules& rules)
      : parser_(rules.format, rules.tools, rules.start, [] { return uint64_t{0}; }), stops_(rules.stop) {}

  int push(std::string_view text) override {
    chat::Delta delta;
    while (!text.empty() && !stops_.found()) {
      const size_t length = std::min<size_t>(text.size(), base::utf8::decode(text).length);
      parser_.feed(text.substr(0, length), delta);
      text.remove_prefix(length);
      stops_.take(parser_.waiting_content(), delta);
      delta.clear();
    }
    return stops_.matched();
  }

 private:
  chat::OutputParser parser_;
  ContentStops stops_;
};

}  // namespace

void ContentStops::take_content(std::string_view text, std::string& out) {
  engine::StopMatcher::Step step = matcher_.push(text);
  out += step.text;
  matched_ = step.matched;
}

std::string ContentStops::take(std::string_view waiting, chat::Delta& delta) {
  std::string before;
  if (found()) {
    delta.clear();
    return before;
  }
  if (!delta.reasoning.empty()) before = matcher_.flush();
  if (!delta.content.empty()) take_content(std::exchange(delta.content, {}), delta.content);
  if (found()) {
    delta.calls.clear();
    return before;
  }
  if (!delta.calls.empty()) delta.content += matcher_.flush();
  if (!waiting.empty() && matcher_.finds(waiting)) take_content(waiting, delta.content);
  return before;
}

std::function<std::unique_ptr<engine::StopWatch>()> stop_watch(const ReadingRules& rules) {
  return [kept = std::make_shared<const ReadingRules>(rules)] { return std::make_unique<ContentWatch>(*kept); };
}

}  // namespace tidemill::serve
