// Training a student on lessons: step after step, with checkpoints, and judged as it goes on text that it never learns
// from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "distill/lessons.hpp"
#include "distill/student.hpp"

namespace tidemill::distill {

struct TrainOptions {
  int64_t steps = 0;
  int64_t batch = 16;              // windows of a step
  uint64_t seed = 1;               // of the windows' order
  int64_t judge_every = 250;       // steps
  int64_t checkpoint_every = 250;  // steps
  std::filesystem::path checkpoint;
  uint64_t fingerprint = 0;  // of the plan and the lessons; with the numbers above it is the checkpoint's
  bool restart = false;      // do not go on with a checkpoint that is there
  std::function<bool()> cancelled = {};
};

struct StepReport {
  int64_t step = 0;  // steps done, this one included
  int64_t steps = 0;
  double rate = 0;
  Score score;         // of its windows
  double seconds = 0;  // since the training began, those before a kill included
};

struct TrainWatch {
  std::function<void(const StepReport&)> on_step = {};
  std::function<void(int64_t step, const Score& held_out)> on_judged = {};
  std::function<void(int64_t step)> on_resumed = {};
};

struct TrainSummary {
  int64_t steps = 0;
  int64_t resumed = 0;  // steps that an earlier run had done
  double seconds = 0;
  Score held_out;  // at the end
};

// Trains until all steps are done, from the checkpoint if there is one. Whether it was interrupted changes no bit of
// the student. Errors: `cancelled`, with a checkpoint of all that was done; `corrupt` where the loss is not a number,
// with the last checkpoint left as it was; the student's; those of checkpoints, also where one could not be written.
base::Result<TrainSummary> train(Student& student, const Lessons& lessons, const TextWindows& held_out,
                                 const TrainOptions& options, const base::Clock& clock, const TrainWatch& watch);

// The student on all windows of a text.
base::Result<Score> judge(Student& student, const TextWindows& windows);

}  // namespace tidemill::distill
