// Finds stop strings in text that comes in pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill::engine {

// Parts of a text in which stop strings do not count.
struct QuietText {
  struct Span {
    std::string open;   // not empty
    std::string close;  // empty: to the end of the text
  };
  std::vector<Span> spans;
  std::string begins_before;  // the text begins inside of a part that this ends; empty: it does not
  std::string first_bytes;    // all of a text is quiet whose first byte, white space aside, is one of these
};

// An automaton over all stop strings at once (Aho and Corasick, CACM 1975): linear time in the text, however many
// strings there are. The result does not depend on how the text is cut into pieces: generation ends with the first byte
// that completes a stop string, and of several that end there, the longest counts.
//
// Stop strings are valid UTF-8, as is the text, so held-back text always starts and ends with a whole character.
class StopMatcher {
 public:
  // No string may be empty.
  explicit StopMatcher(const std::vector<std::string>& stops = {}, const QuietText& quiet = {});

  struct Step {
    std::string text;  // that can no longer become part of a stop string
    int matched = -1;  // index of the stop string that was found; nothing more may be pushed then
  };
  Step push(std::string_view text);

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
  void take_quietly(char byte);

  std::vector<Node> nodes_;        // [0] is the root
  std::vector<size_t> lengths_;    // of the stop strings
  std::vector<std::string> ends_;  // of the quiet parts, whose openings are counted on from the stop strings
  std::string first_bytes_;
  bool begun_ = false;  // anything but white space has come
  int32_t state_ = 0;
  std::string held_;
  bool quiet_ = false;
  std::string end_;   // of the quiet part
  std::string last_;  // of its text, as long as the end
};

}  // namespace tidemill::engine
