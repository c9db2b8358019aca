// Students as files that run, and what they inherit.
#include "distill/student_file.hpp"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "data.hpp"
#include "distill/inherit.hpp"
#include "distill/random.hpp"
#include "evaluate/judged_model.hpp"
#include "expect_says.hpp"
#include "model/load.hpp"
#include "temporary_folder.hpp"

namespace tidemill::distill {
namespace {

StudentPlan small_plan() {
  StudentPlan plan;
  plan.shape = {32, 1, 2, 1, 96};
  plan.vocabulary = 4096;
  plan.window = 64;
  return plan;
}

NamedArray array(std::string name, std::vector<int64_t> shape) {
  size_t elements = 1;
  for (const int64_t extent : shape)
    elements *= static_cast<size_t>(extent);
  NamedArray made{std::move(name), std::move(shape), std::vector<float>(elements)};
  for (size_t i = 0; i < elements; ++i)
    made.values[i] = static_cast<float>(0.2 * (drawn_share(made.name.size(), i, elements) - 0.5));
  return made;
}

std::vector<NamedArray> weights() {
  return {array("token_embd.weight", {32, 4096}), array("blk.0.attn_norm.weight", {32}),
          array("blk.0.attn_q.weight", {32, 32}), array("blk.0.attn_k.weight", {32, 16}),
          array("blk.0.attn_v.weight", {32, 16}), array("blk.0.attn_output.weight", {32, 32}),
          array("blk.0.ffn_norm.weight", {32}),   array("blk.0.ffn_gate.weight", {32, 96}),
          array("blk.0.ffn_up.weight", {32, 96}), array("blk.0.ffn_down.weight", {96, 32}),
          array("output_norm.weight", {32})};
}

class StudentFile : public testing::Test {
 protected:
  base::Result<void> write(const std::vector<NamedArray>& arrays, tensor::DType type = tensor::DType::f32) {
    const auto vocabulary = model::Checkpoint::open(test::nano_coder());
    if (!vocabulary) return vocabulary.error();
    return write_student(path_, small_plan(), arrays, *vocabulary,
                         {.name = "pupil", .description = "for a test", .type = type});
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "pupil.gguf";
};

TEST_F(StudentFile, RunsWithItsTeachersTokenizer) {
  for (const tensor::DType type : {tensor::DType::f32, tensor::DType::f16, tensor::DType::bf16}) {
    ASSERT_TRUE(write(weights(), type));
    const auto file = model::Checkpoint::open(path_);
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(file->parameters(), small_plan().shape.parameters(4096));
    EXPECT_EQ(file->find_tensor("blk.0.ffn_down.weight")->type, type);
    EXPECT_EQ(file->find_tensor("output_norm.weight")->type, tensor::DType::f32);
    const test::Judged pupil = test::judged(path_, {});
    const test::Judged teacher = test::judged(test::nano_coder(), {});
    ASSERT_NE(pupil.subject, nullptr);
    EXPECT_TRUE(evaluate::check_same_vocabulary(*pupil.subject, *teacher.subject));
    const model::HyperParameters& hyper = pupil.subject->model().hyper_parameters();
    EXPECT_EQ(hyper.context, 64);
    EXPECT_EQ(hyper.heads, 2);
    EXPECT_EQ(hyper.kv_heads, 1);
    EXPECT_EQ(hyper.rms_epsilon, 1e-5F);
    auto reader = pupil.subject->make_reader(64);
    ASSERT_TRUE(reader);
    const std::vector<model::Token> tokens = {1, 300, 301};
    const tensor::ConstMatrix logits = reader->read(tokens, 0, 0);
    for (int64_t i = 0; i < logits.cols; ++i)
      ASSERT_TRUE(std::isfinite(logits.row(2)[i]));
  }
}

TEST_F(StudentFile, IsReadAgainToGoOnFrom) {
  ASSERT_TRUE(write(weights()));
  const auto file = model::Checkpoint::open(path_);
  ASSERT_TRUE(file);
  const auto read = read_student(*file, small_plan(), weights());
  ASSERT_TRUE(read) << read.error().to_string();
  ASSERT_EQ(read->size(), weights().size());
  for (size_t i = 0; i < read->size(); ++i) {
    EXPECT_EQ((*read)[i].name, weights()[i].name);
    EXPECT_EQ((*read)[i].shape, weights()[i].shape);
    EXPECT_EQ((*read)[i].values, weights()[i].values);
  }
}

TEST_F(StudentFile, OfAnotherShapeIsNothingToGoOnFrom) {
  ASSERT_TRUE(write(weights()));
  const auto file = model::Checkpoint::open(path_);
  ASSERT_TRUE(file);
  StudentPlan wider = small_plan();
  wider.shape.feed_forward = 128;
  const auto read = read_student(*file, wider, weights());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), base::ErrorCode::invalid_argument);
  for (const char* part : {"pupil.gguf", "32:1:2/1:96", "32:1:2/1:128", "4096"})
    EXPECT_SAYS(read.error().to_string(), part);
  StudentPlan turned = small_plan();
  turned.rope_base = 500000;
  const auto other = read_student(*file, turned, weights());
  ASSERT_FALSE(other);
  EXPECT_SAYS(other.error().to_string(), "base 10000");
  EXPECT_SAYS(other.error().to_string(), "500000");
}

TEST_F(StudentFile, IsNotWrittenWithWeightsThatItsTypeCannotHold) {
  std::vector<NamedArray> arrays = weights();
  arrays[5].values[7] = 1e6F;
  const auto written = write(arrays, tensor::DType::f16);
  ASSERT_FALSE(written);
  EXPECT_SAYS(written.error().message(), "'blk.0.attn_output.weight' holds weights that F16 cannot");
  EXPECT_EQ(folder_.entries(), 0);
  EXPECT_TRUE(write(arrays, tensor::DType::f32));
  arrays[5].values[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(write(arrays, tensor::DType::f32));
}

// Rows that lie in a plane keep all that they are in two dimensions: products of any two stay.
TEST(Inherit, KeepsWhatLiesInFewDimensions) {
  constexpr int64_t rows = 50;
  constexpr int64_t from = 8;
  std::vector<float> table;
  for (int64_t r = 0; r < rows; ++r) {
    const double a = drawn_share(1, static_cast<uint64_t>(r), 0) - 0.5;
    const double b = drawn_share(1, static_cast<uint64_t>(r), 1) - 0.5;
    for (int64_t c = 0; c < from; ++c)
      table.push_back(static_cast<float>(a * std::sin(c) + b * static_cast<double>(c * c) / 10));
  }
  const std::vector<double> shares(rows, 1);
  const std::vector<float> projected = project_rows(table, from, shares, 2);
  ASSERT_EQ(projected.size(), static_cast<size_t>(rows * 2));
  const auto product = [](const std::vector<float>& of, size_t width, size_t i, size_t j) {
    double sum = 0;
    for (size_t c = 0; c < width; ++c)
      sum += static_cast<double>(of[i * width + c]) * of[j * width + c];
    return sum;
  };
  for (size_t i = 0; i < rows; i += 7) {
    for (size_t j = 0; j < rows; ++j)
      EXPECT_NEAR(product(projected, 2, i, j), product(table, from, i, j), 1e-5);
  }
}

// Where there is more than fits, what weighs more is kept.
TEST(Inherit, KeepsWhatWeighsMost) {
  const std::vector<float> table = {3, 0, 0, 2};
  const std::vector<float> plain = project_rows(table, 2, std::vector<double>{1, 1}, 1);
  EXPECT_NEAR(std::abs(plain[0]), 3, 1e-6);
  EXPECT_NEAR(plain[1], 0, 1e-6);
  const std::vector<float> weighted = project_rows(table, 2, std::vector<double>{1, 5}, 1);
  EXPECT_NEAR(weighted[0], 0, 1e-6);
  EXPECT_NEAR(std::abs(weighted[1]), 2, 1e-6);
}

TEST(Inherit, TakesTheTeachersEmbeddings) {
  const auto teacher = model::Checkpoint::open(test::nano_coder());
  ASSERT_TRUE(teacher);
  const std::vector<int32_t> text = {300, 300, 301};
  const auto inherited = inherit_embeddings(*teacher, 64, text);
  ASSERT_TRUE(inherited) << inherited.error().to_string();
  ASSERT_EQ(inherited->size(), 1U);
  EXPECT_EQ(inherited->front().name, "token_embd.weight");
  EXPECT_EQ(inherited->front().shape, (std::vector<int64_t>{64, 4096}));
  // A student that is wider has nothing to inherit.
  EXPECT_TRUE(inherit_embeddings(*teacher, 512, text)->empty());
}

}  // namespace
}  // namespace tidemill::distill
