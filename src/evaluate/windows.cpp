#include "evaluate/windows.hpp"

#include <algorithm>
#include <cassert>

namespace tidemill::evaluate {

std::vector<Window> cut(size_t tokens, size_t window, size_t stride, size_t lead) {
  assert(lead <= 1 && window > lead && stride >= 1 && stride <= window);
  std::vector<Window> windows;
  size_t scored = 1 - lead;  // the first token that no window so far has predicted
  for (size_t begin = 0; scored < tokens; begin += stride) {
    // What follows the last token is not known: it is not read.
    const size_t end = std::min(begin + window - lead, tokens - 1);
    windows.push_back({begin, end, scored});
    scored = end + 1;
  }
  return windows;
}

}  // namespace tidemill::evaluate
