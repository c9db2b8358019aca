// The words that a pre-tokenizer cuts a text into, for comparing with other cutters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/pre_tokenizer.hpp"

namespace tidemill::test {

// `name` is one that text::find_pre_tokenizer() knows.
inline std::vector<std::string> words_of(std::string_view name, std::string_view text) {
  text::Characters characters;
  characters.assign(text);
  std::vector<uint32_t> ends;
  std::vector<uint32_t> scratch;
  text::cut_into_words(*text::find_pre_tokenizer(name).value(), characters, ends, scratch);
  std::vector<std::string> words;
  size_t begin = 0;
  for (const uint32_t end : ends) {
    words.emplace_back(text.substr(begin, characters.offsets[end] - begin));
    begin = characters.offsets[end];
  }
  return words;
}

}  // namespace tidemill::test
