// Refuses requests that make no sense, in the words of OpenAI's API.
#pragma once

#include <cstdint>

#include "base/result.hpp"
#include "engine/request.hpp"

namespace tidemill::engine {

struct RequestLimits {
  int64_t vocabulary = 0;
  int64_t max_context = 0;
  enum class Model : uint8_t { generates, embeds, ranks };  // the first of these embeds as well
  Model model = Model::generates;
};

inline constexpr int kMaxChoices = 128;         // as OpenAI
inline constexpr int kMaxTopLogprobs = 20;      // as OpenAI
inline constexpr size_t kMaxStopStrings = 64;   // OpenAI allows 4, vLLM any number
inline constexpr size_t kMaxStopBytes = 4096;   // of one of them
inline constexpr float kMaxLogitBias = 100.0f;  // as OpenAI
inline constexpr float kMaxRepetitionPenalty = 100.0f;

// What an encoder's engine says to requests to generate.
base::Error encodes_only(RequestLimits::Model model);

// `invalid_argument` names the parameter and its range; `too_large` a prompt that the context cannot hold;
// `unsupported` the model, where it does not do that kind of thing.
base::Result<void> validate(const Request& request, const RequestLimits& limits);

}  // namespace tidemill::engine
