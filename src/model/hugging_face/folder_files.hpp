// Which files of a Hugging Face folder say, beside its weights, what its model computes: those who fetch a folder fetch
// what those who read it read.
#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::model {

constexpr std::string_view kConfigFile = "config.json";
constexpr std::string_view kTokenizerFile = "tokenizer.json";
constexpr std::string_view kTiktokenFile = "tiktoken.model";  // read where there is no tokenizer.json
constexpr std::string_view kModulesFile = "modules.json";

// By their names in the folder. Most may be absent. What kModulesFile names comes to them (pooling_file).
constexpr std::array<std::string_view, 8> kFolderFiles = {
    kConfigFile,
    kTokenizerFile,
    kTiktokenFile,
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    kModulesFile,
    "sentence_bert_config.json",
};

// The file in the folder that says how embeddings are pooled ("1_Pooling/config.json"), as the text of kModulesFile
// names it; none: the text names no pooling. Errors name `path`, where the text is from: `corrupt` where it is not what
// sentence-transformers writes, `unsupported` for modules that do something else to what the model gives (but
// normalising, which embeddings always are).
base::Result<std::optional<std::string>> pooling_file(std::string_view modules, const std::filesystem::path& path);

}  // namespace tidemill::model
