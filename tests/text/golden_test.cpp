// Golden vectors: what the models' own tokenizers make of 50 difficult texts.
#include <algorithm>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "data.hpp"
#include "text/encode_again.hpp"
#include "text/gguf_vocabulary.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::text {
namespace {

std::vector<std::string> read_texts(const std::filesystem::path& path) {
  const std::string separator = "\n__ggml_vocab_test__\n";
  const std::string all = base::read_file(path).value();
  std::vector<std::string> texts;
  size_t begin = 0;
  for (size_t end = 0; (end = all.find(separator, begin)) != std::string::npos; begin = end + separator.size())
    texts.push_back(all.substr(begin, end - begin));
  return texts;
}

std::vector<std::vector<Token>> read_tokens(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<std::vector<Token>> rows;
  for (std::string line; std::getline(file, line);) {
    std::istringstream numbers(line);
    rows.emplace_back();
    for (Token token = 0; numbers >> token;)
      rows.back().push_back(token);
  }
  return rows;
}

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, EveryVectorComesOutExactly) {
  const auto path = test::data_root() / "tokenizers" / (std::string("ggml-vocab-") + GetParam() + ".gguf");
  TM_SKIP_WITHOUT(path);
  auto tokenizer = Tokenizer::create(test::read_gguf_vocabulary(path));
  ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();
  const auto texts = read_texts(path.string() + ".inp");
  const auto expected = read_tokens(path.string() + ".out");
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
