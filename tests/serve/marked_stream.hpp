// Streams with marks (docs/resume.md) as a gateway reads them, and what is in them wherever their text was cut.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"

namespace tidemill::test {

namespace json = base::json;

// What a gateway knows of a stream up to some mark.
struct MarkedPrefix {
  std::string bytes;  // that the client has, without marks
  json::value open;
  std::optional<json::value> state;
  std::vector<std::vector<int32_t>> tokens;  // by choice
  bool complete = false;

  // The value of "tidemill_resume".
  json::object resume() const;
};

// What is known after each of the marks of a stream with so many choices, the first ("open") included. Fails the test
// where the stream is not as the protocol says.
std::vector<MarkedPrefix> prefixes_of(std::string_view stream, size_t choices);

std::string without_marks(std::string_view stream);

using Events = std::map<int, std::vector<json::value>>;

// The events' data, by choice (-1: of none), with texts put together that only the cutting keeps apart. Numbers that
// count events are checked and left out, as is the time at which a response was completed.
Events merged_events(std::string_view stream);
// Leaves out of usages how much of it was cached.
void remove_cached(Events& events);

// `body` with one more member.
std::string with_member(std::string_view body, std::string_view name, const json::value& value);

}  // namespace tidemill::test
