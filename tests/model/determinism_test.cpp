// A sequence's logits depend on that sequence alone, bit for bit: not on its neighbours in the batch, how its prefill
// was cut, which blocks it lies in, or how many threads compute.
#include <random>
#include <tuple>

#include <gtest/gtest.h>

#include "model/synth.hpp"
#include "runner.hpp"
#include "temporary_folder.hpp"

namespace tidemill::model {
namespace {

using Logits = std::vector<float>;

class Determinism : public testing::TestWithParam<std::tuple<const char*, tensor::DType, tensor::KvType>> {
 protected:
  void SetUp() override {
    path_ = folder_.path() / "model.gguf";
    ASSERT_TRUE(write_synthetic_model(find_shape(std::get<0>(GetParam())).value(), path_,
                                      {.type = std::get<1>(GetParam()), .on_progress = {}}));
  }

  test::Loaded load(int threads) { return test::load(path_, std::get<2>(GetParam()), 17 * 64, threads); }

  static std::vector<Token> tokens(size_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<Token> out(count);
    for (Token& token : out)
      token = static_cast<Token>(random() % 1024);
    return out;
  }

  // Logits of every position, computed in one pass in an otherwise empty cache.
  static std::vector<Logits> alone(test::Loaded& loaded, std::span<const Token> prompt) {
    return test::Sequence(loaded).append(prompt);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_;
};

TEST_P(Determinism, PrefillMayBeCutAnywhere) {
  test::Loaded loaded = load(1);
  ASSERT_NE(loaded.cache, nullptr);
  const std::vector<Token> prompt = tokens(36, 1);
  const std::vector<Logits> whole = alone(loaded, prompt);
  for (const std::vector<size_t>& cuts :
       {std::vector<size_t>{1, 35}, {16, 16, 4}, {15, 2, 19}, std::vector<size_t>(36, 1)}) {
    test::Sequence sequence(loaded);
    size_t at = 0;
    for (const size_t cut : cuts) {
      for (const Logits& logits : sequence.append(std::span(prompt).subspan(at, cut)))
        ASSERT_EQ(logits, whole[at++]);
    }
  }
}

TEST_P(Determinism, ThreadsDoNotMatter) {
  const std::vector<Token> prompt = tokens(20, 2);
  test::Loaded one = load(1);
  test::Loaded two = load(2);
  ASSERT_NE(one.cache, nullptr);
  ASSERT_NE(two.cache, nullptr);
  EXPECT_EQ(alone(one, prompt), alone(two, prompt));
}

// 17 sequences of different lengths in one batch, some in prefill, some in decode, in scattered blocks.
TEST_P(Determinism, NeighboursDoNotMatter) {
  constexpr size_t kSequences = 17;
  constexpr int32_t kBlocks = 2;
  test::Loaded loaded = load(2);
  ASSERT_NE(loaded.cache, nullptr);
  std::vector<std::vector<Token>> prompts;
  std::vector<std::vector<Logits>> expected;
  for (size_t s = 0; s < kSequences; ++s) {
    prompts.push_back(tokens(1 + s * 5 / 4, static_cast<uint32_t>(100 + s)));
    expected.push_back(alone(loaded, prompts.back()));
  }

  std::vector<std::vector<int32_t>> blocks(kSequences);
  for (size_t s = 0; s < kSequences; ++s) {
    for (int32_t b = 0; b < kBlocks; ++b) {
      blocks[s].push_back((static_cast<int32_t>(s) + b * static_cast<int32_t>(kSequences) * 5) %
                          (kSequences * kBlocks));
    }
  }
  // Everything but the last token of every even sequence comes first, alone; the odd ones are prefilled in the batch.
  std::vector<size_t> computed(kSequences, 0);
  for (size_t s = 0; s < kSequences; s += 2) {
    computed[s] = prompts[s].size() - 1;
    if (computed[s] > 0) test::Sequence(loaded, blocks[s]).append(std::span(prompts[s]).first(computed[s]));
  }

  std::vector<Token> batch_tokens;
  std::vector<int32_t> positions;
  std::vector<int32_t> sequences;
  std::vector<int32_t> rows;
  for (size_t s = 0; s < kSequences; ++s) {
    for (size_t p = computed[s]; p < prompts[s].size(); ++p) {
      rows.push_back(static_cast<int32_t>(batch_tokens.size()));
      batch_tokens.push_back(prompts[s][p]);
      positions.push_back(static_cast<int32_t>(p));
      sequences.push_back(static_cast<int32_t>(s));
    }
  }
  const std::vector<std::span<const int32_t>> tables(blocks.begin(), blocks.end());
  ASSERT_LE(batch_tokens.size(), 256U);
  const Output output = loaded.model->forward({batch_tokens, positions, sequences, tables, rows, {}}, *loaded.cache);
  ASSERT_EQ(output.logits.rows, static_cast<int64_t>(rows.size()));
  for (size_t r = 0; r < rows.size(); ++r) {
    const float* row = output.logits.row(static_cast<int64_t>(r));
    const Logits& wanted = expected[static_cast<size_t>(sequences[r])][static_cast<size_t>(positions[r])];
    ASSERT_TRUE(std::equal(wanted.begin(), wanted.end(), row))
        << "sequence " << sequences[r] << ", position " << positions[r];
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Determinism,
                         testing::Values(std::tuple("llama-tiny", tensor::DType::f16, tensor::KvType::f16),
                                         std::tuple("llama-tiny", tensor::DType::q8_0, tensor::KvType::int8),
                                         std::tuple("llama-tiny", tensor::DType::q4_k, tensor::KvType::f16),
                                         std::tuple("phi3-tiny", tensor::DType::q4_0, tensor::KvType::bf16),
                                         std::tuple("gemma2-tiny", tensor::DType::q8_0, tensor::KvType::int8),
                                         std::tuple("gemma3-tiny", tensor::DType::f16, tensor::KvType::f16),
                                         std::tuple("mixtral-tiny", tensor::DType::q4_k, tensor::KvType::f16),
                                         std::tuple("qwen2moe-tiny", tensor::DType::q8_0, tensor::KvType::int8),
                                         std::tuple("gpt-oss-tiny", tensor::DType::mxfp4, tensor::KvType::int8),
                                         std::tuple("deepseek2-tiny", tensor::DType::q4_k, tensor::KvType::bf16),
                                         std::tuple("deepseek3-tiny", tensor::DType::q8_0, tensor::KvType::int8)),
                         [](const auto& instance) {
                           const std::string shape = std::get<0>(instance.param);
                           return shape.substr(0, shape.find('-')) + "_" +
                                  std::string(tensor::info(std::get<1>(instance.param)).name) + "_" +
                                  std::string(tensor::to_string(std::get<2>(instance.param)));
                         });

}  // namespace
}  // namespace tidemill::model
