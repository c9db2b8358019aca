#include "model/vocabulary.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

Result<std::vector<std::string>> copy_strings(const Metadata& file, std::string_view key) {
  TM_TRY(const std::vector<std::string_view> views, file.get_strings(key));
  return std::vector<std::string>(views.begin(), views.end());
}

Result<std::vector<text::TokenKind>> read_kinds(const Metadata& file) {
  TM_TRY(const std::vector<int32_t> numbers, file.get_ints("tokenizer.ggml.token_type"));
  std::vector<text::TokenKind> kinds;
  kinds.reserve(numbers.size());
  for (const int32_t number : numbers) {
    // 0 is "undefined", which some writers give to ordinary tokens.
    if (number < 0 || number > 6) {
      return file.error(ErrorCode::corrupt,
                        fmt::format("tokenizer.ggml.token_type[{}] is {}; types 0 to 6 exist", kinds.size(), number));
    }
    kinds.push_back(number == 0 ? text::TokenKind::normal : static_cast<text::TokenKind>(number));
  }
  return kinds;
}

constexpr std::string_view kScoresKey = "tokenizer.ggml.scores";

// By which pieces merge, or words are cut.
Result<std::vector<float>> read_piece_scores(const Metadata& file) {
  const GgufValue* const value = file.find(kScoresKey);
  if (value == nullptr) return std::vector<float>();
  if (value->type == GgufType::array && value->element != GgufType::f32 && value->element != GgufType::f64) {
    return file.error(ErrorCode::corrupt,
                      fmt::format("metadata key '{}' is an array of other numbers than f32", kScoresKey));
  }
  TM_TRY(std::vector<float> scores, file.get_floats(kScoresKey));
  const auto odd = std::find_if(scores.begin(), scores.end(), [](float score) { return std::isnan(score); });
  if (odd == scores.end()) return scores;
  return file.error(ErrorCode::corrupt,
                    fmt::format("{}[{}] is {}; expected a number", kScoresKey, odd - scores.begin(), *odd));
}

struct SpecialKey {
  std::string_view key;
  std::optional<text::Token> text::Vocabulary::*token;
  bool wordpiece_only = false;
};
constexpr std::array<SpecialKey, 9> kSpecialKeys = {{
    // BERT's names for what goes before and behind a text; the third is GGUF's own spelling.
    {"tokenizer.ggml.cls_token_id", &text::Vocabulary::bos, true},
    {"tokenizer.ggml.separator_token_id", &text::Vocabulary::eos, true},
    {"tokenizer.ggml.seperator_token_id", &text::Vocabulary::eos, true},
    {"tokenizer.ggml.bos_token_id", &text::Vocabulary::bos},
    {"tokenizer.ggml.eos_token_id", &text::Vocabulary::eos},
    {"tokenizer.ggml.eot_token_id", &text::Vocabulary::eot},
    {"tokenizer.ggml.eom_token_id", &text::Vocabulary::eom},
    {"tokenizer.ggml.unknown_token_id", &text::Vocabulary::unknown},
    {"tokenizer.ggml.padding_token_id", &text::Vocabulary::padding},
}};

Result<void> read_special_tokens(const Metadata& file, text::Vocabulary& vocabulary) {
  for (const SpecialKey& special : kSpecialKeys) {
    if (file.find(special.key) == nullptr) continue;
    if (special.wordpiece_only && vocabulary.model != text::Vocabulary::Model::wordpiece) continue;
    TM_TRY(const int64_t token, file.get_int(special.key));
    // Writers say "none" with -1, as a signed or an unsigned number.
    if (token == -1 || token == 0xFFFFFFFF) {
      vocabulary.*special.token = std::nullopt;
      continue;
    }
    if (token < 0 || static_cast<uint64_t>(token) >= vocabulary.size()) {
      // Released files name a padding token that was never added; generation does not need it.
      if (special.token == &text::Vocabulary::padding) continue;
      return file.error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {}; the vocabulary has {} tokens",
                                                        special.key, token, vocabulary.size()));
    }
    vocabulary.*special.token = static_cast<text::Token>(token);
  }
  return {};
}

// What is done to text before, and between texts. BERT's pairs have one token between them.
Result<void> read_normalizing(const Metadata& file, text::Vocabulary& vocabulary) {
  if (vocabulary.model == text::Vocabulary::Model::wordpiece) {
    if (file.find(kLowerCaseKey) == nullptr) return {};
    TM_TRY(const bool lower, file.get_bool(kLowerCaseKey));
    TM_TRY(const bool strips, file.get_bool_or("tokenizer.ggml.normalizer.strip_accents", lower));
    vocabulary.lower_case = lower;
    if (strips == lower) return {};
    return file.error(ErrorCode::unsupported,
                      fmt::format("the vocabulary is of text that keeps its {} alone (tokenizer.ggml.normalizer.*); "
                                  "supported are those of text that keeps both or neither",
                                  lower ? "accents" : "capitals"));
  }
  TM_TRY(vocabulary.parts_pairs_twice, file.get_bool_or("tokenizer.ggml.add_sep_token", vocabulary.parts_pairs_twice));
  TM_TRY(vocabulary.single_spaces,
         file.get_bool_or("tokenizer.ggml.remove_extra_whitespaces", vocabulary.single_spaces));
  if (file.find("tokenizer.ggml.precompiled_charsmap") != nullptr) {
    TM_TRY(vocabulary.characters_map, file.get_bytes("tokenizer.ggml.precompiled_charsmap"));
  }
  return {};
}

}  // namespace

Result<text::Vocabulary> read_vocabulary(const Metadata& file) {
  if (file.find("tokenizer.ggml.model") == nullptr || file.find("tokenizer.ggml.tokens") == nullptr) {
    return file.error(
        ErrorCode::not_found,
        "the file has no vocabulary (tokenizer.ggml.model and tokenizer.ggml.tokens), so it cannot read or "
        "write text");
  }
  TM_TRY(const std::string_view model, file.get_string("tokenizer.ggml.model"));
  TM_TRY(const std::string_view pre, file.get_string_or("tokenizer.ggml.pre", ""));
  auto defaults = text::Vocabulary::with_defaults(printable(model), printable(pre));
  if (!defaults) return std::move(defaults).error().wrap(file.path().string());
  text::Vocabulary vocabulary = std::move(defaults).value();

  TM_TRY(vocabulary.pieces, copy_strings(file, "tokenizer.ggml.tokens"));
  TM_TRY(vocabulary.scores, read_piece_scores(file));
  if (file.find("tokenizer.ggml.token_type") != nullptr) {
    TM_TRY(vocabulary.kinds, read_kinds(file));
  }
  if (file.find("tokenizer.ggml.merges") != nullptr) {
    TM_TRY(vocabulary.merges, copy_strings(file, "tokenizer.ggml.merges"));
  }
  TM_CHECK(read_special_tokens(file, vocabulary));
  if (vocabulary.model == text::Vocabulary::Model::spm && vocabulary.scores.empty()) {
    return file.error(ErrorCode::corrupt,
                      fmt::format("metadata key '{}' is missing, without which the order is unknown in which pieces of "
                                  "a SentencePiece vocabulary (tokenizer.ggml.model) merge",
                                  kScoresKey));
  }
  TM_TRY(vocabulary.add_bos, file.get_bool_or("tokenizer.ggml.add_bos_token", vocabulary.add_bos));
  TM_TRY(vocabulary.add_eos, file.get_bool_or("tokenizer.ggml.add_eos_token", vocabulary.add_eos));
  TM_TRY(vocabulary.add_space_prefix, file.get_bool_or("tokenizer.ggml.add_space_prefix", vocabulary.add_space_prefix));
  TM_CHECK(read_normalizing(file, vocabulary));
  TM_TRY(const std::string_view name, file.get_string_or("general.name", ""));
  vocabulary.adapt_to_model(name);
  TM_TRY(vocabulary.ignore_merges, file.get_bool_or(kIgnoreMergesKey, vocabulary.ignore_merges));
  TM_TRY(vocabulary.strip_after_special, file.get_bool_or(kStripAfterSpecialKey, vocabulary.strip_after_special));
  return vocabulary;
}

Result<std::string> read_chat_template(const Metadata& file) {
  TM_TRY(const std::string_view source, file.get_string_or("tokenizer.chat_template", ""));
  return std::string(source);
}

}  // namespace tidemill::model
