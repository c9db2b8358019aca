#include "folder_writer.hpp"

#include <algorithm>
#include <fstream>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "model/vocabulary.hpp"
#include "safetensors_bytes.hpp"

namespace tidemill::test {

namespace json = base::json;

namespace {

void put(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// GGUF's name for the rest of a layer's tensor, and transformers'.
const std::map<std::string, std::string, std::less<>> kLayerNames = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};

std::string folder_name(std::string_view gguf) {
  if (gguf == "token_embd.weight") return "model.embed_tokens.weight";
  if (gguf == "output_norm.weight") return "model.norm.weight";
  if (gguf == "output.weight") return "lm_head.weight";
  const size_t layer_end = gguf.find('.', 4);
  const size_t ending = gguf.rfind('.');
  const std::string_view part = gguf.substr(layer_end + 1, ending - layer_end - 1);
  return fmt::format("model.layers.{}.{}{}", gguf.substr(4, layer_end - 4), kLayerNames.find(part)->second,
                     gguf.substr(ending));
}

// llama.cpp's converter puts row i of a head's first half at 2 i, and of its second half at 2 i + 1; this takes them
// back.
std::string with_halves(std::string_view rows, int64_t row_count, int64_t heads) {
  const size_t row_bytes = rows.size() / static_cast<size_t>(row_count);
  const int64_t half = row_count / heads / 2;
  std::string out;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t second = 0; second < 2; ++second) {
      for (int64_t i = 0; i < half; ++i) {
        const int64_t from = head * 2 * half + 2 * i + second;
        out += rows.substr(static_cast<size_t>(from) * row_bytes, row_bytes);
      }
    }
  }
  return out;
}

json::object split(std::string_view regex) {
  return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

json::object byte_level(bool words) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", words}};
}

json::object sequence(json::array steps) {
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

// As the models' authors published them.
json::value pre_tokenizer_json(const std::string& name) {
  const json::object digits = {{"type", "Digits"}, {"individual_digits", true}};
  if (name == "gpt-2") return byte_level(true);
  if (name == "starcoder") return sequence({digits, byte_level(true)});
  if (name == "falcon") {
    return sequence({json::object{{"type", "Punctuation"}, {"behavior", "Contiguous"}}, byte_level(true),
                     json::object{{"type", "Digits"}, {"individual_digits", false}}, split("[0-9][0-9][0-9]")});
  }
  if (name == "deepseek-coder") {
    return sequence({split("[\r\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"),
                     digits, byte_level(false)});
  }
  if (name != "llama-bpe" && name != "qwen2") throw std::runtime_error("no tokenizer.json for " + name);
  return sequence({split(fmt::format("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{{L}}\\p{{N}}]?\\p{{L}}+|\\p{{N}}{}| "
                                     "?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
                                     name == "llama-bpe" ? "{1,3}" : "")),
                   byte_level(false)});
}

// Every pair of pieces whose text together is a piece, by the piece's score, as transformers makes them of a
// SentencePiece model.
json::array merges_of_scores(const text::Vocabulary& vocabulary) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t i = 0; i < vocabulary.size(); ++i)
    ids.emplace(vocabulary.pieces[i], i);
  struct Merge {
    float score;
    size_t left;
    size_t right;
  };
  std::vector<Merge> merges;
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    const std::string_view piece = vocabulary.pieces[i];
    for (size_t at = 1; at < piece.size(); ++at) {
      const auto left = ids.find(piece.substr(0, at));
      const auto right = ids.find(piece.substr(at));
      if (left == ids.end() || right == ids.end()) continue;
      merges.push_back({vocabulary.scores[i], left->second, right->second});
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) { return a.score > b.score; });
  json::array list;
  for (const Merge& merge : merges)
    list.push_back(
        json::array{json::string(vocabulary.pieces[merge.left]), json::string(vocabulary.pieces[merge.right])});
  return list;
}

json::array added_tokens(const text::Vocabulary& vocabulary) {
  json::array added;
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    const text::TokenKind kind = vocabulary.kinds[i];
    const bool user = kind == text::TokenKind::user_defined;
    if (!user && kind != text::TokenKind::control && kind != text::TokenKind::unknown) continue;
    added.push_back({{"id", i},
                     {"content", vocabulary.pieces[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", !user}});
  }
  return added;
}

json::object template_processing(std::string_view bos) {
  return {{"type", "TemplateProcessing"},
          {"single", json::array{{{"SpecialToken", {{"id", bos}, {"type_id", 0}}}},
                                 {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}}};
}

json::object config_of(const model::GgufFile& file, std::string_view architecture) {
  const auto number = [&](std::string_view key) {
    return file.get_int(fmt::format("{}.{}", architecture, key)).value();
  };
  const auto real = [&](std::string_view key) {
    return file.get_float(fmt::format("{}.{}", architecture, key)).value();
  };
  json::object config = {
      {"architectures", json::array{"SomethingForCausalLM"}},
      {"model_type", architecture},
      {"hidden_act", "silu"},
      {"hidden_size", number("embedding_length")},
      {"intermediate_size", number("feed_forward_length")},
      {"max_position_embeddings", number("context_length")},
      {"num_attention_heads", number("attention.head_count")},
      {"num_hidden_layers", number("block_count")},
      {"num_key_value_heads", number("attention.head_count_kv")},
      {"head_dim", file.get_int_or(fmt::format("{}.attention.key_length", architecture),
                                   number("embedding_length") / number("attention.head_count"))
                       .value()},
      {"rms_norm_eps", real("attention.layer_norm_rms_epsilon")},
      {"rope_scaling", nullptr},
      {"rope_theta", file.get_float_or(fmt::format("{}.rope.freq_base", architecture), 10000).value()},
      {"sliding_window", nullptr},
      {"tie_word_embeddings", file.find_tensor("output.weight") == nullptr},
      {"vocab_size", file.find_tensor("token_embd.weight")->rows()},
  };
  return config;
}

}  // namespace

json::value tokenizer_json(const text::Vocabulary& vocabulary) {
  const bool spm = vocabulary.model == text::Vocabulary::Model::spm;
  json::object pieces;
  for (size_t i = 0; i < vocabulary.size(); ++i) {
    const text::TokenKind kind = vocabulary.kinds[i];
    const bool listed = kind == text::TokenKind::normal || kind == text::TokenKind::byte ||
                        kind == text::TokenKind::unknown || (spm && kind == text::TokenKind::control);
    if (listed) pieces[vocabulary.pieces[i]] = i;
  }
  json::object model = {
      {"type", "BPE"},
      {"dropout", nullptr},
      {"unk_token", spm && vocabulary.unknown
                        ? json::value(json::string(vocabulary.pieces[static_cast<size_t>(*vocabulary.unknown)]))
                        : json::value(nullptr)},
      {"continuing_subword_prefix", nullptr},
      {"end_of_word_suffix", nullptr},
      {"fuse_unk", spm},
      {"byte_fallback", spm},
      {"ignore_merges", vocabulary.ignore_merges},
      {"vocab", std::move(pieces)}};
  json::object root = {{"version", "1.0"}, {"added_tokens", added_tokens(vocabulary)}};
  if (spm) {
    model["merges"] = merges_of_scores(vocabulary);
    json::array steps;
    if (vocabulary.add_space_prefix) steps.push_back({{"type", "Prepend"}, {"prepend", "▁"}});
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}});
    root["normalizer"] = {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
    root["pre_tokenizer"] = nullptr;
  } else {
    json::array merges;
    for (const std::string& merge : vocabulary.merges)
      merges.push_back(json::string(merge));
    model["merges"] = std::move(merges);
    root["normalizer"] = vocabulary.pre == "qwen2" ? json::value({{"type", "NFC"}}) : json::value(nullptr);
    root["pre_tokenizer"] = pre_tokenizer_json(vocabulary.pre);
  }
  root["model"] = std::move(model);
  if (vocabulary.add_bos && vocabulary.bos) {
    root["post_processor"] = template_processing(vocabulary.pieces[static_cast<size_t>(*vocabulary.bos)]);
  }
  return root;
}

FolderDraft draft_of(const model::GgufFile& file) {
  FolderDraft draft;
  const std::string architecture(file.get_string("general.architecture").value());
  draft.config = config_of(file, architecture);
  for (const model::GgufTensor& tensor : file.tensors()) {
    if (tensor.name == "rope_freqs.weight") {
      draft.config["rope_scaling"] = {{"rope_type", "llama3"},
                                      {"factor", 8.0},
                                      {"low_freq_factor", 1.0},
                                      {"high_freq_factor", 4.0},
                                      {"original_max_position_embeddings", 8192}};
      continue;
    }
    FolderTensor out;
    out.dtype = tensor::info(tensor.type).name;
    out.shape.assign(tensor.shape.begin(), tensor.shape.begin() + tensor.rank);
    std::reverse(out.shape.begin(), out.shape.end());
    out.bytes = text_of(tensor.data);
    const bool query = tensor.name.find(".attn_q.") != std::string_view::npos;
    if (architecture == "llama" && (query || tensor.name.find(".attn_k.") != std::string_view::npos)) {
      const char* heads = query ? "llama.attention.head_count" : "llama.attention.head_count_kv";
      out.bytes = with_halves(out.bytes, out.shape.front(), file.get_int(heads).value());
    }
    draft.tensors[folder_name(tensor.name)] = std::move(out);
  }
  text::Vocabulary vocabulary = model::read_vocabulary(file).value();
  draft.tokenizer = tokenizer_json(vocabulary);
  const auto name_token = [&](const char* key, const std::optional<text::Token>& token) {
    if (token) draft.tokenizer_config[key] = vocabulary.pieces[static_cast<size_t>(*token)];
  };
  name_token("bos_token", vocabulary.bos);
  name_token("eos_token", vocabulary.eos);
  name_token("pad_token", vocabulary.padding);
  draft.tokenizer_config["chat_template"] = model::read_chat_template(file).value();
  return draft;
}

void FolderDraft::write(const std::filesystem::path& folder, int shards) const {
  std::filesystem::create_directories(folder);
  put(folder / "config.json", json::serialize(config));
  if (tokenizer) put(folder / "tokenizer.json", json::serialize(*tokenizer));
  put(folder / "tokenizer_config.json", json::serialize(tokenizer_config));
  if (generation_config) put(folder / "generation_config.json", json::serialize(*generation_config));
  if (!chat_template.empty()) put(folder / "chat_template.jinja", chat_template);
  std::vector<SafetensorsBytes> files(static_cast<size_t>(shards));
  json::object weight_map;
  size_t next = 0;
  const auto shard_name = [&](size_t shard) {
    return shards == 1 ? std::string("model.safetensors")
                       : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
  };
  for (const auto& [name, tensor] : tensors) {
    const size_t shard = next++ % files.size();
    files[shard].add(name, tensor.dtype, tensor.shape, tensor.bytes);
    weight_map[name] = shard_name(shard);
  }
  for (size_t i = 0; i < files.size(); ++i)
    put(folder / shard_name(i), files[i].file(i));
  if (shards > 1) {
    put(folder / "model.safetensors.index.json",
        json::serialize(json::object{{"metadata", json::object{}}, {"weight_map", std::move(weight_map)}}));
  }
}

}  // namespace tidemill::test
