#include "folder_writer.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "config_writer.hpp"
#include "encoder_writer.hpp"
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

using LayerNames = std::map<std::string, std::string, std::less<>>;

// GGUF's name for the rest of a layer's tensor, and transformers'.
const LayerNames kLayerNames = {
    {"attn_norm", "input_layernorm"},    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},      {"attn_v", "self_attn.v_proj"},
    {"attn_q_norm", "self_attn.q_norm"}, {"attn_k_norm", "self_attn.k_norm"},
    {"attn_output", "self_attn.o_proj"}, {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},       {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
};
// Those that are others in some architectures, or are in them alone.
const LayerNames kGemmaLayerNames = {{"post_attention_norm", "post_attention_layernorm"},
                                     {"ffn_norm", "pre_feedforward_layernorm"},
                                     {"post_ffw_norm", "post_feedforward_layernorm"}};
const LayerNames kQwenExpertNames = {{"ffn_gate_inp", "mlp.gate"},
                                     {"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
                                     {"ffn_up_exps", "mlp.experts.{}.up_proj"},
                                     {"ffn_down_exps", "mlp.experts.{}.down_proj"},
                                     {"ffn_gate_inp_shexp", "mlp.shared_expert_gate"},
                                     {"ffn_gate_shexp", "mlp.shared_expert.gate_proj"},
                                     {"ffn_up_shexp", "mlp.shared_expert.up_proj"},
                                     {"ffn_down_shexp", "mlp.shared_expert.down_proj"}};
const std::map<std::string, LayerNames, std::less<>> kOwnLayerNames = {
    {"llama",
     {{"ffn_gate_inp", "block_sparse_moe.gate"},
      {"ffn_gate_exps", "block_sparse_moe.experts.{}.w1"},
      {"ffn_down_exps", "block_sparse_moe.experts.{}.w2"},
      {"ffn_up_exps", "block_sparse_moe.experts.{}.w3"}}},
    {"qwen2moe", kQwenExpertNames},
    {"qwen3moe", kQwenExpertNames},
    {"deepseek2",
     {{"attn_q_a", "self_attn.q_a_proj"},
      {"attn_q_a_norm", "self_attn.q_a_layernorm"},
      {"attn_q_b", "self_attn.q_b_proj"},
      {"attn_kv_a_mqa", "self_attn.kv_a_proj_with_mqa"},
      {"attn_kv_a_norm", "self_attn.kv_a_layernorm"},
      {"attn_v_b", "self_attn.kv_b_proj"},
      {"ffn_gate_inp", "mlp.gate"},
      {"ffn_gate_exps", "mlp.experts.{}.gate_proj"},
      {"ffn_up_exps", "mlp.experts.{}.up_proj"},
      {"ffn_down_exps", "mlp.experts.{}.down_proj"},
      {"ffn_gate_shexp", "mlp.shared_experts.gate_proj"},
      {"ffn_up_shexp", "mlp.shared_experts.up_proj"},
      {"ffn_down_shexp", "mlp.shared_experts.down_proj"}}},
    {"gemma2", kGemmaLayerNames},
    {"gemma3", kGemmaLayerNames},
    {"phi3", {{"attn_qkv", "self_attn.qkv_proj"}, {"ffn_up", "mlp.gate_up_proj"}}},
    {"gpt-oss",
     {{"attn_sinks", "self_attn.sinks"},
      {"post_attention_norm", "post_attention_layernorm"},
      {"ffn_gate_inp", "mlp.router"},
      {"ffn_gate_exps", "mlp.experts.gate_up_proj"},
      {"ffn_up_exps", "mlp.experts.gate_up_proj"},
      {"ffn_down_exps", "mlp.experts.down_proj"}}},
};

std::string layer_name(std::string_view architecture, std::string_view part) {
  if (const auto own = kOwnLayerNames.find(architecture); own != kOwnLayerNames.end()) {
    if (const auto name = own->second.find(part); name != own->second.end()) return name->second;
  }
  return kLayerNames.find(part)->second;
}

std::string folder_name(std::string_view architecture, std::string_view gguf) {
  if (gguf == "token_embd.weight") return "model.embed_tokens.weight";
  if (gguf == "output_norm.weight") return "model.norm.weight";
  if (gguf == "output.weight") return "lm_head.weight";
  const size_t layer_end = gguf.find('.', 4);
  const size_t ending = gguf.rfind('.');
  const std::string_view part = gguf.substr(layer_end + 1, ending - layer_end - 1);
  if (part == "exp_probs_b") {
    return fmt::format("model.layers.{}.mlp.gate.e_score_correction_bias", gguf.substr(4, layer_end - 4));
  }
  return fmt::format("model.layers.{}.{}{}", gguf.substr(4, layer_end - 4), layer_name(architecture, part),
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

// F32 numbers, each less one.
std::string less_one(std::string_view numbers) {
  std::vector<float> values(numbers.size() / sizeof(float));
  std::memcpy(values.data(), numbers.data(), numbers.size());
  for (float& value : values)
    value -= 1;
  return text_of(std::as_bytes(std::span(values)));
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

// o200k's expression, of which Mistral's has no contractions and takes each digit alone.
std::string cased_words(bool o200k) {
  const std::string upper = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]";
  const std::string lower = "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]";
  const std::string before = "[^\\r\\n\\p{L}\\p{N}]?";
  const std::string behind = o200k ? "(?i:'s|'t|'re|'ve|'m|'ll|'d)?|" : "|";
  return before + upper + "*" + lower + "+" + behind + before + upper + "+" + lower + "*" + behind + "\\p{N}" +
         (o200k ? "{1,3}" : "") + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
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
  if (name == "gpt-4o" || name == "tekken") return sequence({split(cased_words(name == "gpt-4o")), byte_level(false)});
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

// Folders have each expert's matrices under a name of their own.
void add_experts(FolderDraft& draft, std::string_view architecture, const model::GgufTensor& tensor) {
  const std::string name = folder_name(architecture, tensor.name);
  const auto experts = static_cast<size_t>(tensor.shape[2]);
  const std::string all = text_of(tensor.data);
  for (size_t expert = 0; expert < experts; ++expert) {
    FolderTensor out;
    out.dtype = tensor::info(tensor.type).name;
    out.shape = {tensor.shape[1], tensor.shape[0]};
    out.bytes = all.substr(expert * all.size() / experts, all.size() / experts);
    draft.tensors[fmt::format(fmt::runtime(name), expert)] = std::move(out);
  }
}

// Row `row` of `expert`, of rows of `bytes` bytes.
std::string_view row_at(const model::GgufTensor& tensor, int64_t expert, int64_t row, size_t bytes) {
  const auto* data = reinterpret_cast<const char*>(tensor.data.data());
  return {data + static_cast<size_t>(expert * tensor.shape[1] + row) * bytes, bytes};
}

// Of MXFP4, as OpenAI's files have it: 32 codes in the order of their elements, two a byte, and the scales apart.
void append_row(const model::GgufTensor& tensor, int64_t expert, int64_t row, std::string& codes, std::string& scales) {
  constexpr size_t block = 17;
  const std::string_view blocks = row_at(tensor, expert, row, static_cast<size_t>(tensor.shape[0]) / 32 * block);
  for (size_t at = 0; at < blocks.size(); at += block) {
    scales += blocks[at];
    std::string elements;
    for (const int shift : {0, 4}) {
      for (size_t i = 1; i < block; ++i)
        elements += static_cast<char>(static_cast<uint8_t>(blocks[at + i]) >> shift & 15);
    }
    for (size_t i = 0; i < elements.size(); i += 2)
      codes += static_cast<char>(elements[i] | elements[i + 1] << 4);
  }
}

// gpt-oss's experts, of which folders have all in one tensor: `parts`' rows in turns, and of plain types
// [experts][cols] [rows].
void add_joined_experts(FolderDraft& draft, const std::string& name, const std::vector<const model::GgufTensor*>& parts,
                        const std::vector<const model::GgufTensor*>& biases) {
  const model::GgufTensor& first = *parts.front();
  const int64_t cols = first.shape[0];
  const int64_t rows = first.shape[1] * static_cast<int64_t>(parts.size());
  const int64_t experts = first.shape[2];
  const auto part_of = [&](int64_t row) { return parts[static_cast<size_t>(row) % parts.size()]; };
  const auto row_of = [&](int64_t row) { return row / static_cast<int64_t>(parts.size()); };
  const auto bytes = static_cast<size_t>(tensor::info(first.type).block_bytes);
  FolderTensor blocks{"U8", {experts, rows, cols / 32, 16}, {}};
  FolderTensor scales{"U8", {experts, rows, cols / 32}, {}};
  FolderTensor plain{std::string(tensor::info(first.type).name), {experts, cols, rows}, {}};
  FolderTensor bias{"F32", {experts, rows}, {}};
  const bool packed = first.type == tensor::DType::mxfp4;
  for (int64_t expert = 0; expert < experts; ++expert) {
    for (int64_t col = 0; col < cols && !packed; ++col) {
      for (int64_t row = 0; row < rows; ++row) {
        const auto all = static_cast<size_t>(cols) * bytes;
        plain.bytes += row_at(*part_of(row), expert, row_of(row), all).substr(static_cast<size_t>(col) * bytes, bytes);
      }
    }
    for (int64_t row = 0; row < rows; ++row) {
      if (packed) append_row(*part_of(row), expert, row_of(row), blocks.bytes, scales.bytes);
      const model::GgufTensor& source = *biases[static_cast<size_t>(row) % biases.size()];
      const auto* values = reinterpret_cast<const char*>(source.data.data());
      const int64_t at = expert * source.shape[0] + row_of(row);
      bias.bytes += std::string_view(values + at * static_cast<int64_t>(sizeof(float)), sizeof(float));
    }
  }
  if (packed) {
    draft.tensors[name + "_blocks"] = std::move(blocks);
    draft.tensors[name + "_scales"] = std::move(scales);
    draft.config["quantization_config"] = {{"quant_method", "mxfp4"}};
  } else {
    draft.tensors[name] = std::move(plain);
  }
  draft.tensors[name + "_bias"] = std::move(bias);
}

void add_gpt_oss_experts(FolderDraft& draft, const model::GgufFile& file, int64_t layer) {
  const auto find = [&](const char* part, const char* ending) {
    return file.find_tensor(fmt::format("blk.{}.ffn_{}_exps.{}", layer, part, ending));
  };
  const std::string prefix = fmt::format("model.layers.{}.mlp.experts.", layer);
  add_joined_experts(draft, prefix + "gate_up_proj", {find("gate", "weight"), find("up", "weight")},
                     {find("gate", "bias"), find("up", "bias")});
  add_joined_experts(draft, prefix + "down_proj", {find("down", "weight")}, {find("down", "bias")});
}

}  // namespace

json::value tokenizer_json(const text::Vocabulary& vocabulary) {
  if (vocabulary.model == text::Vocabulary::Model::wordpiece) return wordpiece_json(vocabulary);
  if (vocabulary.model == text::Vocabulary::Model::unigram) return unigram_json(vocabulary);
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

std::string latent_expansion(const model::GgufFile& file, const model::GgufTensor& values) {
  const std::string name(values.name);
  const model::GgufTensor& keys = *file.find_tensor(name.substr(0, name.find("attn_v_b")) + "attn_k_b.weight");
  const auto element = static_cast<size_t>(tensor::info(values.type).block_bytes);
  const auto rank = static_cast<size_t>(values.shape[0]);
  const auto key_dim = static_cast<size_t>(keys.shape[0]);
  const size_t value_bytes = static_cast<size_t>(values.shape[1]) * rank * element;
  const std::string all_keys = text_of(keys.data);
  const std::string all_values = text_of(values.data);
  std::string out;
  for (size_t head = 0; head < static_cast<size_t>(values.shape[2]); ++head) {
    for (size_t k = 0; k < key_dim; ++k) {
      for (size_t r = 0; r < rank; ++r)
        out += all_keys.substr(((head * rank + r) * key_dim + k) * element, element);
    }
    out += all_values.substr(head * value_bytes, value_bytes);
  }
  return out;
}

FolderDraft draft_of(const model::GgufFile& file) {
  FolderDraft draft;
  const std::string architecture(file.get_string("general.architecture").value());
  draft.config = config_json(file);
  for (const model::GgufTensor& tensor : file.tensors()) {
    if (tensor.name == "rope_freqs.weight") {
      draft.config["rope_scaling"] = {{"rope_type", "llama3"},
                                      {"factor", 8.0},
                                      {"low_freq_factor", 1.0},
                                      {"high_freq_factor", 4.0},
                                      {"original_max_position_embeddings", 8192}};
      continue;
    }
    if (tensor.name.starts_with("rope_factors_")) continue;  // in config.json
    if (architecture == "gpt-oss" && tensor.name.find("_exps.") != std::string_view::npos) continue;
    FolderTensor out;
    out.dtype = tensor::info(tensor.type).name;
    out.shape.assign(tensor.shape.begin(), tensor.shape.begin() + tensor.rank);
    std::reverse(out.shape.begin(), out.shape.end());
    out.bytes = text_of(tensor.data);
    const bool query = tensor.name.find(".attn_q.") != std::string_view::npos;
    const bool pairs = architecture == "llama" || architecture == "granite";
    if (pairs && (query || tensor.name.find(".attn_k.") != std::string_view::npos)) {
      const std::string heads = architecture + (query ? ".attention.head_count" : ".attention.head_count_kv");
      out.bytes = with_halves(out.bytes, out.shape.front(), file.get_int(heads).value());
    }
    if (tensor.name.ends_with("attn_k_b.weight")) continue;  // with its values
    if (tensor.name.ends_with("attn_v_b.weight")) {
      out.bytes = latent_expansion(file, tensor);
      out.shape = {static_cast<int64_t>(out.bytes.size()) / tensor::row_bytes(tensor.type, tensor.cols()),
                   tensor.cols()};
    } else if (tensor.rank == 3) {
      add_experts(draft, architecture, tensor);
      continue;
    }
    if (tensor.name.ends_with("ffn_gate_inp_shexp.weight")) out.shape.insert(out.shape.begin(), 1);
    // Gemma's norms multiply by what is stored, and one more.
    if (architecture.starts_with("gemma") && tensor.name.ends_with("norm.weight")) out.bytes = less_one(out.bytes);
    std::string name = folder_name(architecture, tensor.name);
    if (name.ends_with(".sinks.weight")) name.resize(name.rfind('.'));
    draft.tensors[name] = std::move(out);
  }
  for (int64_t layer = 0; architecture == "gpt-oss" && layer < file.get_int("gpt-oss.block_count").value(); ++layer)
    add_gpt_oss_experts(draft, file, layer);
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
