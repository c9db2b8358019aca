// Reading the members of a JSON object with errors that name the parameter, what was found and what would be right.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::wire {

// The most of what a request counts: it is kept as an int.
inline constexpr int64_t max_int = std::numeric_limits<int32_t>::max();

// How deep a body may nest.
inline constexpr int max_body_depth = 64;

// "a string", "an integer", "an array": what a value is, for messages.
std::string_view kind_of(const base::json::value& value);

// A request's body, which must be an object. invalid_argument where it is none or no JSON, or has a number that no
// double holds; unsupported where it nests too deeply.
base::Result<base::json::object> parse_body(std::string_view body);

// A view of an object at `path` in the request ("" for the body, "messages[2]" inside it). A member that is absent or
// null reads as absent. All errors are invalid_argument with the member's full path as param.
class JsonFields {
 public:
  explicit JsonFields(const base::json::object& object, std::string path = {})
      : object_(object), path_(std::move(path)) {}

  // The member, or nullptr if it is absent or null.
  const base::json::value* find(std::string_view name) const;
  // Whether the member is there, and null.
  bool is_null(std::string_view name) const;
  // "messages[2].role" for "role" in "messages[2]".
  std::string path(std::string_view name) const;
  // "messages[2]" itself; "" for the body.
  const std::string& path() const { return path_; }

  base::Result<std::optional<bool>> boolean(std::string_view name) const;
  base::Result<std::optional<int64_t>> integer(std::string_view name, int64_t low, int64_t high) const;
  // A limit of tokens: an integer of at least `low`, as max_int where it is more than that.
  base::Result<std::optional<int64_t>> limit(std::string_view name, int64_t low) const;
  // Any integer of 64 bits, signed or not, as its bits: -1 and 2^64 - 1 are one.
  base::Result<std::optional<int64_t>> word(std::string_view name) const;
  base::Result<std::optional<double>> number(std::string_view name, double low, double high) const;
  base::Result<std::optional<double>> number_above(std::string_view name, double low, double high) const;  // not `low`
  base::Result<std::optional<std::string>> string(std::string_view name) const;
  // The string, which must be there.
  base::Result<std::string> required_string(std::string_view name) const;
  base::Result<const base::json::array*> array(std::string_view name) const;               // nullptr if absent
  base::Result<const base::json::array*> array(std::string_view name, size_t most) const;  // of that many entries
  base::Result<const base::json::object*> object(std::string_view name) const;             // nullptr if absent

  // "'NAME' must be REQUIREMENT, not FOUND".
  base::Error mismatch(std::string_view name, std::string_view requirement, const base::json::value& found) const;
  base::Error invalid(std::string_view name, std::string message) const;
  // A field that the dialect knows and this server does not do.
  base::Error unsupported(std::string_view name, std::string_view what) const;

  // A member that the dialect knows and this server does not do, and why.
  struct Refused {
    std::string_view name;
    std::string_view why;
  };
  // `unsupported` for the first of these that is there and asks for something: an empty array does not.
  base::Result<void> refuse(std::span<const Refused> members) const;

 private:
  const base::json::object& object_;
  std::string path_;
};

}  // namespace tidemill::wire
