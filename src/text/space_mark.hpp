// SentencePiece writes spaces in its pieces as U+2581, and so does GGUF in those of WordPiece that begin a word.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace tidemill::text {

inline constexpr std::string_view space_mark = "\xE2\x96\x81";  // U+2581, lower one eighth block

// True if the piece has a mark behind another character, as few vocabularies allow.
inline bool joins_words(std::string_view piece) {
  while (piece.starts_with(space_mark))
    piece.remove_prefix(space_mark.size());
  return piece.find(space_mark) != std::string_view::npos;
}

// The end of the word at `at`: marks, then anything up to the next mark.
inline size_t word_end(std::string_view text, size_t at) {
  while (text.substr(at).starts_with(space_mark))
    at += space_mark.size();
  return std::min(text.find(space_mark, at), text.size());
}

}  // namespace tidemill::text
