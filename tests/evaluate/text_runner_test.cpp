// Texts judged by the embedded model, against sums over plain forward passes.
#include "evaluate/text_runner.hpp"

#include <cmath>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "data.hpp"
#include "expect_says.hpp"
#include "judged_model.hpp"
#include "model/gguf.hpp"
#include "model/synth.hpp"
#include "temporary_folder.hpp"

namespace tidemill::evaluate {
namespace {

using base::ErrorCode;
using test::exact;

// Some 1,200 tokens of Python.
std::string python() {
  std::string text;
  for (int i = 0; i < 60; ++i)
    text +=
        "def area_" + std::to_string(i) + "(width, height):\n    return width * height + " + std::to_string(i) + "\n\n";
  return text;
}

class JudgeText : public testing::Test {
 protected:
  std::vector<Token> tokens(const std::string& text) const {
    return model_.subject->tokenizer().encode(text, {.add_special = false}).value();
  }
  // The same tokens behind what the model puts before them.
  std::vector<Token> led(std::span<const Token> tokens) const {
    std::vector<Token> all(model_.subject->lead().begin(), model_.subject->lead().end());
    all.insert(all.end(), tokens.begin(), tokens.end());
    return all;
  }

  std::filesystem::path path_ = test::nano_coder();
  test::Judged model_ = test::judged(path_, exact());
};

TEST_F(JudgeText, SumsTheLogProbabilitiesOfOneWindow) {
  ASSERT_NE(model_.subject, nullptr);
  const std::string text = python();
  const std::vector<Token> sequence = led(tokens(text));
  ASSERT_GT(sequence.size(), 600U);  // more than one step
  TextOptions options;
  options.window = options.stride = static_cast<int64_t>(sequence.size());
  size_t last = 0;
  options.on_progress = [&last](size_t done, size_t total) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, total);
    last = done;
  };
  const auto judged = judge_text(*model_.subject, nullptr, text, options);
  ASSERT_TRUE(judged) << judged.error().to_string();
  const std::vector<double> expected = test::log_probabilities(path_, sequence, 1);
  EXPECT_EQ(judged->windows, 1);
  EXPECT_EQ(judged->score.tokens, static_cast<int64_t>(expected.size()));
  EXPECT_EQ(last, expected.size());
  const double nats = -std::accumulate(expected.begin(), expected.end(), 0.0);
  EXPECT_NEAR(judged->score.nats, nats, 1e-6 * nats);
  EXPECT_FALSE(judged->comparison);
  size_t bytes = text.size();
  if (model_.subject->lead().empty()) bytes -= model_.subject->tokenizer().piece_bytes(sequence[0]).size();
  EXPECT_EQ(judged->score.bytes, static_cast<int64_t>(bytes));
}

TEST_F(JudgeText, WindowsStartAfresh) {
  ASSERT_NE(model_.subject, nullptr);
  const size_t lead = model_.subject->lead().size();
  const std::vector<Token> all = tokens(python());
  const std::span<const Token> some = std::span(all).first(100);
  TextOptions options;
  options.window = 33;
  for (const int64_t stride : {int64_t{33}, int64_t{20}}) {
    options.stride = stride;
    const auto judged = judge_tokens(*model_.subject, nullptr, some, options);
    ASSERT_TRUE(judged) << judged.error().to_string();
    // The windows once more, from their description.
    double nats = 0;
    size_t counted = 1 - lead;
    for (size_t begin = 0; counted < some.size(); begin += static_cast<size_t>(stride)) {
      const size_t end = std::min(begin + 33 - lead, some.size() - 1);
      const std::vector<Token> sequence = led(some.subspan(begin, end + 1 - begin));
      for (const double log_p : test::log_probabilities(path_, sequence, counted - begin + lead))
        nats -= log_p;
      counted = end + 1;
    }
    EXPECT_NEAR(judged->score.nats, nats, 1e-6 * nats) << stride;
    EXPECT_EQ(judged->score.tokens, static_cast<int64_t>(some.size() - 1 + lead));
  }
}

TEST_F(JudgeText, AModelAgreesWithItself) {
  ASSERT_NE(model_.subject, nullptr);
  const test::Judged same = test::judged(path_, exact());
  ASSERT_NE(same.subject, nullptr);
  TextOptions options;
  options.tokens = 200;
  const auto judged = judge_text(*model_.subject, same.subject.get(), python(), options);
  ASSERT_TRUE(judged) << judged.error().to_string();
  EXPECT_EQ(judged->comparison->top1_agreement(), 1);
  EXPECT_EQ(judged->comparison->divergence_quantile(1), 0);
  EXPECT_EQ(judged->comparison->positions(), judged->score.tokens);
  EXPECT_EQ(judged->score.nats, judged->reference->nats);
  EXPECT_EQ(judged->score.right, judged->reference->right);
  EXPECT_GT(judged->score.accuracy(), 0.25);  // it is a model of Python
}

TEST_F(JudgeText, ComparesWithPlainArithmetic) {
  ASSERT_NE(model_.subject, nullptr);
  const test::TemporaryFolder folder;
  const auto quantised = folder.path() / "q4_0.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("llama-tiny").value(), quantised,
                                           {.type = tensor::DType::q4_0, .on_progress = {}}));
  const test::Judged model = test::judged(quantised, {});
  SubjectOptions plain;
  plain.plain = true;
  const test::Judged reference = test::judged(quantised, plain);
  ASSERT_TRUE(model.subject && reference.subject);
  EXPECT_EQ(reference.subject->kv_type(), tensor::KvType::f32);
  EXPECT_GT(reference.subject->model().weight_bytes(), 5 * model.subject->model().weight_bytes());
  TextOptions options;
  options.tokens = 100;
  const auto judged = judge_text(*model.subject, reference.subject.get(), python(), options);
  ASSERT_TRUE(judged) << judged.error().to_string();
  EXPECT_GT(judged->comparison->divergence_mean(), 0);
  EXPECT_LT(judged->comparison->divergence_mean(), 0.05);
  EXPECT_GE(judged->comparison->divergence_quantile(1), judged->comparison->divergence_quantile(0.99));
  EXPECT_GT(judged->comparison->top1_agreement(), 0.5);
}

TEST_F(JudgeText, SaysWhatIsWrong) {
  ASSERT_NE(model_.subject, nullptr);
  const auto refusal = [&](const std::string& text, const TextOptions& options) {
    const auto judged = judge_text(*model_.subject, nullptr, text, options);
    EXPECT_FALSE(judged);
    if (judged) return std::string();
    EXPECT_EQ(judged.error().code(), ErrorCode::invalid_argument);
    return judged.error().to_string();
  };
  EXPECT_SAYS(refusal("", {}), "nothing to predict in a text of 0 tokens");
  EXPECT_SAYS(refusal("", {}), model_.subject->lead().empty() ? "at least two are needed" : "at least one is needed");
  TextOptions options;
  options.window = 100'000;
  EXPECT_SAYS(refusal("x = 1", options), "window of 100000 tokens is longer than the context");
  options = {};
  options.stride = 513;
  EXPECT_SAYS(refusal("x = 1", options), "stride of 513 does not fit windows of 512");
  options.stride = 0;
  EXPECT_SAYS(refusal("x = 1", options), "stride of 0");
  options = {};
  options.cancelled = [] { return true; };
  const auto cancelled = judge_text(*model_.subject, nullptr, python(), options);
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code(), ErrorCode::cancelled);
}

TEST_F(JudgeText, OtherVocabulariesAreNotCompared) {
  ASSERT_NE(model_.subject, nullptr);
  const test::TemporaryFolder folder;
  const auto other = folder.path() / "other.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("llama-tiny").value(), other, {}));
  const test::Judged tiny = test::judged(other, {});
  ASSERT_NE(tiny.subject, nullptr);
  const auto checked = check_same_vocabulary(*model_.subject, *tiny.subject);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), ErrorCode::invalid_argument);
  EXPECT_SAYS(checked.error().to_string(), "the first predicts 4096 tokens, the second 1024");
  EXPECT_TRUE(check_same_vocabulary(*tiny.subject, *tiny.subject));
}

TEST(Subject, HasTheRotationOfWhatItReads) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "phi.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("phi3-tiny").value(), path, {}));
  SubjectOptions options = exact();
  for (const int64_t context : {0, 16, 17}) {
    options.context = context;
    const test::Judged judged = test::judged(path, options);
    ASSERT_NE(judged.subject, nullptr);
    EXPECT_EQ(judged.subject->model().hyper_parameters().for_short_contexts, context == 16) << context;
  }
}

TEST(Subject, RefusesWhatPredictsNoTokens) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "encoder.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("bert-tiny").value(), path, {}));
  const auto device = tensor::make_cpu_device(tensor::choose_isa().value(), 1);
  const auto file = model::Checkpoint::open(path);
  ASSERT_TRUE(file);
  const auto subject = Subject::load(*file, *device, {});
  ASSERT_FALSE(subject);
  EXPECT_EQ(subject.error().code(), ErrorCode::unsupported);
  EXPECT_SAYS(subject.error().to_string(), "encoder");
}

// llama-tiny in F32, and its output norm's first weights these ones.
std::filesystem::path with_output_norm(const test::TemporaryFolder& folder, const std::vector<float>& weights) {
  auto path = folder.path() / "odd.gguf";
  EXPECT_TRUE(model::write_synthetic_model(model::find_shape("llama-tiny").value(), path,
                                           {.type = tensor::DType::f32, .on_progress = {}}));
  size_t offset = 0;
  {
    const auto file = model::Checkpoint::open(path).value();
    const model::GgufTensor* norm = file.find_tensor("output_norm.weight");
    EXPECT_TRUE(norm != nullptr && norm->type == tensor::DType::f32);
    offset = static_cast<size_t>(norm->data.data() - file.mapping()->bytes().data());
  }
  std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(static_cast<std::streamoff>(offset));
  out.write(reinterpret_cast<const char*>(weights.data()),
            static_cast<std::streamsize>(weights.size() * sizeof(float)));
  return path;
}

TEST(Subject, RefusesWeightsThatAreNoNumbers) {
  const test::TemporaryFolder folder;
  const auto path = with_output_norm(folder, {1, 1, std::numeric_limits<float>::quiet_NaN()});
  const auto device = tensor::make_cpu_device(tensor::choose_isa().value(), 1);
  const auto file = model::Checkpoint::open(path);
  ASSERT_TRUE(file);
  const auto subject = Subject::load(*file, *device, {});
  ASSERT_FALSE(subject);
  EXPECT_EQ(subject.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(subject.error().to_string(), "tensor 'output_norm.weight' holds NaN at element 2");
}

TEST(Subject, SumsThatOverflowAreFoundOut) {
  const test::TemporaryFolder folder;
  const test::Judged broken = test::judged(with_output_norm(folder, std::vector<float>(128, 3e38F)), exact());
  ASSERT_NE(broken.subject, nullptr);
  const auto judged = judge_text(*broken.subject, nullptr, "some text", {});
  ASSERT_FALSE(judged);
  EXPECT_EQ(judged.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(judged.error().to_string(), "odd.gguf: at token ");
  EXPECT_SAYS(judged.error().to_string(), "its weights are finite, but so large that sums overflow");
}

}  // namespace
}  // namespace tidemill::evaluate
