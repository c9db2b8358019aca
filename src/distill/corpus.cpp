#include "distill/corpus.hpp"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "base/file.hpp"
#include "base/utf8.hpp"

namespace tidemill::distill {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace fs = std::filesystem;

namespace {

// Bytes of a line, without the white space around it, that is not found in any text by chance.
constexpr size_t kLongLine = 25;
constexpr double kMostShared = 0.1;

struct Source {
  fs::path path;
  bool named = false;
};

uint64_t sum_of(std::string_view text) {
  return base::checksum(std::as_bytes(std::span(text)));
}

std::string_view trimmed(std::string_view line) {
  constexpr std::string_view white = " \t\r\f\v";
  const size_t begin = line.find_first_not_of(white);
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(white) - begin + 1);
}

template <typename Take>
void for_long_lines(std::string_view text, Take take) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    if (line.size() >= kLongLine) take(sum_of(line));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Files below a folder, not through links to folders.
Result<std::vector<fs::path>> files_below(const fs::path& folder, const std::string& ending) {
  std::vector<fs::path> found;
  std::error_code fault;
  fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, fault);
  for (; !fault && at != fs::recursive_directory_iterator(); at.increment(fault)) {
    std::error_code ignored;
    if (at->is_regular_file(ignored) && at->path().string().ends_with(ending)) found.push_back(at->path());
  }
  if (fault) {
    return Error(ErrorCode::io, fmt::format("cannot read the folder '{}': {}", folder.string(), fault.message()));
  }
  std::ranges::sort(found);
  return found;
}

Result<std::vector<Source>> sources_of(std::span<const std::string> paths, const std::string& ending) {
  std::vector<Source> sources;
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (!fs::is_directory(path, ignored)) {
      sources.push_back({path, true});
      continue;
    }
    TM_TRY(std::vector<fs::path> found, files_below(path, ending));
    for (fs::path& file : found)
      sources.push_back({std::move(file), false});
  }
  return sources;
}

}  // namespace

KnownLines::KnownLines(std::string_view text) {
  for_long_lines(text, [this](uint64_t line) { known_.push_back(line); });
  std::ranges::sort(known_);
}

double KnownLines::share_of(std::string_view text) const {
  size_t all = 0;
  size_t shared = 0;
  for_long_lines(text, [&](uint64_t line) {
    ++all;
    if (std::ranges::binary_search(known_, line)) ++shared;
  });
  return all == 0 ? 0 : static_cast<double>(shared) / static_cast<double>(all);
}

Result<Corpus> read_corpus(const text::Tokenizer& tokenizer, std::span<const std::string> paths,
                           const CorpusOptions& options) {
  TM_TRY(const std::vector<Source> sources, sources_of(paths, options.ending));
  const KnownLines held_out(options.held_out);
  std::unordered_set<uint64_t> seen;
  Corpus corpus;
  for (size_t i = 0; i < sources.size(); ++i) {
    if (options.cancelled && options.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
    const Source& source = sources[i];
    TM_TRY(const std::string text, base::read_file(source.path, text::Tokenizer::max_text_bytes));
    if (options.on_progress) options.on_progress(i + 1, sources.size());
    if (!base::utf8::is_valid(text)) {
      if (source.named) {
        return Error(ErrorCode::invalid_argument,
                     fmt::format("'{}' is not UTF-8 text, which students learn from", source.path.string()))
            .with_param("text");
      }
      ++corpus.not_text;
    } else if (!seen.insert(sum_of(text)).second) {
      ++corpus.repeated;
    } else if (held_out.share_of(text) > kMostShared) {
      ++corpus.held_out;
    } else {
      TM_TRY(const std::vector<Token> tokens, tokenizer.encode(text, {.add_special = false}));
      corpus.tokens.insert(corpus.tokens.end(), tokens.begin(), tokens.end());
      corpus.bytes += text.size();
      ++corpus.files;
    }
  }
  if (corpus.tokens.empty()) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("there is no text to learn from: of {} files {} share lines with the text held out, {} "
                             "repeat others, and {} are not UTF-8",
                             sources.size(), corpus.held_out, corpus.repeated, corpus.not_text))
        .with_param("text");
  }
  return corpus;
}

}  // namespace tidemill::distill
