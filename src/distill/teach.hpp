// A teacher's lessons, written to a file over however long that takes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "base/result.hpp"
#include "distill/lessons.hpp"
#include "distill/teacher.hpp"

namespace tidemill::distill {

struct TeachOptions {
  int64_t written = 0;   // windows that the teacher writes itself, beside those of the text
  uint64_t seed = 1;     // of these
  uint64_t teacher = 0;  // its fingerprint
  bool restart = false;  // throw away unfinished lessons of another kind
  std::function<void(size_t done, size_t total)> on_progress = {};  // windows
  std::function<bool()> cancelled = {};
};

// What the file of lessons on these windows is.
LessonFormat lesson_format(const TextWindows& windows, int64_t kept, const TeachOptions& options);

// The lessons at `path`: what is there already of the same kind, whole or unfinished, is gone on with. Errors: those of
// quantize::PartialFile, LessonFile and Teacher; `cancelled`, after which what is there stays.
base::Result<std::unique_ptr<LessonFile>> teach(Teacher& teacher, const TextWindows& windows, int64_t kept,
                                                const std::filesystem::path& path, const TeachOptions& options);

}  // namespace tidemill::distill
