#include "rollout/traits.hpp"

#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace tidemill::rollout {
namespace {

TEST(TextTraits, TellCodeFromProse) {
  EXPECT_EQ(read_text("Why do tides come twice a day?\nI would like to know.\n").code, 0);
  EXPECT_EQ(read_text("def tide(moon):\n    return moon * 2;\n\nimport math").code, 1);
  EXPECT_EQ(read_text("#include <cmath>\nint main() {\n}\n").code, 1);
  EXPECT_EQ(read_text("What is wrong here?\n```\nx = tide +\n```\nThank you").code, 1.0 / 3);
  EXPECT_EQ(read_text("").code, 0);
  EXPECT_EQ(read_text(" \n\t\r\n").code, 0);
}

TEST(TextTraits, TellScriptsApart) {
  EXPECT_EQ(read_text("The tide, l'été, Größe").other_alphabets, 0);
  EXPECT_EQ(read_text("прилив и отлив").other_alphabets, 1);
  EXPECT_EQ(read_text("παλίρροια").other_alphabets, 1);
  EXPECT_EQ(read_text("潮の満ち引き").without_spaces, 1);
  EXPECT_EQ(read_text("น้ำขึ้นน้ำลง").without_spaces, 1);
  const TextTraits mixed = read_text("ab 潮汐");
  EXPECT_EQ(mixed.without_spaces, 0.5);
  EXPECT_EQ(mixed.other_alphabets, 0);
  EXPECT_EQ(read_text("“…” — ✓ 42 \xff\xfe\xe6").other_alphabets, 0);
}

TEST(TextTraits, LookAtTheEndOfLongTexts) {
  const std::string prose(100'000, 'x');
  EXPECT_EQ(read_text(prose + "\nreturn 0;\n").code, 0.5);
}

TEST(Features, AreBoundedWhateverTheRequest) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (const RequestTraits& traits :
       {RequestTraits{},
        RequestTraits{.prompt_tokens = kMost,
        .turns = kMost,
        .tools = kMost,
        .images = true,
        .text = {.code = 9, .other_alphabets = 9, .without_spaces = 9}},
        RequestTraits{.prompt_tokens = -5, .turns = -1, .tools = -1, .text = {.code = -1}}}) {
    const Features features = features_of(traits);
    EXPECT_EQ(features[0], 1);
    for (const double feature : features) {
      EXPECT_GE(feature, 0);
      EXPECT_LE(feature, 1);
    }
  }
}

TEST(Features, SeparateWhatTheyShould) {
  const Features plain = features_of({.prompt_tokens = 100});
  for (const RequestTraits& other :
       {RequestTraits{.prompt_tokens = 5'000}, RequestTraits{.prompt_tokens = 100, .turns = 3},
        RequestTraits{.prompt_tokens = 100, .tools = 1}, RequestTraits{.prompt_tokens = 100, .images = true},
        RequestTraits{.prompt_tokens = 100, .text = {.code = 0.5}},
        RequestTraits{.prompt_tokens = 100, .text = {.other_alphabets = 0.5}},
        RequestTraits{.prompt_tokens = 100, .text = {.without_spaces = 0.5}}})
    EXPECT_NE(features_of(other), plain);
}

}  // namespace
}  // namespace tidemill::rollout
