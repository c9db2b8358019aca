// What an answer says, free of how its dialect wraps it: to be compared with another's.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "gateway/request_outline.hpp"

namespace tidemill::gateway {

// One answer's. Text, and the names and arguments of tool calls, of all choices in the order in which they come.
// Parses every event, so it is for the few answers that are compared.
class AnswerText {
 public:
  explicit AnswerText(Dialect dialect) : dialect_(dialect) {}

  // Whole events of a stream.
  void take_events(std::string_view events);
  // A body that is no stream.
  void take_whole(std::string_view body);
  // The first most_bytes of it.
  const std::string& text() const { return text_; }

  static constexpr size_t most_bytes = size_t{64} << 10;

 private:
  void take(const base::json::object& object);
  void take_choice(const base::json::object& choice);
  void take_message(const base::json::object& message);
  void take_item(const base::json::object& item);
  void add(const base::json::object& object, std::string_view key);

  Dialect dialect_;
  std::string text_;
};

}  // namespace tidemill::gateway
