// Shapes of students as people write them.
#include "distill/shape.hpp"

#include <gtest/gtest.h>

#include "expect_says.hpp"

namespace tidemill::distill {
namespace {

constexpr int64_t kVocabulary = 4096;
constexpr int64_t kTeacher = 5'770'496;  // parameters of nano-coder

TEST(Shape, IsSpelt) {
  EXPECT_EQ(parse_shape("128:4:4/2:384", kVocabulary, 0).value(), (StudentShape{128, 4, 4, 2, 384}));
  // Without KV heads as many as heads; without a feed-forward width three times the width.
  EXPECT_EQ(parse_shape("64:2:4", kVocabulary, 0).value(), (StudentShape{64, 2, 4, 4, 192}));
  EXPECT_EQ(parse_shape("64:2:4:96", kVocabulary, 0).value(), (StudentShape{64, 2, 4, 4, 96}));
  EXPECT_EQ(parse_shape("64:2:4/1", kVocabulary, 0).value(), (StudentShape{64, 2, 4, 1, 192}));
}

TEST(Shape, HasNames) {
  EXPECT_EQ(parse_shape("small", kVocabulary, 0).value(), (StudentShape{128, 4, 4, 2, 384}));
  EXPECT_SAYS(shape_names(), "small (128:4:4/2:384)");
}

TEST(Shape, SurvivesItsOwnSpelling) {
  for (const StudentShape& shape : {StudentShape{96, 4, 3, 1, 288}, StudentShape{256, 6, 8, 4, 768}})
    EXPECT_EQ(parse_shape(shape.to_string(), kVocabulary, 0).value(), shape);
}

TEST(Shape, CountsParameters) {
  // Embeddings 4096 x 128; of each layer query and output 128 x 128, key and value 64 x 128, three matrices of
  // 128 x 384 and two norms; and the last norm.
  const StudentShape shape{128, 4, 4, 2, 384};
  EXPECT_EQ(shape.parameters(kVocabulary), 4096 * 128 + 4 * (2 * 16384 + 2 * 8192 + 3 * 49152 + 256) + 128);
  // nano-coder's, whose heads are of 64.
  EXPECT_EQ((StudentShape{256, 6, 4, 2, 768}).parameters(kVocabulary), kTeacher);
}

TEST(Shape, IsTheLargestOfAShare) {
  const StudentShape shape = parse_shape("23%", kVocabulary, kTeacher).value();
  EXPECT_EQ(shape, (StudentShape{128, 4, 4, 2, 384}));
  for (const double share : {10.0, 23.0, 37.5, 60.0, 100.0}) {
    const auto found = parse_shape(std::to_string(share) + "%", kVocabulary, kTeacher);
    ASSERT_TRUE(found) << found.error().to_string();
    const auto limit = static_cast<int64_t>(share / 100 * kTeacher);
    EXPECT_LE(found->parameters(kVocabulary), limit) << share;
    // Another layer would be too much.
    EXPECT_GT(found->parameters(kVocabulary) + found->layer_parameters(), limit) << share;
  }
}

TEST(Shape, SaysWhatIsWrong) {
  const auto refusal = [](std::string_view text, int64_t teacher = kTeacher) {
    const auto shape = parse_shape(text, kVocabulary, teacher);
    return shape ? std::string("accepted") : shape.error().to_string();
  };
  EXPECT_SAYS(refusal("tiny"), "it has 1 parts");
  EXPECT_SAYS(refusal("128:4"), "it has 2 parts");
  EXPECT_SAYS(refusal("128:four:4"), "'four' is no number of at least 1");
  EXPECT_SAYS(refusal("128:0:4"), "'0' is no number of at least 1");
  EXPECT_SAYS(refusal("100:4:4"), "multiple of 32");
  EXPECT_SAYS(refusal("128:4:3"), "3 heads do not share a width of 128 in even parts");
  EXPECT_SAYS(refusal("128:4:4/3"), "4 heads cannot share 3 KV heads evenly");
  EXPECT_SAYS(refusal("128:4:4/2/1"), "more than one '/'");
  EXPECT_SAYS(refusal("128:4:4:100"), "feed-forward width is a multiple of 32");
  EXPECT_SAYS(refusal("128:1000:4"), "at most 128 layers");
  EXPECT_SAYS(refusal("0%"), "more than 0 %");
  EXPECT_SAYS(refusal("101%"), "at most 100 %");
  EXPECT_SAYS(refusal("x%"), "the share is");
  EXPECT_SAYS(refusal("%"), "the share is");
  EXPECT_SAYS(refusal("23%", 0), "there is no teacher");
  EXPECT_SAYS(refusal("1%"), "hold no student");
  EXPECT_SAYS(refusal(""), "128:4:4/2:384");  // what would be right
}

}  // namespace
}  // namespace tidemill::distill
