// Students on libtorch, through the module: skipped where it was not built.
#include "distill/student.hpp"

#include <cmath>
#include <cstring>
#include <numeric>

#include <gtest/gtest.h>

#include "base/clock.hpp"
#include "data.hpp"
#include "distill/random.hpp"
#include "distill/student_file.hpp"
#include "distill/train.hpp"
#include "evaluate/judged_model.hpp"
#include "evaluate/text_runner.hpp"
#include "expect_says.hpp"
#include "temporary_folder.hpp"

namespace tidemill::distill {
namespace {

#define TM_SKIP_WITHOUT_TRAINER() \
  if (!trainer_is_there())        \
  GTEST_SKIP() << "needs the module on libtorch: `make distill` installs libtorch and builds it"

constexpr int64_t kLength = 16;

StudentPlan plan(Precision precision = Precision::f32, int threads = 2) {
  StudentPlan plan;
  plan.shape = {32, 2, 2, 1, 64};
  plan.vocabulary = 512;
  plan.window = kLength;
  plan.precision = precision;
  plan.threads = threads;
  return plan;
}

// Text whose next token depends on the two before it.
std::vector<Token> text(size_t tokens) {
  std::vector<Token> made = {300, 301};
  while (made.size() < tokens)
    made.push_back(static_cast<Token>(300 + (made[made.size() - 1] * 3 + made[made.size() - 2]) % 11));
  return made;
}

// With a teacher's say: the right token, and one beside it.
class Hinted final : public Lessons {
 public:
  explicit Hinted(TextWindows windows) : windows_(windows) {}
  int64_t length() const override { return windows_.length(); }
  int64_t count() const override { return windows_.count(); }
  int64_t kept() const override { return 2; }
  void read(int64_t index, std::span<Token> tokens, std::span<int32_t> expected,
            std::span<float> probabilities) const override {
    windows_.read(index, tokens);
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      expected[2 * i] = tokens[i + 1];
      expected[2 * i + 1] = tokens[i + 1] + 1;
      probabilities[2 * i] = 0.75F;
      probabilities[2 * i + 1] = 0.125F;
    }
  }

 private:
  TextWindows windows_;
};

class TorchTraining : public testing::Test {
 protected:
  void SetUp() override { TM_SKIP_WITHOUT_TRAINER(); }

  // Trained for `all` steps, from the checkpoint on if there is one; or interrupted, with a checkpoint, after `steps`
  // of this life.
  std::vector<NamedArray> trained(int64_t all, const StudentPlan& of = plan(), int64_t steps = -1) {
    auto student = make_student(of);
    if (!student) {
      ADD_FAILURE() << student.error().to_string();
      return {};
    }
    const bool interrupted = steps >= 0;
    TrainOptions options;
    options.steps = all;
    options.batch = 6;
    options.judge_every = 1000;
    options.checkpoint_every = 1000;
    options.checkpoint = folder_.path() / "checkpoint";
    options.cancelled = [&] { return steps-- == 0; };
    const TextWindows windows(text_, {}, kLength);
    auto summary = train(**student, Hinted(windows), windows, options, base::SystemClock::instance(), {});
    EXPECT_EQ(summary.has_value(), !interrupted);
    return (*student)->weights().value();
  }
  static void expect_equal(const std::vector<NamedArray>& a, const std::vector<NamedArray>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_EQ(a[i].values.size(), b[i].values.size());
      EXPECT_EQ(std::memcmp(a[i].values.data(), b[i].values.data(), a[i].values.size() * sizeof(float)), 0)
          << a[i].name;
    }
  }
  static void expect_unequal(const std::vector<NamedArray>& a, const std::vector<NamedArray>& b) {
    EXPECT_NE(a.front().values, b.front().values);
  }

  test::TemporaryFolder folder_;
  std::vector<Token> text_ = text(800);
};

TEST_F(TorchTraining, GoesOnBitForBit) {
  const auto unbroken = trained(20);
  std::filesystem::remove(folder_.path() / "checkpoint");
  expect_unequal(trained(20, plan(), 7), unbroken);
  expect_equal(trained(20), unbroken);
}

// More windows than one pass takes, so that threads share them.
TEST_F(TorchTraining, DoesNotDependOnThreads) {
  text_ = text(6'000);
  std::vector<std::vector<NamedArray>> results;
  for (const int threads : {1, 2, 3}) {
    results.push_back(trained(3, plan(Precision::f32, threads)));
    std::filesystem::remove(folder_.path() / "checkpoint");
  }
  expect_equal(results[0], results[1]);
  expect_equal(results[0], results[2]);
}

TEST_F(TorchTraining, LearnsATextByHeart) {
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    auto student = make_student(plan(precision));
    ASSERT_TRUE(student) << student.error().to_string();
    const TextWindows windows(text_, {}, kLength);
    const auto before = judge(**student, windows);
    ASSERT_TRUE(before) << before.error().to_string();
    // About as little as chance.
    EXPECT_NEAR(before->nats / static_cast<double>(before->rows), std::log(512.0), 0.5);
    TrainOptions options;
    options.steps = 120;
    options.batch = 8;
    options.checkpoint = folder_.path() / "checkpoint";
    options.restart = true;
    const auto summary = train(**student, TextLessons(windows), windows, options, base::SystemClock::instance(), {});
    ASSERT_TRUE(summary) << summary.error().to_string();
    EXPECT_GT(static_cast<double>(summary->held_out.right), 0.9 * static_cast<double>(summary->held_out.rows));
  }
}

TEST_F(TorchTraining, IsDrawnToItsTeacher) {
  auto student = make_student(plan());
  ASSERT_TRUE(student);
  const Hinted lessons(TextWindows(text_, {}, kLength));
  TrainOptions options;
  options.steps = 150;
  options.batch = 8;
  options.checkpoint = folder_.path() / "checkpoint";
  double first = 0;
  double last = 0;
  const auto summary = train(**student, lessons, TextWindows(text_, {}, kLength), options,
                             base::SystemClock::instance(), {.on_step = [&](const StepReport& report) {
                               last = report.score.divergence / static_cast<double>(report.score.rows);
                               if (report.step == 1) first = last;
                             }});
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_GT(first, 4);
  EXPECT_LT(last, 0.3);
}

// The file that it becomes predicts as it did: the same rotations, heads and norms.
TEST_F(TorchTraining, IsTheSameModelInTidemillsDecoder) {
  StudentPlan wide = plan();
  wide.shape = {64, 2, 4, 2, 96};
  wide.vocabulary = 4096;  // the tokenizer's
  auto student = make_student(wide);
  ASSERT_TRUE(student);
  const TextWindows windows(text_, {}, kLength);
  TrainOptions options;
  options.steps = 30;
  options.batch = 8;
  options.checkpoint = folder_.path() / "checkpoint";
  ASSERT_TRUE(train(**student, TextLessons(windows), windows, options, base::SystemClock::instance(), {}));
  const auto source = model::Checkpoint::open(test::nano_coder());
  ASSERT_TRUE(source);
  const auto path = folder_.path() / "pupil.gguf";
  ASSERT_TRUE(write_student(path, wide, (*student)->weights().value(), *source,
                            {.name = "pupil", .description = "for a test", .type = tensor::DType::f32}));
  evaluate::SubjectOptions exact;
  exact.plain = true;
  const test::Judged pupil = test::judged(path, exact);
  ASSERT_NE(pupil.subject, nullptr);
  // Windows as a file's are: behind the first token.
  const TextWindows led(text_, pupil.subject->lead(), kLength);
  const auto own = judge(**student, led);
  ASSERT_TRUE(own);
  evaluate::TextOptions reading;
  reading.window = kLength;
  reading.stride = kLength;
  const auto tokens = std::span(text_).first(static_cast<size_t>(led.count() * kLength));
  const auto decoded = evaluate::judge_tokens(*pupil.subject, nullptr, tokens, reading);
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  ASSERT_EQ(decoded->score.tokens, own->rows);
  EXPECT_NEAR(decoded->score.nats / own->nats, 1, 1e-4);
}

TEST_F(TorchTraining, RefusesWhatIsNotItsOwn) {
  auto student = make_student(plan());
  ASSERT_TRUE(student);
  const auto refusal = [&](NamedArray array) {
    const auto restored = (*student)->restore(std::span(&array, 1));
    return restored ? std::string("restored") : restored.error().message();
  };
  EXPECT_SAYS(refusal({"blk.9.attn_q.weight", {32, 32}, std::vector<float>(1024)}), "'blk.9.attn_q.weight'");
  EXPECT_SAYS(refusal({"blk.0.attn_q.weight", {32, 16}, std::vector<float>(512)}), "another shape");
  EXPECT_EQ(refusal({"blk.0.attn_q.weight", {32, 32}, std::vector<float>(1024)}), "restored");
}

// A token beyond the vocabulary would be read from anywhere.
TEST_F(TorchTraining, FailsWithWordsWhereLibtorchDoes) {
  auto student = make_student(plan());
  ASSERT_TRUE(student);
  std::vector<int32_t> tokens(kLength, 5000);
  const auto score = (*student)->judge({.windows = 1,
                                        .length = kLength,
                                        .tokens = tokens,
                                        .next = tokens,
                                        .kept = 0,
                                        .expected = {},
                                        .probabilities = {}});
  ASSERT_FALSE(score);
  EXPECT_SAYS(score.error().message(), "libtorch: ");
}

TEST(Trainer, SaysWhatItIsOrHowToGetIt) {
  const auto version = trainer_version();
  if (trainer_is_there()) {
    ASSERT_TRUE(version) << version.error().to_string();
    EXPECT_SAYS(*version, "libtorch ");
  } else {
    ASSERT_FALSE(version);
    EXPECT_EQ(version.error().code(), base::ErrorCode::unsupported);
    EXPECT_SAYS(version.error().message(), "libtorch-dev");
    EXPECT_SAYS(version.error().message(), "make distill");
  }
}

}  // namespace
}  // namespace tidemill::distill
