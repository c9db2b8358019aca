// What a GGUF file says in keys that one architecture alone has, and what holds where it does not say it.
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "expect_says.hpp"
#include "model/architectures/architecture.hpp"
#include "model/gguf.hpp"
#include "model/gguf_writer.hpp"
#include "temporary_folder.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using tensor::DType;

// Of the architecture's keys, "<architecture>." left out.
struct Keys {
  std::map<std::string, uint32_t> counts = {};
  std::map<std::string, float> reals = {};
  std::map<std::string, double> doubles = {};
  std::map<std::string, std::string> strings = {};
  std::map<std::string, bool> flags = {};
  std::map<std::string, std::vector<float>> vectors = {};  // tensors
};

class OwnKeys : public testing::Test {
 protected:
  base::Result<HyperParameters> read(std::string_view architecture, const Keys& own) {
    std::map<std::string, uint32_t> counts = own.counts;
    counts.insert({{"context_length", 128},
                   {"block_count", 2},
                   {"embedding_length", 64},
                   {"feed_forward_length", 96},
                   {"attention.head_count", 4}});
    const auto key = [&](const std::string& name) { return fmt::format("{}.{}", architecture, name); };
    GgufWriter writer;
    writer.add_string("general.architecture", architecture);
    for (const auto& [name, value] : counts)
      writer.add_u32(key(name), value);
    writer.add_f32(key("attention.layer_norm_rms_epsilon"), 1e-5F);
    for (const auto& [name, value] : own.reals)
      writer.add_f32(key(name), value);
    for (const auto& [name, value] : own.doubles) {
      writer.add({key(name),
                  {.type = GgufType::f64, .element = GgufType::f64, .payload = std::as_bytes(std::span(&value, 1))}});
    }
    for (const auto& [name, value] : own.strings)
      writer.add_string(key(name), value);
    for (const auto& [name, value] : own.flags)
      writer.add_bool(key(name), value);
    // What the numbers are read beside.
    std::map<std::string, std::vector<float>> vectors = own.vectors;
    vectors["token_embd.weight"] = std::vector<float>(4);
    for (const auto& [name, values] : vectors)
      writer.declare_tensor(name, DType::f32, std::vector<int64_t>{std::ssize(values)});
    const auto path = folder_.path() / "model.gguf";
    TM_CHECK(writer.begin(path));
    for (const auto& [name, values] : vectors)
      TM_CHECK(writer.write(std::as_bytes(std::span(values))));
    TM_CHECK(writer.finish());
    TM_TRY(const GgufFile file, GgufFile::open(path));
    TM_TRY(const Architecture* found, find_architecture(file));
    return found->read_hyper_parameters(file);
  }

  HyperParameters read_well(std::string_view architecture, const Keys& own) {
    auto hyper = read(architecture, own);
    EXPECT_TRUE(hyper) << hyper.error().to_string();
    return hyper ? std::move(*hyper) : HyperParameters();
  }

  test::TemporaryFolder folder_;
};

// The largest models divide by other roots than those of their heads' sizes.
TEST_F(OwnKeys, GemmasScaleScoresByTheirSize) {
  const auto scale = [&](std::string_view architecture, uint32_t layers, uint32_t width, Keys more = {}) {
    more.counts.insert({{"block_count", layers},
                        {"embedding_length", width},
                        {"attention.head_count", 32},
                        {"attention.key_length", 128},
                        {"attention.value_length", 128}});
    return read_well(architecture, more).attention_scale;
  };
  const float usual = 1 / std::sqrt(128.0F);
  EXPECT_FLOAT_EQ(scale("gemma2", 46, 4608), 1 / std::sqrt(144.0F));
  EXPECT_FLOAT_EQ(scale("gemma2", 45, 4608), usual);
  EXPECT_FLOAT_EQ(scale("gemma2", 62, 4608), usual);
  EXPECT_FLOAT_EQ(scale("gemma3", 62, 5376), 1 / std::sqrt(168.0F));
  EXPECT_FLOAT_EQ(scale("gemma3", 46, 5376), usual);
  EXPECT_EQ(scale("gemma3", 62, 5376, {.reals = {{"attention.scale", 0.25F}}}), 0.25F);
}

// To eight bits, as they were trained.
TEST_F(OwnKeys, GemmasScaleEmbeddingsInBf16) {
  for (const char* architecture : {"gemma2", "gemma3"}) {
    EXPECT_EQ(read_well(architecture, {.counts = {{"embedding_length", 3584}}}).embedding_scale, 59.75F);
    EXPECT_EQ(read_well(architecture, {.counts = {{"embedding_length", 2304}}}).embedding_scale, 48.0F);
  }
}

TEST_F(OwnKeys, Gemma2HasItsWindowAndCapsUnsaid) {
  const HyperParameters usual = read_well("gemma2", {});
  EXPECT_EQ(usual.window, 4096);
  EXPECT_EQ(usual.windowed, (std::vector<bool>{true, false}));
  EXPECT_EQ(usual.attention_soft_cap, 50);
  EXPECT_EQ(usual.logit_soft_cap, 30);
  const HyperParameters said =
      read_well("gemma2", {.counts = {{"attention.sliding_window", 16}},
                           .reals = {{"attn_logit_softcapping", 20}, {"final_logit_softcapping", 10}}});
  EXPECT_EQ(said.window, 16);
  EXPECT_EQ(said.attention_soft_cap, 20);
  EXPECT_EQ(said.logit_soft_cap, 10);
}

// llama.cpp's files say neither: every other layer has the window, and YaRN's edges are no whole pairs. Frequencies are
// transformers' of the released numbers, with `truncate` false.
TEST_F(OwnKeys, GptOssHasItsWindowAndRotationUnsaid) {
  Keys keys;
  keys.counts = {{"context_length", 131072},
                 {"block_count", 3},
                 {"attention.key_length", 64},
                 {"attention.value_length", 64},
                 {"rope.scaling.original_context_length", 4096},
                 {"expert_count", 32},
                 {"expert_used_count", 4}};
  keys.reals = {{"rope.freq_base", 150000}, {"rope.scaling.factor", 32}};
  keys.strings["rope.scaling.type"] = "yarn";
  const HyperParameters hyper = read_well("gpt-oss", keys);
  EXPECT_EQ(hyper.window, 128);
  EXPECT_EQ(hyper.windowed, (std::vector<bool>{true, false, true}));
  EXPECT_EQ(hyper.experts.feed_forward, 96);
  EXPECT_TRUE(hyper.experts.rule.normalised);
  ASSERT_EQ(hyper.rope.frequencies.size(), 32U);
  const std::map<size_t, double> published = {
      {0, 1},
      {8, 0.050813274815461475},
      {9, 0.03170569618466377},
      {13, 0.0038603593171920685},
      {17, 0.00012931870124506317},
      {18, 3.8308812373753384e-05},
      {31, 3.0235114281192144e-07},
  };
  for (const auto& [pair, frequency] : published)
    EXPECT_NEAR(hyper.rope.frequencies[pair] / frequency, 1, 1e-12) << pair;
  EXPECT_NEAR(hyper.rope.magnitude, 1.3465735902799727, 1e-12);
}

TEST_F(OwnKeys, GraniteMayHaveNoPositions) {
  const auto pairs = [&](bool finetuned) {
    return read_well("granite", {.reals = {{"logit_scale", 8}}, .flags = {{"rope.scaling.finetuned", finetuned}}})
        .rope.frequencies.size();
  };
  EXPECT_EQ(pairs(true), 8U);
  EXPECT_EQ(pairs(false), 0U);
  EXPECT_EQ(read_well("granite", {.reals = {{"logit_scale", 8}}}).logit_scale, 0.125F);
}

// LongRoPE's tensors are the scaling, and all of it.
TEST_F(OwnKeys, LongRopeIsTheOnlyScaling) {
  Keys keys;
  keys.counts["rope.scaling.original_context_length"] = 32;
  keys.vectors = {{"rope_factors_long.weight", std::vector<float>(8, 4)},
                  {"rope_factors_short.weight", std::vector<float>(8, 2)}};
  EXPECT_TRUE(read_well("phi3", keys).short_rope);
  const auto refusal = [&](const Keys& changed) {
    const auto hyper = read("phi3", changed);
    if (hyper) return std::string("(accepted)");
    EXPECT_EQ(hyper.error().code(), ErrorCode::unsupported);
    return hyper.error().to_string();
  };
  Keys both = keys;
  both.vectors["rope_freqs.weight"] = std::vector<float>(8, 1);
  EXPECT_SAYS(refusal(both), "by the tensor rope_freqs.weight and by rope_factors_long.weight");
  for (const char* name : {"rope.scaling.factor", "rope.scale_linear"}) {
    for (const float factor : {0.0F, 1.0F, 4.0F}) {
      Keys scaled = keys;
      scaled.reals[name] = factor;
      if (factor == 4) {
        EXPECT_SAYS(refusal(scaled), "RoPE scaling 'longrope' with factor 4");
      } else {
        EXPECT_EQ(refusal(scaled), "(accepted)");
      }
    }
  }
  for (const char* type : {"none", "longrope", "linear", "yarn"}) {
    Keys named = keys;
    named.strings["rope.scaling.type"] = type;
    const bool known = std::string_view(type) == "none" || std::string_view(type) == "longrope";
    EXPECT_SAYS(refusal(named), known ? "(accepted)" : fmt::format("RoPE scaling '{}' with factor 1", type));
  }
  keys.reals["logit_scale"] = 8;
  keys.flags["rope.scaling.finetuned"] = false;
  const HyperParameters still = read_well("granite", keys);
  EXPECT_TRUE(still.rope.frequencies.empty());
  EXPECT_FALSE(still.short_rope);
}

// The frequencies are those that transformers 4.57 (_compute_yarn_parameters) gives of these numbers, and the magnitude
// is llama.cpp's as well.
TEST_F(OwnKeys, YarnScalesEachFrequencyByItself) {
  Keys keys;
  keys.counts["rope.scaling.original_context_length"] = 64;
  keys.reals["rope.scaling.factor"] = 4;
  keys.strings["rope.scaling.type"] = "yarn";
  const double usual = 1.138629436111989;
  const auto expect_rope = [&](const Keys& changed, const std::vector<double>& first, double magnitude) {
    const tensor::Rope rope = read_well("llama", changed).rope;
    std::vector<double> expected = first;
    expected.insert(expected.end(),
                    {0.007905694150420948, 0.0025, 0.0007905694150420947, 0.00025, 7.905694150420948e-05});
    ASSERT_EQ(rope.frequencies.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(rope.frequencies[i] / expected[i], 1, 1e-12) << i;
    EXPECT_NEAR(rope.magnitude, magnitude, 1e-7);
  };
  expect_rope(keys, {1, 0.23717082451262847, 0.05}, usual);
  Keys exact = keys;
  exact.flags["rope.scaling.yarn_truncate"] = false;
  expect_rope(exact, {1, 0.19858352015369318, 0.02559524589192421}, usual);
  Keys narrow = keys;
  narrow.reals.insert({{"rope.scaling.yarn_beta_fast", 16}, {"rope.scaling.yarn_beta_slow", 2}});
  expect_rope(narrow, {1, 0.19764235376052372, 0.025}, usual);
  Keys times = keys;
  times.reals["rope.scaling.attn_factor"] = 0.5F;
  expect_rope(times, {1, 0.23717082451262847, 0.05}, usual / 2);
  Keys said = keys;
  said.reals["rope.scaling.yarn_attn_factor"] = 1.25F;
  expect_rope(said, {1, 0.23717082451262847, 0.05}, 1.25);
  // The whole context, where the file names no other.
  Keys unsaid = keys;
  unsaid.counts = {{"context_length", 64}};
  expect_rope(unsaid, {1, 0.23717082451262847, 0.05}, usual);
  for (const float extrapolation : {-1.0F, 1.0F}) {
    Keys same = keys;
    same.reals["rope.scaling.yarn_ext_factor"] = extrapolation;
    expect_rope(same, {1, 0.23717082451262847, 0.05}, usual);
  }
}

TEST_F(OwnKeys, YarnIsRefusedWhereItMeansAnotherThing) {
  const auto refusal = [&](const std::function<void(Keys&)>& change, ErrorCode code) {
    Keys keys;
    keys.counts["rope.scaling.original_context_length"] = 64;
    keys.reals["rope.scaling.factor"] = 4;
    keys.strings["rope.scaling.type"] = "yarn";
    change(keys);
    const auto hyper = read("llama", keys);
    if (hyper) return std::string("(accepted)");
    EXPECT_EQ(hyper.error().code(), code);
    return hyper.error().to_string();
  };
  const auto real = [&](const char* name, float value, ErrorCode code) {
    return refusal([&](Keys& k) { k.reals[name] = value; }, code);
  };
  EXPECT_SAYS(real("rope.scaling.yarn_ext_factor", 0.5F, ErrorCode::unsupported),
              "'llama.rope.scaling.yarn_ext_factor' is 0.5; supported is 1");
  EXPECT_SAYS(real("rope.scaling.yarn_log_multiplier", 0.1F, ErrorCode::unsupported),
              "'llama.rope.scaling.yarn_log_multiplier' is 0.1; this architecture has none");
  EXPECT_SAYS(real("rope.scaling.yarn_beta_slow", 32, ErrorCode::corrupt),
              "'llama.rope.scaling.yarn_beta_slow' is 32 and 'llama.rope.scaling.yarn_beta_fast' 32; the fast one is");
  EXPECT_SAYS(real("rope.scaling.yarn_beta_fast", 0, ErrorCode::corrupt), "yarn_beta_fast' is 0; expected a positive");
  EXPECT_SAYS(real("rope.freq_base", 1, ErrorCode::corrupt), "'llama.rope.freq_base' is 1; YaRN's scaling wants it");
  EXPECT_SAYS(real("rope.scaling.factor", -4, ErrorCode::corrupt), "'llama.rope.scaling.factor' is -4; expected a");
  EXPECT_SAYS(
      refusal([](Keys& k) { k.vectors["rope_freqs.weight"] = std::vector<float>(8, 1); }, ErrorCode::unsupported),
      "by the tensor rope_freqs.weight and by YaRN");
  EXPECT_EQ(real("rope.scaling.yarn_log_multiplier", 0, ErrorCode::corrupt), "(accepted)");
}

// Newer files say what is kept and what heads make of it, older ones the latter alone.
TEST_F(OwnKeys, Deepseek2KeepsLatents) {
  Keys keys;
  keys.counts = {{"attention.kv_lora_rank", 32},   {"attention.head_count_kv", 1},
                 {"attention.key_length", 48},     {"attention.value_length", 32},
                 {"attention.key_length_mla", 40}, {"attention.value_length_mla", 24},
                 {"rope.dimension_count", 16},     {"expert_count", 12},
                 {"expert_used_count", 4},         {"expert_feed_forward_length", 20},
                 {"expert_shared_count", 2},       {"leading_dense_block_count", 1}};
  const HyperParameters newer = read_well("deepseek2", keys);
  EXPECT_EQ(newer.head_dim, 48);
  EXPECT_EQ(newer.kv_heads, 1);
  EXPECT_EQ(newer.latent.rank, 32);
  EXPECT_EQ(newer.latent.query_rank, 0);
  EXPECT_EQ(newer.latent.key_dim, 24);
  EXPECT_EQ(newer.latent.value_dim, 24);
  EXPECT_EQ(newer.attended_width(), 4 * 24);
  EXPECT_EQ(newer.rope.first, 32);
  EXPECT_EQ(newer.rope.frequencies.size(), 8U);
  EXPECT_FLOAT_EQ(newer.attention_scale, 1 / std::sqrt(40.0F));
  EXPECT_EQ(newer.experts.shared_feed_forward, 40);
  EXPECT_FALSE(newer.experts.rule.normalised);
  EXPECT_FALSE(newer.has_experts(0));
  EXPECT_TRUE(newer.has_experts(1));
  Keys older = keys;
  for (const char* gone : {"attention.key_length_mla", "attention.value_length_mla", "attention.head_count_kv"})
    older.counts.erase(gone);
  older.counts["attention.key_length"] = 40;
  older.counts["attention.value_length"] = 24;
  EXPECT_EQ(read_well("deepseek2", older).head_dim, 48);
  EXPECT_EQ(read_well("deepseek2", older).latent.key_dim, 24);

  const auto refusal = [&](const char* name, uint32_t value, ErrorCode code) {
    Keys changed = keys;
    changed.counts[name] = value;
    const auto hyper = read("deepseek2", changed);
    if (hyper) return std::string("(accepted)");
    EXPECT_EQ(hyper.error().code(), code);
    return hyper.error().to_string();
  };
  EXPECT_SAYS(refusal("attention.key_length_mla", 16, ErrorCode::corrupt),
              "keys of 16 elements (deepseek2.attention.key_length_mla), of which 16 are rotated");
  EXPECT_SAYS(refusal("attention.kv_lora_rank", 24, ErrorCode::unsupported),
              "latents of 24 elements (deepseek2.attention.kv_lora_rank) and 16 rotated ones");
  EXPECT_SAYS(refusal("attention.temperature_scale", 1, ErrorCode::unsupported), "scores are scaled by position");
  EXPECT_SAYS(refusal("expert_gating_func", 3, ErrorCode::unsupported), "supported is 1 (softmax) and 2 (sigmoid)");
  EXPECT_SAYS(refusal("expert_group_count", 5, ErrorCode::corrupt), "12 experts (deepseek2.expert_count) in 5 groups");
  EXPECT_SAYS(refusal("expert_group_count", 0, ErrorCode::corrupt), "(accepted)");
  EXPECT_SAYS(refusal("leading_dense_block_count", 3, ErrorCode::corrupt), "is 3; expected 0 to 2");
  Keys none = keys;
  none.counts.erase("attention.kv_lora_rank");
  const auto hyper = read("deepseek2", none);
  ASSERT_FALSE(hyper);
  EXPECT_SAYS(hyper.error().to_string(), "'deepseek2.attention.kv_lora_rank' is missing");
}

// Files from before the key, as llama.cpp reads them.
TEST_F(OwnKeys, ExpertsHaveTheirWidthUnsaid) {
  const auto width = [&](std::string_view architecture, Keys more) {
    more.counts.insert({{"expert_count", 4}, {"expert_used_count", 3}});
    return read_well(architecture, more).experts.feed_forward;
  };
  EXPECT_EQ(width("llama", {}), 96);
  for (const char* architecture : {"qwen2moe", "qwen3moe"}) {
    EXPECT_EQ(width(architecture, {}), 32);
    EXPECT_EQ(width(architecture, {.counts = {{"expert_feed_forward_length", 80}}}), 80);
  }
  const auto none = read("qwen3moe", {.counts = {{"expert_count", 128}, {"expert_used_count", 97}}});
  ASSERT_FALSE(none);
  EXPECT_SAYS(none.error().to_string(), "'qwen3moe.expert_feed_forward_length' is 0; expected 1 to");
}

// What is computed in F32 must not become 0 or infinite there.
TEST_F(OwnKeys, DoublesFitFloats) {
  const auto expect_refused = [&](std::string_view architecture, const std::string& name, Keys keys) {
    for (const double value : {1e300, 1e39, 1e-300, 1e-45, -1.0, HUGE_VAL, std::nan("")}) {
      keys.doubles[name] = value;
      const auto hyper = read(architecture, keys);
      ASSERT_FALSE(hyper) << name << " " << value;
      EXPECT_EQ(hyper.error().code(), ErrorCode::corrupt);
      EXPECT_SAYS(hyper.error().to_string(),
                  fmt::format("'{}.{}' is {}; expected a positive", architecture, name, value));
    }
    keys.doubles[name] = 2;
    const auto hyper = read(architecture, keys);
    EXPECT_TRUE(hyper) << hyper.error().to_string();
  };
  expect_refused("granite", "logit_scale", {});
  expect_refused("granite", "embedding_scale", {.reals = {{"logit_scale", 8}}});
  expect_refused("gemma2", "attn_logit_softcapping", {});
  expect_refused("gemma2", "final_logit_softcapping", {});
  expect_refused("gemma3", "attention.scale", {});
  expect_refused("qwen3moe", "expert_weights_scale", {.counts = {{"expert_count", 4}, {"expert_used_count", 2}}});
}

TEST_F(OwnKeys, MixturesMayScaleTheirWeights) {
  const auto rule = [&](std::string_view architecture, Keys more) {
    more.counts.insert({{"expert_count", 4}, {"expert_used_count", 2}});
    return read_well(architecture, more).experts.rule;
  };
  for (const char* architecture : {"llama", "qwen2moe", "qwen3moe"}) {
    EXPECT_EQ(rule(architecture, {}).scale, 1);
    EXPECT_EQ(rule(architecture, {.reals = {{"expert_weights_scale", 0}}}).scale, 1);
    EXPECT_EQ(rule(architecture, {.reals = {{"expert_weights_scale", 2.5F}}}).scale, 2.5F);
    EXPECT_EQ(rule(architecture, {}).normalised, std::string_view(architecture) != "qwen2moe");
  }
}

}  // namespace
}  // namespace tidemill::model
