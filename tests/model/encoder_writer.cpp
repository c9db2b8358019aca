#include "encoder_writer.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "model/vocabulary.hpp"

namespace tidemill::test {

namespace json = base::json;

namespace {

constexpr std::string_view kWordMark = "\xE2\x96\x81";

// GGUF's name without its ending, and transformers' behind the model's prefix.
const std::map<std::string_view, std::string_view> kEncoderNames = {
    {"token_embd", "embeddings.word_embeddings"},
    {"position_embd", "embeddings.position_embeddings"},
    {"token_types", "embeddings.token_type_embeddings"},
    {"token_embd_norm", "embeddings.LayerNorm"},
    {"attn_q", "attention.self.query"},
    {"attn_k", "attention.self.key"},
    {"attn_v", "attention.self.value"},
    {"attn_output", "attention.output.dense"},
    {"attn_output_norm", "attention.output.LayerNorm"},
    {"ffn_up", "intermediate.dense"},
    {"ffn_down", "output.dense"},
    {"layer_output_norm", "output.LayerNorm"},
};

std::string encoder_name(std::string_view gguf, bool roberta) {
  const size_t dot = gguf.rfind('.');
  const std::string_view ending = gguf.substr(dot);
  std::string_view name = gguf.substr(0, dot);
  const std::string prefix = roberta ? "roberta." : "bert.";
  if (name == "cls") return (roberta ? "classifier.dense" : "bert.pooler.dense") + std::string(ending);
  if (name == "cls.output") return (roberta ? "classifier.out_proj" : "classifier") + std::string(ending);
  std::string layer;
  if (name.starts_with("blk.")) {
    const size_t end = name.find('.', 4);
    layer = fmt::format("encoder.layer.{}.", name.substr(4, end - 4));
    name.remove_prefix(end + 1);
  }
  return fmt::format("{}{}{}{}", prefix, layer, kEncoderNames.at(name), ending);
}

json::array special_tokens(const text::Vocabulary& vocabulary) {
  json::array added;
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    const text::TokenKind kind = vocabulary.kinds[i];
    if (kind != text::TokenKind::control && kind != text::TokenKind::unknown) continue;
    added.push_back({{"id", i}, {"content", vocabulary.pieces[i]}, {"special", true}});
  }
  return added;
}

std::string piece_of(const text::Vocabulary& vocabulary, const std::optional<text::Token>& token) {
  return token ? vocabulary.pieces[static_cast<size_t>(*token)] : std::string();
}

json::object place_of_special(const std::string& name) {
  return {{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
}

json::object place_of_text(const char* name) {
  return {{"Sequence", {{"id", name}, {"type_id", 0}}}};
}

// A pair has one token between its texts, or two.
json::object template_of(const std::string& before, const std::string& behind, bool twice) {
  json::array pair = {place_of_special(before), place_of_text("A"), place_of_special(behind)};
  if (twice) pair.push_back(place_of_special(behind));
  pair.push_back(place_of_text("B"));
  pair.push_back(place_of_special(behind));
  json::array single = {place_of_special(before), place_of_text("A"), place_of_special(behind)};
  return {{"type", "TemplateProcessing"}, {"single", std::move(single)}, {"pair", std::move(pair)}};
}

}  // namespace

std::string base64(std::string_view bytes) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t at = 0; at < bytes.size(); at += 3) {
    uint32_t group = 0;
    for (size_t i = 0; i < 3; ++i)
      group = (group << 8) | (at + i < bytes.size() ? static_cast<uint8_t>(bytes[at + i]) : 0U);
    for (size_t i = 0; i < 4; ++i)
      text += at + i > bytes.size() ? '=' : digits[(group >> (18 - 6 * i)) & 63];
  }
  return text;
}

json::value wordpiece_json(const text::Vocabulary& vocabulary) {
  json::object pieces;
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    const std::string& piece = vocabulary.pieces[i];
    if (vocabulary.kinds[i] == text::TokenKind::control || vocabulary.kinds[i] == text::TokenKind::unknown) {
      pieces[piece] = i;
    } else if (piece.starts_with(kWordMark)) {
      pieces[piece.substr(kWordMark.size())] = i;
    } else {
      pieces["##" + piece] = i;
    }
  }
  return json::object{{"version", "1.0"},
                      {"added_tokens", special_tokens(vocabulary)},
                      {"normalizer",
                       {{"type", "BertNormalizer"},
                        {"clean_text", true},
                        {"handle_chinese_chars", true},
                        {"strip_accents", nullptr},
                        {"lowercase", vocabulary.lower_case.value_or(true)}}},
                      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
                      {"post_processor",
                       template_of(piece_of(vocabulary, vocabulary.bos), piece_of(vocabulary, vocabulary.eos), false)},
                      {"model",
                       {{"type", "WordPiece"},
                        {"unk_token", piece_of(vocabulary, vocabulary.unknown)},
                        {"continuing_subword_prefix", "##"},
                        {"max_input_chars_per_word", 100},
                        {"vocab", std::move(pieces)}}}};
}

json::value unigram_json(const text::Vocabulary& vocabulary) {
  json::array pieces;
  for (size_t i = 0; i < vocabulary.size(); ++i)
    pieces.push_back(json::array{json::string(vocabulary.pieces[i]), static_cast<double>(vocabulary.scores[i])});
  json::array normalizers;
  if (!vocabulary.characters_map.empty())
    normalizers.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", base64(vocabulary.characters_map)}});
  normalizers.push_back({{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}});
  normalizers.push_back({{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", "▁"}});
  return json::object{
      {"version", "1.0"},
      {"added_tokens", special_tokens(vocabulary)},
      {"normalizer", {{"type", "Sequence"}, {"normalizers", std::move(normalizers)}}},
      {"pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "always"}, {"split", true}}},
      {"post_processor", template_of(piece_of(vocabulary, vocabulary.bos), piece_of(vocabulary, vocabulary.eos), true)},
      {"model",
       {{"type", "Unigram"},
        {"unk_id", vocabulary.unknown.value_or(0)},
        {"vocab", std::move(pieces)},
        {"byte_fallback", true}}}};
}

FolderDraft encoder_draft_of(const model::GgufFile& file, std::string_view model_type) {
  const bool roberta = model_type != "bert";
  const auto number = [&](const char* key) { return file.get_int(key).value(); };
  FolderDraft draft;
  const int64_t unused_positions = roberta ? 2 : 0;
  const bool ranks = file.get_int_or("bert.pooling_type", 0).value() == 4;
  draft.config = {
      {"architectures", json::array{ranks ? "BertForSequenceClassification" : "BertModel"}},
      {"model_type", model_type},
      {"hidden_act", "gelu"},
      {"hidden_size", number("bert.embedding_length")},
      {"intermediate_size", number("bert.feed_forward_length")},
      {"layer_norm_eps", file.get_float("bert.attention.layer_norm_epsilon").value()},
      {"max_position_embeddings", number("bert.context_length") + unused_positions},
      {"num_attention_heads", number("bert.attention.head_count")},
      {"num_hidden_layers", number("bert.block_count")},
      {"pad_token_id", roberta ? 1 : 0},
      {"position_embedding_type", "absolute"},
      {"type_vocab_size", number("tokenizer.ggml.token_type_count")},
      {"vocab_size", file.find_tensor("token_embd.weight")->rows()},
  };
  for (const model::GgufTensor& tensor : file.tensors()) {
    FolderTensor out;
    out.dtype = tensor::info(tensor.type).name;
    for (int i = tensor.rank - 1; i >= 0; --i)
      out.shape.push_back(tensor.shape[static_cast<size_t>(i)]);
    out.bytes.assign(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    if (tensor.name == "position_embd.weight" && unused_positions > 0) {
      const size_t row_bytes = out.bytes.size() / static_cast<size_t>(out.shape.front());
      out.bytes.insert(0, static_cast<size_t>(unused_positions) * row_bytes, '\x3f');
      out.shape.front() += unused_positions;
    }
    draft.tensors[encoder_name(tensor.name, roberta)] = std::move(out);
  }
  text::Vocabulary vocabulary = model::read_vocabulary(file).value();
  draft.tokenizer = wordpiece_json(vocabulary);
  draft.tokenizer_config["cls_token"] = piece_of(vocabulary, vocabulary.bos);
  draft.tokenizer_config["sep_token"] = piece_of(vocabulary, vocabulary.eos);
  draft.tokenizer_config["pad_token"] = piece_of(vocabulary, vocabulary.padding);
  draft.tokenizer_config["unk_token"] = piece_of(vocabulary, vocabulary.unknown);
  return draft;
}

}  // namespace tidemill::test
