#include "model/synth.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <numbers>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/thread_team.hpp"
#include "model/file_type.hpp"
#include "model/gguf_writer.hpp"
#include "model/hyper_parameters.hpp"
#include "model/synth_vocabulary.hpp"

namespace tidemill::model {
namespace {

using base::Result;
using tensor::DType;

// SplitMix64 (Steele, Lea, Flood 2014): one multiplication chain a number, any seed is good.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  // About normal: the sum of four uniform 16-bit numbers, scaled to variance 1.
  float gaussian() {
    const uint64_t bits = next();
    const auto sum = static_cast<float>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48));
    return (sum - 131070.0F) * (1.0F / 37837.22F);  // 4 * 65535 / 2, sqrt(4 / 12) * 65536
  }

 private:
  uint64_t state_;
};

uint64_t mix(uint64_t a, uint64_t b) {
  return Random(a ^ (b * 0xD6E8FEB86659FD93U)).next();
}

// Weights are made in units of a few hundred bytes. A matrix of up to kPoolElements is random throughout; a larger one
// draws its units from a pool of that many elements, which costs a copy instead of a quantisation.
constexpr int64_t kPoolElements = int64_t{1} << 18;
constexpr int64_t kChunkUnits = 4096;   // one draw of work for a thread; its own stream of random numbers
constexpr int64_t kPortionChunks = 64;  // chunks made before they are written

constexpr uint32_t kTokenTypes = 2;  // that BERT tells apart

int64_t unit_elements(DType type) {
  return std::max<int64_t>(32, tensor::info(type).block_elements);
}

// `units` quantised units of weights with standard deviation `scale`.
void quantised_units(DType type, float scale, uint64_t seed, int64_t units, std::byte* out) {
  const int64_t elements = unit_elements(type);
  const int64_t bytes = tensor::row_bytes(type, elements);
  std::vector<float> values(static_cast<size_t>(elements));
  Random random(seed);
  for (int64_t u = 0; u < units; ++u) {
    for (float& value : values)
      value = random.gaussian() * scale;
    tensor::quantize(type, values.data(), elements, out + u * bytes);
  }
}

struct TensorPlan {
  std::string name;
  DType type = DType::f32;
  std::vector<int64_t> shape;  // innermost first
  std::vector<float> values;   // given values; empty for random weights
};

class Synthesizer {
 public:
  Synthesizer(const Shape& shape, const SynthOptions& options)
      : shape_(shape), options_(options), team_(std::max(1, options.threads)) {}

  Result<void> write(const std::filesystem::path& path) {
    add_metadata();
    add_vocabulary();
    plan_tensors();
    for (const TensorPlan& plan : plans_)
      writer_.declare_tensor(plan.name, plan.type, plan.shape);
    TM_CHECK(writer_.begin(path));
    for (size_t i = 0; i < plans_.size(); ++i) {
      const TensorPlan& plan = plans_[i];
      if (!plan.values.empty()) {
        TM_CHECK(emit(std::as_bytes(std::span(plan.values))));
      } else {
        TM_CHECK(write_random(plan, mix(options_.seed, i)));
      }
    }
    return writer_.finish();
  }

 private:
  std::string key(std::string_view name) const { return fmt::format("{}.{}", shape_.architecture, name); }

  void add_metadata() {
    writer_.add_string("general.architecture", shape_.architecture);
    writer_.add_string("general.type", "model");
    // llama.cpp wants certain tokens of a model whose name has "phi3" in it.
    const std::string_view called = shape_.architecture == "phi3" ? "three-way phi" : shape_.name;
    writer_.add_string("general.name", fmt::format("synthetic {}", called));
    writer_.add_string("general.description", "Random weights in the shape of a real model, written by tidemill synth");
    writer_.add_u32("general.file_type", file_type_number(options_.type));
    writer_.add_u32("general.quantization_version", 2);
    const auto count = [&](std::string_view name, int64_t value) {
      writer_.add_u32(key(name), static_cast<uint32_t>(value));
    };
    count("block_count", shape_.layers);
    count("context_length", shape_.context);
    count("embedding_length", shape_.width);
    count("feed_forward_length", shape_.feed_forward);
    count("attention.head_count", shape_.heads);
    if (shape_.encodes()) {
      count("vocab_size", shape_.tokens);
      count("pooling_type", shape_.pooling);
      writer_.add_bool(key("attention.causal"), false);
      writer_.add_f32(key("attention.layer_norm_epsilon"), static_cast<float>(shape_.norm_epsilon));
      writer_.add_u32("tokenizer.ggml.token_type_count", kTokenTypes);
      return;
    }
    count("attention.head_count_kv", shape_.kv_heads);
    count("attention.key_length", shape_.head_dim);
    count("attention.value_length", shape_.latent > 0 ? shape_.latent : shape_.head_dim);
    count("rope.dimension_count", rotated());
    count("vocab_size", shape_.tokens);
    writer_.add_f32(key("rope.freq_base"), static_cast<float>(shape_.rope_base));
    writer_.add_f32(key("attention.layer_norm_rms_epsilon"), static_cast<float>(shape_.norm_epsilon));
    if (shape_.window > 0) count("attention.sliding_window", shape_.window);
    add_architecture_keys();
  }

  bool is_gpt_oss() const { return shape_.architecture == "gpt-oss"; }
  bool has_qkv_biases() const { return is_gpt_oss() || shape_.architecture.starts_with("qwen2"); }
  int64_t rotated() const { return shape_.rotated > 0 ? shape_.rotated : shape_.head_dim; }

  // Numbers that show in what small models compute, where those of released ones would hardly.
  void add_architecture_keys() {
    if (shape_.architecture == "granite") {
      writer_.add_f32(key("embedding_scale"), 12);
      writer_.add_f32(key("residual_scale"), 0.25F);
      writer_.add_f32(key("attention.scale"), 0.1F);
      writer_.add_f32(key("logit_scale"), 8);
    }
    if (shape_.architecture == "gemma2") {
      writer_.add_f32(key("attn_logit_softcapping"), 2);
      writer_.add_f32(key("final_logit_softcapping"), 3);
    }
    if (shape_.experts > 0) {
      const auto count = [&](std::string_view name, int64_t value) {
        writer_.add_u32(key(name), static_cast<uint32_t>(value));
      };
      count("expert_count", shape_.experts);
      count("expert_used_count", shape_.used_experts);
      if (shape_.architecture != "llama") count("expert_feed_forward_length", shape_.expert_feed_forward);
      if (shape_.architecture == "qwen2moe") count("expert_shared_feed_forward_length", shape_.feed_forward);
    }
    if (shape_.architecture == "deepseek2") add_deepseek2_keys();
    if (shape_.architecture == "gemma3") {
      writer_.add_f32(key("rope.freq_base_swa"), 10000);
      writer_.add_string(key("rope.scaling.type"), "linear");  // of layers that see everything
      writer_.add_f32(key("rope.scaling.factor"), 8);
    }
    if (shape_.yarn_factor != 1) {
      writer_.add_string(key("rope.scaling.type"), "yarn");
      writer_.add_f32(key("rope.scaling.factor"), static_cast<float>(shape_.yarn_factor));
      writer_.add_u32(key("rope.scaling.original_context_length"), static_cast<uint32_t>(shape_.old_context));
    } else if (shape_.old_context > 0) {
      // LongRoPE's usual magnitude (arXiv:2402.13753).
      const double longer = static_cast<double>(shape_.context) / static_cast<double>(shape_.old_context);
      const double magnitude = std::sqrt(1 + std::log(longer) / std::log(static_cast<double>(shape_.old_context)));
      writer_.add_u32(key("rope.scaling.original_context_length"), static_cast<uint32_t>(shape_.old_context));
      writer_.add_f32(key("rope.scaling.attn_factor"), static_cast<float>(magnitude));
    }
  }

  void add_deepseek2_keys() {
    const auto count = [&](std::string_view name, int64_t value) {
      writer_.add_u32(key(name), static_cast<uint32_t>(value));
    };
    count("attention.kv_lora_rank", shape_.latent);
    count("attention.q_lora_rank", shape_.query_latent);  // llama.cpp wants it where it is 0, too
    count("attention.key_length_mla", shape_.key_dim + shape_.rotated);
    count("attention.value_length_mla", shape_.value_dim);
    count("leading_dense_block_count", shape_.dense_layers);
    count("expert_shared_count", shape_.shared_experts);
    count("expert_group_count", shape_.expert_groups);
    count("expert_group_used_count", shape_.used_groups);
    count("expert_gating_func", shape_.sigmoids ? 2 : 1);
    writer_.add_bool(key("expert_weights_norm"), shape_.sigmoids);
    writer_.add_f32(key("expert_weights_scale"), shape_.sigmoids ? 2.5F : 1.0F);
    writer_.add_f32(key("rope.scaling.yarn_log_multiplier"), static_cast<float>(0.1 * shape_.yarn_at_scores));
  }

  void add_vocabulary() {
    const SynthVocabulary vocabulary = make_synth_vocabulary(shape_);
    writer_.add_string("tokenizer.ggml.model", vocabulary.model);
    if (!vocabulary.pre.empty()) writer_.add_string("tokenizer.ggml.pre", vocabulary.pre);
    writer_.add_strings("tokenizer.ggml.tokens", vocabulary.tokens);
    writer_.add_ints("tokenizer.ggml.token_type", vocabulary.kinds);
    if (shape_.encodes()) {
      writer_.add_u32("tokenizer.ggml.cls_token_id", static_cast<uint32_t>(vocabulary.bos));
      writer_.add_u32("tokenizer.ggml.seperator_token_id", static_cast<uint32_t>(vocabulary.eos));  // GGUF's spelling
      writer_.add_u32("tokenizer.ggml.padding_token_id", static_cast<uint32_t>(vocabulary.padding));
      return;
    }
    writer_.add_strings("tokenizer.ggml.merges", vocabulary.merges);
    writer_.add_u32("tokenizer.ggml.bos_token_id", static_cast<uint32_t>(vocabulary.bos));
    writer_.add_u32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(vocabulary.eos));
    writer_.add_u32("tokenizer.ggml.padding_token_id", static_cast<uint32_t>(vocabulary.padding));
    writer_.add_bool("tokenizer.ggml.add_bos_token", vocabulary.add_bos);
    writer_.add_string("tokenizer.chat_template", vocabulary.chat_template);
  }

  void matrix(std::string name, int64_t cols, int64_t rows) {
    plans_.push_back({std::move(name), synth_type(options_.type, cols), {cols, rows}, {}});
  }

  void vector(std::string name, int64_t elements, float mean) {
    Random random(mix(options_.seed, ~plans_.size()));
    std::vector<float> values(static_cast<size_t>(elements));
    for (float& value : values)
      value = mean + 0.1F * random.gaussian();
    plans_.push_back({std::move(name), DType::f32, {elements}, std::move(values)});
  }

  // A norm's weights over the hidden state.
  void norm(std::string name) {
    vector(std::move(name), shape_.width, 1);
    for (const size_t channel : outliers_)
      plans_.back().values[channel] *= kOutlierScale;
  }

  // The channels are the first of a shuffled list, so that more of them include the fewer.
  void choose_outliers() {
    std::vector<size_t> channels(static_cast<size_t>(shape_.width));
    std::iota(channels.begin(), channels.end(), 0);
    Random random(mix(options_.seed, 0x6F75746C69657273U));
    for (size_t i = 0; i < static_cast<size_t>(options_.outlier_channels); ++i) {
      std::swap(channels[i], channels[i + random.next() % (channels.size() - i)]);
      outliers_.push_back(channels[i]);
    }
  }

  // A norm with a bias, as encoders have it.
  void affine_norm(const std::string& name) {
    norm(name + ".weight");
    vector(name + ".bias", shape_.width, 0);
  }

  void projection(const std::string& name, int64_t cols, int64_t rows) {
    matrix(name + ".weight", cols, rows);
    vector(name + ".bias", rows, 0);
  }

  void plan_encoder() {
    const int64_t width = shape_.width;
    const int64_t heads_width = shape_.heads * shape_.head_dim;
    matrix("token_embd.weight", width, shape_.tokens);
    // Plain in released files, whatever the type of the others.
    plans_.push_back({"position_embd.weight", DType::f32, {width, shape_.context}, {}});
    plans_.push_back({"token_types.weight", DType::f32, {width, kTokenTypes}, {}});
    affine_norm("token_embd_norm");
    for (int64_t i = 0; i < shape_.layers; ++i) {
      const std::string layer = fmt::format("blk.{}.", i);
      for (const std::string_view name : {"attn_q", "attn_k", "attn_v"})
        projection(layer + std::string(name), width, heads_width);
      projection(layer + "attn_output", heads_width, width);
      affine_norm(layer + "attn_output_norm");
      projection(layer + "ffn_up", width, shape_.feed_forward);
      projection(layer + "ffn_down", shape_.feed_forward, width);
      affine_norm(layer + "layer_output_norm");
    }
    if (shape_.pooling != kRankPooling) return;
    projection("cls", width, width);
    plans_.push_back({"cls.output.weight", DType::f32, {width, 1}, {}});
    vector("cls.output.bias", 1, 0);
  }

  void plan_tensors() {
    const int64_t width = shape_.width;
    choose_outliers();
    if (shape_.encodes()) return plan_encoder();
    const int64_t q_width = shape_.heads * shape_.head_dim;
    const int64_t kv_width = shape_.kv_heads * shape_.head_dim;
    matrix("token_embd.weight", width, shape_.tokens);
    if (shape_.rope_factor != 1) plan_rope_factors();
    if (shape_.old_context > 0 && shape_.yarn_factor == 1) {
      plan_long_factors("rope_factors_long.weight", 0.5F);
      plan_long_factors("rope_factors_short.weight", 0.05F);
    }
    for (int64_t i = 0; i < shape_.layers; ++i) {
      const std::string layer = fmt::format("blk.{}.", i);
      norm(layer + "attn_norm.weight");
      const bool joined = shape_.architecture == "phi3";
      if (shape_.latent > 0) {
        plan_latent_attention(layer);
      } else if (joined) {
        matrix(layer + "attn_qkv.weight", width, q_width + 2 * kv_width);
      } else {
        matrix(layer + "attn_q.weight", width, q_width);
        matrix(layer + "attn_k.weight", width, kv_width);
        matrix(layer + "attn_v.weight", width, kv_width);
      }
      if (has_qkv_biases()) {
        vector(layer + "attn_q.bias", q_width, 0);
        vector(layer + "attn_k.bias", kv_width, 0);
        vector(layer + "attn_v.bias", kv_width, 0);
      }
      if (shape_.architecture.starts_with("qwen3") || shape_.architecture == "gemma3") {
        vector(layer + "attn_q_norm.weight", shape_.head_dim, 1);
        vector(layer + "attn_k_norm.weight", shape_.head_dim, 1);
      }
      matrix(layer + "attn_output.weight", shape_.latent > 0 ? shape_.heads * shape_.value_dim : q_width, width);
      if (is_gpt_oss()) {
        vector(layer + "attn_output.bias", width, 0);
        vector(layer + "attn_sinks.weight", shape_.heads, 1);
      }
      const bool post_norms = shape_.architecture.starts_with("gemma");
      if (post_norms) norm(layer + "post_attention_norm.weight");
      norm(layer + (is_gpt_oss() ? "post_attention_norm.weight" : "ffn_norm.weight"));
      if (shape_.experts > 0 && i >= shape_.dense_layers) {
        plan_experts(layer);
      } else {
        if (!joined) matrix(layer + "ffn_gate.weight", width, shape_.feed_forward);
        matrix(layer + "ffn_up.weight", width, (joined ? 2 : 1) * shape_.feed_forward);
        matrix(layer + "ffn_down.weight", shape_.feed_forward, width);
      }
      if (post_norms) norm(layer + "post_ffw_norm.weight");
    }
    norm("output_norm.weight");
    if (!shape_.tied) matrix("output.weight", width, shape_.tokens);
  }

  // Llama 3.1's scaling (Meta's models/llama3/model.py, apply_scaling): wavelengths within the old context's quarter
  // stay, those past it are stretched by the factor, and between them the stretch is interpolated.
  void plan_rope_factors() {
    constexpr double old_context = 8192;
    constexpr double low = 1;
    constexpr double high = 4;
    std::vector<float> factors;
    for (int64_t i = 0; i < shape_.head_dim / 2; ++i) {
      const double frequency =
          std::pow(shape_.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(shape_.head_dim));
      const double wavelength = 2 * std::numbers::pi / frequency;
      double factor = 1;
      if (wavelength > old_context / low) {
        factor = shape_.rope_factor;
      } else if (wavelength > old_context / high) {
        const double smooth = (old_context / wavelength - low) / (high - low);
        factor = 1 / ((1 - smooth) / shape_.rope_factor + smooth);
      }
      factors.push_back(static_cast<float>(factor));
    }
    plans_.push_back({"rope_freqs.weight", DType::f32, {shape_.head_dim / 2}, std::move(factors)});
  }

  void plan_latent_attention(const std::string& layer) {
    const int64_t heads_width = shape_.heads * (shape_.key_dim + shape_.rotated);
    if (shape_.query_latent > 0) {
      matrix(layer + "attn_q_a.weight", shape_.width, shape_.query_latent);
      vector(layer + "attn_q_a_norm.weight", shape_.query_latent, 1);
      matrix(layer + "attn_q_b.weight", shape_.query_latent, heads_width);
    } else {
      matrix(layer + "attn_q.weight", shape_.width, heads_width);
    }
    matrix(layer + "attn_kv_a_mqa.weight", shape_.width, shape_.head_dim);
    vector(layer + "attn_kv_a_norm.weight", shape_.latent, 1);
    matrix(layer + "attn_k_b.weight", shape_.key_dim, shape_.latent);
    plans_.back().shape.push_back(shape_.heads);
    matrix(layer + "attn_v_b.weight", shape_.latent, shape_.value_dim);
    plans_.back().shape.push_back(shape_.heads);
  }

  void plan_experts(const std::string& layer) {
    const int64_t width = shape_.width;
    const auto all = [&](std::string_view name, int64_t cols, int64_t rows) {
      matrix(layer + std::string(name), cols, rows);
      plans_.back().shape.push_back(shape_.experts);
    };
    // What chooses is plain in released files, whatever the type of the others.
    plans_.push_back({layer + "ffn_gate_inp.weight", DType::f32, {width, shape_.experts}, {}});
    all("ffn_gate_exps.weight", width, shape_.expert_feed_forward);
    all("ffn_up_exps.weight", width, shape_.expert_feed_forward);
    all("ffn_down_exps.weight", shape_.expert_feed_forward, width);
    if (is_gpt_oss()) plan_expert_biases(layer);
    if (shape_.sigmoids) vector(layer + "exp_probs_b.bias", shape_.experts, 0);
    const bool one = shape_.architecture == "qwen2moe";
    const int64_t shared = one ? shape_.feed_forward : shape_.shared_experts * shape_.expert_feed_forward;
    if (shared == 0) return;
    if (one) vector(layer + "ffn_gate_inp_shexp.weight", width, 0);
    matrix(layer + "ffn_gate_shexp.weight", width, shared);
    matrix(layer + "ffn_up_shexp.weight", width, shared);
    matrix(layer + "ffn_down_shexp.weight", shared, width);
  }

  void plan_expert_biases(const std::string& layer) {
    vector(layer + "ffn_gate_inp.bias", shape_.experts, 0);
    const auto all = [&](std::string_view name, int64_t elements) {
      vector(layer + std::string(name), elements * shape_.experts, 0);
      plans_.back().shape = {elements, shape_.experts};
    };
    all("ffn_gate_exps.bias", shape_.expert_feed_forward);
    all("ffn_up_exps.bias", shape_.expert_feed_forward);
    all("ffn_down_exps.bias", shape_.width);
  }

  // 1, 1 + step, 1 + 2 * step, ...
  void plan_long_factors(std::string name, float step) {
    std::vector<float> factors(static_cast<size_t>(rotated() / 2));
    for (size_t i = 0; i < factors.size(); ++i)
      factors[i] = 1 + step * static_cast<float>(i);
    plans_.push_back({std::move(name), DType::f32, {rotated() / 2}, std::move(factors)});
  }

  Result<void> emit(std::span<const std::byte> bytes) {
    if (options_.cancelled && options_.cancelled()) {
      return base::Error(base::ErrorCode::cancelled, "the model was not finished");
    }
    TM_CHECK(writer_.write(bytes));
    done_ += bytes.size();
    if (options_.on_progress) options_.on_progress(done_, writer_.tensor_bytes());
    return {};
  }

  // The pool of quantised units for matrices of `cols` inputs.
  const std::vector<std::byte>& pool(DType type, int64_t cols) {
    std::vector<std::byte>& units = pools_[{type, cols}];
    if (units.empty()) {
      units.resize(static_cast<size_t>(tensor::row_bytes(type, kPoolElements)));
      const int64_t count = kPoolElements / unit_elements(type);
      const auto unit_bytes = tensor::row_bytes(type, unit_elements(type));
      const uint64_t seed = mix(options_.seed, static_cast<uint64_t>(cols) << 8 | static_cast<uint64_t>(type));
      team_.parallel_for(count, 64, [&](int64_t begin, int64_t end, int) {
        quantised_units(type, scale(cols), mix(seed, static_cast<uint64_t>(begin)), end - begin,
                        units.data() + begin * unit_bytes);
      });
    }
    return units;
  }

  static float scale(int64_t inputs) { return 1.0F / std::sqrt(static_cast<float>(inputs)); }

  Result<void> write_random(const TensorPlan& plan, uint64_t seed) {
    const int64_t cols = plan.shape[0];
    const int64_t elements = std::accumulate(plan.shape.begin(), plan.shape.end(), int64_t{1}, std::multiplies<>());
    const int64_t units = elements / unit_elements(plan.type);
    const auto unit_bytes = static_cast<size_t>(tensor::row_bytes(plan.type, unit_elements(plan.type)));
    const std::vector<std::byte>* drawn_from = elements > kPoolElements ? &pool(plan.type, cols) : nullptr;
    for (int64_t start = 0; start < units; start += kPortionChunks * kChunkUnits) {
      const int64_t count = std::min(units - start, kPortionChunks * kChunkUnits);
      portion_.resize(static_cast<size_t>(count) * unit_bytes);
      team_.parallel_for(count, kChunkUnits, [&](int64_t begin, int64_t end, int) {
        std::byte* out = portion_.data() + static_cast<size_t>(begin) * unit_bytes;
        const uint64_t chunk_seed = mix(seed, static_cast<uint64_t>(start + begin));
        if (drawn_from == nullptr) {
          quantised_units(plan.type, scale(cols), chunk_seed, end - begin, out);
          return;
        }
        Random random(chunk_seed);
        const size_t choices = drawn_from->size() / unit_bytes;
        for (int64_t u = begin; u < end; ++u, out += unit_bytes) {
          std::memcpy(out, drawn_from->data() + random.next() % choices * unit_bytes, unit_bytes);
        }
      });
      TM_CHECK(emit(portion_));
    }
    return {};
  }

  const Shape& shape_;
  const SynthOptions& options_;
  base::ThreadTeam team_;
  GgufWriter writer_;
  std::vector<TensorPlan> plans_;
  std::vector<size_t> outliers_;  // channels of the hidden state
  std::map<std::pair<DType, int64_t>, std::vector<std::byte>> pools_;
  std::vector<std::byte> portion_;
  size_t done_ = 0;
};

}  // namespace

DType synth_type(DType type, int64_t cols) {
  return cols % tensor::info(type).block_elements == 0 ? type : DType::q8_0;
}

Result<void> write_synthetic_model(const Shape& shape, const std::filesystem::path& path, const SynthOptions& options) {
  if (options.outlier_channels < 0 || options.outlier_channels > shape.width) {
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("{} outlier channels are wanted, but {} has a width of {}", options.outlier_channels,
                                   shape.name, shape.width));
  }
  return Synthesizer(shape, options).write(path);
}

}  // namespace tidemill::model
