// What is refused at load, and what it says.
#include "model/load.hpp"

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <numbers>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "data.hpp"
#include "expect_says.hpp"
#include "gguf_bytes.hpp"
#include "model/architectures/architecture.hpp"
#include "model/gguf.hpp"
#include "model/gguf_writer.hpp"
#include "model/pack.hpp"
#include "model/synth.hpp"
#include "model/vocabulary.hpp"
#include "temporary_folder.hpp"
#include "tensor/cpu_device.hpp"
#include "tensor/packed_weight.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using tensor::DType;

// A model of one layer that loads; tests damage it in one place.
struct Draft {
  struct Tensor {
    std::vector<int64_t> shape;
    DType type = DType::f32;
  };
  std::string architecture = "llama";
  std::map<std::string, int64_t> numbers = {{"llama.context_length", 128},     {"llama.block_count", 1},
                                            {"llama.embedding_length", 64},    {"llama.feed_forward_length", 96},
                                            {"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 2},
                                            {"llama.rope.dimension_count", 16}};
  std::map<std::string, float> reals = {{"llama.attention.layer_norm_rms_epsilon", 1e-5F}};
  std::map<std::string, std::string> strings;
  std::map<std::string, std::vector<std::byte>> flags;  // lists of booleans
  std::map<std::string, Tensor> tensors = {
      {"token_embd.weight", {{64, 40}}},        {"output_norm.weight", {{64}}},
      {"blk.0.attn_norm.weight", {{64}}},       {"blk.0.attn_q.weight", {{64, 64}}},
      {"blk.0.attn_k.weight", {{64, 32}}},      {"blk.0.attn_v.weight", {{64, 32}}},
      {"blk.0.attn_output.weight", {{64, 64}}}, {"blk.0.ffn_norm.weight", {{64}}},
      {"blk.0.ffn_gate.weight", {{64, 96}}},    {"blk.0.ffn_up.weight", {{64, 96}}},
      {"blk.0.ffn_down.weight", {{96, 64}}}};
  float fill = 1;
  // Bytes of a tensor that are others.
  struct Patch {
    std::string tensor;
    size_t at = 0;
    std::string bytes;
  };
  std::vector<Patch> patches;
};

class Load : public testing::Test {
 protected:
  base::Result<GgufFile> write(const Draft& draft) {
    const auto path = folder_.path() / "model.gguf";
    GgufWriter writer;
    writer.add_string("general.architecture", draft.architecture);
    for (const auto& [key, value] : draft.numbers) {
      writer.add_u32(key, static_cast<uint32_t>(value));
    }
    for (const auto& [key, value] : draft.reals)
      writer.add_f32(key, value);
    for (const auto& [key, value] : draft.strings)
      writer.add_string(key, value);
    for (const auto& [key, values] : draft.flags) {
      writer.add(
          {key, {.type = GgufType::array, .element = GgufType::boolean, .count = values.size(), .payload = values}});
    }
    for (const auto& [name, tensor] : draft.tensors)
      writer.declare_tensor(name, tensor.type, tensor.shape);
    TM_CHECK(writer.begin(path));
    for (const auto& [name, tensor] : draft.tensors) {
      int64_t rows = 1;
      for (size_t d = 1; d < tensor.shape.size(); ++d)
        rows *= tensor.shape[d];
      std::vector<std::byte> bytes(static_cast<size_t>(rows * tensor::row_bytes(tensor.type, tensor.shape[0])));
      if (tensor.type == DType::f32) std::fill_n(reinterpret_cast<float*>(bytes.data()), bytes.size() / 4, draft.fill);
      for (const Draft::Patch& patch : draft.patches) {
        if (patch.tensor == name) std::memcpy(bytes.data() + patch.at, patch.bytes.data(), patch.bytes.size());
      }
      TM_CHECK(writer.write(bytes));
    }
    TM_CHECK(writer.finish());
    return GgufFile::open(path);
  }

  base::Result<std::unique_ptr<Model>> load(const Draft& draft) {
    TM_TRY(const GgufFile file, write(draft));
    return load_model(file, *device_, {.max_batch_rows = 4, .on_progress = {}});
  }

  // The error that a draft with one change gives.
  std::string refusal(const std::function<void(Draft&)>& change, ErrorCode code) {
    Draft draft;
    change(draft);
    const auto loaded = load(draft);
    if (loaded) return "(accepted)";
    EXPECT_EQ(loaded.error().code(), code) << loaded.error().to_string();
    return loaded.error().to_string();
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<tensor::Device> device_ = tensor::make_cpu_device(tensor::Isa::scalar, 1);
};

TEST_F(Load, EndsWhereItIsCancelled) {
  const auto file = write({});
  ASSERT_TRUE(file) << file.error().to_string();
  int asked = 0;
  const auto model = load_model(
      *file, *device_, {.max_batch_rows = 4, .on_progress = {}, .cancelled = [&asked] { return ++asked == 3; }});
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code(), ErrorCode::cancelled);
  EXPECT_EQ(asked, 3);
}

TEST_F(Load, AcceptsTheDraft) {
  std::vector<size_t> progress;
  const auto file = write({});
  ASSERT_TRUE(file) << file.error().to_string();
  size_t total = 0;
  const auto model = load_model(*file, *device_, {.max_batch_rows = 4, .on_progress = [&](size_t done, size_t all) {
                                                    progress.push_back(done);
                                                    total = all;
                                                  }});
  ASSERT_TRUE(model) << model.error().to_string();
  const HyperParameters& hyper = (*model)->hyper_parameters();
  EXPECT_EQ(hyper.vocabulary, 40);
  EXPECT_EQ(hyper.head_dim, 16);
  EXPECT_EQ(hyper.kv_heads, 2);
  EXPECT_EQ(hyper.rope.frequencies.size(), 8U);
  EXPECT_EQ(hyper.rope.frequencies[0], 1.0);
  EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
  EXPECT_EQ(progress.back(), total);
  EXPECT_EQ(total, file->tensor_bytes());
  EXPECT_GE((*model)->weight_bytes(), file->tensor_bytes());
  EXPECT_GT((*model)->activation_bytes(), 0U);
  EXPECT_EQ((*model)->kv_shape().layers, 1);
}

TEST_F(Load, NamesUnknownArchitectures) {
  const std::string message = refusal([](Draft& d) { d.architecture = "gpt-j"; }, ErrorCode::unsupported);
  EXPECT_SAYS(
      message,
      "architecture 'gpt-j'; supported are llama, qwen2, qwen3, granite, phi3, gemma2, gemma3, qwen2moe, qwen3moe");
}

TEST_F(Load, NamesMissingKeysAndTensors) {
  EXPECT_SAYS(refusal([](Draft& d) { d.numbers.erase("llama.block_count"); }, ErrorCode::not_found),
              "'llama.block_count' is missing");
  EXPECT_SAYS(refusal([](Draft& d) { d.tensors.erase("blk.0.ffn_up.weight"); }, ErrorCode::not_found),
              "'blk.0.ffn_up.weight' is missing");
  EXPECT_SAYS(refusal([](Draft& d) { d.tensors.erase("token_embd.weight"); }, ErrorCode::not_found),
              "'token_embd.weight' is missing");
  EXPECT_SAYS(refusal([](Draft& d) { d.numbers["llama.block_count"] = 2; }, ErrorCode::not_found),
              "'blk.1.attn_norm.weight' is missing");
}

TEST_F(Load, NamesBothShapes) {
  EXPECT_SAYS(refusal(
                  [](Draft& d) {
                    d.tensors["blk.0.attn_k.weight"].shape = {64, 64};
                  },
                  ErrorCode::corrupt),
              "'blk.0.attn_k.weight' has shape [64, 64], but the metadata want [64, 32]");
  EXPECT_SAYS(refusal([](Draft& d) { d.tensors["blk.0.attn_norm.weight"].shape = {32}; }, ErrorCode::corrupt),
              "has shape [32], but the metadata want [64]");
  EXPECT_SAYS(refusal(
                  [](Draft& d) {
                    d.tensors["blk.0.ffn_gate.weight"].shape = {64, 48, 2};
                  },
                  ErrorCode::corrupt),
              "[64, 48, 2]");
  EXPECT_SAYS(refusal([](Draft& d) { d.tensors["output.weight"] = {{64, 41}}; }, ErrorCode::corrupt), "[64, 40]");
  EXPECT_SAYS(refusal([](Draft& d) { d.numbers["llama.feed_forward_length"] = 97; }, ErrorCode::corrupt), "[64, 97]");
}

TEST_F(Load, NamesWeightsThatAreNoNumbers) {
  const auto odd = [&](const std::string& tensor, DType type, size_t at, const std::string& bytes) {
    const auto change = [&](Draft& d) {
      d.tensors[tensor].type = type;
      d.patches = {{tensor, at, bytes}};
    };
    Draft draft;
    change(draft);
    const GgufFile file = write(draft).value();
    // Neither dequantising nor packing lets it pass, and packing leaves nothing behind.
    for (const bool dequantize : {false, true}) {
      const auto loaded =
          load_model(file, *device_, {.max_batch_rows = 4, .on_progress = {}, .dequantize = dequantize, .threads = 2});
      EXPECT_FALSE(loaded);
    }
    const long before = folder_.entries();
    const auto packed = pack_model(file, folder_.path() / "packed.gguf", {});
    EXPECT_FALSE(packed);
    EXPECT_EQ(folder_.entries(), before);
    const std::string said = refusal(change, ErrorCode::corrupt);
    if (!packed) {
      EXPECT_EQ(packed.error().to_string(), said);
    }
    return said;
  };
  const std::string nan("\0\0\xc0\x7f", 4);
  const std::string below("\0\0\x80\xff", 4);
  EXPECT_SAYS(odd("blk.0.ffn_down.weight", DType::f32, size_t{4} * 6143, nan),
              "model.gguf: tensor 'blk.0.ffn_down.weight' holds NaN at element 6143; weights are finite numbers");
  EXPECT_SAYS(odd("output_norm.weight", DType::f32, size_t{4} * 7, below),
              "tensor 'output_norm.weight' holds -inf at element 7");
  EXPECT_SAYS(odd("token_embd.weight", DType::bf16, size_t{2} * 2559, "\x80\x7f"),
              "tensor 'token_embd.weight' holds inf at element 2559");
  EXPECT_SAYS(odd("blk.0.attn_q.weight", DType::f16, 0, "\x01\x7c"),
              "tensor 'blk.0.attn_q.weight' holds NaN at element 0");
  // The scale of one block.
  EXPECT_SAYS(odd("blk.0.ffn_up.weight", DType::q8_0, size_t{34} * 5, std::string("\x00\x7c", 2)),
              "tensor 'blk.0.ffn_up.weight' holds NaN at element 160");
}

TEST_F(Load, BoundsEveryNumber) {
  const auto number = [&](const char* key, int64_t value) {
    return refusal([&](Draft& d) { d.numbers[std::string("llama.") + key] = value; }, ErrorCode::corrupt);
  };
  for (const char* key : {"context_length", "block_count", "embedding_length", "feed_forward_length",
                          "attention.head_count", "attention.head_count_kv", "attention.key_length"}) {
    EXPECT_SAYS(number(key, 0), fmt::format("'llama.{}' is 0; expected 1 to", key));
    EXPECT_SAYS(number(key, 4294967295), fmt::format("'llama.{}' is 4294967295", key));
  }
  EXPECT_SAYS(number("attention.head_count_kv", 3), "4 query heads");
  EXPECT_SAYS(number("attention.head_count", 6), "width 64");
  EXPECT_SAYS(number("rope.dimension_count", 18), "expected 1 to 16");
  EXPECT_SAYS(number("rope.dimension_count", 15), "even");
  for (const float value :
       {0.0F, -1.0F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    EXPECT_SAYS(
        refusal([&](Draft& d) { d.reals["llama.attention.layer_norm_rms_epsilon"] = value; }, ErrorCode::corrupt),
        "positive number");
    EXPECT_SAYS(refusal([&](Draft& d) { d.reals["llama.rope.freq_base"] = value; }, ErrorCode::corrupt),
                "'llama.rope.freq_base'");
  }
}

TEST_F(Load, NamesWhatItDoesNotDo) {
  const auto unsupported = [&](const std::function<void(Draft&)>& change) {
    return refusal(change, ErrorCode::unsupported);
  };
  EXPECT_SAYS(unsupported([](Draft& d) {
                d.numbers["llama.expert_count"] = 8;
                d.numbers["llama.expert_used_count"] = 2;
                d.numbers["llama.expert_gating_func"] = 2;
              }),
              "'llama.expert_gating_func' is 2; supported is 1 (softmax)");
  EXPECT_SAYS(unsupported([](Draft& d) { d.numbers["split.count"] = 3; }), "one of 3 files");
  EXPECT_SAYS(unsupported([](Draft& d) { d.numbers["llama.pooling_type"] = 2; }), "'llama.pooling_type' is 2");
  EXPECT_SAYS(unsupported([](Draft& d) { d.numbers["llama.attention.value_length"] = 8; }), "value heads of 8");
  EXPECT_SAYS(unsupported([](Draft& d) {
                d.strings["llama.rope.scaling.type"] = "dynamic";
                d.reals["llama.rope.scaling.factor"] = 4;
              }),
              "RoPE scaling 'dynamic' with factor 4");
}

TEST_F(Load, ScalesTheRotation) {
  const auto frequencies = [&](const std::function<void(Draft&)>& change) {
    Draft draft;
    change(draft);
    auto model = load(draft);
    EXPECT_TRUE(model) << model.error().to_string();
    return model ? (*model)->hyper_parameters().rope.frequencies : std::vector<double>(8);
  };
  const std::vector<double> plain = frequencies([](Draft&) {});
  EXPECT_NEAR(plain[4], 0.01, 1e-12);  // 10000^(-8/16)
  EXPECT_EQ(frequencies([](Draft& d) {
              d.strings["llama.rope.scaling.type"] = "yarn";
              d.reals["llama.rope.scaling.factor"] = 1;
            }),
            plain);
  EXPECT_NEAR(frequencies([](Draft& d) {
                d.strings["llama.rope.scaling.type"] = "linear";
                d.reals["llama.rope.scaling.factor"] = 4;
              })[4],
              0.0025, 1e-12);
  EXPECT_NEAR(frequencies([](Draft& d) { d.reals["llama.rope.scale_linear"] = 2; })[4], 0.005, 1e-12);
  EXPECT_EQ(frequencies([](Draft& d) {
              d.strings["llama.rope.scaling.type"] = "none";
              d.reals["llama.rope.scaling.factor"] = 4;
            }),
            plain);
  // All of the draft's tensors hold `fill`, the frequency factors too.
  EXPECT_NEAR(frequencies([](Draft& d) {
                d.tensors["rope_freqs.weight"] = {{8}};
                d.fill = 8;
              })[4],
              0.01 / 8, 1e-12);
  EXPECT_SAYS(refusal([](Draft& d) { d.tensors["rope_freqs.weight"] = {{7}}; }, ErrorCode::corrupt), "F32 [8]");
  EXPECT_SAYS(refusal(
                  [](Draft& d) {
                    d.tensors["rope_freqs.weight"] = {{8}};
                    d.fill = 0;
                  },
                  ErrorCode::corrupt),
              "factors are positive");
}

TEST_F(Load, ScalesLongContextsByLongRope) {
  std::vector<float> long_factors;
  std::vector<float> short_factors;
  for (int i = 0; i < 8; ++i) {
    long_factors.push_back(static_cast<float>(4 + i));
    short_factors.push_back(1 + static_cast<float>(i) / 8);
  }
  const auto bytes = [](const std::vector<float>& values) {
    return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  };
  const auto long_rope = [&](Draft& d) {
    d.tensors["rope_factors_long.weight"] = {{8}};
    d.tensors["rope_factors_short.weight"] = {{8}};
    d.patches = {{"rope_factors_long.weight", 0, bytes(long_factors)},
                 {"rope_factors_short.weight", 0, bytes(short_factors)}};
    d.numbers["llama.rope.scaling.original_context_length"] = 32;
    d.reals["llama.rope.scaling.attn_factor"] = 1.25F;
  };
  Draft draft;
  long_rope(draft);
  const auto loaded_for = [&](int64_t context) {
    const auto file = write(draft);
    EXPECT_TRUE(file) << file.error().to_string();
    auto model = load_model(*file, *device_, {.context = context, .max_batch_rows = 4, .on_progress = {}});
    EXPECT_TRUE(model) << model.error().to_string();
    return model ? (*model)->hyper_parameters() : HyperParameters();
  };
  const auto expect_divided = [](const tensor::Rope& rope, const std::vector<float>& factors) {
    ASSERT_EQ(rope.frequencies.size(), factors.size());
    for (size_t i = 0; i < factors.size(); ++i) {
      const double plain = std::pow(10000.0, -static_cast<double>(i) / 8);
      EXPECT_NEAR(rope.frequencies[i] * static_cast<double>(factors[i]) / plain, 1, 1e-12) << i;
    }
    EXPECT_EQ(rope.magnitude, 1.25);
  };
  for (const int64_t context : {0, 33, 128}) {
    SCOPED_TRACE(context);
    const HyperParameters hyper = loaded_for(context);
    EXPECT_EQ(hyper.context, 128);
    EXPECT_FALSE(hyper.for_short_contexts);
    EXPECT_EQ(hyper.short_context, 32);
    expect_divided(hyper.rope, long_factors);
    ASSERT_TRUE(hyper.short_rope);
    expect_divided(*hyper.short_rope, short_factors);
  }
  const HyperParameters hyper = loaded_for(32);
  EXPECT_EQ(hyper.context, 32);
  EXPECT_TRUE(hyper.for_short_contexts);
  EXPECT_FALSE(hyper.short_rope);
  expect_divided(hyper.rope, short_factors);

  EXPECT_SAYS(refusal(
                  [&](Draft& d) {
                    long_rope(d);
                    d.tensors.erase("rope_factors_short.weight");
                  },
                  ErrorCode::not_found),
              "tensor 'rope_factors_short.weight' is missing");
  EXPECT_SAYS(refusal(
                  [&](Draft& d) {
                    long_rope(d);
                    d.tensors["rope_factors_long.weight"] = {{7}};
                    d.patches.clear();
                  },
                  ErrorCode::corrupt),
              "'rope_factors_long.weight' is F32 [7]; the rotation's 8 pairs want F32 [8]");
  // A context that the model was first trained for needs no choice.
  draft.numbers["llama.rope.scaling.original_context_length"] = 128;
  EXPECT_FALSE(loaded_for(0).short_rope);
  EXPECT_EQ(loaded_for(0).context, 128);
  expect_divided(loaded_for(0).rope, short_factors);
}

// Four experts, of which two are used.
void mixture(Draft& d) {
  d.numbers["llama.expert_count"] = 4;
  d.numbers["llama.expert_used_count"] = 2;
  for (const char* part : {"gate", "up", "down"})
    d.tensors.erase(fmt::format("blk.0.ffn_{}.weight", part));
  d.tensors["blk.0.ffn_gate_inp.weight"] = {{64, 4}};
  d.tensors["blk.0.ffn_gate_exps.weight"] = {{64, 96, 4}};
  d.tensors["blk.0.ffn_up_exps.weight"] = {{64, 96, 4}};
  d.tensors["blk.0.ffn_down_exps.weight"] = {{96, 64, 4}};
}

TEST_F(Load, ExpertsAreInRangeAndThere) {
  Draft draft;
  mixture(draft);
  const auto model = load(draft);
  ASSERT_TRUE(model) << model.error().to_string();
  EXPECT_EQ((*model)->hyper_parameters().experts.feed_forward, 96);
  // Two experts of four are what a row uses.
  const int64_t attention = 64 * (64 + 2 * 32 + 64);
  EXPECT_EQ((*model)->row_multiplies().floating, attention + 64 * 4 + 2 * 3 * 64 * 96);
  const auto wrong = [&](const std::function<void(Draft&)>& change, ErrorCode code) {
    return refusal(
        [&](Draft& d) {
          mixture(d);
          change(d);
        },
        code);
  };
  EXPECT_SAYS(wrong([](Draft& d) { d.numbers.erase("llama.expert_used_count"); }, ErrorCode::not_found),
              "'llama.expert_used_count' is missing");
  EXPECT_SAYS(wrong([](Draft& d) { d.numbers["llama.expert_used_count"] = 5; }, ErrorCode::corrupt),
              "'llama.expert_used_count' is 5; expected 1 to 4");
  EXPECT_SAYS(wrong([](Draft& d) { d.numbers["llama.expert_count"] = 100000; }, ErrorCode::corrupt), "1 to 1024");
  EXPECT_SAYS(wrong(
                  [](Draft& d) {
                    d.tensors["blk.0.ffn_up_exps.weight"] = {{64, 96, 3}};
                  },
                  ErrorCode::corrupt),
              "'blk.0.ffn_up_exps.weight' has shape [64, 96, 3], but the metadata want [64, 96, 4]");
  EXPECT_SAYS(wrong([](Draft& d) { d.tensors.erase("blk.0.ffn_gate_inp.weight"); }, ErrorCode::not_found),
              "'blk.0.ffn_gate_inp.weight' is missing");
}

// However many experts there are, and however small: memory is asked for once.
TEST_F(Load, ExpertsOfATensorLieTogether) {
  Draft draft;
  mixture(draft);
  draft.numbers["llama.feed_forward_length"] = 40;
  draft.tensors["blk.0.ffn_gate_exps.weight"] = {{64, 40, 4}};
  draft.tensors["blk.0.ffn_up_exps.weight"] = {{64, 40, 4}};
  draft.tensors["blk.0.ffn_down_exps.weight"] = {{40, 64, 4}};
  const auto file = write(draft);
  ASSERT_TRUE(file) << file.error().to_string();
  for (const bool dequantize : {false, true}) {
    std::map<std::string, std::vector<std::span<const std::byte>>, std::less<>> panels;
    const auto model = load_model(*file, *device_,
                                  {.max_batch_rows = 4,
                                   .on_progress = {},
                                   .dequantize = dequantize,
                                   .on_matrix = [&](std::string_view tensor, const tensor::Weight& weight) {
                                     const auto& packed = static_cast<const tensor::PackedWeight&>(weight);
                                     panels[std::string(tensor)].push_back(packed.data());
                                   }});
    ASSERT_TRUE(model) << model.error().to_string();
    for (const char* part : {"gate", "up", "down"}) {
      const auto& experts = panels[fmt::format("blk.0.ffn_{}_exps.weight", part)];
      ASSERT_EQ(experts.size(), 4U);
      for (size_t i = 1; i < experts.size(); ++i)
        EXPECT_EQ(experts[i].data(), experts[i - 1].data() + experts[i - 1].size()) << part << " " << i;
    }
  }
}

// Whatever matrix it is; of an embedding that is no output matrix, rows are only looked up.
TEST_F(Load, KnowsWhetherInstructionSetsDiffer) {
  const auto alike = [&](const char* tensor, DType type, bool tied) {
    Draft draft;
    if (!tied) draft.tensors["output.weight"] = {{64, 40}};
    draft.tensors[tensor].type = type;
    const auto model = load(draft);
    EXPECT_TRUE(model) << model.error().to_string();
    return model && (*model)->row_multiplies().alike;
  };
  EXPECT_TRUE(alike("blk.0.ffn_up.weight", DType::f32, false));
  for (const DType type : {DType::bf16, DType::f16}) {
    EXPECT_FALSE(alike("blk.0.ffn_up.weight", type, false));
    EXPECT_FALSE(alike("output.weight", type, false));
    EXPECT_FALSE(alike("token_embd.weight", type, true));
    EXPECT_TRUE(alike("token_embd.weight", type, false));
  }
}

TEST_F(Load, WindowsAreInRange) {
  Draft draft;
  draft.numbers["llama.attention.sliding_window"] = 16;
  draft.numbers["llama.block_count"] = 1;
  const auto model = load(draft);
  ASSERT_TRUE(model) << model.error().to_string();
  EXPECT_TRUE((*model)->hyper_parameters().has_window(0));
  EXPECT_EQ((*model)->hyper_parameters().attention_rule(0).window, 16);
  draft.numbers["llama.attention.sliding_window_pattern"] = 1;
  const auto dense = load(draft);
  ASSERT_TRUE(dense) << dense.error().to_string();
  EXPECT_EQ((*dense)->hyper_parameters().attention_rule(0).window, 0);
  draft.numbers.erase("llama.attention.sliding_window_pattern");
  draft.flags["llama.attention.sliding_window_pattern"] = {std::byte{0}};
  const auto listed = load(draft);
  ASSERT_TRUE(listed) << listed.error().to_string();
  EXPECT_FALSE((*listed)->hyper_parameters().has_window(0));
  EXPECT_EQ((*listed)->hyper_parameters().window, 16);
  EXPECT_SAYS(refusal(
                  [](Draft& d) {
                    d.numbers["llama.attention.sliding_window"] = 16;
                    d.flags["llama.attention.sliding_window_pattern"] = {std::byte{0}, std::byte{1}};
                  },
                  ErrorCode::corrupt),
              "is a list of 2 values of the type bool; expected a boolean for each of 1 layers");
  EXPECT_SAYS(refusal([](Draft& d) { d.numbers["llama.attention.sliding_window"] = 4294967295; }, ErrorCode::corrupt),
              "'llama.attention.sliding_window' is 4294967295; expected 0 (none) to");
}

// Llama 3.2's published scaling at a few frequencies of a head of 64 (factor 32, old context 8192, base 500000).
TEST_F(Load, SynthesisedLlama3ScalingMatchesTheFormula) {
  const auto path = folder_.path() / "llama.gguf";
  Shape shape = find_shape("llama-tiny").value();
  shape.rope_factor = 32;
  ASSERT_TRUE(write_synthetic_model(shape, path, {.type = DType::q8_0, .on_progress = {}}));
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file);
  const auto hyper = find_architecture(*file).value()->read_hyper_parameters(*file);
  ASSERT_TRUE(hyper) << hyper.error().to_string();
  for (size_t i = 0; i < 32; ++i) {
    const double frequency = std::pow(500000.0, -static_cast<double>(i) / 32);
    const double wavelength = 2 * std::numbers::pi / frequency;
    double expected = frequency;
    if (wavelength > 8192) {
      expected = frequency / 32;
    } else if (wavelength >= 2048) {
      const double smooth = (8192 / wavelength - 1) / 3;
      expected = (1 - smooth) * frequency / 32 + smooth * frequency;
    }
    EXPECT_NEAR(hyper->rope.frequencies[i] / expected, 1, 1e-6) << i;
  }
}

TEST_F(Load, PoolingAndBiasesAreRead) {
  Draft draft;
  draft.numbers["llama.pooling_type"] = 3;
  draft.tensors["blk.0.attn_q.bias"] = {{64}};
  draft.tensors["blk.0.ffn_down.bias"] = {{64}};
  const auto model = load(draft);
  ASSERT_TRUE(model) << model.error().to_string();
  EXPECT_EQ((*model)->hyper_parameters().pooling, Pooling::last);
  EXPECT_SAYS(refusal([](Draft& d) { d.tensors["blk.0.attn_q.bias"] = {{63}}; }, ErrorCode::corrupt), "attn_q.bias");
}

TEST_F(Load, VocabularyIsNeededOnlyForText) {
  const auto file = write({});
  ASSERT_TRUE(file);
  const auto vocabulary = read_vocabulary(*file);
  ASSERT_FALSE(vocabulary);
  EXPECT_EQ(vocabulary.error().code(), ErrorCode::not_found);
  EXPECT_EQ(read_chat_template(*file).value(), "");
}

TEST_F(Load, BatchRowsAreBounded) {
  const auto file = write({});
  ASSERT_TRUE(file);
  EXPECT_EQ(load_model(*file, *device_, {.max_batch_rows = 0, .on_progress = {}}).error().code(),
            ErrorCode::invalid_argument);
}

TEST(Vocabulary, ReadsTheKeys) {
  test::Bytes m;
  m.string("general.name").put<uint32_t>(8).string("test");
  m.string("tokenizer.ggml.model").put<uint32_t>(8).string("llama");
  m.string("tokenizer.ggml.tokens").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(4);
  m.string("<unk>").string("<s>").string("</s>").string("a");
  m.string("tokenizer.ggml.scores")
      .put<uint32_t>(9)
      .put<uint32_t>(6)
      .put<uint64_t>(4)
      .put(0.F)
      .put(0.F)
      .put(0.F)
      .put(-1.F);
  m.string("tokenizer.ggml.token_type").put<uint32_t>(9).put<uint32_t>(5).put<uint64_t>(4).put(2).put(3).put(3).put(0);
  m.string("tokenizer.ggml.eos_token_id").put<uint32_t>(4).put<uint32_t>(3);
  m.string("tokenizer.ggml.unknown_token_id").put<uint32_t>(4).put<uint32_t>(0xFFFFFFFF);
  m.string("tokenizer.ggml.padding_token_id").put<uint32_t>(4).put<uint32_t>(99);
  m.string("tokenizer.ggml.add_bos_token").put<uint32_t>(7).put<uint8_t>(0);
  const std::string bytes = test::gguf_file(9, m, {}, "");
  const auto file = GgufFile::parse(test::as_bytes(bytes), "model.gguf");
  ASSERT_TRUE(file) << file.error().to_string();
  const auto vocabulary = read_vocabulary(*file);
  ASSERT_TRUE(vocabulary) << vocabulary.error().to_string();
  EXPECT_EQ(vocabulary->pieces, (std::vector<std::string>{"<unk>", "<s>", "</s>", "a"}));
  EXPECT_EQ(vocabulary->scores[3], -1.0F);
  EXPECT_EQ(vocabulary->kinds[0], text::TokenKind::unknown);
  EXPECT_EQ(vocabulary->kinds[3], text::TokenKind::normal);
  EXPECT_EQ(vocabulary->bos, 1);
  EXPECT_EQ(vocabulary->eos, 3);
  EXPECT_FALSE(vocabulary->unknown);
  EXPECT_FALSE(vocabulary->padding);
  EXPECT_FALSE(vocabulary->add_bos);
}

// What is done to text before it is cut, as llama.cpp's converter writes it.
TEST(Vocabulary, ReadsHowTextIsNormalised) {
  const auto read = [](const std::function<void(GgufWriter&)>& add) -> base::Result<text::Vocabulary> {
    GgufWriter writer;
    writer.add_strings("tokenizer.ggml.tokens", std::vector<std::string>{"<s>", "</s>", "<unk>", "a"});
    add(writer);
    const std::string bytes = writer.header();
    TM_TRY(const GgufFile file, GgufFile::parse(test::as_bytes(bytes), "model.gguf"));
    return read_vocabulary(file);
  };
  const auto unigram = read([](GgufWriter& w) { w.add_string("tokenizer.ggml.model", "t5"); });
  ASSERT_TRUE(unigram) << unigram.error().to_string();
  EXPECT_EQ(unigram->model, text::Vocabulary::Model::unigram);
  EXPECT_TRUE(unigram->single_spaces && unigram->add_space_prefix && unigram->parts_pairs_twice && unigram->add_eos);
  EXPECT_EQ(unigram->unknown, 2);
  EXPECT_EQ(unigram->characters_map, "");
  const auto given = read([](GgufWriter& w) {
    w.add_string("tokenizer.ggml.model", "t5");
    w.add_bool("tokenizer.ggml.remove_extra_whitespaces", false);
    w.add_bool("tokenizer.ggml.add_space_prefix", false);
    w.add_bool("tokenizer.ggml.add_sep_token", false);
    w.add_bytes("tokenizer.ggml.precompiled_charsmap", "abc");
  });
  ASSERT_TRUE(given) << given.error().to_string();
  EXPECT_FALSE(given->single_spaces || given->add_space_prefix || given->parts_pairs_twice);
  EXPECT_EQ(given->characters_map, "abc");
  const auto bert = [&](bool lower, bool strips) {
    return read([&](GgufWriter& w) {
      w.add_string("tokenizer.ggml.model", "bert");
      w.add_u32("tokenizer.ggml.cls_token_id", 0);
      w.add_u32("tokenizer.ggml.seperator_token_id", 1);
      w.add_bool("tokenizer.ggml.add_sep_token", true);
      w.add_bool("tokenizer.ggml.normalizer.lowercase", lower);
      w.add_bool("tokenizer.ggml.normalizer.strip_accents", strips);
    });
  };
  EXPECT_EQ(bert(false, false)->lower_case, false);
  EXPECT_EQ(bert(true, true)->lower_case, true);
  EXPECT_FALSE(bert(true, true)->parts_pairs_twice);
  const auto half = bert(true, false);
  ASSERT_FALSE(half);
  EXPECT_EQ(half.error().code(), ErrorCode::unsupported);
  EXPECT_SAYS(half.error().message(), "keeps its accents alone");
}

// SentencePiece's pieces merge by their scores.
TEST(Vocabulary, RefusesScoresThatSayNoOrder) {
  const auto refused = [](const std::function<void(test::Bytes&)>& add, uint64_t keys) -> std::string {
    test::Bytes m;
    m.string("tokenizer.ggml.model").put<uint32_t>(8).string("llama");
    m.string("tokenizer.ggml.tokens").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(3);
    m.string("<unk>").string("<s>").string("</s>");
    add(m);
    const std::string bytes = test::gguf_file(keys, m, {}, "");
    const auto file = GgufFile::parse(test::as_bytes(bytes), "model.gguf");
    if (!file) return file.error().to_string();
    const auto vocabulary = read_vocabulary(*file);
    return vocabulary ? "(accepted)" : vocabulary.error().to_string();
  };
  const auto scores = [](test::Bytes& m, uint32_t type) -> test::Bytes& {
    return m.string("tokenizer.ggml.scores").put<uint32_t>(9).put(type).put<uint64_t>(3);
  };
  EXPECT_EQ(refused([&](test::Bytes& m) { scores(m, 6).put(0.F).put(-1.F).put(-2.F); }, 3), "(accepted)");
  EXPECT_SAYS(refused([](test::Bytes&) {}, 2), "'tokenizer.ggml.scores' is missing");
  EXPECT_SAYS(refused([&](test::Bytes& m) { scores(m, 6).put(0.F).put(std::nanf("")).put(-2.F); }, 3),
              "tokenizer.ggml.scores[1] is nan; expected a number");
  EXPECT_SAYS(refused([&](test::Bytes& m) { scores(m, 10).put<uint64_t>(0).put<uint64_t>(1).put<uint64_t>(2); }, 3),
              "'tokenizer.ggml.scores' is an array of other numbers than f32");
}

TEST(Vocabulary, RefusesTokensOutOfRange) {
  test::Bytes m;
  m.string("tokenizer.ggml.model").put<uint32_t>(8).string("llama");
  m.string("tokenizer.ggml.tokens").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(1).string("a");
  m.string("tokenizer.ggml.eos_token_id").put<uint32_t>(4).put<uint32_t>(1);
  const std::string bytes = test::gguf_file(3, m, {}, "");
  const auto file = GgufFile::parse(test::as_bytes(bytes), "model.gguf");
  ASSERT_TRUE(file);
  EXPECT_SAYS(read_vocabulary(*file).error().message(),
              "'tokenizer.ggml.eos_token_id' is 1; the vocabulary has 1 tokens");
}

}  // namespace
}  // namespace tidemill::model
