// Windows of a text, and files of what a teacher said of them.
#include "distill/lessons.hpp"

#include <fstream>
#include <numeric>

#include <gtest/gtest.h>

#include "expect_says.hpp"
#include "temporary_folder.hpp"

namespace tidemill::distill {
namespace {

std::vector<Token> counting(size_t tokens) {
  std::vector<Token> text(tokens);
  std::iota(text.begin(), text.end(), 100);
  return text;
}

std::vector<Token> window(const TextWindows& windows, int64_t index) {
  std::vector<Token> out(static_cast<size_t>(windows.length() + 1));
  windows.read(index, out);
  return out;
}

TEST(TextWindows, PredictEveryTokenOnce) {
  const std::vector<Token> text = counting(9);
  const TextWindows windows(text, {}, 4);
  ASSERT_EQ(windows.count(), 2);
  EXPECT_EQ(window(windows, 0), (std::vector<Token>{100, 101, 102, 103, 104}));
  EXPECT_EQ(window(windows, 1), (std::vector<Token>{104, 105, 106, 107, 108}));
}

TEST(TextWindows, BeginWithTheModelsFirstToken) {
  const std::vector<Token> text = counting(8);
  const std::vector<Token> lead = {1};
  const TextWindows windows(text, lead, 4);
  ASSERT_EQ(windows.count(), 2);
  EXPECT_EQ(window(windows, 0), (std::vector<Token>{1, 100, 101, 102, 103}));
  EXPECT_EQ(window(windows, 1), (std::vector<Token>{1, 104, 105, 106, 107}));
}

TEST(TextWindows, AreWholeOrNotThere) {
  const std::vector<Token> lead = {1};
  for (size_t tokens = 0; tokens < 20; ++tokens) {
    const std::vector<Token> text = counting(tokens);
    EXPECT_EQ(TextWindows(text, lead, 4).count(), static_cast<int64_t>(tokens / 4)) << tokens;
    EXPECT_EQ(TextWindows(text, {}, 4).count(), tokens == 0 ? 0 : static_cast<int64_t>((tokens - 1) / 4)) << tokens;
  }
}

class Lesson : public testing::Test {
 protected:
  void SetUp() override {
    std::ofstream file(path_, std::ios::binary);
    file << format_.header();
    for (int64_t i = 0; i < format_.count; ++i)
      file << format_.record(tokens(i), expectations(i));
  }
  static std::vector<Token> tokens(int64_t i) { return {static_cast<Token>(i), 2, 3, 70'000}; }
  static Expectations expectations(int64_t i) {
    return {.tokens = {static_cast<int32_t>(i), 1, 2, 3, 4, 5}, .probabilities = {0.5F, 0.25F, 1, 0, 0.125F, 0.75F}};
  }
  std::string refusal(const LessonFormat& format) const {
    const auto file = LessonFile::open(path_, format);
    return file ? "opened" : file.error().to_string();
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "lessons";
  LessonFormat format_{.length = 3, .kept = 2, .count = 4, .fingerprint = 7};
};

TEST_F(Lesson, IsReadAsItWasWritten) {
  const auto file = LessonFile::open(path_, format_);
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ((*file)->count(), 4);
  for (const int64_t i : {3, 0, 2, 1}) {
    std::vector<Token> read(4);
    Expectations found{std::vector<int32_t>(6), std::vector<float>(6)};
    (*file)->read(i, read, found.tokens, found.probabilities);
    EXPECT_EQ(read, tokens(i));
    EXPECT_EQ(found.tokens, expectations(i).tokens);
    EXPECT_EQ(found.probabilities, expectations(i).probabilities);  // which F16 holds exactly
  }
}

TEST_F(Lesson, OfAnotherKindIsRefused) {
  LessonFormat other = format_;
  other.fingerprint = 8;
  EXPECT_SAYS(refusal(other), "holds no lessons of this teacher on this text");
  other = format_;
  other.kept = 3;
  EXPECT_SAYS(refusal(other), "holds no lessons");
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 1);
  EXPECT_SAYS(refusal(format_), "bytes, and lessons of its kind have");
  folder_.put("lessons", "something else");
  EXPECT_SAYS(refusal(format_), "holds no lessons");
  std::filesystem::remove(path_);
  EXPECT_EQ(LessonFile::open(path_, format_).error().code(), base::ErrorCode::not_found);
}

}  // namespace
}  // namespace tidemill::distill
