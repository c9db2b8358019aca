// How byte-level BPE vocabularies cut text into words before merging. Each GGUF name (tokenizer.ggml.pre) stands for a
// list of regular expressions that a model's authors chose; here each expression is a scanner written by hand, linear
// in its input. The expressions stand beside their scanners.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "text/characters.hpp"

namespace tidemill::text {

// Appends to `ends` where the parts of characters [begin, end) end; the last is `end`.
using Cut = void (*)(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends);

struct PreTokenizerName {
  std::string_view name;
  std::span<const Cut> cuts;  // applied in turn, each to every part that the one before it left
  // Llama 3 and Mistral: words that are pieces are taken whole; such vocabularies also ask for bos.
  bool ignore_merges = false;
};

std::span<const PreTokenizerName> pre_tokenizer_names();

// `unsupported` for an unknown name; the message lists the known ones.
base::Result<const PreTokenizerName*> find_pre_tokenizer(std::string_view name);

// Sets `ends` to where the words end, in characters. `scratch` is working space.
void cut_into_words(const PreTokenizerName& pre, const Characters& characters, std::vector<uint32_t>& ends,
                    std::vector<uint32_t>& scratch);

}  // namespace tidemill::text
