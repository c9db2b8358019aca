// The course of a training, with a student that notices every token and its place.
#include "distill/train.hpp"

#include <fstream>
#include <numeric>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "distill/checkpoint.hpp"
#include "distill/course.hpp"
#include "expect_says.hpp"
#include "plain_student.hpp"
#include "temporary_folder.hpp"

namespace tidemill::distill {
namespace {

using base::ErrorCode;
using test::PlainStudent;

class Train : public testing::Test {
 protected:
  void SetUp() override {
    std::iota(text_.begin(), text_.end(), 0);
    options_.steps = 23;
    options_.batch = 3;
    options_.judge_every = 10;
    options_.checkpoint_every = 5;
    options_.checkpoint = folder_.path() / "checkpoint";
  }
  base::Result<TrainSummary> train(PlainStudent& student, const TrainWatch& watch = {}) {
    const TextWindows windows(text_, {}, 4);
    return distill::train(student, TextLessons(windows), TextWindows(std::span(text_).first(9), {}, 4), options_,
                          clock_, watch);
  }
  // Is told to stop once `step` steps of this life are done.
  base::Result<TrainSummary> train_until(PlainStudent& student, int64_t step) {
    options_.cancelled = [&student, step] { return student.steps_in_life >= step; };
    auto result = train(student);
    options_.cancelled = {};
    return result;
  }
  std::vector<float> unbroken() {
    PlainStudent student;
    EXPECT_TRUE(train(student));
    std::filesystem::remove(options_.checkpoint);
    return student.learned();
  }

  test::TemporaryFolder folder_;
  std::vector<Token> text_ = std::vector<Token>(41);
  TrainOptions options_;
  base::ManualClock clock_;
};

TEST_F(Train, TakesItsStepsJudgesAndReports) {
  PlainStudent student;
  std::vector<int64_t> steps;
  std::vector<int64_t> judged;
  const auto summary = train(student, {.on_step =
                                           [&](const StepReport& report) {
                                             steps.push_back(report.step);
                                             EXPECT_EQ(report.rate, rate_at(report.step - 1, 23));
                                             EXPECT_EQ(report.score.rows, 12);
                                             clock_.advance(std::chrono::seconds(2));
                                           },
                                       .on_judged =
                                           [&](int64_t step, const Score& score) {
                                             judged.push_back(step);
                                             EXPECT_EQ(score.rows, 8);
                                             EXPECT_EQ(score.right, 2);
                                           }});
  ASSERT_TRUE(summary) << summary.error().to_string();
  std::vector<int64_t> all(23);
  std::iota(all.begin(), all.end(), 1);
  EXPECT_EQ(steps, all);
  EXPECT_EQ(judged, (std::vector<int64_t>{10, 20, 23}));
  EXPECT_EQ(summary->steps, 23);
  EXPECT_EQ(summary->resumed, 0);
  EXPECT_EQ(summary->held_out.rows, 8);
  EXPECT_EQ(summary->seconds, 46);
  EXPECT_EQ(student.steps_in_life, 23);
}

TEST_F(Train, GoesOnAfterAnInterruptAsIfThereHadBeenNone) {
  const std::vector<float> expected = unbroken();
  for (int64_t stop = 0; stop < 23; ++stop) {
    PlainStudent first;
    const auto stopped = train_until(first, stop);
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().code(), ErrorCode::cancelled);
    EXPECT_SAYS(stopped.error().message(), "the same command goes on");
    PlainStudent second;
    int64_t resumed = -1;
    const auto rest = train(second, {.on_resumed = [&](int64_t step) { resumed = step; }});
    ASSERT_TRUE(rest) << rest.error().to_string();
    EXPECT_EQ(resumed, stop);
    EXPECT_EQ(second.steps_in_life, 23 - stop);
    EXPECT_EQ(second.learned(), expected) << stop;
    std::filesystem::remove(options_.checkpoint);
  }
}

// A kill leaves no time for a last checkpoint: the steps since the one before are made again.
TEST_F(Train, GoesOnAfterAKillFromTheLastCheckpoint) {
  const std::vector<float> expected = unbroken();
  PlainStudent first;
  std::string as_of_ten;
  const auto whole = train(first, {.on_step = [&](const StepReport& report) {
                             if (report.step == 11) as_of_ten = base::read_file(options_.checkpoint).value();
                           }});
  ASSERT_TRUE(whole);
  std::ofstream(options_.checkpoint, std::ios::binary) << as_of_ten;
  PlainStudent second;
  const auto rest = train(second);
  ASSERT_TRUE(rest) << rest.error().to_string();
  EXPECT_EQ(rest->resumed, 10);
  EXPECT_EQ(second.steps_in_life, 13);
  EXPECT_EQ(second.learned(), expected);
}

TEST_F(Train, HasNothingToDoWhereAllIsDone) {
  const std::vector<float> expected = unbroken();
  PlainStudent first;
  ASSERT_TRUE(train(first));
  PlainStudent second;
  const auto again = train(second);
  ASSERT_TRUE(again);
  EXPECT_EQ(second.steps_in_life, 0);
  EXPECT_EQ(second.learned(), expected);
  EXPECT_EQ(again->held_out.rows, 8);
}

TEST_F(Train, StopsWhereTheLossIsNoNumberAndKeepsTheLastCheckpoint) {
  PlainStudent student;
  student.diverges_at = 12;
  const auto result = train(student);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(result.error().message(), "the loss of step 13 is not a number");
  EXPECT_SAYS(result.error().message(), options_.checkpoint.string());
  PlainStudent second;
  const auto rest = train(second);
  ASSERT_TRUE(rest);
  EXPECT_EQ(rest->resumed, 10);
}

TEST_F(Train, RefusesTheCheckpointOfAnotherCourse) {
  PlainStudent first;
  EXPECT_FALSE(train_until(first, 7));
  PlainStudent second;
  options_.seed = 2;
  const auto other = train(second);
  ASSERT_FALSE(other);
  EXPECT_SAYS(other.error().to_string(), "checkpoint of another training, after 7 steps");
  options_.restart = true;
  ASSERT_TRUE(train(second));
  EXPECT_EQ(second.steps_in_life, 23);
}

// Not even --restart throws away what is somebody else's.
TEST_F(Train, LeavesAFileThatIsNoCheckpoint) {
  for (const bool restart : {false, true}) {
    options_.restart = restart;
    folder_.put("checkpoint", "my notes");
    PlainStudent student;
    const auto result = train(student);
    ASSERT_FALSE(result);
    EXPECT_SAYS(result.error().to_string(), "is in the way, and no checkpoint");
    EXPECT_EQ(student.steps_in_life, 0);
    EXPECT_EQ(base::read_file(options_.checkpoint).value(), "my notes");
  }
}

TEST_F(Train, SaysWhereACheckpointCannotBeWritten) {
  options_.checkpoint = folder_.path() / "absent" / "checkpoint";
  PlainStudent student;
  const auto result = train(student);
  ASSERT_FALSE(result);
  EXPECT_SAYS(result.error().to_string(), "absent");
  EXPECT_EQ(student.steps_in_life, 5);
}

TEST(Judge, SumsOverAllWindows) {
  std::vector<Token> text(4 * 37 + 1);
  PlainStudent student;
  const auto score = judge(student, TextWindows(text, {}, 4));
  ASSERT_TRUE(score);
  EXPECT_EQ(score->rows, 4 * 37);
  EXPECT_EQ(score->right, 37);
  EXPECT_EQ(student.judged_windows, 37);
}

}  // namespace
}  // namespace tidemill::distill
