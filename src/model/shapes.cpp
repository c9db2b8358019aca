#include "model/shapes.hpp"

#include <algorithm>
#include <array>
#include <string>

#include <fmt/format.h>

#include "model/shape_tensors.hpp"

namespace tidemill::model {
namespace {

// Dimensions as in the config.json files that Meta, Alibaba, Mistral, OpenAI and DeepSeek published with the models,
// and BAAI and sentence-transformers with the encoders.
constexpr Shape llama3(std::string_view name, int64_t width, int64_t layers, int64_t heads, int64_t head_dim,
                       int64_t feed_forward, bool tied, double factor) {
  return {.name = name,
          .architecture = "llama",
          .width = width,
          .layers = layers,
          .heads = heads,
          .kv_heads = 8,
          .head_dim = head_dim,
          .feed_forward = feed_forward,
          .context = 131072,
          .tied = tied,
          .rope_base = 500000,
          .rope_factor = factor,
          .norm_epsilon = 1e-5,
          .vocabulary = Shape::Vocabulary::llama3,
          .tokens = 128256,
          .text_tokens = 128000};
}

constexpr Shape qwen(std::string_view name, std::string_view architecture, int64_t width, int64_t layers, int64_t heads,
                     int64_t kv_heads, int64_t head_dim, int64_t feed_forward, int64_t context, bool tied,
                     int64_t tokens = 151936) {
  return {.name = name,
          .architecture = architecture,
          .width = width,
          .layers = layers,
          .heads = heads,
          .kv_heads = kv_heads,
          .head_dim = head_dim,
          .feed_forward = feed_forward,
          .context = context,
          .tied = tied,
          .rope_base = 1000000,
          .rope_factor = 1,
          .norm_epsilon = 1e-6,
          .vocabulary = Shape::Vocabulary::qwen,
          .tokens = tokens,
          .text_tokens = 151643};
}

// Of BERT's uncased vocabulary.
constexpr Shape bert(std::string_view name, int64_t width, int64_t layers, int64_t pooling) {
  return {.name = name,
          .architecture = "bert",
          .width = width,
          .layers = layers,
          .heads = 12,
          .kv_heads = 12,
          .head_dim = width / 12,
          .feed_forward = 4 * width,
          .context = 512,
          .tied = true,
          .norm_epsilon = 1e-12,
          .vocabulary = Shape::Vocabulary::bert,
          .tokens = 30522,
          .pooling = pooling};
}

// Every width a multiple of 256, so that all weight types fit; small enough for tests to check against brute force.
constexpr Shape tiny(Shape shape, std::string_view name, int64_t kv_heads) {
  shape.name = name;
  shape.width = 256;
  shape.layers = 2;
  shape.heads = 4;
  shape.kv_heads = kv_heads;
  if (shape.encodes()) shape.head_dim = 64;
  shape.feed_forward = 512;
  shape.context = 2048;
  shape.tokens = 1024;
  shape.text_tokens = shape.encodes() ? 0 : 996;
  return shape;
}

// As llama-tiny, with the parts that another architecture has.
constexpr Shape tiny_of(std::string_view architecture, std::string_view name) {
  Shape shape = tiny(llama3("", 0, 0, 0, 64, 0, true, 1), name, 2);
  shape.architecture = architecture;
  return shape;
}

// A window that only long texts meet, as Phi 3's first models have it.
constexpr Shape tiny_phi3() {
  Shape shape = tiny_of("phi3", "phi3-tiny");
  shape.window = 2047;
  shape.rotated = 48;
  shape.old_context = 16;
  return shape;
}

constexpr Shape tiny_gemma2() {
  Shape shape = tiny_of("gemma2", "gemma2-tiny");
  shape.window = 12;
  return shape;
}

// So many layers that one of them sees everything.
constexpr Shape tiny_gemma3() {
  Shape shape = tiny_of("gemma3", "gemma3-tiny");
  shape.layers = 6;
  shape.window = 12;
  shape.rope_base = 1000000;
  return shape;
}

// Experts as wide as all weight types fit.
constexpr Shape tiny_mixture(Shape shape, std::string_view architecture, std::string_view name) {
  shape.architecture = architecture;
  shape.name = name;
  shape.tied = false;
  shape.experts = 8;
  shape.used_experts = 2;
  shape.expert_feed_forward = architecture == "llama" ? shape.feed_forward : 256;
  shape.shared_feed_forward = architecture == "qwen2moe" ? shape.feed_forward : 0;
  return shape;
}

constexpr Shape qwen3_30b_a3b() {
  Shape shape = qwen("qwen3-30b-a3b", "qwen3moe", 2048, 48, 32, 4, 128, 6144, 40960, false);
  shape.experts = 128;
  shape.used_experts = 8;
  shape.expert_feed_forward = 768;
  return shape;
}

// With a vocabulary of as many tokens of Llama 3's kind.
constexpr Shape mixtral_8x7b() {
  Shape shape = llama3("mixtral-8x7b", 4096, 32, 32, 128, 14336, false, 1);
  shape.context = 32768;
  shape.rope_base = 1000000;
  shape.tokens = 32000;
  shape.text_tokens = 31744;
  shape.experts = 8;
  shape.used_experts = 2;
  shape.expert_feed_forward = 14336;
  return shape;
}

// As OpenAI published it with gpt-oss-20b.
constexpr Shape gpt_oss(std::string_view name) {
  return {.name = name,
          .architecture = "gpt-oss",
          .width = 2880,
          .layers = 24,
          .heads = 64,
          .kv_heads = 8,
          .head_dim = 64,
          .feed_forward = 2880,
          .context = 131072,
          .tied = false,
          .rope_base = 150000,
          .experts = 32,
          .used_experts = 4,
          .expert_feed_forward = 2880,
          .window = 128,
          .old_context = 4096,
          .yarn_factor = 32,
          .norm_epsilon = 1e-5,
          .vocabulary = Shape::Vocabulary::harmony,
          .tokens = 201088,
          .text_tokens = 199998};
}

// What YaRN stretches in part begins and ends at whole pairs by this base (the eighth turns once within the old
// context): llama.cpp rounds them, and gpt-oss does not.
constexpr Shape tiny_gpt_oss() {
  Shape shape = tiny(gpt_oss(""), "gpt-oss-tiny", 2);
  shape.feed_forward = 256;  // of each expert
  shape.experts = 8;
  shape.expert_feed_forward = 256;
  shape.window = 12;
  shape.old_context = 32;
  shape.rope_base = 672.8;
  return shape;
}

// DeepSeek V2 Lite, in its sizes. Its vocabulary is of as many tokens of the Llama kind.
constexpr Shape deepseek_v2_lite() {
  Shape shape = llama3("deepseek-v2-lite", 2048, 27, 16, 576, 10944, false, 1);
  shape.architecture = "deepseek2";
  shape.kv_heads = 1;
  shape.context = 163840;
  shape.rope_base = 10000;
  shape.norm_epsilon = 1e-6;
  shape.tokens = 102400;
  shape.text_tokens = 100000;
  shape.experts = 64;
  shape.used_experts = 6;
  shape.expert_feed_forward = 1408;
  shape.dense_layers = 1;
  shape.shared_experts = 2;
  shape.latent = 512;
  shape.rotated = 64;
  shape.key_dim = 128;
  shape.value_dim = 128;
  shape.old_context = 4096;
  shape.yarn_factor = 40;
  shape.yarn_at_scores = 0.707;
  return shape;
}

// As V2 Lite.
constexpr Shape tiny_deepseek2(std::string_view name) {
  Shape shape = tiny(deepseek_v2_lite(), name, 1);
  shape.layers = 3;
  shape.head_dim = 288;
  shape.experts = 8;
  shape.used_experts = 2;
  shape.expert_feed_forward = 256;
  shape.latent = 256;
  shape.rotated = 32;
  shape.key_dim = 64;
  shape.value_dim = 64;
  shape.old_context = 64;
  shape.yarn_factor = 32;
  return shape;
}

// As V3.
constexpr Shape tiny_deepseek3() {
  Shape shape = tiny_deepseek2("deepseek3-tiny");
  shape.shared_experts = 1;
  shape.query_latent = 256;
  shape.sigmoids = true;
  shape.expert_groups = 4;
  shape.used_groups = 2;
  shape.yarn_at_scores = 1;
  return shape;
}

constexpr std::array<Shape, 34> kShapes = {
    llama3("llama-3.2-1b", 2048, 16, 32, 64, 8192, true, 32),
    llama3("llama-3.2-3b", 3072, 28, 24, 128, 8192, true, 32),
    llama3("llama-3.1-8b", 4096, 32, 32, 128, 14336, false, 8),
    llama3("llama-3.1-70b", 8192, 80, 64, 128, 28672, false, 8),
    qwen("qwen2.5-0.5b", "qwen2", 896, 24, 14, 2, 64, 4864, 32768, true),
    qwen("qwen2.5-1.5b", "qwen2", 1536, 28, 12, 2, 128, 8960, 32768, true),
    qwen("qwen2.5-7b", "qwen2", 3584, 28, 28, 4, 128, 18944, 32768, false, 152064),
    qwen("qwen3-0.6b", "qwen3", 1024, 28, 16, 8, 128, 3072, 40960, true),
    qwen("qwen3-1.7b", "qwen3", 2048, 28, 16, 8, 128, 6144, 40960, true),
    qwen("qwen3-4b", "qwen3", 2560, 36, 32, 8, 128, 9728, 40960, true),
    qwen("qwen3-8b", "qwen3", 4096, 36, 32, 8, 128, 12288, 40960, false),
    qwen3_30b_a3b(),
    mixtral_8x7b(),
    gpt_oss("gpt-oss-20b"),
    deepseek_v2_lite(),
    bert("minilm-l6", 384, 6, 1),
    bert("bge-small", 384, 12, 2),
    bert("bge-base", 768, 12, 2),
    bert("minilm-rerank", 384, 6, 4),
    tiny(llama3("", 0, 0, 0, 64, 0, false, 8), "llama-tiny", 2),
    tiny(qwen("", "qwen2", 0, 0, 0, 0, 64, 0, 0, true), "qwen2-tiny", 1),
    // Heads of 128 elements in a width of 256: queries are wider than the hidden state, as in qwen3-0.6b.
    tiny(qwen("", "qwen3", 0, 0, 0, 0, 128, 0, 0, true), "qwen3-tiny", 2),
    tiny_of("granite", "granite-tiny"),
    tiny_phi3(),
    tiny_gemma2(),
    tiny_gemma3(),
    tiny_mixture(tiny_of("llama", ""), "llama", "mixtral-tiny"),
    tiny_mixture(tiny(qwen("", "qwen2", 0, 0, 0, 0, 64, 0, 0, false), "", 1), "qwen2moe", "qwen2moe-tiny"),
    tiny_mixture(tiny(qwen("", "qwen3", 0, 0, 0, 0, 128, 0, 0, false), "", 2), "qwen3moe", "qwen3moe-tiny"),
    tiny_gpt_oss(),
    tiny_deepseek2("deepseek2-tiny"),
    tiny_deepseek3(),
    tiny(bert("", 0, 0, 2), "bert-tiny", 4),
    tiny(bert("", 0, 0, 4), "rerank-tiny", 4),
};

}  // namespace

int64_t Shape::parameters() const {
  int64_t sum = 0;
  for (const ShapeTensor& tensor : tensors_of(*this)) {
    if (tensor.kind != ShapeTensor::Kind::given) sum += tensor.elements();
  }
  return sum;
}

std::span<const Shape> shapes() {
  return kShapes;
}

base::Result<Shape> find_shape(std::string_view name) {
  std::string known;
  for (const Shape& shape : kShapes) {
    if (shape.name == name) return shape;
    if (!known.empty()) known += ", ";
    known += shape.name;
  }
  return base::Error(base::ErrorCode::invalid_argument,
                     fmt::format("no shape is called '{}'; known are {}", name, known));
}

base::Result<Shape> with_layers(Shape shape, int64_t layers) {
  if (layers <= shape.dense_layers || layers > shape.layers) {
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("{} has {} layers: {} of them is not possible, {} to {} are", shape.name,
                                   shape.layers, layers, shape.dense_layers + 1, shape.layers));
  }
  // Words that synthetic vocabularies always have.
  constexpr int64_t kLeastText = 996;
  const int64_t specials = shape.tokens - shape.text_tokens;
  if (!shape.encodes() && shape.text_tokens > kLeastText) {
    shape.tokens = std::max(shape.tokens * layers / shape.layers, kLeastText + specials);
    shape.text_tokens = shape.tokens - specials;
  }
  shape.layers = layers;
  return shape;
}

}  // namespace tidemill::model
