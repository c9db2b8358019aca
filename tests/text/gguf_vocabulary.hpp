// A reader of vocabularies in GGUF files, as small as tests can do with: the real one lives in the model room, which
// this room may not use.
#pragma once

#include <filesystem>

#include "text/vocabulary.hpp"

namespace tidemill::test {

// Throws std::runtime_error for a file that is not what the tests expect.
text::Vocabulary read_gguf_vocabulary(const std::filesystem::path& path);

}  // namespace tidemill::test
