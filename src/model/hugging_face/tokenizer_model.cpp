#include "model/hugging_face/tokenizer_model.hpp"

#include <array>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "model/hugging_face/base64.hpp"
#include "model/hugging_face/text_steps.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {

namespace json = base::json;

namespace {

using base::ErrorCode;
using base::Result;
using Kind = TokenizerModel::Kind;

// What SentencePiece's normalising looks like, as GGUF's two kinds of it.
struct SpmSteps {
  std::string_view normalizer;
  std::string_view pre_tokenizer;
  bool space_prefix;
};
constexpr std::array<SpmSteps, 6> kSpmSteps = {{
    {"Prepend(▁) | Replace( , ▁)", "", true},
    {"", "Metaspace(▁, always)", true},
    {"", "Metaspace(▁, first)", true},
    {"", "Metaspace(▁, never)", false},
    {"Replace( , ▁)", "", false},
    {"Replace( , ▁)", "Split( , MergedWithPrevious)", false},
}};

// The same of unigram models, as transformers' converters of several years write it.
struct UnigramSteps {
  std::string_view normalizer;
  std::string_view pre_tokenizer;
  bool single_spaces;
};
constexpr std::string_view kUnigramSplit = "Metaspace(▁, always, split)";
constexpr std::string_view kUnigramWords = "WhitespaceSplit | Metaspace(▁, always, split)";
constexpr std::array<UnigramSteps, 6> kUnigramSteps = {{
    {"Precompiled", kUnigramWords, true},
    {"Precompiled | Replace( {2,},  )", kUnigramWords, true},
    {"Precompiled | Replace( {2,},  )", kUnigramSplit, true},
    {"Precompiled | Strip(right) | Replace( {2,}, ▁)", kUnigramSplit, true},
    {"Strip(right) | Replace( {2,}, ▁)", kUnigramSplit, true},
    {"Precompiled", kUnigramSplit, false},
}};

class ModelReader {
 public:
  explicit ModelReader(const TokenizerFiles& files)
      : files_(files),
        file_(files.tokenizer),
        normalizer_(describe_steps(file_.find("normalizer"))),
        steps_(describe_steps(file_.find("pre_tokenizer"))) {}

  Result<TokenizerModel> run() {
    TM_TRY(model_, file_.members("model"));
    if (!model_.exists()) return file_.error(ErrorCode::corrupt, "'model' is missing");
    TM_TRY(const std::string type, model_.get_string_or("type", "BPE"));
    TM_TRY(TokenizerModel model, read(type));
    TM_TRY(const bool lower, files_.sentence.get_bool_or("do_lower_case", false));
    if (!lower || model.lower_case) return model;
    return files_.sentence.error(ErrorCode::unsupported,
                                 "'do_lower_case' is true, but the tokenizer keeps capitals; supported is what "
                                 "tokenizer.json itself does to text");
  }

 private:
  Result<TokenizerModel> read(const std::string& type) {
    if (type == "WordPiece") return word_piece();
    if (type == "Unigram") return unigram();
    if (type == "BPE") return pair_merging();
    return file_.error(ErrorCode::unsupported,
                       fmt::format("'model.type' is '{}'; supported are BPE, byte-level or SentencePiece's, Unigram "
                                   "and WordPiece",
                                   printable(type)));
  }

  // Byte-level BPE, or SentencePiece's: which is in what is done to text.
  Result<TokenizerModel> pair_merging() const {
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      TM_TRY(const std::string mark, model_.get_string_or(key, ""));
      if (!mark.empty()) {
        return file_.error(ErrorCode::unsupported,
                           fmt::format("'{}' is '{}'; supported is none", model_.name(key), printable(mark)));
      }
    }
    TokenizerModel model;
    TM_TRY(model.ignore_merges, model_.get_bool_or("ignore_merges", false));
    TM_TRY(model.byte_fallback, model_.get_bool_or("byte_fallback", false));
    const std::string_view pre = known_pre_tokenizer(steps_, model.ignore_merges);
    if (!pre.empty() && (normalizer_.empty() || normalizer_ == "NFC")) {
      model.pre = pre;
      return model;
    }
    for (const SpmSteps& known : kSpmSteps) {
      if (!model.byte_fallback || known.normalizer != normalizer_ || known.pre_tokenizer != steps_) continue;
      model.kind = Kind::sentence_piece;
      model.space_prefix = known.space_prefix;
      return model;
    }
    return unknown_steps(fmt::format(
        ", with 'ignore_merges' {} and 'byte_fallback' {}; known are the pre-tokenizers {}, and SentencePiece's BPE "
        "with byte_fallback",
        model.ignore_merges, model.byte_fallback, known_pre_tokenizers_text()));
  }

  Result<TokenizerModel> unigram() const {
    TokenizerModel model;
    model.kind = Kind::unigram;
    model.space_prefix = true;
    TM_TRY(model.byte_fallback, model_.get_bool_or("byte_fallback", false));
    // A space before a text's beginning alone is taken for one after each special token as well.
    std::string steps = steps_;
    constexpr std::string_view first = "Metaspace(▁, first";
    if (const size_t at = steps.find(first); at != steps.npos) steps.replace(at, first.size(), "Metaspace(▁, always");
    for (const UnigramSteps& known : kUnigramSteps) {
      if (known.normalizer != normalizer_ || known.pre_tokenizer != steps) continue;
      model.single_spaces = known.single_spaces;
      TM_TRY(model.characters_map, precompiled());
      return model;
    }
    return unknown_steps("; known of Unigram models are SentencePiece's own, with a precompiled map of characters");
  }

  // The map of the "Precompiled" step, which is the normalizer or the first one of a sequence.
  Result<std::string> precompiled() const {
    TM_TRY(JsonMembers step, file_.members("normalizer"));
    const json::value* list = step.find("normalizers");
    const json::value* written = step.find("precompiled_charsmap");
    if (list != nullptr && list->is_array() && !list->get_array().empty()) {
      const json::object* front = list->get_array().front().if_object();
      written = front == nullptr ? nullptr : front->if_contains("precompiled_charsmap");
    }
    if (!normalizer_.starts_with("Precompiled") || written == nullptr || written->is_null()) return std::string();
    auto bytes = written->is_string() ? base64_bytes(std::string_view(written->get_string())) : std::nullopt;
    if (bytes) return std::move(*bytes);
    return file_.error(ErrorCode::corrupt, "'precompiled_charsmap' of the normalizer is no base64");
  }

  Result<TokenizerModel> word_piece() const {
    TM_TRY(const JsonMembers normalizer, file_.members("normalizer"));
    TM_TRY(const std::string type, normalizer.get_string_or("type", ""));
    if (type != "BertNormalizer" || steps_ != "BertPreTokenizer") {
      return unknown_steps("; known of WordPiece models are BertNormalizer and BertPreTokenizer");
    }
    TM_TRY(const std::string mark, model_.get_string_or("continuing_subword_prefix", "##"));
    TM_TRY(const int64_t longest, model_.get_int_or("max_input_chars_per_word", 100));
    if (mark != "##" || longest != 100) {
      return file_.error(ErrorCode::unsupported,
                         fmt::format("'{}' is '{}' and '{}' {}; supported are BERT's ## and 100",
                                     model_.name("continuing_subword_prefix"), printable(mark),
                                     model_.name("max_input_chars_per_word"), longest));
    }
    // What tokenizer_config.json says holds over the normalizer, as in transformers' BertTokenizerFast.
    TM_TRY(const bool cleans, normalizer.get_bool_or("clean_text", true));
    TM_TRY(const bool parts, normalizer.get_bool_or("handle_chinese_chars", true));
    TM_TRY(const bool parts_ideographs, files_.names.get_bool_or("tokenize_chinese_chars", parts));
    TM_TRY(const bool lowers, normalizer.get_bool_or("lowercase", true));
    TM_TRY(const bool lower_case, files_.names.get_bool_or("do_lower_case", lowers));
    TM_TRY(const bool strips, normalizer.get_bool_or("strip_accents", lower_case));
    TM_TRY(const bool strips_accents, files_.names.get_bool_or("strip_accents", strips));
    if (!cleans || !parts_ideographs || strips_accents != lower_case) {
      return file_.error(
          ErrorCode::unsupported,
          fmt::format("the normalizer and tokenizer_config.json have 'clean_text' {}, 'handle_chinese_chars' {}, "
                      "'lowercase' {} and 'strip_accents' {}; supported are true for the first two, and the same for "
                      "the others",
                      cleans, parts_ideographs, lower_case, strips_accents));
    }
    TokenizerModel model;
    model.kind = Kind::word_piece;
    model.lower_case = lower_case;
    return model;
  }

  base::Error unknown_steps(std::string_view known) const {
    return file_.error(ErrorCode::unsupported,
                       fmt::format("what it does to text is unknown: 'normalizer' is '{}', 'pre_tokenizer' is '{}'{}",
                                   printable(normalizer_), printable(steps_, 400), known));
  }

  const TokenizerFiles& files_;
  const JsonMembers& file_;  // tokenizer.json
  std::string normalizer_;
  std::string steps_;
  JsonMembers model_;  // of file_
};

}  // namespace

Result<TokenizerModel> read_tokenizer_model(const TokenizerFiles& files) {
  return ModelReader(files).run();
}

}  // namespace tidemill::model
