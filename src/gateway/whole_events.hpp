// Whole server-sent events as they pass by, read by the rules of the format (WHATWG HTML Living Standard, section 9.2):
// the blank behind a colon may be missing, fields stand in any order, and lines end with LF, CR LF or CR. Nothing is
// copied, but for data of several lines. What arrives in pieces is for wire::SseParser.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace tidemill::gateway {

// What stands up to a blank line.
struct WholeEvent {
  std::string_view text{};  // as it came, with the blank line
  std::string_view name{};  // of the field "event"; empty without one
  std::string_view data{};  // the fields "data", joined by '\n'
  bool has_data = false;    // false: comments, or fields that make no event by themselves

  // What it says that it is: its name, or the "type" of its data where it has none.
  std::string_view type() const;
  // Its data are one JSON object, from brace to brace: no part of one that was cut off.
  bool carries_object() const;
};

//   WholeEvents walk(events);
//   while (const auto event = walk.next()) ...
class WholeEvents {
 public:
  // `events` must stay where it is.
  explicit WholeEvents(std::string_view events);
  WholeEvents(const WholeEvents&) = delete;
  WholeEvents& operator=(const WholeEvents&) = delete;

  // Good until the next call.
  std::optional<WholeEvent> next();

 private:
  size_t end_of_line(size_t at);
  void take_field(std::string_view line, WholeEvent& event);

  std::string_view rest_;
  const char* line_feed_ = nullptr;  // the next one in it, or its end; null, or before what is looked at: not known
  std::string joined_;
};

// Of the end of a stream, `rest`: appends the events that are whole, up to the first that is not. They carry JSON
// objects or "[DONE]", as those of all known dialects do. The last one gets the blank line that it may lack, and a
// comment that does is left out.
void append_whole_events(std::string& out, std::string_view rest);

}  // namespace tidemill::gateway
