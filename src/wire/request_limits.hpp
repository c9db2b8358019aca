// How many things a request may hold: far above what any context has room for, and few enough that what is made of them
// stays within a few times the body's size. Each is checked before anything is made.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string_view>

#include <fmt/core.h>

#include "base/json.hpp"
#include "base/result.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::wire {

inline constexpr size_t max_messages = 16'384;  // or turns, or items
inline constexpr size_t max_parts = 65'536;     // content parts, blocks and calls of all messages together
inline constexpr size_t max_tools = 1'024;

// Counts the parts of one request's messages.
class PartCount {
 public:
  // What these members of a message hold, as far as they are arrays.
  base::Result<void> add(const JsonFields& message, std::initializer_list<std::string_view> members) {
    for (const std::string_view name : members) {
      const base::json::value* value = message.find(name);
      const base::json::array* array = value == nullptr ? nullptr : value->if_array();
      if (array == nullptr) continue;
      parts_ += array->size();
      if (parts_ > max_parts) {
        return message.invalid(name, fmt::format("with '{}' the messages have {} parts and calls, or more; at most {} "
                                                 "are taken in one request",
                                                 message.path(name), parts_, max_parts));
      }
    }
    return {};
  }

 private:
  size_t parts_ = 0;
};

}  // namespace tidemill::wire
