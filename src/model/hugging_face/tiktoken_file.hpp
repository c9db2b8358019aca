// tiktoken.model, which Moonshot AI's folders (Kimi K2, Moonlight) have in place of tokenizer.json. For each token
// there is a line with its bytes, in base64, and its rank, which is its id (load_tiktoken_bpe of OpenAI's tiktoken).
// What else there is to the tokenizer is in Python code beside it (tokenization_kimi.py): one expression cuts text into
// words, the special tokens are the 256 ids behind the ranks, and those that tokenizer_config.json does not name
// ("added_tokens_decoder") are called <|reserved_token_ID|>. Before it cuts a text into words, the code cuts it at
// every 400,000 characters, and after every 25,000 where more than that stand in a row that are all white space or all
// not, since tiktoken is slow with long words and fails with long texts. This is not done here.
#pragma once

#include <filesystem>

#include "base/result.hpp"
#include "model/hugging_face/json_file.hpp"

namespace tidemill::model {

// The same as tokenizer.json has it: byte-level BPE with merges. `names` is tokenizer_config.json, which must say that
// the code is one of those that are known ("auto_map"). tiktoken merges the neighbours whose text together has the
// lowest rank, whatever they are; of the pairs that make a token, those that come to stand beside each other are always
// the same two, and they become its merge. Tokens that no merges make are found as whole words alone, as there.
// Errors name the file and the line, or the member: `unsupported` for other code, `corrupt` for lines that are no
// token, ranks with holes, bytes without a token of their own, and special tokens elsewhere than behind the ranks;
// `too_large`.
base::Result<JsonMembers> read_tiktoken(const std::filesystem::path& path, const JsonMembers& names);

}  // namespace tidemill::model
