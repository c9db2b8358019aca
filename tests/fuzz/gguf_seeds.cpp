// Writes models of a few kilobytes, one for each architecture, tokenizer and matrix type, and each packed as well:
// fuzz_gguf_seeds FOLDER
// Small inputs keep the fuzzer quick, and most of their bytes are structure rather than weights.
#include <array>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/gguf_writer.hpp"
#include "model/pack.hpp"
#include "model/packed_file.hpp"
#include "tensor/dtype.hpp"
#include "tensor/packed_layout.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)

namespace {

constexpr int64_t kWidth = 32;
constexpr int64_t kHeadDim = 16;
constexpr int64_t kTokens = 12;
constexpr int64_t kExperts = 2;

struct Tensor {
  std::string name;
  tensor::DType type;
  std::vector<int64_t> shape;  // innermost first
};

// What attention, and what the feed-forward block multiplies by.
std::vector<Tensor> matrices_of(std::string_view architecture, tensor::DType type, bool mixes) {
  const auto f32 = tensor::DType::f32;
  std::vector<Tensor> tensors;
  if (architecture == "phi3") {
    tensors.push_back({"blk.0.attn_qkv.weight", type, {kWidth, kWidth + 2 * kHeadDim}});
  } else {
    tensors.push_back({"blk.0.attn_q.weight", type, {kWidth, kWidth}});
    tensors.push_back({"blk.0.attn_k.weight", type, {kWidth, kHeadDim}});
    tensors.push_back({"blk.0.attn_v.weight", type, {kWidth, kHeadDim}});
  }
  tensors.push_back({"blk.0.attn_output.weight", type, {kWidth, kWidth}});
  if (architecture == "gpt-oss") {
    for (const char* name : {"blk.0.ffn_gate_exps.bias", "blk.0.ffn_up_exps.bias", "blk.0.ffn_down_exps.bias"})
      tensors.push_back({name, f32, {kWidth, kExperts}});
    tensors.push_back({"blk.0.ffn_gate_inp.bias", f32, {kExperts}});
    tensors.push_back({"blk.0.attn_output.bias", f32, {kWidth}});
    tensors.push_back({"blk.0.attn_sinks.weight", f32, {kWidth / kHeadDim}});
  }
  if (mixes) {
    tensors.push_back({"blk.0.ffn_gate_inp.weight", f32, {kWidth, kExperts}});
    for (const char* name : {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"})
      tensors.push_back({name, type, {kWidth, kWidth, kExperts}});
  } else {
    if (architecture != "phi3") tensors.push_back({"blk.0.ffn_gate.weight", type, {kWidth, kWidth}});
    tensors.push_back({"blk.0.ffn_up.weight", type, {kWidth, architecture == "phi3" ? 2 * kWidth : kWidth}});
    tensors.push_back({"blk.0.ffn_down.weight", type, {kWidth, kWidth}});
  }
  if (architecture == "qwen2moe") {
    tensors.push_back({"blk.0.ffn_gate_inp_shexp.weight", f32, {kWidth}});
    for (const char* name : {"blk.0.ffn_gate_shexp.weight", "blk.0.ffn_up_shexp.weight", "blk.0.ffn_down_shexp.weight"})
      tensors.push_back({name, type, {kWidth, kWidth}});
  }
  return tensors;
}

std::vector<Tensor> tensors_of(std::string_view architecture, tensor::DType type, bool mixes) {
  const auto f32 = tensor::DType::f32;
  const bool gemma = architecture.starts_with("gemma");
  std::vector<Tensor> tensors = matrices_of(architecture, type, mixes);
  tensors.push_back({"token_embd.weight", type, {kWidth, kTokens}});
  const bool gpt_oss = architecture == "gpt-oss";
  for (const char* name :
       {"blk.0.attn_norm.weight", gpt_oss ? "blk.0.post_attention_norm.weight" : "blk.0.ffn_norm.weight",
        "output_norm.weight"})
    tensors.push_back({name, f32, {kWidth}});
  if (gemma) {
    tensors.push_back({"blk.0.post_attention_norm.weight", f32, {kWidth}});
    tensors.push_back({"blk.0.post_ffw_norm.weight", f32, {kWidth}});
  }
  if (gpt_oss || architecture.starts_with("qwen2")) {
    tensors.push_back({"blk.0.attn_q.bias", f32, {kWidth}});
    tensors.push_back({"blk.0.attn_k.bias", f32, {kHeadDim}});
    tensors.push_back({"blk.0.attn_v.bias", f32, {kHeadDim}});
  }
  if (architecture.starts_with("qwen3") || architecture == "gemma3") {
    tensors.push_back({"blk.0.attn_q_norm.weight", f32, {kHeadDim}});
    tensors.push_back({"blk.0.attn_k_norm.weight", f32, {kHeadDim}});
  }
  if (architecture == "llama") tensors.push_back({"rope_freqs.weight", f32, {kHeadDim / 2}});
  if (architecture == "phi3") {
    tensors.push_back({"rope_factors_long.weight", f32, {kHeadDim / 2}});
    tensors.push_back({"rope_factors_short.weight", f32, {kHeadDim / 2}});
  }
  return tensors;
}

void add_vocabulary(model::GgufWriter& writer, std::string_view tokenizer) {
  const bool spm = tokenizer == "llama";
  const std::vector<std::string> tokens =
      spm ? std::vector<std::string>{"<unk>", "<s>", "</s>", "<0x41>", "\u2581", "H",
                                     "e",     "l",   "o",    "He",     "ll",     "<|user|>"}
          : std::vector<std::string>{"H",  "e",  "l",       "o",        "\u0120", "w",
                                     "He", "ll", "\u0120w", "<|user|>", "<s>",    "</s>"};
  const std::vector<int32_t> kinds = spm ? std::vector<int32_t>{2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 4}
                                         : std::vector<int32_t>{1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 3, 3};
  writer.add_string("tokenizer.ggml.model", tokenizer);
  writer.add_string("tokenizer.ggml.pre", spm ? "default" : "qwen2");
  writer.add_strings("tokenizer.ggml.tokens", tokens);
  writer.add_ints("tokenizer.ggml.token_type", kinds);
  if (spm) {
    const std::vector<float> scores = {0, 0, 0, 0, -1, -2, -3, -4, -5, -1.5F, -2.5F, 0};
    writer.add_floats("tokenizer.ggml.scores", scores);
    writer.add_bool("tokenizer.ggml.add_space_prefix", true);
  } else {
    const std::vector<std::string> merges = {"H e", "l l", "\u0120 w"};
    writer.add_strings("tokenizer.ggml.merges", merges);
  }
  writer.add_u32("tokenizer.ggml.bos_token_id", spm ? 1 : 10);
  writer.add_u32("tokenizer.ggml.eos_token_id", spm ? 2 : 11);
  writer.add_bool("tokenizer.ggml.add_bos_token", true);
  writer.add_string("tokenizer.chat_template", "{{ messages }}");
}

// What only this architecture has, or only mixtures.
void add_own_keys(model::GgufWriter& writer, std::string_view architecture, bool mixes) {
  const auto key = [&](std::string_view name) { return std::string(architecture) + "." + std::string(name); };
  if (mixes) {
    writer.add_u32(key("expert_count"), kExperts);
    writer.add_u32(key("expert_used_count"), 1);
    writer.add_u32(key("expert_feed_forward_length"), kWidth);
    writer.add_u32(key("expert_shared_feed_forward_length"), kWidth);
    writer.add_bool(key("expert_weights_norm"), true);
    writer.add_f32(key("expert_weights_scale"), 2);
  }
  if (architecture == "granite") {
    for (const char* name : {"embedding_scale", "residual_scale", "attention.scale", "logit_scale"})
      writer.add_f32(key(name), 2);
  }
  if (architecture.starts_with("gemma")) {
    writer.add_u32(key("attention.sliding_window"), 8);
    writer.add_f32(key("attn_logit_softcapping"), 50);
    writer.add_f32(key("final_logit_softcapping"), 30);
  }
  if (architecture == "gemma3") writer.add_f32(key("rope.freq_base_swa"), 1000);
  if (architecture == "gpt-oss") {
    writer.add_string(key("rope.scaling.type"), "yarn");
    writer.add_f32(key("rope.scaling.factor"), 4);
    writer.add_u32(key("rope.scaling.original_context_length"), 16);
    writer.add_f32(key("rope.scaling.yarn_beta_fast"), 8);
    writer.add_f32(key("rope.scaling.yarn_beta_slow"), 2);
    writer.add_bool(key("rope.scaling.yarn_truncate"), true);
  }
  if (architecture == "phi3") {
    writer.add_u32(key("attention.sliding_window"), 8);
    writer.add_u32(key("rope.scaling.original_context_length"), 16);
    writer.add_f32(key("rope.scaling.attn_factor"), 1.25F);
  }
}

base::Result<void> write_seed(const std::filesystem::path& path, std::string_view architecture,
                              std::string_view tokenizer, tensor::DType type, bool mixes) {
  model::GgufWriter writer;
  const auto key = [&](std::string_view name) { return std::string(architecture) + "." + std::string(name); };
  writer.add_string("general.architecture", architecture);
  writer.add_string("general.name", "seed");
  writer.add_u32(key("block_count"), 1);
  writer.add_u32(key("context_length"), 64);
  writer.add_u32(key("embedding_length"), kWidth);
  writer.add_u32(key("feed_forward_length"), kWidth);
  writer.add_u32(key("attention.head_count"), 2);
  writer.add_u32(key("attention.head_count_kv"), 1);
  writer.add_u32(key("attention.key_length"), kHeadDim);
  writer.add_u32(key("attention.value_length"), kHeadDim);
  writer.add_u32(key("rope.dimension_count"), kHeadDim);
  writer.add_f32(key("rope.freq_base"), 10000);
  writer.add_f32(key("attention.layer_norm_rms_epsilon"), 1e-5F);
  add_own_keys(writer, architecture, mixes);
  add_vocabulary(writer, tokenizer);
  const std::vector<Tensor> tensors = tensors_of(architecture, type, mixes);
  for (const Tensor& tensor : tensors)
    writer.declare_tensor(tensor.name, tensor.type, tensor.shape);
  TM_CHECK(writer.begin(path));
  for (const Tensor& tensor : tensors) {
    int64_t elements = 1;
    for (const int64_t extent : tensor.shape)
      elements *= extent;
    std::vector<float> values(static_cast<size_t>(elements));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(i % 7) / 4 - (tensor.name.starts_with("rope_") ? -1.0F : 0.5F);
    std::vector<std::byte> bytes(static_cast<size_t>(tensor::row_bytes(tensor.type, elements)));
    tensor::quantize(tensor.type, values.data(), elements, bytes.data());
    TM_CHECK(writer.write(bytes));
  }
  return writer.finish();
}

// Packs `source` as `path`, then lays the tensors as close as panels may lie: a page for each would be mostly zeros.
base::Result<void> write_packed_seed(const std::filesystem::path& source, const std::filesystem::path& path) {
  TM_TRY(const auto plain, model::GgufFile::open(source));
  TM_CHECK(model::pack_model(plain, path, {}));
  TM_TRY(const auto packed, model::GgufFile::open(path));
  model::GgufWriter writer;
  model::add_packed_prefix(writer);
  for (const model::GgufEntry& entry : packed.metadata().subspan(2)) {
    if (entry.key != "general.alignment") writer.add(entry);
  }
  writer.set_alignment(tensor::kLineBytes);
  for (const model::GgufTensor& tensor : packed.tensors()) {
    if (tensor.panels) {
      writer.declare_bytes(std::string(model::kPanelsPrefix) + std::string(tensor.name), tensor.data.size());
    } else {
      writer.declare_tensor(tensor.name, tensor.type, std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
    }
  }
  TM_CHECK(writer.begin(path));
  for (const model::GgufTensor& tensor : packed.tensors())
    TM_CHECK(writer.write(tensor.data));
  std::string header = writer.header();
  model::sign_packed_header(std::as_writable_bytes(std::span(header)));
  TM_CHECK(writer.replace_header(header));
  TM_CHECK(writer.finish());
  TM_TRY(const auto written, model::GgufFile::open(path));
  if (written.packed() == nullptr) return written.error(base::ErrorCode::internal, "this is no packed file");
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: fuzz_gguf_seeds FOLDER\n", stderr);
    return 2;
  }
  struct Seed {
    std::string_view name, architecture, tokenizer;
    tensor::DType type;
    bool mixes = false;
  };
  const std::array<Seed, 13> seeds = {{{"llama", "llama", "llama", tensor::DType::q8_0},
                                       {"llama-f16", "llama", "gpt2", tensor::DType::f16},
                                       {"qwen2", "qwen2", "gpt2", tensor::DType::q4_0},
                                       {"qwen2-bf16", "qwen2", "gpt2", tensor::DType::bf16},
                                       {"qwen3", "qwen3", "gpt2", tensor::DType::q8_0},
                                       {"granite", "granite", "gpt2", tensor::DType::q8_0},
                                       {"phi3", "phi3", "llama", tensor::DType::q8_0},
                                       {"gemma2", "gemma2", "llama", tensor::DType::q8_0},
                                       {"gemma3", "gemma3", "llama", tensor::DType::q8_0},
                                       {"mixtral", "llama", "llama", tensor::DType::q4_0, true},
                                       {"qwen2moe", "qwen2moe", "gpt2", tensor::DType::q4_0, true},
                                       {"qwen3moe", "qwen3moe", "gpt2", tensor::DType::q4_0, true},
                                       {"gpt-oss", "gpt-oss", "gpt2", tensor::DType::mxfp4, true}}};
  for (const Seed& seed : seeds) {
    const std::filesystem::path path = std::filesystem::path(argv[1]) / seed.name;
    auto written = write_seed(path, seed.architecture, seed.tokenizer, seed.type, seed.mixes);
    if (written) written = write_packed_seed(path, path.string() + "-packed");
    if (!written) {
      std::fprintf(stderr, "%s\n", written.error().to_string().c_str());
      return 1;
    }
  }
  return 0;
}
