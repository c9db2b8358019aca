// What a model is chosen by: the features of a request.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tidemill::rollout {

// What can be seen in a text without understanding it, as shares of the text, 0 to 1.
struct TextTraits {
  double code = 0;             // of its lines that are not blank
  double other_alphabets = 0;  // of its letters: Cyrillic, Greek, Arabic, ...
  double without_spaces = 0;   // of its letters: Han, kana, Hangul, Thai, ...
};

// Looks at the last 8 KiB of `text` at most, which takes some tens of microseconds. Need not be valid UTF-8.
TextTraits read_text(std::string_view text);

struct RequestTraits {
  int64_t prompt_tokens = 0;  // or an estimate: the text's bytes over 4
  int64_t turns = 0;          // messages before this request's last
  int64_t tools = 0;          // offered
  bool images = false;
  TextTraits text = {};  // of the user's last message, say
};

// The version is written into every state and log: numbers of another version mean something else.
inline constexpr int kFeatureVersion = 1;
inline constexpr size_t kFeatures = 12;
// Each between 0 and 1, the first always 1: 1, log length, length (32k tokens or more: 1), whether over 8k tokens,
// share of code, whether there is code, whether there are tools, log of their number, log of turns, images, other
// alphabets, scripts without spaces.
using Features = std::array<double, kFeatures>;

Features features_of(const RequestTraits& traits);

}  // namespace tidemill::rollout
