// A training that goes on after a kill: all that it depends on, in one file that is replaced in one step.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/result.hpp"
#include "distill/student.hpp"

namespace tidemill::distill {

struct TrainingState {
  uint64_t fingerprint = 0;  // of the plan, the lessons and the course: only a training of the same goes on with it
  int64_t step = 0;          // steps that are done; which windows come next and how fast follows from it
  double seconds = 0;        // spent on them
  std::vector<NamedArray> arrays;  // Student::state()
};

// Errors: `io` with the system's reason (a full disk); then what was there stays.
base::Result<void> save_state(const TrainingState& state, const std::filesystem::path& path);

// `not_found` where there is none, `corrupt` where its checksum is wrong, `invalid_argument` where it is no checkpoint
// or one of another fingerprint.
base::Result<TrainingState> load_state(const std::filesystem::path& path, uint64_t fingerprint);

// Whether save_state() may write to `path`: nothing is there, or a checkpoint, of whatever training. `invalid_argument`
// for anything else, which is somebody's.
base::Result<void> check_place(const std::filesystem::path& path);

}  // namespace tidemill::distill
