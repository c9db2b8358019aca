// What a fuzz target holds its room to. A broken promise aborts, which libFuzzer reports together with the input.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace tidemill::test {

inline void require(bool holds, const char* promise) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", promise);
  std::abort();
}

}  // namespace tidemill::test
