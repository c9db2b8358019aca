// Real weights, end to end.
#include <cmath>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "data.hpp"
#include "model/vocabulary.hpp"
#include "runner.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::model {
namespace {

std::unique_ptr<text::Tokenizer> tokenizer_of(const std::filesystem::path& path) {
  const auto file = GgufFile::open(path);
  if (!file) return ADD_FAILURE() << file.error().to_string(), nullptr;
  auto vocabulary = read_vocabulary(*file);
  if (!vocabulary) return ADD_FAILURE() << vocabulary.error().to_string(), nullptr;
  auto tokenizer = text::Tokenizer::create(std::move(*vocabulary));
  if (!tokenizer) return ADD_FAILURE() << tokenizer.error().to_string(), nullptr;
  return std::move(*tokenizer);
}

class Stories : public testing::TestWithParam<tensor::KvType> {};

TEST_P(Stories, GreedyFromNothingIsTheGoldenText) {
  const auto path = test::data_root() / "models/stories260K.gguf";
  TM_SKIP_WITHOUT(path);
  const auto golden = base::read_file(test::data_root() / "models/stories260K.golden.txt");
  ASSERT_TRUE(golden);
  const auto tokenizer = tokenizer_of(path);
  ASSERT_NE(tokenizer, nullptr);
  test::Loaded loaded = test::load(path, GetParam(), 512);
  ASSERT_NE(loaded.cache, nullptr);
  const std::vector<Token> prompt = {*tokenizer->vocabulary().bos};
  const std::vector<Token> tokens = test::Sequence(loaded).greedy(prompt, 256, *tokenizer->vocabulary().eos);
  // The golden text is what llama2.c printed in 200 steps, and it ends its output with a newline of its own.
  ASSERT_EQ(golden->back(), '\n');
  const std::string expected = golden->substr(0, golden->size() - 1);
  EXPECT_EQ(tokenizer->decode(tokens).substr(0, expected.size()), expected);
}

INSTANTIATE_TEST_SUITE_P(Kv, Stories, testing::Values(tensor::KvType::f16, tensor::KvType::f32));

}  // namespace
}  // namespace tidemill::model
