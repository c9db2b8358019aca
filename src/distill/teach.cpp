#include "distill/teach.hpp"

#include <algorithm>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "distill/random.hpp"
#include "quantize/partial_file.hpp"

namespace tidemill::distill {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr uint64_t kBeginning = ~uint64_t{0};  // in place of a position

class LessonWriter {
 public:
  LessonWriter(Teacher& teacher, const TextWindows& windows, const LessonFormat& format, const TeachOptions& options)
      : teacher_(teacher), windows_(windows), format_(format), options_(options) {}

  Result<void> run(const std::filesystem::path& path) {
    TM_TRY(file_, quantize::PartialFile::open(
                      path, format_.header(),
                      std::vector<uint64_t>(static_cast<size_t>(format_.count), format_.record_bytes()), 1,
                      {.fingerprint = format_.fingerprint, .restart = options_.restart}));
    while (static_cast<int64_t>(file_->done()) < format_.count) {
      if (options_.cancelled && options_.cancelled()) {
        TM_CHECK(file_->flush());
        return Error(ErrorCode::cancelled, fmt::format("interrupted after {} of {} windows; the same command goes on",
                                                       file_->done(), format_.count));
      }
      const auto at = static_cast<int64_t>(file_->done());
      TM_CHECK(at < windows_.count() ? read(at) : write(at));
      if (options_.on_progress) options_.on_progress(file_->done(), static_cast<size_t>(format_.count));
    }
    return file_->finish();
  }

 private:
  Result<void> put(const TaughtWindow& window) {
    const std::string record = format_.record(window.tokens, window.expectations);
    return file_->write(std::as_bytes(std::span(record)));
  }

  Result<void> read(int64_t at) {
    std::vector<Token> tokens(static_cast<size_t>(format_.length + 1));
    windows_.read(at, tokens);
    TM_TRY(const TaughtWindow window, teacher_.read(std::move(tokens)));
    return put(window);
  }

  // Windows from `at` on, which the teacher writes. Each begins with a token of the text, as often as it stands there.
  Result<void> write(int64_t at) {
    const int64_t count = std::min(teacher_.side_by_side(), format_.count - at);
    std::vector<Token> beginnings;
    std::vector<Token> tokens(static_cast<size_t>(format_.length + 1));
    for (int64_t number = at; number < at + count; ++number) {
      const uint64_t chance = drawn(options_.seed, static_cast<uint64_t>(number), kBeginning);
      windows_.read(static_cast<int64_t>(chance % static_cast<uint64_t>(windows_.count())), tokens);
      beginnings.push_back(tokens[1 + (chance >> 32) % (tokens.size() - 1)]);
    }
    TM_TRY(const std::vector<TaughtWindow> written, teacher_.write(beginnings, options_.seed, at));
    for (const TaughtWindow& window : written)
      TM_CHECK(put(window));
    return {};
  }

  Teacher& teacher_;
  const TextWindows& windows_;
  const LessonFormat& format_;
  const TeachOptions& options_;
  std::unique_ptr<quantize::PartialFile> file_;
};

}  // namespace

LessonFormat lesson_format(const TextWindows& windows, int64_t kept, const TeachOptions& options) {
  std::vector<Token> tokens(static_cast<size_t>(windows.length() + 1));
  std::string text = fmt::format("{:016x} {} {} {}\n", options.teacher, options.written, options.seed, kept);
  for (int64_t i = 0; i < windows.count(); ++i) {
    windows.read(i, tokens);
    text += fmt::format("{:016x}", base::checksum(std::as_bytes(std::span(tokens))));
  }
  return {.length = windows.length(),
          .kept = kept,
          .count = windows.count() + options.written,
          .fingerprint = base::checksum(std::as_bytes(std::span(text)))};
}

Result<std::unique_ptr<LessonFile>> teach(Teacher& teacher, const TextWindows& windows, int64_t kept,
                                          const std::filesystem::path& path, const TeachOptions& options) {
  const LessonFormat format = lesson_format(windows, kept, options);
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) TM_CHECK(LessonWriter(teacher, windows, format, options).run(path));
  return LessonFile::open(path, format);
}

}  // namespace tidemill::distill
