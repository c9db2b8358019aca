// The embedded model as a teacher, against its plain logits.
#include "distill/teach.hpp"

#include <algorithm>
#include <cmath>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "data.hpp"
#include "evaluate/judged_model.hpp"
#include "expect_says.hpp"
#include "temporary_folder.hpp"

namespace tidemill::distill {
namespace {

constexpr int64_t kWindow = 24;
constexpr int64_t kKept = 5;

class Teach : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(model_.subject, nullptr);
    std::string text;
    for (int i = 0; i < 12; ++i)
      text += "def area_" + std::to_string(i) + "(width, height):\n    return width * height\n\n";
    text_ = model_.subject->tokenizer().encode(text, {.add_special = false}).value();
    options_.written = 6;
    options_.teacher = 42;
  }
  TextWindows windows() const { return {text_, model_.subject->lead(), kWindow}; }
  Teacher teacher() {
    auto made = Teacher::create(*model_.subject, *model_.device, kWindow, kKept, 2);
    EXPECT_TRUE(made) << made.error().to_string();
    return std::move(made).value();
  }
  base::Result<std::unique_ptr<LessonFile>> teach() {
    Teacher asked = teacher();
    return distill::teach(asked, windows(), kKept, path_, options_);
  }
  std::string refusal() {
    const auto lessons = teach();
    return lessons ? "taught" : lessons.error().to_string();
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "lessons";
  test::Judged model_ = test::judged(test::nano_coder(), {});
  std::vector<Token> text_;
  TeachOptions options_;
};

TEST_F(Teach, ExpectsWhatItsLogitsSay) {
  std::vector<Token> tokens(kWindow + 1);
  windows().read(1, tokens);
  const auto window = teacher().read(tokens);
  ASSERT_TRUE(window) << window.error().to_string();
  EXPECT_EQ(window->tokens, tokens);
  auto reader = model_.subject->make_reader(kWindow);
  ASSERT_TRUE(reader);
  const tensor::ConstMatrix logits = reader->read(std::span(tokens).first(kWindow), 0, 0);
  for (int64_t r = 0; r < kWindow; ++r) {
    const std::span<const float> row(logits.row(r), static_cast<size_t>(logits.cols));
    double sum = 0;
    for (const float logit : row)
      sum += std::exp(static_cast<double>(logit));
    double least = 1;
    for (size_t k = 0; k < kKept; ++k) {
      const size_t at = static_cast<size_t>(r * kKept) + k;
      const double expected =
          std::exp(static_cast<double>(row[static_cast<size_t>(window->expectations.tokens[at])])) / sum;
      EXPECT_NEAR(window->expectations.probabilities[at], expected, 1e-5);
      EXPECT_LE(expected, least + 1e-9);  // the likeliest first
      least = expected;
    }
    const auto likelier = std::ranges::count_if(
        row, [&](float logit) { return std::exp(static_cast<double>(logit)) / sum > least + 1e-9; });
    EXPECT_LT(likelier, kKept);
  }
}

// What it writes side by side with others is what it would expect reading it alone.
TEST_F(Teach, WritesWhatItWouldExpectReadingIt) {
  const std::vector<Token> beginnings = {text_[0], text_[5], text_[9]};
  Teacher asked = teacher();
  const auto written = asked.write(beginnings, 3, 100);
  ASSERT_TRUE(written) << written.error().to_string();
  ASSERT_EQ(written->size(), 3U);
  for (size_t i = 0; i < written->size(); ++i) {
    const TaughtWindow& window = (*written)[i];
    ASSERT_EQ(window.tokens.size(), static_cast<size_t>(kWindow + 1));
    EXPECT_EQ(window.tokens[model_.subject->lead().size()], beginnings[i]);
    const auto read = asked.read(window.tokens);
    ASSERT_TRUE(read);
    EXPECT_EQ(window.expectations.tokens, read->expectations.tokens);
    EXPECT_EQ(window.expectations.probabilities, read->expectations.probabilities);
    // By itself, and by its number alone.
    const auto alone = asked.write(std::span(beginnings).subspan(i, 1), 3, 100 + static_cast<int64_t>(i));
    ASSERT_TRUE(alone);
    EXPECT_EQ(alone->front().tokens, window.tokens);
  }
  const auto other = asked.write(beginnings, 4, 100);
  ASSERT_TRUE(other);
  EXPECT_NE((*other)[0].tokens, (*written)[0].tokens);
}

TEST_F(Teach, KeepsLessonsOfTheTextAndOfItsOwn) {
  const auto lessons = teach();
  ASSERT_TRUE(lessons) << lessons.error().to_string();
  ASSERT_EQ((*lessons)->count(), windows().count() + 6);
  std::vector<Token> expected(kWindow + 1);
  std::vector<Token> found(kWindow + 1);
  std::vector<int32_t> tokens(kWindow * kKept);
  std::vector<float> probabilities(tokens.size());
  for (int64_t i = 0; i < windows().count(); ++i) {
    windows().read(i, expected);
    (*lessons)->read(i, found, tokens, probabilities);
    EXPECT_EQ(found, expected);
  }
  // One file, which is read the next time.
  EXPECT_EQ(folder_.entries(), 1);
  options_.on_progress = [](size_t, size_t) { ADD_FAILURE() << "the teacher was asked again"; };
  EXPECT_TRUE(teach());
}

TEST_F(Teach, GoesOnAfterAnInterruptAsIfThereHadBeenNone) {
  ASSERT_TRUE(teach());
  const std::string whole = base::read_file(path_).value();
  const auto all = static_cast<size_t>(windows().count() + 6);
  for (const size_t stop : {size_t{1}, static_cast<size_t>(windows().count()), all - 6}) {
    std::filesystem::remove(path_);
    size_t done = 0;
    options_.on_progress = [&](size_t now, size_t) { done = now; };
    options_.cancelled = [&] { return done >= stop; };
    const auto stopped = teach();
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().code(), base::ErrorCode::cancelled);
    EXPECT_FALSE(std::filesystem::exists(path_));
    options_.cancelled = {};
    size_t first = 0;
    options_.on_progress = [&](size_t now, size_t) { first = first == 0 ? now : first; };
    ASSERT_TRUE(teach());
    EXPECT_GT(first, stop);
    EXPECT_EQ(base::read_file(path_).value(), whole) << stop;
  }
}

TEST_F(Teach, RefusesLessonsOfAnotherTeacher) {
  ASSERT_TRUE(teach());
  options_.teacher = 43;
  EXPECT_SAYS(refusal(), "holds no lessons of this teacher on this text");
}

TEST_F(Teach, RefusesWhatItCannotRead) {
  const auto refusal = [&](int64_t length, int64_t kept) {
    const auto made = Teacher::create(*model_.subject, *model_.device, length, kept, 1);
    return made ? std::string("made") : made.error().to_string();
  };
  EXPECT_SAYS(refusal(8192, 4), "windows of 8192 tokens are longer than the context");
  EXPECT_SAYS(refusal(16, 5000), "5000 tokens cannot be kept of a vocabulary of 4096");
}

}  // namespace
}  // namespace tidemill::distill
