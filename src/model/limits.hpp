// Limits on the numbers that shape a model: far above every released one, and low enough that products of a few of them
// stay inside 63 bits.
#pragma once

#include <cstdint>

namespace tidemill::model {

inline constexpr int64_t kMaxLayers = 4096;
inline constexpr int64_t kMaxWidth = int64_t{1} << 20;
inline constexpr int64_t kMaxFeedForward = int64_t{1} << 22;
inline constexpr int64_t kMaxHeads = 4096;
inline constexpr int64_t kMaxHeadDim = 1024;
inline constexpr int64_t kMaxContext = int64_t{1} << 30;
inline constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
inline constexpr int64_t kMaxWindow = kMaxContext;

}  // namespace tidemill::model
