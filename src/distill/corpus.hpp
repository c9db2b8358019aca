// The text that a student learns from: files, cut into tokens, end to end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::distill {

using text::Token;

struct CorpusOptions {
  // Files of folders that are read: those whose name ends so. Files that are named are read whatever they are called.
  std::string ending;
  // Text to be judged by later: files that share more than a tenth of their longer lines with it are left out.
  std::string_view held_out;
  std::function<void(size_t done, size_t total)> on_progress = {};  // files
  std::function<bool()> cancelled = {};
};

struct Corpus {
  std::vector<Token> tokens;
  size_t files = 0;
  size_t bytes = 0;
  size_t held_out = 0;  // files left out for what they share with the text held out
  size_t repeated = 0;  // files left out because the same text was there
  size_t not_text = 0;  // files of folders left out because they are not UTF-8
};

// Reads the files, and those below the folders, in the order of their paths. Errors: `not_found` and `io` with the
// path; `invalid_argument` where a named file is not UTF-8, or nothing is left; `too_large`, `cancelled`.
base::Result<Corpus> read_corpus(const text::Tokenizer& tokenizer, std::span<const std::string> paths,
                                 const CorpusOptions& options);

// Lines of a text that tell it from others, to find again where it was copied.
class KnownLines {
 public:
  explicit KnownLines(std::string_view text);

  // Of the longer lines of `text`, the share that is known; 0 where it has none.
  double share_of(std::string_view text) const;

 private:
  std::vector<uint64_t> known_;  // checksums, ascending
};

}  // namespace tidemill::distill
