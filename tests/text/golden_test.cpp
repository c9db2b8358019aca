// Golden vectors: what the models' own tokenizers make of 50 difficult texts.
#include <algorithm>

#include <gtest/gtest.h>

#include "data.hpp"
#include "golden_texts.hpp"
#include "text/encode_again.hpp"
#include "text/gguf_vocabulary.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::text {
namespace {

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, EveryVectorComesOutExactly) {
  const auto path = test::data_root() / "tokenizers" / (std::string("ggml-vocab-") + GetParam() + ".gguf");
  TM_SKIP_WITHOUT(path);
  auto tokenizer = Tokenizer::create(test::read_gguf_vocabulary(path));
  ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();
  const auto [texts, expected] = test::golden_texts_of(path);
  ASSERT_GT(texts.size(), 40u);
  ASSERT_EQ(texts.size(), expected.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto tokens = (*tokenizer)->encode(texts[i], {.add_special = false}).value();
    EXPECT_EQ(tokens, expected[i]) << "text " << i << ": '" << texts[i] << "'";
    if ((*tokenizer)->vocabulary().model == Vocabulary::Model::wordpiece)
      EXPECT_EQ(test::encode_again(**tokenizer, tokens), tokens) << texts[i];
    else
      EXPECT_EQ((*tokenizer)->decode(tokens), texts[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Vocabularies, Golden,
                         testing::Values("llama-spm", "phi-3", "gpt-2", "qwen2", "starcoder", "falcon", "deepseek-llm",
                                         "deepseek-coder", "bert-bge"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace tidemill::text
