// Finds stop strings in text that comes in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill::engine {

// An automaton over all stop strings at once (Aho and Corasick, CACM 1975): linear time in the text, however many
// strings there are. The result does not depend on how the text is cut into pieces: generation ends with the first byte
// that completes a stop string, and of several that end there, the longest counts.
//
// Stop strings are valid UTF-8, as is the text, so held-back text always starts and ends with a whole character.
class StopMatcher {
 public:
  // No string may be empty.
  explicit StopMatcher(const std::vector<std::string>& stops = {});

  struct Step {
    std::string text;  // that can no longer become part of a stop string
    int matched = -1;  // index of the stop string that was found; nothing more may be pushed then
  };
  Step push(std::string_view text);

  // Whether push() would find a stop string.
  bool finds(std::string_view text) const;

  // What is held back, when generation ends for another reason.
  std::string flush();

 private:
  struct Node {
    std::map<char, int32_t> next;
    int32_t fallback = 0;  // the longest proper suffix of this node's string that is a node too
    int32_t depth = 0;     // the length of its string: so much of the text may be a stop string's beginning
    int32_t stop = -1;     // index of the longest stop string that is a suffix of its string
  };
  void add(const std::string& text, int32_t index);
  void add_fallbacks();
  int32_t step(int32_t node, char byte) const;

  std::vector<Node> nodes_;      // [0] is the root
  std::vector<size_t> lengths_;  // of the stop strings
  int32_t state_ = 0;
  std::string held_;
};

}  // namespace tidemill::engine
