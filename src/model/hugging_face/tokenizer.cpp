#include "model/hugging_face/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/log.hpp"
#include "model/hugging_face/merge_scores.hpp"
#include "model/hugging_face/post_processor.hpp"
#include "model/hugging_face/tokenizer_model.hpp"
#include "model/metadata.hpp"
#include "model/vocabulary.hpp"
#include "text/vocabulary.hpp"

namespace tidemill::model {

namespace json = base::json;

namespace {

using base::ErrorCode;
using base::Result;
using text::TokenKind;
using Kind = TokenizerModel::Kind;

bool is_byte_name(std::string_view piece) {
  return piece.size() == 6 && piece.starts_with("<0x") && piece.ends_with(">");
}

class TokenizerTranslator {
 public:
  TokenizerTranslator(TokenizerFiles files, TokenizerModel how, const JsonMembers& config, int64_t vocabulary,
                      GgufWriter& metadata)
      : how_(std::move(how)),
        file_(std::move(files.tokenizer)),
        names_(std::move(files.names)),
        generation_(std::move(files.generation)),
        config_(config),
        pieces_(static_cast<size_t>(vocabulary)),
        kinds_(static_cast<size_t>(vocabulary), TokenKind::unused),
        metadata_(metadata) {}

  Result<void> run() {
    TM_TRY(model_, file_.members("model"));
    TM_CHECK(how_.kind == Kind::unigram ? read_scored_pieces() : read_pieces());
    if (has_merges()) TM_CHECK(read_merges());
    TM_CHECK(read_added_tokens());
    TM_CHECK(name_specials());
    if (how_.kind == Kind::word_piece) mark_words();
    TM_CHECK(fill_holes());
    TM_CHECK(write_pieces());
    TM_CHECK(write_ends());
    return write_marks();
  }

 private:
  bool has_merges() const { return how_.kind == Kind::byte_level || how_.kind == Kind::sentence_piece; }

  TokenKind kind_of(std::string_view piece) const {
    const bool has_bytes = how_.kind != Kind::byte_level && how_.byte_fallback;
    return has_bytes && is_byte_name(piece) ? TokenKind::byte : TokenKind::normal;
  }

  Result<void> place(std::string_view piece, int64_t id, TokenKind kind, std::string_view where) {
    if (id < 0 || static_cast<size_t>(id) >= pieces_.size()) {
      return file_.error(ErrorCode::corrupt,
                         fmt::format("token '{}' of '{}' has the id {}, but the model has {} tokens ('vocab_size' of "
                                     "config.json)",
                                     printable(piece), where, id, pieces_.size()));
    }
    std::string& there = pieces_[static_cast<size_t>(id)];
    if (!there.empty() && there != piece) {
      return file_.error(ErrorCode::corrupt, fmt::format("tokens '{}' and '{}' have the same id, {}", printable(there),
                                                         printable(piece), id));
    }
    there = piece;
    kinds_[static_cast<size_t>(id)] = kind;
    return {};
  }

  Result<void> read_pieces() {
    TM_TRY(const JsonMembers vocabulary, model_.members("vocab"));
    if (!vocabulary.exists()) return file_.error(ErrorCode::corrupt, "'model.vocab' is missing");
    ids_.reserve(vocabulary.object().size());
    for (const auto& [piece, value] : vocabulary.object()) {
      const std::string_view name = piece;
      if (!value.is_int64()) {
        return file_.error(ErrorCode::corrupt, fmt::format("the id of token '{}' is {}; expected an integer",
                                                           printable(name), printable(json::serialize(value))));
      }
      TM_CHECK(place(name, value.get_int64(), kind_of(name), "model.vocab"));
      ids_.emplace(name, value.get_int64());
    }
    return {};
  }

  // A unigram model's pieces are a list of them with their scores.
  Result<void> read_scored_pieces() {
    const json::value* list = model_.find("vocab");
    if (list == nullptr || !list->is_array()) return model_.wrong("vocab", "a list of pieces with their scores");
    scores_.resize(pieces_.size());
    for (size_t i = 0; i < list->get_array().size(); ++i) {
      const json::array* pair = list->get_array()[i].if_array();
      if (pair == nullptr || pair->size() != 2 || !pair->front().is_string() || !pair->back().is_number()) {
        return file_.error(ErrorCode::corrupt, fmt::format("token {} of 'model.vocab' is {}; expected a piece and its "
                                                           "score",
                                                           i, printable(json::serialize(list->get_array()[i]))));
      }
      const std::string_view piece = pair->front().get_string();
      TM_CHECK(place(piece, static_cast<int64_t>(i), kind_of(piece), "model.vocab"));
      scores_[i] = static_cast<float>(pair->back().to_number<double>());
      ids_.emplace(piece, static_cast<int64_t>(i));
    }
    return {};
  }

  // Older files write "left right", newer ones ["left", "right"].
  Result<void> read_merges() {
    const json::value* list = model_.find("merges");
    if (list == nullptr || !list->is_array()) return model_.wrong("merges", "a list of pairs of tokens");
    merges_.reserve(list->get_array().size());
    for (const json::value& merge : list->get_array()) {
      std::string_view left;
      std::string_view right;
      if (merge.is_string()) {
        const std::string_view text = merge.get_string();
        const size_t space = std::min(text.find(' ', 1), text.size());
        left = text.substr(0, space);
        right = text.substr(std::min(space + 1, text.size()));
      } else if (merge.is_array() && merge.get_array().size() == 2 && merge.get_array()[0].is_string() &&
                 merge.get_array()[1].is_string()) {
        left = merge.get_array()[0].get_string();
        right = merge.get_array()[1].get_string();
      }
      // GGUF writes a space between the two. No piece of these vocabularies holds one: spaces are written as Ġ or ▁.
      if (left.empty() || right.empty() || left.find(' ') != left.npos || right.find(' ') != right.npos) {
        return file_.error(ErrorCode::corrupt,
                           fmt::format("merge {} is {}; expected two tokens with a space between, or a list of two "
                                       "without spaces",
                                       merges_.size(), printable(json::serialize(merge))));
      }
      merges_.emplace_back(left, right);
      TM_CHECK(check_merge(merges_.back().first, merges_.back().second));
    }
    return {};
  }

  // As transformers' tokenizers hold it, of what 'model.vocab' has.
  Result<void> check_merge(const std::string& left, const std::string& right) const {
    const std::string whole = left + right;
    for (const std::string_view piece : {std::string_view(left), std::string_view(right), std::string_view(whole)}) {
      if (ids_.contains(piece)) continue;
      return file_.error(ErrorCode::corrupt,
                         fmt::format("merge {} is of '{}' and '{}', but '{}' is no token of 'model.vocab'",
                                     merges_.size() - 1, printable(left), printable(right), printable(piece)));
    }
    return {};
  }

  Result<void> read_added_tokens() {
    const json::value* list = file_.find("added_tokens");
    if (list == nullptr) return {};
    if (!list->is_array()) return file_.wrong("added_tokens", "a list of tokens");
    std::optional<std::string_view> odd;
    TM_TRY(const std::string mask, special_name("mask_token"));
    for (const json::value& item : list->get_array()) {
      const json::object* token = item.if_object();
      const json::value* id = token == nullptr ? nullptr : token->if_contains("id");
      const json::value* content = token == nullptr ? nullptr : token->if_contains("content");
      if (id == nullptr || !id->is_int64() || content == nullptr || !content->is_string() ||
          content->get_string().empty()) {
        return file_.error(ErrorCode::corrupt,
                           fmt::format("'added_tokens' has {}; expected an object with 'id' and 'content'",
                                       printable(json::serialize(item))));
      }
      const std::string_view name = content->get_string();
      const auto is_set = [token](std::string_view key) {
        const json::value* flag = token->if_contains(key);
        return flag != nullptr && flag->is_bool() && flag->get_bool();
      };
      const bool is_special = is_set("special");
      TM_CHECK(place(name, id->get_int64(), is_special ? TokenKind::control : TokenKind::user_defined, "added_tokens"));
      ids_.insert_or_assign(name, id->get_int64());
      added_.push_back({.id = id->get_int64(), .strips_after = is_set("rstrip")});
      if (!odd && name != mask && (is_set("lstrip") || is_set("single_word"))) odd = name;
    }
    if (odd) {
      base::log::warn(
          "{}: the added token '{}' has 'lstrip' or 'single_word', which is not done: it is found wherever "
          "its text stands, and takes nothing before it",
          file_.path().string(), printable(*odd));
    }
    return {};
  }

  // Whether special tokens swallow the white space after them. A vocabulary says it of all of them or of none.
  bool strips_after_special() const {
    int64_t all = 0;
    int64_t strip = 0;
    for (const AddedToken& token : added_) {
      if (token.id == bos_ || token.id == eos_ || token.id == unknown_) continue;
      ++all;
      strip += token.strips_after ? 1 : 0;
    }
    const bool most = strip * 2 > all;
    if (strip > 0 && strip < all) {
      base::log::warn("{}: {} of {} added tokens swallow the white space after them ('rstrip'); here {} do",
                      file_.path().string(), strip, all, most ? "all" : "none");
    }
    return most;
  }

  std::optional<int64_t> id_of(std::string_view piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }

  // The text of a special token in tokenizer_config.json, where it is a text or an object with it; empty: none.
  Result<std::string> special_name(std::string_view key) const {
    const json::value* value = names_.find(key);
    if (value == nullptr) return std::string();
    if (value->is_object()) {
      TM_TRY(const JsonMembers token, names_.members(key));
      return token.get_string_or("content", "");
    }
    return names_.get_string_or(key, "");
  }

  bool is_id(int64_t id) const { return id >= 0 && static_cast<size_t>(id) < pieces_.size(); }

  // The id of a special token: by its name in tokenizer_config.json, else as config.json numbers it.
  Result<std::optional<int64_t>> special_id(std::string_view name_key, std::string_view id_key) const {
    TM_TRY(const std::string name, special_name(name_key));
    if (!name.empty()) {
      if (const auto id = id_of(name)) return id;
      return names_.error(ErrorCode::corrupt, fmt::format("'{}' is '{}', which is no token of {}", name_key,
                                                          printable(name), file_.path().filename().string()));
    }
    const json::value* value = id_key.empty() ? nullptr : config_.find(id_key);
    if (value == nullptr || value->is_array()) return std::optional<int64_t>();
    TM_TRY(const int64_t id, config_.get_int(id_key));
    if (is_id(id)) return std::optional(id);
    if (id == -1) return std::optional<int64_t>();
    return config_.wrong(id_key, fmt::format("an id below {}", pieces_.size()));
  }

  // As long as nothing is done with it, a token that the vocabulary lacks is none: released files name padding that was
  // never added.
  static std::optional<int64_t> or_none(const Result<std::optional<int64_t>>& id) {
    if (id) return *id;
    base::log::info("{}; passed over", id.error().to_string());
    return std::nullopt;
  }

  // WordPiece's marks, by BERT's names where the file has no others.
  Result<void> name_word_piece_specials() {
    TM_TRY(bos_, special_id("cls_token", ""));
    TM_TRY(eos_, special_id("sep_token", ""));
    if (!bos_) bos_ = id_of("[CLS]");
    if (!eos_) eos_ = id_of("[SEP]");
    return {};
  }

  Result<void> name_specials() {
    TM_TRY(const bool adds_bos, names_.get_bool_or("add_bos_token", false));
    if (adds_bos) TM_CHECK(special_id("bos_token", ""));  // it is needed, and a name that is no token is an error
    bos_ = or_none(special_id("bos_token", "bos_token_id"));
    TM_TRY(eos_, special_id("eos_token", ""));  // listed_ends() for its number
    padding_ = or_none(special_id("pad_token", "pad_token_id"));
    unknown_ = or_none(special_id("unk_token", ""));
    if (how_.kind == Kind::byte_level) return {};
    if (how_.kind == Kind::word_piece) TM_CHECK(name_word_piece_specials());
    TM_TRY(const std::string unknown, model_.get_string_or("unk_token", ""));
    if (!unknown_) unknown_ = id_of(unknown);
    if (how_.kind == Kind::unigram && model_.find("unk_id") != nullptr) {
      TM_TRY(const int64_t id, model_.get_int("unk_id"));
      if (!is_id(id)) return model_.wrong("unk_id", fmt::format("an id below {}", pieces_.size()));
      unknown_ = id;
    }
    // That of WordPiece is a control token in GGUF.
    if (unknown_ && how_.kind != Kind::word_piece) kinds_[static_cast<size_t>(*unknown_)] = TokenKind::unknown;
    return {};
  }

  // GGUF marks the pieces that begin a word, BERT those that do not.
  void mark_words() {
    for (size_t i = 0; i < pieces_.size(); ++i) {
      std::string& piece = pieces_[i];
      if (kinds_[i] != TokenKind::normal) continue;
      const bool goes_on = piece.size() > 2 && piece.starts_with("##");
      if (goes_on) {
        piece.erase(0, 2);
      } else {
        piece.insert(0, "▁");
      }
    }
  }

  // Embeddings often have some more rows than there are tokens.
  Result<void> fill_holes() {
    size_t holes = 0;
    for (size_t i = 0; i < pieces_.size(); ++i) {
      if (!pieces_[i].empty()) continue;
      pieces_[i] = fmt::format("[PAD{}]", i);
      kinds_[i] = TokenKind::unused;
      ++holes;
    }
    if (holes <= pieces_.size() / 2) return {};
    return file_.error(ErrorCode::corrupt,
                       fmt::format("{} of the model's {} ids ('vocab_size' of config.json) have no token; expected are "
                                   "tokens for most of them",
                                   holes, pieces_.size()));
  }

  Result<void> write_pieces() {
    metadata_.add_string("tokenizer.ggml.model", model_name());
    metadata_.add_string("tokenizer.ggml.pre", how_.pre);
    metadata_.add_strings("tokenizer.ggml.tokens", pieces_);
    if (how_.kind == Kind::sentence_piece) TM_CHECK(make_scores());
    if (!scores_.empty()) metadata_.add_floats("tokenizer.ggml.scores", scores_);
    std::vector<int32_t> kinds;
    for (const TokenKind kind : kinds_)
      kinds.push_back(static_cast<int32_t>(kind));
    metadata_.add_ints("tokenizer.ggml.token_type", kinds);
    if (how_.kind == Kind::byte_level) {
      std::vector<std::string> merges;
      for (const auto& [left, right] : merges_)
        merges.push_back(fmt::format("{} {}", left, right));
      metadata_.add_strings("tokenizer.ggml.merges", merges);
    }
    return {};
  }

  std::string_view model_name() const {
    switch (how_.kind) {
      case Kind::sentence_piece:
        return "llama";
      case Kind::unigram:
        return "t5";
      case Kind::word_piece:
        return "bert";
      case Kind::byte_level:
        break;
    }
    return "gpt2";
  }

  Result<void> make_scores() {
    std::vector<bool> is_text(pieces_.size());
    for (size_t i = 0; i < pieces_.size(); ++i)
      is_text[i] = kinds_[i] == TokenKind::normal;
    std::string fault;
    auto scores = merge_scores(pieces_, is_text, merges_, fault);
    if (!scores) {
      return file_.error(ErrorCode::unsupported,
                         fmt::format("its merges are not those of a SentencePiece model: {}", fault));
    }
    scores_ = std::move(*scores);
    return {};
  }

  // Every token that generation_config.json says ends a generation, or config.json where that does not say it: there
  // its numbers are often defaults that nobody chose.
  Result<std::vector<int64_t>> listed_ends() const {
    const JsonMembers& file = generation_.find("eos_token_id") != nullptr ? generation_ : config_;
    const json::value* value = file.find("eos_token_id");
    std::vector<int64_t> ends;
    if (value == nullptr) return ends;
    const json::array one = {*value};
    for (const json::value& item : value->is_array() ? value->get_array() : one) {
      if (!item.is_int64()) return file.wrong("eos_token_id", "the id of a token, or a list of ids");
      const int64_t id = item.get_int64();
      if (id == -1) continue;  // none
      if (!is_id(id)) return file.wrong("eos_token_id", fmt::format("ids below {}", pieces_.size()));
      if (kinds_[static_cast<size_t>(id)] == TokenKind::normal) {
        base::log::warn("{}: '{}', which ends a generation by 'eos_token_id', is an ordinary piece of text",
                        file.path().string(), printable(pieces_[static_cast<size_t>(id)]));
      }
      ends.push_back(id);
    }
    return ends;
  }

  // GGUF has one end of sequence, and two more tokens that end a generation: those that are not known by their names.
  Result<void> write_ends() {
    TM_TRY(std::vector<int64_t> ends, listed_ends());
    if (!eos_ && !ends.empty()) eos_ = ends.front();
    std::vector<int64_t> others;
    for (const int64_t id : ends) {
      const bool known = id == eos_ || text::is_end_name(pieces_[static_cast<size_t>(id)]) ||
                         std::find(others.begin(), others.end(), id) != others.end();
      if (!known) others.push_back(id);
    }
    write_id("eos_token_id", eos_);
    constexpr std::array<std::string_view, 2> keys = {"eot_token_id", "eom_token_id"};
    for (size_t i = 0; i < std::min(others.size(), keys.size()); ++i)
      write_id(keys[i], others[i]);
    if (others.size() > keys.size()) {
      base::log::warn("{}: {} tokens end a generation; GGUF has room for three, and the rest are left out",
                      generation_.path().string(), others.size() + 1);
    }
    return {};
  }

  // All but byte-level vocabularies have GGUF's default without the key, and so none is said as writers say it.
  void write_id(std::string_view name, std::optional<int64_t> id) {
    constexpr uint32_t none = 0xFFFFFFFF;
    if (!id && how_.kind == Kind::byte_level) return;
    metadata_.add_u32(fmt::format("tokenizer.ggml.{}", name), id ? static_cast<uint32_t>(*id) : none);
  }

  Result<void> write_marks() {
    write_id("bos_token_id", bos_);
    write_id("padding_token_id", padding_);
    write_id("unknown_token_id", unknown_);
    TM_TRY(const bool add_bos, goes_around("add_bos_token", "bos_token", bos_, true));
    TM_TRY(const bool add_eos, goes_around("add_eos_token", "eos_token", eos_, false));
    metadata_.add_bool("tokenizer.ggml.add_bos_token", add_bos);
    metadata_.add_bool("tokenizer.ggml.add_eos_token", add_eos);
    metadata_.add_bool(kStripAfterSpecialKey, strips_after_special());
    write_normalizing();
    if (how_.kind != Kind::byte_level) return {};
    TM_TRY(const text::Vocabulary named, text::Vocabulary::with_defaults("gpt2", how_.pre));
    if (named.ignore_merges != how_.ignore_merges) metadata_.add_bool(kIgnoreMergesKey, how_.ignore_merges);
    return {};
  }

  // What is done to text before, and between the texts of a pair.
  void write_normalizing() {
    if (how_.kind == Kind::word_piece) {
      write_id("cls_token_id", bos_);
      write_id("seperator_token_id", eos_);  // GGUF's spelling
      return metadata_.add_bool(kLowerCaseKey, how_.lower_case);
    }
    const bool twice = parts_pairs_twice(file_.find("post_processor"));
    if (twice) write_id("seperator_token_id", eos_);
    if (twice || how_.kind == Kind::unigram) metadata_.add_bool("tokenizer.ggml.add_sep_token", twice);
    if (how_.kind == Kind::byte_level) return;
    metadata_.add_bool("tokenizer.ggml.add_space_prefix", how_.space_prefix);
    if (how_.kind != Kind::unigram) return;
    metadata_.add_bool("tokenizer.ggml.remove_extra_whitespaces", how_.single_spaces);
    if (how_.characters_map.empty()) return;
    metadata_.add_bytes("tokenizer.ggml.precompiled_charsmap", how_.characters_map);
  }

  // Whether the token goes before (or behind) each text.
  Result<bool> goes_around(std::string_view key, std::string_view token_key, std::optional<int64_t> token,
                           bool before) const {
    TM_TRY(const bool asked, names_.get_bool_or(key, puts_around(token, before)));
    if (!asked || token) return asked;
    TM_CHECK(special_id(token_key, ""));  // a name that is no token
    base::log::warn("{}: '{}' is true, but there is no '{}'; none is put there", names_.path().string(), key,
                    token_key);
    return false;
  }

  // Whether the post-processor puts the token before (or behind) a text. Without one transformers puts BERT's there.
  bool puts_around(std::optional<int64_t> token, bool before) const {
    const json::value* processor = file_.find("post_processor");
    if (processor == nullptr) return token && how_.kind == Kind::word_piece;
    const std::string_view name = token_around(processor, before);
    return token && !name.empty() && id_of(name) == token;
  }

  TokenizerModel how_;
  JsonMembers file_;        // tokenizer.json, or what stands for it
  JsonMembers names_;       // tokenizer_config.json
  JsonMembers generation_;  // generation_config.json
  const JsonMembers& config_;
  JsonMembers model_;  // of file_

  std::vector<std::string> pieces_;
  std::vector<TokenKind> kinds_;
  std::vector<float> scores_;  // where there are any
  std::vector<std::pair<std::string, std::string>> merges_;
  std::unordered_map<std::string_view, int64_t> ids_;  // keys are in file_
  struct AddedToken {
    int64_t id = 0;
    bool strips_after = false;  // white space behind it
  };
  std::vector<AddedToken> added_;
  std::optional<int64_t> bos_;
  std::optional<int64_t> eos_;
  std::optional<int64_t> padding_;
  std::optional<int64_t> unknown_;
  GgufWriter& metadata_;
};

}  // namespace

Result<void> translate_tokenizer(TokenizerFiles files, const JsonMembers& config, int64_t vocabulary,
                                 GgufWriter& metadata) {
  if (!files.chat_template.empty()) metadata.add_string("tokenizer.chat_template", files.chat_template);
  TM_TRY(TokenizerModel model, read_tokenizer_model(files));
  return TokenizerTranslator(std::move(files), std::move(model), config, vocabulary, metadata).run();
}

}  // namespace tidemill::model
