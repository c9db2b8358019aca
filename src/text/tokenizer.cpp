#include "text/tokenizer.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "text/text_encoder.hpp"

namespace tidemill::text {

using base::Error;
using base::ErrorCode;

Tokenizer::Tokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)), specials_(vocabulary_) {
  build_piece_bytes();
}

Tokenizer::~Tokenizer() = default;

namespace {

base::Result<std::unique_ptr<TextEncoder>> make_encoder(const Vocabulary& vocabulary) {
  switch (vocabulary.model) {
    case Vocabulary::Model::spm:
      return make_spm_encoder(vocabulary);
    case Vocabulary::Model::wordpiece:
      return make_wordpiece_encoder(vocabulary);
    case Vocabulary::Model::unigram:
      return make_unigram_encoder(vocabulary);
    case Vocabulary::Model::bpe:
      break;
  }
  return make_bpe_encoder(vocabulary);
}

auto piece_bytes_of(Vocabulary::Model model) {
  switch (model) {
    case Vocabulary::Model::spm:
    case Vocabulary::Model::unigram:
      return spm_piece_bytes;
    case Vocabulary::Model::wordpiece:
      return wordpiece_bytes;
    case Vocabulary::Model::bpe:
      break;
  }
  return bpe_piece_bytes;
}

// Whether encode puts a space before text, which decode takes away.
bool puts_space_before(const Vocabulary& vocabulary) {
  const bool has_marks = vocabulary.model == Vocabulary::Model::spm || vocabulary.model == Vocabulary::Model::unigram;
  return has_marks && vocabulary.add_space_prefix;
}

}  // namespace

base::Result<std::unique_ptr<Tokenizer>> Tokenizer::create(Vocabulary vocabulary) {
  TM_CHECK(vocabulary.complete());
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer(std::move(vocabulary)));
  TM_TRY(tokenizer->encoder_, make_encoder(tokenizer->vocabulary_));
  tokenizer->count_special_words();
  return tokenizer;
}

void Tokenizer::build_piece_bytes() {
  const auto bytes_of = piece_bytes_of(vocabulary_.model);
  offsets_.reserve(vocabulary_.size() + 1);
  offsets_.push_back(0);
  for (size_t i = 0; i < vocabulary_.size(); ++i) {
    bytes_ += bytes_of(vocabulary_.pieces[i], vocabulary_.kinds[i]);
    longest_ = std::max(longest_, bytes_.size() - offsets_.back());
    offsets_.push_back(static_cast<uint32_t>(bytes_.size()));
  }
}

void Tokenizer::count_special_words() {
  for (size_t i = 0; i < vocabulary_.size(); ++i) {
    const auto token = static_cast<Token>(i);
    if (!is_special(token) && !is(TokenKind::user_defined, token)) continue;
    most_words_ = std::max(most_words_, encoder_->count_words(vocabulary_.pieces[i], max_text_bytes));
  }
}

base::Result<std::vector<Token>> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  if (text.size() > max_text_bytes)
    return Error(ErrorCode::too_large,
                 fmt::format("text of {} bytes is over the tokenizer's limit of {}", text.size(), max_text_bytes));
  std::vector<Token> tokens;
  if (options.add_special && vocabulary_.add_bos) tokens.push_back(*vocabulary_.bos);
  size_t at = 0;
  while (const auto special = specials_.find(text, at, options.parse_special, options.literal)) {
    encode_fragment(text.substr(at, special->begin - at), tokens);
    tokens.push_back(special->token);
    at = skip_after_special(text, special->end, special->token);
  }
  encode_fragment(text.substr(at), tokens);
  if (options.add_special && vocabulary_.add_eos) tokens.push_back(*vocabulary_.eos);
  return tokens;
}

namespace {

constexpr EncodeOptions plain{.add_special = false, .parse_special = false, .literal = {}};

}  // namespace

base::Result<std::vector<Token>> Tokenizer::encode_first_of_pair(std::string_view text) const {
  if (!vocabulary_.bos || !vocabulary_.eos) {
    return Error(ErrorCode::unsupported,
                 "the model's vocabulary names no tokens to begin a pair of texts with and to part it");
  }
  TM_TRY(std::vector<Token> tokens, encode(text, plain));
  tokens.insert(tokens.begin(), *vocabulary_.bos);
  tokens.insert(tokens.end(), vocabulary_.parts_pairs_twice ? 2 : 1, *vocabulary_.eos);
  return tokens;
}

base::Result<std::vector<Token>> Tokenizer::encode_second_of_pair(std::string_view text) const {
  if (!vocabulary_.eos)
    return Error(ErrorCode::unsupported, "the model's vocabulary names no token to end a pair of texts with");
  TM_TRY(std::vector<Token> tokens, encode(text, plain));
  tokens.push_back(*vocabulary_.eos);
  return tokens;
}

size_t Tokenizer::find_special_name(std::string_view text, size_t from) const {
  const auto match = specials_.find(text, from, true);
  return match ? match->begin : std::string_view::npos;
}

void Tokenizer::encode_fragment(std::string_view text, std::vector<Token>& out) const {
  if (text.empty()) return;
  if (vocabulary_.model != Vocabulary::Model::spm || !vocabulary_.add_space_prefix) return encoder_->encode(text, out);
  std::string prefixed;
  prefixed.reserve(text.size() + 1);
  prefixed += ' ';
  prefixed += text;
  encoder_->encode(prefixed, out);
}

size_t Tokenizer::skip_after_special(std::string_view text, size_t at, Token special) const {
  const bool keeps = !vocabulary_.strip_after_special || special == vocabulary_.bos || special == vocabulary_.eos ||
                     special == vocabulary_.unknown;
  if (keeps) return at;
  return std::min(text.find_first_not_of(" \t\n\v\f\r", at), text.size());
}

size_t Tokenizer::least_tokens(std::string_view text, size_t enough) const {
  if (vocabulary_.model == Vocabulary::Model::wordpiece) {
    if (!vocabulary_.unknown) return 0;
    const size_t words = encoder_->count_words(text, std::min(enough, max_text_bytes) * most_words_);
    return (words + most_words_ - 1) / most_words_;
  }
  // Normalising may leave less than any part of a text, and a run of unknown characters is one token.
  if (vocabulary_.model == Vocabulary::Model::unigram) return 0;
  size_t bytes = text.size();
  if (vocabulary_.strip_after_special) {  // spaces may stand for nothing
    bytes -= static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
      return std::string_view(" \t\n\v\f\r").find(c) != std::string_view::npos;
    }));
  }
  return (bytes + longest_ - 1) / longest_;
}

std::string_view Tokenizer::piece_bytes(Token token) const {
  if (token < 0 || static_cast<size_t>(token) >= vocabulary_.size()) return {};
  return std::string_view(bytes_).substr(offsets_[token], offsets_[token + 1] - offsets_[token]);
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool show_special) const {
  std::string text;
  bool prefixed = prefixed_after({});
  for (const Token token : tokens) {
    if (show_special || !is_special(token)) {
      std::string_view bytes = piece_bytes(token);
      if (prefixed && bytes.starts_with(' ')) bytes.remove_prefix(1);
      text += bytes;
    }
    prefixed = prefixed_after(prefixed, token);
  }
  return text;
}

bool Tokenizer::is(TokenKind kind, Token token) const {
  return token >= 0 && static_cast<size_t>(token) < vocabulary_.size() && vocabulary_.kinds[token] == kind;
}

bool Tokenizer::is_special(Token token) const {
  return is(TokenKind::control, token) || is(TokenKind::unknown, token);
}

bool Tokenizer::ends_generation(Token token) const {
  return std::binary_search(vocabulary_.end_of_generation.begin(), vocabulary_.end_of_generation.end(), token);
}

bool Tokenizer::prefixed_after(std::span<const Token> previous) const {
  if (vocabulary_.model == Vocabulary::Model::wordpiece) {
    return std::all_of(previous.begin(), previous.end(), [this](Token token) { return prefixed_after(true, token); });
  }
  if (!puts_space_before(vocabulary_)) return false;
  return previous.empty() || prefixed_after(true, previous.back());
}

bool Tokenizer::prefixed_after(bool prefixed, Token token) const {
  // Every word brings its space, so that only the first word of all has one too many.
  if (vocabulary_.model == Vocabulary::Model::wordpiece) return prefixed && is(TokenKind::control, token);
  if (!puts_space_before(vocabulary_)) return false;
  // An unknown token stands in the middle of text; the others are where encode cuts text into fragments.
  return is(TokenKind::control, token) || is(TokenKind::user_defined, token);
}

}  // namespace tidemill::text
