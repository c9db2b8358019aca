#include "model/synth_vocabulary.hpp"

#include <array>
#include <cassert>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.hpp"

namespace tidemill::model {
namespace {

constexpr int32_t kNormal = 1;
constexpr int32_t kControl = 3;
constexpr int32_t kUserDefined = 4;
constexpr int32_t kUnused = 5;

// GPT-2's character for a byte: itself where it prints, else a code point from 256 on, in the order of the bytes.
bool prints(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
}

std::array<std::string, 256> byte_characters() {
  std::array<std::string, 256> characters;
  char32_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    base::utf8::append(characters[static_cast<size_t>(byte)], prints(byte) ? static_cast<char32_t>(byte) : next++);
  }
  return characters;
}

constexpr std::array<std::string_view, 72> kWords = {
    " the",    " and",   " of",   " to",    " in",   " is",      " that",    " for",   " it",   " with",   " as",
    " was",    " on",    " be",   " are",   " this", " by",      " at",      " from",  " have", " not",    " or",
    " an",     " you",   " we",   " can",   " will", " has",     " but",     " all",   " more", " when",   " which",
    " there",  " their", " one",  " what",  " use",  " how",     " your",    " if",    " def",  " return", " self",
    " import", " class", " None", " True",  "the",   "ing",      "tion",     "er",     "ed",    "ly",      "ment",
    "es",      "re",     "en",    "al",     "ter",   "    ",     "        ", "\n    ", "()",    "==",      "->",
    "self",    "import", "print", "return", "user",  "assistant"};

constexpr std::array<std::string_view, 26> kQwenSpecials = {
    "<|endoftext|>",  "<|im_start|>",   "<|im_end|>",      "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>",  "<|box_end|>",    "<|quad_start|>",  "<|quad_end|>",         "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",   "<|video_pad|>",        "<tool_call>",
    "</tool_call>",   "<|fim_prefix|>", "<|fim_middle|>",  "<|fim_suffix|>",       "<|fim_pad|>",
    "<|repo_name|>",  "<|file_sep|>",   "<tool_response>", "</tool_response>",     "<think>",
    "</think>"};

constexpr int64_t kLlama3Specials = 256;
constexpr int32_t kLlama3EndOfTurn = 9;

std::string llama3_special(int64_t index) {
  switch (index) {
    case 0:
      return "<|begin_of_text|>";
    case 1:
      return "<|end_of_text|>";
    case 2:
    case 3:
      return fmt::format("<|reserved_special_token_{}|>", index - 2);
    case 4:
      return "<|finetune_right_pad_id|>";
    case 5:
      return "<|reserved_special_token_2|>";
    case 6:
      return "<|start_header_id|>";
    case 7:
      return "<|end_header_id|>";
    case 8:
      return "<|eom_id|>";
    case kLlama3EndOfTurn:
      return "<|eot_id|>";
    case 10:
      return "<|python_tag|>";
    default:
      return fmt::format("<|reserved_special_token_{}|>", index - 8);
  }
}

constexpr int64_t kHarmonySpecials = 1090;
constexpr int32_t kHarmonyReturn = 4;

std::string harmony_special(int64_t index) {
  switch (index) {
    case 0:
      return "<|startoftext|>";
    case 1:
      return "<|endoftext|>";
    case kHarmonyReturn:
      return "<|return|>";
    case 5:
      return "<|constrain|>";
    case 7:
      return "<|channel|>";
    case 8:
      return "<|start|>";
    case 9:
      return "<|end|>";
    case 10:
      return "<|message|>";
    case 14:
      return "<|call|>";
    case 20:
      return "<|endofprompt|>";
    default:
      return fmt::format("<|reserved_{}|>", 199998 + index);
  }
}

constexpr std::string_view kLlama3Template =
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}";
constexpr std::string_view kQwenTemplate =
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

constexpr std::string_view kHarmonyTemplate =
    "{% for message in messages %}<|start|>{{ message['role'] }}"
    "{% if message['role'] == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}";

class Builder {
 public:
  explicit Builder(const Shape& shape) : shape_(shape) {}

  SynthVocabulary build() && {
    add_bytes();
    for (const std::string_view word : kWords)
      add_word(word);
    // A letter followed by digits is never one word to the pre-tokenizers, so no text encodes to these.
    for (int64_t i = 0; size() < shape_.text_tokens; ++i)
      add(bytes_[' '] + fmt::format("w{}", i), kNormal);
    assert(size() == shape_.text_tokens);
    if (shape_.vocabulary == Shape::Vocabulary::llama3) {
      add_llama3_specials();
    } else if (shape_.vocabulary == Shape::Vocabulary::harmony) {
      add_harmony_specials();
    } else {
      add_qwen_specials();
    }
    for (int64_t i = 0; size() < shape_.tokens; ++i)
      add(fmt::format("[PAD{}]", i), kUnused);
    return std::move(vocabulary_);
  }

 private:
  int64_t size() const { return static_cast<int64_t>(vocabulary_.tokens.size()); }

  bool add(std::string token, int32_t kind) {
    if (!known_.insert(token).second) return false;
    vocabulary_.tokens.push_back(std::move(token));
    vocabulary_.kinds.push_back(kind);
    return true;
  }

  void add_bytes() {
    // GPT-2's order: first the bytes that print.
    for (const bool printing : {true, false}) {
      for (int byte = 0; byte < 256; ++byte) {
        if (prints(byte) == printing) add(bytes_[static_cast<size_t>(byte)], kNormal);
      }
    }
  }

  // Merges that build the word from the left; every step on the way is a token.
  void add_word(std::string_view word) {
    std::string left;
    for (const char c : word) {
      const std::string& right = bytes_[static_cast<unsigned char>(c)];
      std::string joined = left + right;
      if (!left.empty() && add(joined, kNormal)) vocabulary_.merges.push_back(left.append(" ").append(right));
      left = std::move(joined);
    }
  }

  void add_llama3_specials() {
    const auto first = static_cast<int32_t>(size());
    for (int64_t i = 0; i < kLlama3Specials && size() < shape_.tokens; ++i)
      add(llama3_special(i), kControl);
    vocabulary_.pre = "llama-bpe";
    vocabulary_.chat_template = kLlama3Template;
    vocabulary_.bos = first;
    vocabulary_.eos = first + kLlama3EndOfTurn;
    vocabulary_.padding = first + 4;
    vocabulary_.add_bos = true;
  }

  void add_qwen_specials() {
    const auto first = static_cast<int32_t>(size());
    for (const std::string_view name : kQwenSpecials)
      add(std::string(name), name[1] == '|' ? kControl : kUserDefined);
    vocabulary_.pre = "qwen2";
    vocabulary_.chat_template = kQwenTemplate;
    vocabulary_.bos = first;
    vocabulary_.eos = first + 2;
    vocabulary_.padding = first;
  }

  void add_harmony_specials() {
    const auto first = static_cast<int32_t>(size());
    for (int64_t i = 0; i < kHarmonySpecials && size() < shape_.tokens; ++i)
      add(harmony_special(i), kControl);
    vocabulary_.pre = "gpt-4o";
    vocabulary_.chat_template = kHarmonyTemplate;
    vocabulary_.bos = first;
    vocabulary_.eos = first + kHarmonyReturn;
    vocabulary_.padding = first + 1;
  }

  const Shape& shape_;
  const std::array<std::string, 256> bytes_ = byte_characters();
  std::unordered_set<std::string> known_;
  SynthVocabulary vocabulary_;
};

// BERT's tokens in GGUF's writing: a mark in front of pieces that begin words. Filler has capitals, which an uncased
// vocabulary makes no text into.
class WordPieceBuilder {
 public:
  explicit WordPieceBuilder(const Shape& shape) : shape_(shape) {}

  SynthVocabulary build() && {
    for (int64_t i = 0; i < kBertPieces; ++i) {
      const std::string_view special = special_at(i);
      add(special.empty() ? fmt::format("[unused{}]", i) : std::string(special), special.empty() ? kNormal : kControl);
    }
    for (char c = '!'; c <= '~'; ++c) {
      if (c >= 'A' && c <= 'Z') continue;
      add(std::string(kMark) + c, kNormal);
      const bool joins = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
      if (joins) add(std::string(1, c), kNormal);
    }
    for (const std::string_view word : kWords) {
      if (word.starts_with(' ') && word.find_first_not_of("abcdefghijklmnopqrstuvwxyz", 1) == std::string_view::npos)
        add(std::string(kMark).append(word.substr(1)), kNormal);
    }
    for (int64_t i = 0; static_cast<int64_t>(vocabulary_.tokens.size()) < shape_.tokens; ++i)
      add(fmt::format("{}W{}", kMark, i), kNormal);
    vocabulary_.model = "bert";
    vocabulary_.bos = 101;
    vocabulary_.eos = 102;
    return std::move(vocabulary_);
  }

 private:
  static constexpr std::string_view kMark = "\xE2\x96\x81";
  static constexpr int64_t kBertPieces = 104;  // before the first one of text

  static std::string_view special_at(int64_t index) {
    switch (index) {
      case 0:
        return "[PAD]";
      case 100:
        return "[UNK]";
      case 101:
        return "[CLS]";
      case 102:
        return "[SEP]";
      case 103:
        return "[MASK]";
      default:
        return {};
    }
  }

  void add(std::string token, int32_t kind) {
    if (!known_.insert(token).second) return;
    vocabulary_.tokens.push_back(std::move(token));
    vocabulary_.kinds.push_back(kind);
  }

  const Shape& shape_;
  std::unordered_set<std::string> known_;
  SynthVocabulary vocabulary_;
};

}  // namespace

SynthVocabulary make_synth_vocabulary(const Shape& shape) {
  if (shape.vocabulary == Shape::Vocabulary::bert) return WordPieceBuilder(shape).build();
  return Builder(shape).build();
}

}  // namespace tidemill::model
