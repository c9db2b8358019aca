#include "distill/train.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "distill/checkpoint.hpp"
#include "distill/course.hpp"

namespace tidemill::distill {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr int64_t kJudgedTogether = 16;  // windows

uint64_t fingerprint_of(const TrainOptions& options) {
  const std::string text =
      fmt::format("{:016x} {} {} {}", options.fingerprint, options.steps, options.batch, options.seed);
  return base::checksum(std::as_bytes(std::span(text)));
}

// The windows of one step, as a student takes them.
class Batch {
 public:
  Batch(int64_t windows, int64_t length, int64_t kept)
      : length_(length),
        kept_(kept),
        window_(static_cast<size_t>(length + 1)),
        tokens_(static_cast<size_t>(windows * length)),
        next_(tokens_.size()),
        expected_(tokens_.size() * static_cast<size_t>(kept)),
        probabilities_(expected_.size()) {}

  void put(int64_t at, const Lessons& lessons, int64_t index) {
    const auto each = static_cast<size_t>(length_ * kept_);
    const size_t offset = static_cast<size_t>(at) * each;
    lessons.read(index, window_, std::span(expected_).subspan(offset, each),
                 std::span(probabilities_).subspan(offset, each));
    put_window(at);
  }
  void put(int64_t at, const TextWindows& windows, int64_t index) {
    windows.read(index, window_);
    put_window(at);
  }

  // Of the first `windows`.
  Exercise exercise(int64_t windows) const {
    const auto rows = static_cast<size_t>(windows * length_);
    const size_t expected = rows * static_cast<size_t>(kept_);
    return {.windows = windows,
            .length = length_,
            .tokens = std::span(tokens_).first(rows),
            .next = std::span(next_).first(rows),
            .kept = kept_,
            .expected = std::span(expected_).first(expected),
            .probabilities = std::span(probabilities_).first(expected)};
  }

 private:
  void put_window(int64_t at) {
    std::copy(window_.begin(), window_.end() - 1, tokens_.begin() + at * length_);
    std::copy(window_.begin() + 1, window_.end(), next_.begin() + at * length_);
  }

  int64_t length_;
  int64_t kept_;
  std::vector<Token> window_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> next_;
  std::vector<int32_t> expected_;
  std::vector<float> probabilities_;
};

class Training {
 public:
  Training(Student& student, const Lessons& lessons, const TextWindows& held_out, const TrainOptions& options,
           const base::Clock& clock, const TrainWatch& watch)
      : student_(student),
        lessons_(lessons),
        held_out_(held_out),
        options_(options),
        clock_(clock),
        watch_(watch),
        fingerprint_(fingerprint_of(options)),
        order_(lessons.count(), options.seed),
        batch_(options.batch, lessons.length(), lessons.kept()) {}

  Result<TrainSummary> run() {
    TM_CHECK(resume());
    resumed_ = step_;
    started_ = clock_.now();
    while (step_ < options_.steps) {
      if (options_.cancelled && options_.cancelled()) {
        TM_CHECK(save());
        return Error(ErrorCode::cancelled,
                     fmt::format("interrupted after {} of {} steps; the same command goes on", step_, options_.steps));
      }
      TM_CHECK(step());
      const bool last = step_ == options_.steps;
      if (last || step_ % options_.judge_every == 0) {
        TM_TRY(judged_, judge(student_, held_out_));
        if (watch_.on_judged) watch_.on_judged(step_, judged_);
      }
      if (last || step_ % options_.checkpoint_every == 0) TM_CHECK(save());
    }
    // Where all was done before, and only what follows was not.
    if (resumed_ == step_) {
      TM_TRY(judged_, judge(student_, held_out_));
    }
    return TrainSummary{.steps = step_, .resumed = resumed_, .seconds = seconds(), .held_out = judged_};
  }

 private:
  double seconds() const { return seconds_before_ + base::seconds(clock_.now() - started_); }

  Result<void> resume() {
    TM_CHECK(check_place(options_.checkpoint));
    std::error_code ignored;
    if (options_.restart || !std::filesystem::exists(options_.checkpoint, ignored)) return {};
    TM_TRY(const TrainingState state, load_state(options_.checkpoint, fingerprint_));
    TM_CHECK(student_.restore(state.arrays));
    step_ = state.step;
    seconds_before_ = state.seconds;
    if (watch_.on_resumed) watch_.on_resumed(step_);
    return {};
  }

  Result<void> save() {
    TrainingState state{.fingerprint = fingerprint_, .step = step_, .seconds = seconds(), .arrays = {}};
    TM_TRY(state.arrays, student_.state());
    return save_state(state, options_.checkpoint);
  }

  Result<void> step() {
    for (int64_t i = 0; i < options_.batch; ++i)
      batch_.put(i, lessons_, order_.at(step_ * options_.batch + i));
    const double rate = rate_at(step_, options_.steps);
    TM_TRY(const Score score, student_.step(batch_.exercise(options_.batch), rate));
    if (!std::isfinite(score.nats) || !std::isfinite(score.divergence)) {
      return Error(ErrorCode::corrupt,
                   fmt::format("the loss of step {} is not a number: the student has diverged. Its last checkpoint is "
                               "'{}'; begin anew with a smaller --rate",
                               step_ + 1, options_.checkpoint.string()));
    }
    ++step_;
    if (watch_.on_step) {
      watch_.on_step({.step = step_, .steps = options_.steps, .rate = rate, .score = score, .seconds = seconds()});
    }
    return {};
  }

  Student& student_;
  const Lessons& lessons_;
  const TextWindows& held_out_;
  const TrainOptions& options_;
  const base::Clock& clock_;
  const TrainWatch& watch_;
  uint64_t fingerprint_;
  WindowOrder order_;
  Batch batch_;
  int64_t step_ = 0;
  int64_t resumed_ = 0;
  double seconds_before_ = 0;
  base::SteadyTime started_;
  Score judged_;
};

}  // namespace

Result<Score> judge(Student& student, const TextWindows& windows) {
  Batch batch(kJudgedTogether, windows.length(), 0);
  Score sum;
  for (int64_t first = 0; first < windows.count(); first += kJudgedTogether) {
    const int64_t count = std::min(kJudgedTogether, windows.count() - first);
    for (int64_t i = 0; i < count; ++i)
      batch.put(i, windows, first + i);
    TM_TRY(const Score score, student.judge(batch.exercise(count)));
    sum.rows += score.rows;
    sum.nats += score.nats;
    sum.right += score.right;
  }
  return sum;
}

Result<TrainSummary> train(Student& student, const Lessons& lessons, const TextWindows& held_out,
                           const TrainOptions& options, const base::Clock& clock, const TrainWatch& watch) {
  return Training(student, lessons, held_out, options, clock, watch).run();
}

}  // namespace tidemill::distill
