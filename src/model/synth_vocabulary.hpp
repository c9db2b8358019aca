// Vocabularies for models of random weights: of the real size, able to spell any text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/shapes.hpp"

namespace tidemill::model {

// Byte-level BPE: the 256 bytes, merges for a few common English words, filler that no text encodes to (but that
// decodes to readable words when a model emits it), the family's special tokens under their real ids, and padding.
// WordPiece, for encoders: BERT's special tokens under their real ids, ASCII, the same words, and filler.
struct SynthVocabulary {
  std::string model = "gpt2";       // tokenizer.ggml.model
  std::vector<std::string> tokens;  // [shape.tokens]
  std::vector<int32_t> kinds;       // [shape.tokens], GGUF's token types
  std::vector<std::string> merges;
  std::string pre;  // tokenizer.ggml.pre
  std::string chat_template;
  int32_t bos = 0;
  int32_t eos = 0;
  int32_t padding = 0;
  bool add_bos = false;
};

SynthVocabulary make_synth_vocabulary(const Shape& shape);

}  // namespace tidemill::model
