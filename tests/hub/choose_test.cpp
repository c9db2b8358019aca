#include "hub/choose.hpp"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "expect_says.hpp"
#include "model/hugging_face/folder_files.hpp"

namespace tidemill::hub {
namespace {

using base::ErrorCode;

std::vector<RepoFile> files_of(std::initializer_list<const char*> paths) {
  std::vector<RepoFile> files;
  for (const char* path : paths)
    files.push_back({.path = path, .size = 1 << 20, .digest = std::nullopt});
  return files;
}

base::Result<Selection> chosen(const std::vector<RepoFile>& files, const std::string& choice = "") {
  return choose({.repository = "acme/tiny", .revision = "main", .choice = choice}, files);
}

// What is opened, then all that is fetched; or the error.
std::string picked(const std::vector<RepoFile>& files, const std::string& choice = "") {
  const auto selection = chosen(files, choice);
  if (!selection) return "error: " + selection.error().message();
  std::string text = selection->model + ":";
  for (const RepoFile& file : selection->files)
    text += " " + file.path;
  return text;
}

TEST(HubChoice, AFolderIsWhatTidemillReadsOfIt) {
  const auto files =
      files_of({".gitattributes", "README.md", "config.json", "generation_config.json", "model.safetensors",
                "pytorch_model.bin", "flax_model.msgpack", "onnx/model.onnx", "tokenizer.json", "tokenizer_config.json",
                "chat_template.jinja", "sub/config.json", "model.fp16.safetensors", "merges.txt"});
  EXPECT_EQ(picked(files),
            ": config.json tokenizer.json tokenizer_config.json generation_config.json chat_template.jinja merges.txt "
            "model.safetensors");
  EXPECT_FALSE(chosen(files)->index);
}

TEST(HubChoice, AFolderHasATokenizerOrKimis) {
  EXPECT_EQ(picked(files_of({"config.json", "model.safetensors", "tokenizer_config.json", "tiktoken.model",
                             "tokenization_kimi.py"})),
            ": config.json tiktoken.model tokenizer_config.json model.safetensors");
  EXPECT_SAYS(picked(files_of({"config.json", "model.safetensors", "tokenizer_config.json"})),
              "has no tokenizer.json (nor Kimi K2's tiktoken.model), without which");
}

TEST(HubChoice, AFolderOfSeveralFilesIsWhatItsIndexNames) {
  const auto files =
      files_of({"config.json", "tokenizer.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors", "consolidated.safetensors"});
  auto selection = chosen(files);
  ASSERT_TRUE(selection) << selection.error().to_string();
  ASSERT_TRUE(selection->index);
  EXPECT_EQ(selection->index->path, "model.safetensors.index.json");
  ASSERT_TRUE(add_shards(*selection, R"({"weight_map": {"a": "model-00002-of-00002.safetensors",
                         "b": "model-00001-of-00002.safetensors", "c": "model-00002-of-00002.safetensors"}})",
                         files));
  ASSERT_EQ(selection->files.size(), 5);
  EXPECT_EQ(selection->files[3].path, "model-00001-of-00002.safetensors");
  EXPECT_EQ(selection->files[4].path, "model-00002-of-00002.safetensors");
  for (const char* index : {"", "[]", "{}", R"({"weight_map": {"a": 1}})",
                            R"({"weight_map": {"a": "../../etc/passwd"}})", R"({"weight_map": {"a": "gone"}})"})
    EXPECT_FALSE(add_shards(*selection, index, files)) << index;
}

// All that the model room reads of a folder is looked for.
TEST(HubChoice, AFolderIsFetchedWithWhatItIsReadBy) {
  std::vector<RepoFile> files = files_of({"model.safetensors"});
  for (const std::string_view name : model::kFolderFiles)
    files.push_back({.path = std::string(name), .size = 1, .digest = std::nullopt});
  const auto selection = chosen(files);
  ASSERT_TRUE(selection) << selection.error().to_string();
  EXPECT_EQ(selection->files.size(), files.size());
}

TEST(HubChoice, HowEmbeddingsArePooledIsWhatModulesName) {
  const auto files = files_of({"config.json", "tokenizer.json", "model.safetensors", "modules.json",
                               "sentence_bert_config.json", "1_Pooling/config.json", "2_Normalize/config.json"});
  auto selection = chosen(files);
  ASSERT_TRUE(selection) << selection.error().to_string();
  ASSERT_TRUE(selection->modules);
  EXPECT_EQ(selection->modules->path, "modules.json");
  const size_t before = selection->files.size();
  ASSERT_EQ(before, 5);
  const auto module = [](const char* path, const char* type) {
    return fmt::format(R"({{"path": "{}", "type": "sentence_transformers.models.{}"}})", path, type);
  };
  const std::string transformer = module("", "Transformer");
  ASSERT_TRUE(add_pooling(*selection, "[" + transformer + "]", files));
  EXPECT_EQ(selection->files.size(), before);
  const std::string pooled = "[" + transformer + ", " + module("1_Pooling", "Pooling") + "]";
  ASSERT_TRUE(add_pooling(*selection, pooled, files));
  ASSERT_TRUE(add_pooling(*selection, pooled, files));
  ASSERT_EQ(selection->files.size(), before + 1);
  EXPECT_EQ(selection->files.back().path, "1_Pooling/config.json");
  EXPECT_SAYS(add_pooling(*selection, "[" + module("3_Pooling", "Pooling") + "]", files).error().to_string(),
              "names the file '3_Pooling/config.json', which the repository does not have");
  EXPECT_SAYS(add_pooling(*selection, "[" + module("2_Dense", "Dense") + "]", files).error().to_string(), "Dense'");
  EXPECT_SAYS(add_pooling(*selection, "[" + module("../1_Pooling", "Pooling") + "]", files).error().to_string(),
              "expected the name of a folder beside it");
  EXPECT_FALSE(add_pooling(*selection, "{}", files));
  EXPECT_FALSE(chosen(files_of({"config.json", "tokenizer.json", "model.safetensors"}))->modules);
}

TEST(HubChoice, GgufByFileOrQuantisation) {
  const auto files = files_of({"README.md", "config.json", "tiny-Q4_K_M.gguf", "tiny-Q4_K_S.gguf", "tiny.q8_0.gguf",
                               "BF16/tiny-BF16-00001-of-00002.gguf", "BF16/tiny-BF16-00002-of-00002.gguf",
                               "mmproj-tiny-f16.gguf", "UD/tiny-UD-Q5_K_XL.gguf"});
  EXPECT_EQ(picked(files, "tiny-Q4_K_S.gguf"), "tiny-Q4_K_S.gguf: tiny-Q4_K_S.gguf");
  EXPECT_EQ(picked(files, "tiny-Q4_K_S"), "tiny-Q4_K_S.gguf: tiny-Q4_K_S.gguf");
  EXPECT_EQ(picked(files, "q4_k_m"), "tiny-Q4_K_M.gguf: tiny-Q4_K_M.gguf");
  EXPECT_EQ(picked(files, "Q8_0"), "tiny.q8_0.gguf: tiny.q8_0.gguf");
  EXPECT_EQ(picked(files, "UD-Q5_K_XL"), "UD/tiny-UD-Q5_K_XL.gguf: UD/tiny-UD-Q5_K_XL.gguf");
  EXPECT_EQ(picked(files, "UD"), "UD/tiny-UD-Q5_K_XL.gguf: UD/tiny-UD-Q5_K_XL.gguf");
  // Any of a split model's names means all of it.
  const std::string both =
      "BF16/tiny-BF16-00001-of-00002.gguf: BF16/tiny-BF16-00001-of-00002.gguf "
      "BF16/tiny-BF16-00002-of-00002.gguf";
  for (const char* choice : {"BF16", "tiny-BF16", "BF16/tiny-BF16-00002-of-00002.gguf", "BF16/tiny-BF16"})
    EXPECT_EQ(picked(files, choice), both) << choice;
  EXPECT_EQ(picked(files, "mmproj-tiny-f16.gguf"), "mmproj-tiny-f16.gguf: mmproj-tiny-f16.gguf");
  EXPECT_EQ(chosen(files, "f16").error().code(), ErrorCode::not_found);
  EXPECT_EQ(chosen(files, "model.safetensors").error().code(), ErrorCode::not_found);
  const auto unknown = chosen(files, "Q4");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code(), ErrorCode::not_found);
  EXPECT_SAYS(unknown.error().message(), "\n  hf:acme/tiny:tiny-Q4_K_M  1.00 MiB");
  EXPECT_SAYS(unknown.error().message(), "\n  hf:acme/tiny:tiny-BF16  2.00 MiB in 2 files");
  EXPECT_EQ(unknown.error().message().find("mmproj"), std::string::npos);
}

TEST(HubChoice, WithoutAChoice) {
  EXPECT_EQ(picked(files_of({"a.gguf", "mmproj-a.gguf", "imatrix.gguf"})), "a.gguf: a.gguf");
  EXPECT_EQ(picked(files_of({"a-q8_0.gguf", "a-q4_k_m.gguf", "a-f16.gguf"})), "a-q4_k_m.gguf: a-q4_k_m.gguf");
  EXPECT_EQ(picked(files_of({"a-Q8_0.gguf", "a-Q5_0.gguf"})), "a-Q8_0.gguf: a-Q8_0.gguf");
  // Of a repository that is both, the folder.
  EXPECT_EQ(picked(files_of({"a-Q8_0.gguf", "config.json", "tokenizer.json", "model.safetensors"})),
            ": config.json tokenizer.json model.safetensors");
  const auto several = chosen(files_of({"a-Q5_0.gguf", "a-Q6_K.gguf"}));
  ASSERT_FALSE(several);
  EXPECT_EQ(several.error().code(), ErrorCode::invalid_argument);
  EXPECT_SAYS(several.error().message(), "hf:acme/tiny:a-Q5_0");
  EXPECT_SAYS(several.error().message(), "hf:acme/tiny:a-Q6_K");
  // Two models of one name are told apart by their folders.
  const auto alike = chosen(files_of({"x/a-Q4_K_M.gguf", "y/a-Q4_K_M.gguf"}));
  ASSERT_FALSE(alike);
  EXPECT_SAYS(alike.error().message(), "hf:acme/tiny:y/a-Q4_K_M");
  EXPECT_EQ(picked(files_of({"x/a-Q4_K_M.gguf", "y/a-Q4_K_M.gguf"}), "y/a-Q4_K_M"), "y/a-Q4_K_M.gguf: y/a-Q4_K_M.gguf");
}

TEST(HubChoice, WhatIsNoModelIsRefused) {
  for (const auto& files : {files_of({}), files_of({"config.json", "pytorch_model.bin"}), files_of({"mmproj-a.gguf"}),
                            files_of({"config.json", "model.safetensors", "tokenizer.model"})}) {
    const auto selection = chosen(files);
    ASSERT_FALSE(selection);
    EXPECT_EQ(selection.error().code(), ErrorCode::unsupported) << selection.error().message();
  }
  const auto torn = chosen(files_of({"a-00001-of-00003.gguf", "a-00003-of-00003.gguf"}));
  ASSERT_FALSE(torn);
  EXPECT_SAYS(torn.error().message(), "split over 3 files, of which 2 are there");
}

}  // namespace
}  // namespace tidemill::hub
