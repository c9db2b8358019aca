#include "text/vocabulary.hpp"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/lower_case.hpp"
#include "text/pre_tokenizer.hpp"

namespace tidemill::text {

using base::Error;
using base::ErrorCode;

std::vector<std::string_view> supported_pre_tokenizers() {
  std::vector<std::string_view> names;
  for (const PreTokenizerName& entry : pre_tokenizer_names())
    names.push_back(entry.name);
  return names;
}

base::Result<Vocabulary> Vocabulary::with_defaults(std::string_view model_name, std::string_view pre_name) {
  Vocabulary vocabulary;
  if (model_name == "llama") {
    vocabulary.model = Model::spm;
    vocabulary.bos = 1;
    vocabulary.eos = 2;
    vocabulary.unknown = 0;
    vocabulary.add_bos = true;
    vocabulary.add_space_prefix = true;
    return vocabulary;
  }
  if (model_name == "bert") {
    vocabulary.model = Model::wordpiece;
    vocabulary.unknown = 100;
    vocabulary.bos = 101;
    vocabulary.eos = 102;
    vocabulary.padding = 0;
    vocabulary.add_bos = true;
    vocabulary.add_eos = true;
    return vocabulary;
  }
  if (model_name == "t5") {
    // Where nothing says otherwise text is normalised as SentencePiece does by itself, and pairs are XLM-RoBERTa's.
    vocabulary.model = Model::unigram;
    vocabulary.eos = 1;
    vocabulary.unknown = 2;
    vocabulary.padding = 0;
    vocabulary.add_eos = true;
    vocabulary.parts_pairs_twice = true;
    vocabulary.add_space_prefix = true;
    vocabulary.single_spaces = true;
    return vocabulary;
  }
  if (model_name != "gpt2")
    return Error(ErrorCode::unsupported,
                 fmt::format("tokenizer model '{}' is not supported; supported are 'llama' (SentencePiece BPE), 'gpt2' "
                             "(byte-level BPE), 'bert' (WordPiece) and 't5' (SentencePiece unigram)",
                             model_name));
  vocabulary.model = Model::bpe;
  if (!pre_name.empty()) vocabulary.pre = pre_name;
  TM_TRY(const PreTokenizerName* pre, find_pre_tokenizer(vocabulary.pre));
  vocabulary.add_bos = pre->ignore_merges;
  vocabulary.ignore_merges = pre->ignore_merges;
  return vocabulary;
}

void Vocabulary::adapt_to_model(std::string_view general_name) {
  const std::string name = base::lower(general_name);
  strip_after_special = name.find("phi-3") != std::string::npos || name.find("phi3") != std::string::npos;
}

namespace {

constexpr std::array<std::string_view, 11> end_of_turn_names{
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>",         "<|endoftext|>",     "<|end_of_text|>",
    "<EOT>",      "_<EOT>",     "[EOT]",   "<｜end▁of▁sentence｜>", "<end_of_utterance>"};
constexpr std::string_view end_of_message_name = "<|eom_id|>";
// In the harmony format (gpt-oss) an answer is several messages: "<|end|>" stands between them, and these two end it.
constexpr std::string_view harmony_end = "<|end|>";
constexpr std::array<std::string_view, 2> harmony_answer_ends{"<|call|>", "<|return|>"};
// Names that end a generation beside those above: ends of sequence of other families, and where a code model would pad
// or go on with another file.
constexpr std::array<std::string_view, 16> other_end_names{
    "</s>",  "<eos>", "[EOS]",  "<|EOT|>",      "<|eom_id|>",    "<|fim_pad|>", "<fim-pad>",  "<fim_pad>",
    "<PAD>", "[PAD]", "<REPO>", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>",  "<reponame>", "<|file_sep|>"};
// Names of the marks between which code models fill in the middle.
constexpr std::array<std::string_view, 24> fill_in_names{
    "<|fim_prefix|>",  "<fim-prefix>",  "<fim_prefix>",    "<｜fim▁begin｜>", "<PRE>",           "▁<PRE>",
    "<|code_prefix|>", "<|prefix|>",    "<|fim_suffix|>",  "<fim-suffix>",    "<fim_suffix>",    "<｜fim▁hole｜>",
    "<SUF>",           "▁<SUF>",        "<|code_suffix|>", "<|suffix|>",      "<|fim_middle|>",  "<fim-middle>",
    "<fim_middle>",    "<｜fim▁end｜>", "<MID>",           "▁<MID>",          "<|code_middle|>", "<|middle|>"};

template <typename Names>
bool is_among(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

base::Result<void> check_length(std::string_view what, size_t length, size_t pieces) {
  if (length == 0 || length == pieces) return {};
  return Error(ErrorCode::corrupt, fmt::format("vocabulary has {} pieces but {} {}", pieces, length, what));
}

base::Result<void> check_token(std::string_view what, const std::optional<Token>& token, size_t pieces) {
  if (!token || (*token >= 0 && static_cast<size_t>(*token) < pieces)) return {};
  return Error(ErrorCode::corrupt,
               fmt::format("the vocabulary's {} token is {}, but there are {} pieces", what, *token, pieces));
}

base::Result<void> check(const Vocabulary& vocabulary) {
  const size_t count = vocabulary.size();
  if (count == 0) return Error(ErrorCode::corrupt, "vocabulary has no pieces");
  size_t bytes = 0;
  for (const std::string& piece : vocabulary.pieces)
    bytes += piece.size();
  constexpr size_t limit = size_t{1} << 30;
  if (count > limit || bytes > limit || vocabulary.merges.size() > limit)
    return Error(ErrorCode::unsupported,
                 fmt::format("vocabulary of {} pieces, {} bytes and {} merges is over the limit", count, bytes,
                             vocabulary.merges.size()));
  TM_CHECK(check_length("scores", vocabulary.scores.size(), count));
  TM_CHECK(check_length("token types", vocabulary.kinds.size(), count));
  TM_CHECK(check_token("bos", vocabulary.bos, count));
  TM_CHECK(check_token("eos", vocabulary.eos, count));
  TM_CHECK(check_token("eot", vocabulary.eot, count));
  TM_CHECK(check_token("eom", vocabulary.eom, count));
  TM_CHECK(check_token("unknown", vocabulary.unknown, count));
  TM_CHECK(check_token("padding", vocabulary.padding, count));
  for (const Token token : vocabulary.end_of_generation)
    TM_CHECK(check_token("end-of-generation", token, count));
  if (vocabulary.add_bos && !vocabulary.bos)
    return Error(ErrorCode::corrupt, "vocabulary asks for a bos token before each text but names none");
  if (vocabulary.add_eos && !vocabulary.eos)
    return Error(ErrorCode::corrupt, "vocabulary asks for an eos token behind each text but names none");
  return {};
}

std::optional<Token> find_piece(const Vocabulary& vocabulary, std::string_view piece) {
  const auto found = std::find(vocabulary.pieces.begin(), vocabulary.pieces.end(), piece);
  if (found == vocabulary.pieces.end()) return std::nullopt;
  return static_cast<Token>(found - vocabulary.pieces.begin());
}

// Where the vocabulary is of the harmony format, its tokens end a generation instead of "<|end|>".
void follow_harmony(Vocabulary& vocabulary) {
  std::vector<Token> ends;
  for (const std::string_view name : harmony_answer_ends) {
    const std::optional<Token> token = find_piece(vocabulary, name);
    if (!token) return;
    ends.push_back(*token);
  }
  const std::optional<Token> between = find_piece(vocabulary, harmony_end);
  if (between) std::erase(vocabulary.end_of_generation, *between);
  if (between && vocabulary.eot == between) vocabulary.eot.reset();
  for (const Token token : ends) {
    vocabulary.end_of_generation.push_back(token);
    vocabulary.kinds[static_cast<size_t>(token)] = TokenKind::control;
  }
}

// WordPiece: what nothing in the file says.
void complete_wordpiece(Vocabulary& vocabulary) {
  // Files call it a control token, but it stands for a word of the text.
  if (vocabulary.unknown) vocabulary.kinds[static_cast<size_t>(*vocabulary.unknown)] = TokenKind::unknown;
  if (vocabulary.lower_case) return;
  std::array<bool, 26> has{};
  for (const std::string_view piece : vocabulary.pieces) {
    const char letter = piece.empty() ? '\0' : piece.back();
    if (letter >= 'A' && letter <= 'Z' && piece.substr(0, piece.size() - 1) == "\xE2\x96\x81")
      has[static_cast<size_t>(letter - 'A')] = true;
  }
  vocabulary.lower_case = !std::all_of(has.begin(), has.end(), [](bool one) { return one; });
}

}  // namespace

bool is_end_name(std::string_view piece) {
  return is_among(end_of_turn_names, piece) || is_among(other_end_names, piece);
}

base::Result<void> Vocabulary::complete() {
  TM_CHECK(check(*this));
  scores.resize(size(), 0.0f);
  kinds.resize(size(), TokenKind::normal);
  if (model == Model::wordpiece) complete_wordpiece(*this);
  if (model == Model::unigram && unknown) kinds[static_cast<size_t>(*unknown)] = TokenKind::unknown;
  for (size_t i = 0; i < size(); ++i) {
    const auto token = static_cast<Token>(i);
    const bool ends_turn = is_among(end_of_turn_names, pieces[i]);
    const bool ends = is_end_name(pieces[i]);
    if (!ends && !is_among(fill_in_names, pieces[i])) continue;
    if (ends_turn && !eot) eot = token;
    if (pieces[i] == end_of_message_name && !eom) eom = token;
    if (ends) end_of_generation.push_back(token);
    // Some files mark them as text, and then a user could write them.
    if (kinds[i] == TokenKind::normal || kinds[i] == TokenKind::user_defined) kinds[i] = TokenKind::control;
  }
  follow_harmony(*this);
  for (const auto& token : {eos, eot, eom})
    if (token) end_of_generation.push_back(*token);
  std::sort(end_of_generation.begin(), end_of_generation.end());
  end_of_generation.erase(std::unique(end_of_generation.begin(), end_of_generation.end()), end_of_generation.end());
  return {};
}

}  // namespace tidemill::text
