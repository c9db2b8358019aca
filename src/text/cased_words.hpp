// Words that begin where case changes: o200k's expression, and two that are made after it.
#pragma once

#include <cstdint>
#include <vector>

#include "text/characters.hpp"

namespace tidemill::text {

// Each is a Cut (pre_tokenizer.hpp): o200k's words (GPT-4o, gpt-oss), Mistral's tekken, and Kimi K2's, which takes Han
// characters by themselves (tokenization_kimi.py in Moonshot AI's folders).
void cut_gpt4o_words(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends);
void cut_tekken_words(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends);
void cut_kimi_words(const Characters& characters, uint32_t begin, uint32_t end, std::vector<uint32_t>& ends);

}  // namespace tidemill::text
