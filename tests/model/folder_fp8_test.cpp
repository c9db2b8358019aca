// Folders of FP8 weights, as they are published: they are the folders of the BF16 numbers that their codes and scales
// stand for, tensor by tensor, when they run and when they are converted.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "eight_bits.hpp"
#include "encoder_writer.hpp"
#include "expect_says.hpp"
#include "folder_fixture.hpp"
#include "model/convert.hpp"
#include "model/load.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using test::FolderDraft;
using test::FolderTensor;
using test::logits_of;
namespace json = base::json;

// How a publisher stores weights.
struct Published {
  const char* name;
  const char* dtype;
  const char* ending;  // of the scales' names
  const char* scale_dtype;
  int64_t block_rows;  // 0: all
  int64_t block_cols;
  enum class By : uint8_t { fp8, compressed_tensors, modelopt, fbgemm } by;
};
constexpr auto kFp8 = Published::By::fp8;
constexpr auto kCompressed = Published::By::compressed_tensors;
// DeepSeek V3, Qwen3 FP8, V3.1's kind of scales, Ministral's, AutoFP8's, llm-compressor's by rows, matrix and block,
// ModelOpt's and FBGEMM's. Blocks are smaller than 128 by 128, so that these matrices have several, and some that are
// cut.
constexpr Published kDeepSeek = {"deepseek", "F8_E4M3", "_scale_inv", "F32", 48, 80, kFp8};
constexpr Published kRows = {"rows", "F8_E4M3", "_scale", "BF16", 1, 0, kCompressed};
constexpr Published kForms[] = {
    kDeepSeek,
    {"bf16_scales", "F8_E4M3", "_scale_inv", "BF16", 64, 64, kFp8},
    {"power_scales", "F8_E4M3", "_scale_inv", "F8_E8M0", 128, 128, kFp8},
    {"whole", "F8_E4M3", "_scale_inv", "BF16", 0, 0, kFp8},
    {"more_range", "F8_E5M2", "_scale", "F32", 0, 0, kFp8},
    kRows,
    {"compressed_whole", "F8_E4M3", "_scale", "F32", 0, 0, kCompressed},
    {"compressed_blocks", "F8_E4M3", "_scale", "F32", 96, 48, kCompressed},
    {"modelopt", "F8_E4M3", "_scale", "F32", 0, 0, Published::By::modelopt},
    {"fbgemm", "F8_E4M3", "_scale", "F32", 1, 0, Published::By::fbgemm},
};

json::object compressed(json::object weights) {
  return {{"quant_method", "compressed-tensors"},
          {"format", "float-quantized"},
          {"ignore", json::array{"lm_head"}},
          {"kv_cache_scheme", nullptr},
          {"quantization_status", "compressed"},
          {"sparsity_config", json::object{}},
          {"transform_config", json::object{}},
          {"config_groups",
           {{"group_0",
             {{"targets", json::array{"Linear"}},
              {"input_activations", {{"dynamic", true}, {"num_bits", 8}, {"type", "float"}}},
              {"weights", std::move(weights)}}}}}};
}

json::object quantization_config(const Published& form) {
  const bool blocks = form.block_rows > 1;
  const json::array sizes = {form.block_rows, form.block_cols};
  if (form.by == kFp8) {
    return {{"quant_method", "fp8"},
            {"fmt", "e4m3"},
            {"activation_scheme", "dynamic"},
            {"weight_block_size", blocks ? json::value(sizes) : json::value(nullptr)}};
  }
  if (form.by == Published::By::modelopt) {
    return {{"quant_method", "modelopt"}, {"quant_algo", "FP8"}, {"ignore", json::array{"lm_head"}}};
  }
  if (form.by == Published::By::fbgemm) return {{"quant_method", "fbgemm_fp8"}, {"activation_scale_ub", 1200.0}};
  json::object weights = {
      {"num_bits", 8},         {"type", "float"},
      {"symmetric", true},     {"dynamic", false},
      {"group_size", nullptr}, {"strategy", blocks ? "block" : form.block_rows == 1 ? "channel" : "tensor"}};
  if (blocks) weights["block_structure"] = sizes;
  return compressed(std::move(weights));
}

// A scale as its type holds it, at least `value` but for rounding, and its bytes.
std::pair<float, std::string> stored_scale(const std::string& dtype, float value) {
  if (dtype == "F8_E8M0") {
    const int exponent = static_cast<int>(std::ceil(std::log2(value)));
    return {std::ldexp(1.0F, exponent), std::string(1, static_cast<char>(exponent + 127))};
  }
  if (dtype == "BF16") {
    const std::string bytes = test::bf16_bytes(value);
    uint16_t bits = 0;
    std::memcpy(&bits, bytes.data(), sizeof bits);
    return {std::bit_cast<float>(static_cast<uint32_t>(bits) << 16), bytes};
  }
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return {value, bytes};
}

bool is_projection(const std::string& name) {
  return name.find("_proj") != std::string::npos && name.ends_with(".weight");
}

// The tensor in codes with its scales, and in the numbers that they stand for.
void publish(const Published& form, const std::string& name, FolderDraft& codes, FolderDraft& numbers) {
  const FolderTensor source = numbers.tensors.at(name);
  const int64_t rows = source.shape.at(0);
  const int64_t cols = source.shape.at(1);
  const int64_t block_rows = form.block_rows == 0 ? rows : form.block_rows;
  const int64_t block_cols = form.block_cols == 0 ? cols : form.block_cols;
  const int64_t down = (rows + block_rows - 1) / block_rows;
  const int64_t across = (cols + block_cols - 1) / block_cols;
  std::vector<float> values(static_cast<size_t>(rows * cols));
  std::memcpy(values.data(), source.bytes.data(), source.bytes.size());
  std::vector<float> largest(static_cast<size_t>(down * across), 1e-6F);
  const auto block_of = [&](int64_t i) {
    return static_cast<size_t>(i / cols / block_rows * across + i % cols / block_cols);
  };
  for (int64_t i = 0; i < rows * cols; ++i)
    largest[block_of(i)] = std::max(largest[block_of(i)], std::abs(values[static_cast<size_t>(i)]));
  const test::NearestCodes nearest(form.dtype);
  FolderTensor scales{form.scale_dtype, {}, {}};
  if (block_rows == rows && block_cols == cols) {
    scales.shape = {1};
  } else {
    scales.shape = {down, across};
  }
  std::vector<float> times;
  for (const float one : largest) {
    const auto [scale, bytes] = stored_scale(form.scale_dtype, one / static_cast<float>(nearest.largest()));
    times.push_back(scale);
    scales.bytes += bytes;
  }
  FolderTensor in_codes{form.dtype, source.shape, {}};
  FolderTensor in_numbers{"BF16", source.shape, {}};
  for (int64_t i = 0; i < rows * cols; ++i) {
    const float scale = times[block_of(i)];
    const char code = nearest(static_cast<double>(values[static_cast<size_t>(i)]) / scale);
    in_codes.bytes += code;
    in_numbers.bytes += test::bf16_bytes(static_cast<float>(nearest.number(code)) * scale);
  }
  numbers.tensors[name] = std::move(in_numbers);
  codes.tensors[name] = std::move(in_codes);
  codes.tensors[name + form.ending] = std::move(scales);
}

struct Drafts {
  FolderDraft codes;
  FolderDraft numbers;
};
Drafts publish_all(const Published& form, const FolderDraft& source) {
  Drafts drafts{source, source};
  for (const auto& [name, tensor] : source.tensors) {
    if (is_projection(name)) publish(form, name, drafts.codes, drafts.numbers);
  }
  drafts.codes.config["quantization_config"] = quantization_config(form);
  return drafts;
}

// Each tensor's type, shape and bytes.
std::map<std::string, std::string> content_of(const Checkpoint& file) {
  std::map<std::string, std::string> content;
  base::Buffer scratch;
  for (const GgufTensor& tensor : file.tensors()) {
    const auto bytes = file.read(tensor, scratch);
    EXPECT_TRUE(bytes) << bytes.error().to_string();
    if (!bytes) continue;
    content[std::string(tensor.name)] = fmt::format("{} {} ", tensor::info(tensor.type).name, tensor.shape_text()) +
                                        std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  }
  return content;
}

class FolderInFp8 : public test::FolderFixture {
 protected:
  // Of the names alone, since whole tensors are too long to print.
  static std::vector<std::string> different(const std::map<std::string, std::string>& one,
                                            const std::map<std::string, std::string>& other) {
    std::vector<std::string> names;
    for (const auto& [name, content] : one) {
      const auto same = other.find(name);
      if (same == other.end() || same->second != content) names.push_back(name);
    }
    return names;
  }
};

class SameAsNumbers : public FolderInFp8, public testing::WithParamInterface<std::tuple<const char*, Published>> {};

TEST_P(SameAsNumbers, InAllThatIsDoneWithIt) {
  const auto& [shape, form] = GetParam();
  use(shape);
  const Drafts drafts = publish_all(form, draft_);
  EXPECT_GT(drafts.codes.tensors.size(), draft_.tensors.size() + 5);
  struct Seen {
    std::map<std::string, std::string> content;
    std::vector<std::vector<float>> logits;
    std::string gguf;
  };
  const auto look = [&](const FolderDraft& draft) {
    Seen seen;
    const auto file = open([&](FolderDraft& d) { d = draft; }, 2);
    EXPECT_TRUE(file) << file.error().to_string();
    if (!file) return seen;
    seen.content = content_of(*file);
    seen.logits = logits_of(model());
    const auto out = folder_.path() / "out.gguf";
    std::filesystem::remove(out);
    const auto converted = convert_model(*file, out, {});
    EXPECT_TRUE(converted) << converted.error().to_string();
    if (converted) seen.gguf = base::read_file(out).value();
    return seen;
  };
  const Seen in_codes = look(drafts.codes);
  const Seen in_numbers = look(drafts.numbers);
  ASSERT_EQ(in_codes.content.size(), in_numbers.content.size());
  EXPECT_EQ(different(in_numbers.content, in_codes.content), std::vector<std::string>());
  EXPECT_EQ(in_codes.logits.size(), 13U);
  EXPECT_TRUE(in_codes.logits == in_numbers.logits);
  EXPECT_FALSE(in_codes.gguf.empty());
  EXPECT_TRUE(in_codes.gguf == in_numbers.gguf);
}

std::string test_name(const testing::TestParamInfo<std::tuple<const char*, Published>>& instance) {
  std::string name = fmt::format("{}_{}", std::get<0>(instance.param), std::get<1>(instance.param).name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

// Query and key projections change their rows' places in llama.
INSTANTIATE_TEST_SUITE_P(Forms, SameAsNumbers,
                         testing::Combine(testing::Values("llama-tiny"), testing::ValuesIn(kForms)), test_name);
// What becomes one tensor of several, and two of one.
INSTANTIATE_TEST_SUITE_P(Shapes, SameAsNumbers,
                         testing::Combine(testing::Values("qwen3moe-tiny", "deepseek3-tiny", "phi3-tiny"),
                                          testing::Values(kDeepSeek)),
                         test_name);
INSTANTIATE_TEST_SUITE_P(Rows, SameAsNumbers,
                         testing::Combine(testing::Values("deepseek2-tiny"), testing::Values(kRows)), test_name);

// What they say of activations and of the KV cache; and matrices that were left as they are.
TEST_F(FolderInFp8, WhatIsNoWeightIsPassedOver) {
  use("llama-tiny");
  const Drafts drafts = publish_all(kRows, draft_);
  const std::string attention = "model.layers.1.self_attn.";
  const auto file = open([&](FolderDraft& d) {
    d = drafts.codes;
    for (const char* name :
         {"k_proj.input_scale", "q_proj.activation_scale", "k_scale", "v_scale", "k_proj.output_scale"})
      d.tensors[attention + name] = {"F32", {1}, "1234"};
    d.tensors[attention + "v_proj.weight"] = draft_.tensors.at(attention + "v_proj.weight");
    d.tensors.erase(attention + "v_proj.weight_scale");
  });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->find_tensor("blk.1.attn_v.weight")->type, tensor::DType::f32);
  EXPECT_EQ(file->find_tensor("blk.1.attn_k.weight")->type, tensor::DType::bf16);
  EXPECT_SAYS(refusal(
                  [&](FolderDraft& d) {
                    d.tensors[attention + "v_proj.input_scale"] = {"F32", {1}, "1234"};
                  },
                  ErrorCode::unsupported),
              "tensor 'model.layers.1.self_attn.v_proj.input_scale' is no part of");
}

TEST_F(FolderInFp8, EncodersAreReadAlike) {
  const auto gguf = folder_.path() / "encoder.gguf";
  ASSERT_TRUE(
      write_synthetic_model(find_shape("bert-tiny").value(), gguf, {.type = tensor::DType::f32, .on_progress = {}}));
  draft_ = test::encoder_draft_of(GgufFile::open(gguf).value(), "bert");
  for (const Published& form : {kDeepSeek, kRows}) {
    Drafts drafts{draft_, draft_};
    for (const auto& [name, tensor] : draft_.tensors) {
      const bool projects = name.find("encoder.layer.") != std::string::npos && tensor.shape.size() == 2;
      if (projects) publish(form, name, drafts.codes, drafts.numbers);
    }
    drafts.codes.config["quantization_config"] = quantization_config(form);
    const auto numbers = open([&](FolderDraft& d) { d = drafts.numbers; });
    ASSERT_TRUE(numbers) << numbers.error().to_string();
    const auto expected = content_of(*numbers);
    const auto codes = open([&](FolderDraft& d) {
      d = drafts.codes;
      d.tensors["encoder.layer.1.output.dense.input_scale"] = {"F32", {1}, "1234"};
    });
    ASSERT_TRUE(codes) << codes.error().to_string();
    EXPECT_EQ(codes->find_tensor("blk.1.ffn_up.weight")->type, tensor::DType::bf16);
    EXPECT_EQ(different(expected, content_of(*codes)), std::vector<std::string>());
  }
}

// Where the embedding is the output matrix as well, a copy of it in codes is passed over with its scales.
TEST_F(FolderInFp8, ATiedOutputIsPassedOverWithItsScales) {
  use("qwen2-tiny");
  draft_.tensors["lm_head.weight"] = draft_.tensors.at("model.embed_tokens.weight");
  for (const Published& form : {kDeepSeek, kRows}) {
    Drafts drafts = publish_all(form, draft_);
    publish(form, "lm_head.weight", drafts.codes, drafts.numbers);
    const auto file = open([&](FolderDraft& d) { d = drafts.codes; });
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(file->find_tensor("output.weight"), nullptr);
    EXPECT_EQ(file->find_tensor("token_embd.weight")->type, tensor::DType::f32);
    EXPECT_SAYS(refusal(
                    [&](FolderDraft& d) {
                      d = drafts.codes;
                      d.tensors["lm_head.weight"] = d.tensors.at("model.layers.0.mlp.down_proj.weight");
                    },
                    ErrorCode::corrupt),
                "tensor 'lm_head.weight' has the shape");
    // Without codes there is nothing that they scale.
    const std::string said = fmt::format("tensor 'lm_head.weight{}' is no part of", form.ending);
    EXPECT_SAYS(refusal(
                    [&](FolderDraft& d) {
                      d = drafts.codes;
                      d.tensors.erase("lm_head.weight");
                    },
                    ErrorCode::unsupported),
                said);
    EXPECT_SAYS(refusal(
                    [&](FolderDraft& d) {
                      d = drafts.codes;
                      d.tensors["lm_head.weight"] = d.tensors.at("model.embed_tokens.weight");
                    },
                    ErrorCode::unsupported),
                said);
    // Of other numbers than the embedding's it is no copy, however they were rounded.
    Drafts others = drafts;
    std::string& embedding = others.codes.tensors.at("model.embed_tokens.weight").bytes;
    std::rotate(embedding.begin(), embedding.begin() + 4 * 37, embedding.end());
    EXPECT_SAYS(refusal([&](FolderDraft& d) { d = others.codes; }, ErrorCode::corrupt),
                "tensor 'lm_head.weight' holds numbers that differ from those of 'model.embed_tokens.weight' by 1");
    // What config.json says is not tied is read.
    const auto apart = open([&](FolderDraft& d) {
      d = drafts.codes;
      d.config["tie_word_embeddings"] = false;
    });
    ASSERT_TRUE(apart) << apart.error().to_string();
    ASSERT_NE(apart->find_tensor("output.weight"), nullptr);
    EXPECT_EQ(apart->find_tensor("output.weight")->type, tensor::DType::bf16);
  }
}

TEST_F(FolderInFp8, CodesThatAreNoNumbersAreFound) {
  use("llama-tiny");
  const Drafts drafts = publish_all(kDeepSeek, draft_);
  const auto file = open([&](FolderDraft& d) {
    d = drafts.codes;
    d.tensors.at("model.layers.0.mlp.down_proj.weight").bytes[700] = '\x7F';
  });
  ASSERT_TRUE(file) << file.error().to_string();
  const std::string said =
      "tensor 'blk.0.ffn_down.weight' ('model.layers.0.mlp.down_proj.weight' in 'model.safetensors') holds NaN at "
      "element 700";
  const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  const auto loaded = load_model(*file, *device, {.on_progress = {}});
  ASSERT_FALSE(loaded);
  EXPECT_SAYS(loaded.error().to_string(), said);
  const auto converted = convert_model(*file, folder_.path() / "out.gguf", {});
  ASSERT_FALSE(converted);
  EXPECT_EQ(converted.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(converted.error().to_string(), said);
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "out.gguf"));
}

// And so are their scales, which are not to be looked for among them.
TEST_F(FolderInFp8, ScalesThatMakeNoNumbersAreNamed) {
  use("llama-tiny");
  const std::string name = "model.layers.0.mlp.down_proj.weight_scale_inv";
  const auto said = [&](float scale) {
    const Drafts drafts = publish_all(kDeepSeek, draft_);
    const auto file = open([&](FolderDraft& d) {
      d = drafts.codes;
      std::memcpy(d.tensors.at(name).bytes.data() + 4, &scale, sizeof scale);
    });
    EXPECT_TRUE(file) << file.error().to_string();
    if (!file) return std::string();
    const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
    const auto loaded = load_model(*file, *device, {.on_progress = {}});
    return loaded ? "(accepted)" : loaded.error().to_string();
  };
  const std::string where = ", since the scale of rows 0 to 47 and columns 80 to 159 in '" + name + "' is ";
  EXPECT_SAYS(said(std::nanf("")), "holds NaN at element 80" + where + "NaN; weights are finite numbers");
  EXPECT_SAYS(said(-INFINITY), where + "-inf; weights are");
  EXPECT_SAYS(said(1e38F), where + "1e+38, and times its codes too large for BF16; weights are");
}

TEST_F(FolderInFp8, WhatIsQuantisedOtherwiseIsRefused) {
  use("llama-tiny");
  const auto refused = [&](json::object quantization, ErrorCode code = ErrorCode::unsupported) {
    return refusal([&](FolderDraft& d) { d.config["quantization_config"] = std::move(quantization); }, code);
  };
  for (const char* method : {"bitsandbytes", "mxfp4", "hqq"}) {
    EXPECT_SAYS(refused({{"quant_method", method}}),
                fmt::format("config.json: the weights are quantised by '{}' ('quantization_config'); supported are FP8 "
                            "(the quant_method fp8, fbgemm_fp8 or modelopt, or compressed-tensors of the format "
                            "float-quantized), integers (gptq, awq, and",
                            method));
  }
  EXPECT_SAYS(refused({{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}}),
              "'quantization_config.quant_algo' is 'NVFP4'; supported is FP8");
  EXPECT_SAYS(refused({{"bits", 4}}), "quantised by '?'");
  for (const json::value& size : {json::value(128), json::value(json::array{128}), json::value(json::array{128, 0}),
                                  json::value(json::array{128, 1 << 21}), json::value(json::array{128, 0.5})}) {
    EXPECT_SAYS(refused({{"quant_method", "fp8"}, {"weight_block_size", size}}, ErrorCode::corrupt),
                "expected two numbers of 1 to 1048576, rows and columns");
  }
  const json::object eight = {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}};
  const auto with = [&](const std::function<void(json::object&)>& change) {
    json::object quantization = compressed(eight);
    change(quantization);
    return quantization;
  };
  const auto with_weights = [&](const char* key, json::value value) {
    json::object weights = eight;
    weights[key] = std::move(value);
    return compressed(std::move(weights));
  };
  EXPECT_SAYS(refused(with([](json::object& q) { q["format"] = "nvfp4-pack-quantized"; })),
              "'quantization_config.format' is 'nvfp4-pack-quantized'; supported is float-quantized, int-quantized or "
              "pack-quantized");
  EXPECT_SAYS(refused(with([](json::object& q) {
                q["sparsity_config"] = {{"format", "sparse-24-bitmask"}};
              })),
              "'quantization_config.sparsity_config.format' is 'sparse-24-bitmask'; supported is dense");
  EXPECT_SAYS(refused(with([](json::object& q) {
                q["transform_config"] = {{"config_groups", {{"u", 1}}}};
              })),
              "'quantization_config.transform_config' says that weights are transformed");
  const std::string weights = "'quantization_config.config_groups.group_0.weights.";
  EXPECT_SAYS(refused(with_weights("type", "int")), weights + "type' is 'int'; supported is float");
  EXPECT_SAYS(refused(with_weights("num_bits", 4)), weights + "num_bits' is 4 and ");
  EXPECT_SAYS(refused(with_weights("symmetric", false)), "symmetric' false; supported are 8 and true");
  EXPECT_SAYS(refused(with_weights("strategy", "group")),
              weights + "strategy' is 'group'; supported are tensor, channel and block");
  EXPECT_SAYS(refused(with_weights("strategy", "block"), ErrorCode::corrupt),
              weights + "block_structure' is absent; expected two numbers");
  EXPECT_SAYS(refused(with([](json::object& q) { q["config_groups"] = json::object{}; }), ErrorCode::corrupt),
              "'quantization_config.config_groups' is {}; expected an object with at least one group");
  EXPECT_SAYS(
      refused(with([](json::object& q) { q["config_groups"].as_object()["group_0"].as_object().erase("weights"); }),
              ErrorCode::corrupt),
      weights.substr(0, weights.size() - 1) + "' is absent; expected an object");
  EXPECT_SAYS(refused(with([&](json::object& q) {
                json::object blocks = eight;
                blocks["strategy"] = "block";
                blocks["block_structure"] = json::array{128, 128};
                q["config_groups"].as_object()["group_1"] = {{"weights", std::move(blocks)}};
              })),
              "have different bits, sizes or blocks");
}

TEST_F(FolderInFp8, ScalesAreThereAndFit) {
  use("qwen3moe-tiny");
  const Drafts drafts = publish_all(kDeepSeek, draft_);
  const std::string expert = "model.layers.1.mlp.experts.3.up_proj.weight";
  const auto changed = [&](ErrorCode code, const std::function<void(FolderDraft&)>& change) {
    return refusal(
        [&](FolderDraft& d) {
          d = drafts.codes;
          change(d);
        },
        code);
  };
  EXPECT_SAYS(changed(ErrorCode::not_found, [&](FolderDraft& d) { d.tensors.erase(expert + "_scale_inv"); }),
              "model.safetensors: tensor '" + expert + "' is of the type F8_E4M3, but its scales are missing");
  EXPECT_SAYS(changed(ErrorCode::corrupt,
                      [](FolderDraft& d) {
                        d.config["quantization_config"].as_object()["weight_block_size"] = json::array{128, 128};
                      }),
              "for blocks of 128 rows and 128 columns");
  EXPECT_SAYS(changed(ErrorCode::unsupported, [](FolderDraft& d) { d.config.erase("quantization_config"); }),
              "is of the type F8_E4M3; supported are F32, F16 and BF16, and F8_E4M3");
  // Codes of two kinds in one tensor of experts.
  EXPECT_SAYS(changed(ErrorCode::corrupt, [&](FolderDraft& d) { d.tensors.at(expert).dtype = "F8_E5M2"; }),
              "tensor '" + expert + "' is no matrix of the type and shape of");
  // Scales of what is not in codes would be left out.
  EXPECT_SAYS(changed(ErrorCode::unsupported,
                      [&](FolderDraft& d) {
                        for (const auto& [name, tensor] : drafts.numbers.tensors)
                          d.tensors[name] = tensor;
                      }),
              "_scale_inv' is no part of");
}

}  // namespace
}  // namespace tidemill::model
