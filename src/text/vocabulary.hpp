// A tokenizer's data, as GGUF's tokenizer.ggml.* metadata gives it (the GGUF specification, "Tokenizer"). The model
// room fills one; `Tokenizer::create` checks it, completes it and owns it from then on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace tidemill::text {

using Token = int32_t;

// GGUF's numbering of tokenizer.ggml.token_type.
enum class TokenKind : uint8_t { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Vocabulary {
  enum class Model : uint8_t {
    spm,        // tokenizer.ggml.model "llama": SentencePiece's BPE, pieces merged by score, bytes as <0xXX>
    bpe,        // "gpt2": byte-level BPE, pieces merged by rank, bytes as GPT-2's printable characters
    wordpiece,  // "bert": the longest pieces that fit, pieces that begin a word with U+2581 in front
    unigram,    // "t5": SentencePiece's unigram model, the pieces whose scores have the largest sum
  };

  // An empty vocabulary with the defaults of tokenizer.ggml.model and tokenizer.ggml.pre; keys that the file has
  // override them afterwards. An unknown name is `unsupported`, and the message lists the known ones. An empty `pre`
  // means "default".
  static base::Result<Vocabulary> with_defaults(std::string_view model_name, std::string_view pre_name);

  // Sets what depends on the model rather than the tokenizer, by general.name: Phi-3's special tokens swallow the white
  // space after them, which no key of the file says.
  void adapt_to_model(std::string_view general_name);

  // Checks the vocabulary (errors as of Tokenizer::create), fills `scores` and `kinds` where they are empty, and finds
  // the tokens that end a turn or a message by their well-known names. Tokenizer::create calls it.
  base::Result<void> complete();

  size_t size() const { return pieces.size(); }

  Model model = Model::spm;
  std::string pre = "default";  // how byte-level BPE cuts text into words; without meaning for the others

  // Indexed by token. `scores` may be empty (all 0), `kinds` too (all normal).
  std::vector<std::string> pieces;
  std::vector<float> scores;
  std::vector<TokenKind> kinds;
  std::vector<std::string> merges;  // "left right", best rank first; bpe only

  std::optional<Token> bos;      // begin of sequence; wordpiece: [CLS]
  std::optional<Token> eos;      // end of sequence; wordpiece: [SEP], which ends each text of a pair
  std::optional<Token> eot;      // end of turn
  std::optional<Token> eom;      // end of message
  std::optional<Token> unknown;  // stands for what the vocabulary cannot spell
  std::optional<Token> padding;

  // The tokens that end a generation, ascending. `complete` adds eos, eot, eom and the well-known names (<|im_end|>,
  // <|eot_id|>, ...) to what is here.
  std::vector<Token> end_of_generation;

  bool add_bos = false;
  bool add_eos = false;
  // Between two texts of a pair stands a second eos (RoBERTa: "<s> first </s></s> second </s>").
  bool parts_pairs_twice = false;
  // spm and unigram: a space goes before the text at its start and after each special token.
  bool add_space_prefix = false;
  bool ignore_merges = false;  // bpe: a word that is itself a piece becomes that token, whatever the merges say
  // Special tokens other than bos, eos and unknown swallow the white space after them (Phi-3).
  bool strip_after_special = false;
  // unigram: several spaces become one, and those at a text's ends none.
  bool single_spaces = false;
  std::string characters_map;  // unigram: what characters become before (text/characters_map.hpp); empty: nothing else
  // wordpiece: text loses its capitals and accents. `complete` decides it where nothing is set: a vocabulary that has
  // not all of A to Z could not spell text that kept them.
  std::optional<bool> lower_case;
};

// Whether a token of this name ends a turn, a message or a text in some family of models: `complete` finds those.
bool is_end_name(std::string_view piece);

// The accepted values of tokenizer.ggml.pre, for error messages and documentation.
std::vector<std::string_view> supported_pre_tokenizers();

}  // namespace tidemill::text
