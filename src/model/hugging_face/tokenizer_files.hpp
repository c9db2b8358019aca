// The files of a Hugging Face folder that are about text.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.hpp"
#include "model/hugging_face/json_file.hpp"

namespace tidemill::model {

// The files that say how a model reads and writes text. All but the first may be absent.
struct TokenizerFiles {
  // tokenizer.json, or what tiktoken.model becomes (tiktoken_file.hpp) where there is none: pieces, merges, added
  // tokens, and what is done to text before.
  JsonMembers tokenizer;
  JsonMembers names;       // tokenizer_config.json: special tokens by name, whether bos and eos go around a text
  JsonMembers generation;  // generation_config.json: the tokens that end a generation, as config.json has them too
  JsonMembers sentence;    // sentence_bert_config.json: whether sentence-transformers does something to text before
  // Of chat_template.jinja, else of tokenizer_config.json; empty: none.
  std::string chat_template;
};

// Errors: `not_found` where the first is not there, `unsupported` for files over their limits, `corrupt` for what is no
// JSON, `io`; those of read_tiktoken.
base::Result<TokenizerFiles> read_tokenizer_files(const std::filesystem::path& folder);

// The name of the first; empty where there is none.
std::string tokenizer_file_name(const std::filesystem::path& folder);

}  // namespace tidemill::model
