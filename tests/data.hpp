// Where tests find the files that are not in the repository.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

namespace tidemill::test {

// The folder of shared test data: $TIDEMILL_DATA, or ../shared/data beside the checkout (tests run in its root).
inline std::filesystem::path data_root() {
  const char* set = std::getenv("TIDEMILL_DATA");  // NOLINT(concurrency-mt-unsafe)
  return set != nullptr ? std::filesystem::path(set) : std::filesystem::path("../shared/data");
}

// The embedded model, which every checkout has.
inline std::filesystem::path nano_coder() {
  return "models/nano-coder.gguf";
}

}  // namespace tidemill::test

// Skips the test, saying so, where the shared file is absent.
#define TM_SKIP_WITHOUT(path)                                                                                   \
  if (!std::filesystem::exists(path)) {                                                                         \
    GTEST_SKIP() << "needs " << (path).string() << "; set TIDEMILL_DATA to the folder of the shared test data"; \
  }
