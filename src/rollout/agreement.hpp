// How far two answers to the same request agree.
#pragma once

#include <cstddef>
#include <string_view>

namespace tidemill::rollout {

inline constexpr size_t kMostWordsCompared = 2048;

struct Agreement {
  bool exact = false;          // byte for byte
  double prefix = 0;           // the common prefix, of the longer one's bytes
  double word_f1 = 0;          // the words in common, as multisets: 2 * common / (all of both)
  double edit_similarity = 0;  // likewise, of the words in common in the same order (the longest common subsequence)
};

// All 0 to 1; 1 for equal texts, empty ones too. Words are runs of letters, digits and underscores, single characters
// of scripts that write without spaces, and single punctuation marks; the first kMostWordsCompared of each text count.
// At most about a millisecond, whatever the texts; not for the threads that relay. Texts need not be valid UTF-8.
//
// The subsequence's length: Hyyroe, "Bit-parallel LCS-length computation revisited" (AWOCA 2004).
Agreement compare_texts(std::string_view one, std::string_view two);

}  // namespace tidemill::rollout
