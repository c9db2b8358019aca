// How many tokens an answer took, as far as it says so itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tidemill::gateway {

// Reads the "usage" objects of all dialects as they pass by, without parsing what surrounds them; of several the last
// word on each number counts (a stream may bring the prompt's first and the output's later). Numbers below 0, or beyond
// what any answer has, say nothing.
class TokenUsage {
 public:
  // Whole events, or a whole body.
  void take(std::string_view text);

  std::optional<int64_t> prompt_tokens;
  std::optional<int64_t> cached_tokens;
  std::optional<int64_t> output_tokens;

 private:
  void take_object(std::string_view object);
};

}  // namespace tidemill::gateway
