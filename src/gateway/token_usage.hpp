// How many tokens an answer took, as far as it says so itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tidemill::gateway {

// Where the next "usage" of `text` from `from` on begins that is a member's key, with its opening quote; npos: there is
// none. Every piece of every stream is searched for it, so it is looked for by its `g`: quotes are everywhere, and a
// chunk of a chat has hardly a `g` beside its text.
size_t find_usage(std::string_view text, size_t from = 0);
// How long that key is, with its colon.
inline constexpr size_t usage_key_length = 8;

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
