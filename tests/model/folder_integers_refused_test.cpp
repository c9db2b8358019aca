// Folders of integers that are refused, and what is said of them.
#include <algorithm>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.hpp"
#include "expect_says.hpp"
#include "folder_fixture.hpp"
#include "integer_forms.hpp"
#include "model/hugging_face/integer_matrix.hpp"
#include "model/load.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using tensor::DType;
using test::FolderDraft;
using test::IntegerDrafts;
using test::IntegerPublisher;
using test::kAwq;
using test::kGptq;
using test::kPacked;
using test::kPlain;
using PublisherForm = IntegerPublisher::Form;
namespace json = base::json;

using RefusedIntegers = test::FolderFixture;

// Wherever a matrix goes: in blocks or numbers, by itself or among experts.
TEST_F(RefusedIntegers, AScaleThatIsNoNumberIsNamed) {
  struct Broken {
    const char* shape;
    IntegerPublisher publisher;
    const char* scales;
    int64_t at;
    const char* says;
  };
  const IntegerPublisher scattered = {"scattered", PublisherForm::gptq, 4, 128, true, "F16", true};
  const IntegerPublisher whole = {"whole", PublisherForm::plain, 8, -1, true, "F16", false, true};
  const Broken cases[] = {
      {"llama-tiny", kGptq, "model.layers.1.self_attn.q_proj.scales", 3, "of row 3 and group 0"},
      {"llama-tiny", kAwq, "model.layers.1.self_attn.v_proj.scales", 128, "of row 0 and group 1"},
      {"llama-tiny", scattered, "model.layers.1.mlp.down_proj.scales", 3, "of row 3 and group 0"},
      {"llama-tiny", whole, "model.layers.1.mlp.down_proj.weight_scale", 0, ""},
      {"qwen3moe-tiny", kGptq, "model.layers.1.mlp.experts.3.up_proj.scales", 3, "of row 3 and group 0"},
      {"deepseek3-tiny", kGptq, "model.layers.1.self_attn.kv_b_proj.scales", 3, "of row 3 and group 0"},
  };
  for (const auto& [shape, publisher, scales, at, says] : cases) {
    use(shape);
    IntegerDrafts drafts = publish_all_integers(publisher, draft_);
    const uint16_t nan = 0x7E00;
    std::memcpy(drafts.codes.tensors.at(scales).bytes.data() + at * 2, &nan, sizeof nan);
    const auto file = open([&](FolderDraft& d) { d = drafts.codes; });
    ASSERT_TRUE(file) << file.error().to_string();
    const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
    const auto loaded = load_model(*file, *device, {.on_progress = {}});
    ASSERT_FALSE(loaded) << scales;
    EXPECT_SAYS(loaded.error().to_string(),
                fmt::format("since the scale{}{} in '{}' is NaN", *says == 0 ? "" : " ", says, scales));
  }
}

// Of F32 there is nothing larger.
TEST_F(RefusedIntegers, AScaleThatIsTooLargeForEveryTypeIsNamed) {
  use("llama-tiny");
  const IntegerPublisher wide = {"wide", PublisherForm::plain, 8, -1, true, "BF16"};
  IntegerDrafts drafts = publish_all_integers(wide, draft_);
  const std::string name = "model.layers.0.mlp.up_proj.weight_scale";
  const uint16_t huge = 0x7F00;  // 2^127
  std::memcpy(drafts.codes.tensors.at(name).bytes.data() + 4, &huge, sizeof huge);
  const auto file = open([&](FolderDraft& d) { d = drafts.codes; });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->find_tensor("blk.0.ffn_up.weight")->type, DType::bf16);
  const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  const auto loaded = load_model(*file, *device, {.on_progress = {}});
  ASSERT_FALSE(loaded);
  EXPECT_SAYS(loaded.error().to_string(), "since the scale of row 2 and group 0 in '" + name + "' is 1.701");
  EXPECT_SAYS(loaded.error().to_string(), ", and times its codes too large for BF16");
}

// An output matrix that is to be the embedding is looked at, in whatever form it is.
TEST_F(RefusedIntegers, ATiedOutputOfOtherNumbersIsRefused) {
  use("qwen2-tiny");
  const std::string embedding = "model.embed_tokens.weight";
  const std::string head = "lm_head.weight";
  const test::FolderTensor original = draft_.tensors.at(embedding);
  test::FolderTensor other = original;
  std::rotate(other.bytes.begin(), other.bytes.begin() + 4 * 37, other.bytes.end());
  test::FolderTensor longer = original;
  longer.shape[0] += 32;
  longer.bytes += std::string(static_cast<size_t>(32 * longer.shape[1] * 4), '\0');
  for (const IntegerPublisher& publisher : {kGptq, kAwq, kPacked, kPlain}) {
    const auto with = [&](const test::FolderTensor& output, const std::function<void(IntegerDrafts&)>& change = {}) {
      draft_.tensors[head] = output;
      IntegerDrafts drafts = publish_all_integers(publisher, draft_);
      test::publish_integers(publisher, head, drafts.codes, drafts.numbers);
      if (change) change(drafts);
      const auto file = open([&](FolderDraft& d) { d = drafts.codes; });
      return file ? "(accepted)" : file.error().to_string();
    };
    const std::string codes =
        IntegerMatrix::codes_name({.form = publisher.form == PublisherForm::packed  ? IntegerForm::packed
                                           : publisher.form == PublisherForm::plain ? IntegerForm::plain
                                                                                    : IntegerForm::gptq},
                                  head);
    EXPECT_EQ(with(original), "(accepted)") << publisher.name;
    EXPECT_SAYS(with(other), "tensor '" + codes + "' holds numbers that differ from those of '" + embedding + "' by 1");
    EXPECT_SAYS(with(longer), "tensor '" + codes + "' has the shape [");
    EXPECT_SAYS(with(longer), "but is to be the same ('tie_word_embeddings' of config.json)");
    // The other way round, and both; these are rounded from the same.
    const auto round_embedding = [&](IntegerDrafts& drafts) {
      test::publish_integers(publisher, embedding, drafts.codes, drafts.numbers);
    };
    EXPECT_EQ(with(original, round_embedding), "(accepted)") << publisher.name;
    EXPECT_SAYS(with(other, round_embedding), "holds numbers that differ from those of '" + embedding + "' by 1");
  }
}

TEST_F(RefusedIntegers, ConfigurationsThatAreNotReadAreRefused) {
  use("llama-tiny");
  const auto refused = [&](json::object quantization, ErrorCode code = ErrorCode::unsupported) {
    return refusal([&](FolderDraft& d) { d.config["quantization_config"] = std::move(quantization); }, code);
  };
  const auto with = [](const IntegerPublisher& publisher, const char* key, json::value value) {
    json::object quantization = integers_config(publisher);
    quantization[key] = std::move(value);
    return quantization;
  };
  const std::string member = "'quantization_config.";
  EXPECT_SAYS(refused(with(kGptq, "bits", 3)), member + "bits' is 3; supported is 4 or 8");
  EXPECT_SAYS(refused(with(kGptq, "group_size", 0), ErrorCode::corrupt),
              member + "group_size' is 0; expected a number");
  EXPECT_SAYS(refused(with(kGptq, "checkpoint_format", "marlin")),
              member + "checkpoint_format' is 'marlin'; supported is gptq or gptq_v2");
  EXPECT_SAYS(refused(with(kAwq, "bits", 8)), member + "bits' is 8; supported is 4");
  EXPECT_SAYS(refused(with(kAwq, "version", "gemv")), member + "version' is 'gemv'; supported is gemm");
  EXPECT_SAYS(refused(with(kAwq, "zero_point", false)), member + "zero_point' is false; supported is true");
  EXPECT_SAYS(refused(with(kPacked, "format", "marlin-24")), "supported is float-quantized, int-quantized or pack-");
  const auto with_weights = [](const IntegerPublisher& publisher, const char* key, json::value value) {
    json::object quantization = integers_config(publisher);
    json::object& group = quantization["config_groups"].as_object()["group_0"].as_object();
    group["weights"].as_object()[key] = std::move(value);
    return quantization;
  };
  const std::string weights = member + "config_groups.group_0.weights.";
  EXPECT_SAYS(refused(with_weights(kPacked, "num_bits", 2)), weights + "num_bits' is 2; supported is 4 or 8");
  EXPECT_SAYS(refused(with_weights(kPlain, "num_bits", 4)), weights + "num_bits' is 4; supported is 8");
  EXPECT_SAYS(refused(with_weights(kPlain, "type", "float")), weights + "type' is 'float'; supported is int");
  EXPECT_SAYS(refused(with_weights(kPacked, "strategy", "block")), "supported are tensor, channel and group");
  EXPECT_SAYS(refused(with_weights(kPacked, "group_size", nullptr)), "strategy' is 'group'; supported are");
  EXPECT_SAYS(refused(with_weights(kPacked, "actorder", "random")),
              weights + "actorder' is 'random'; supported are group, dynamic, weight and static");
  json::object mixed = integers_config(kPacked);
  mixed["config_groups"].as_object()["group_0"].as_object()["format"] = "int-quantized";
  EXPECT_SAYS(refused(mixed), "group_0.format' is 'int-quantized'; supported is pack-quantized");
}

TEST_F(RefusedIntegers, TensorsThatDoNotFitAreRefused) {
  use("llama-tiny");
  const std::string layer = "model.layers.1.self_attn.k_proj";
  const auto changed = [&](const IntegerPublisher& publisher, ErrorCode code,
                           const std::function<void(FolderDraft&)>& change) {
    const IntegerDrafts drafts = publish_all_integers(publisher, draft_);
    return refusal(
        [&](FolderDraft& d) {
          d = drafts.codes;
          change(d);
        },
        code);
  };
  const auto without = [&](const IntegerPublisher& publisher, const std::string& ending) {
    return changed(publisher, ErrorCode::not_found, [&](FolderDraft& d) { d.tensors.erase(layer + ending); });
  };
  const std::string has_codes = "tensor '" + layer + ".qweight' has codes, but what belongs to them is missing: '";
  EXPECT_SAYS(without(kGptq, ".scales"), has_codes + layer + ".scales'");
  EXPECT_SAYS(without(kAwq, ".qzeros"), has_codes + layer + ".qzeros'");
  EXPECT_SAYS(without(kPacked, ".weight_shape"), layer + ".weight_shape'");
  EXPECT_SAYS(without(kPlain, ".weight_scale"), layer + ".weight_scale'");
  EXPECT_SAYS(without(kGptq, ".qweight"), "tensor '" + layer + ".weight' is missing");
  const IntegerPublisher scattered_gptq = {"scattered", PublisherForm::gptq, 4, 128, true, "F16", true};
  const IntegerPublisher scattered_packed = {"scattered", PublisherForm::packed, 4, 128, true, "BF16", true};
  EXPECT_SAYS(without(scattered_gptq, ".g_idx"),
              "'" + layer +
                  ".qweight' has columns whose groups lie scattered ('desc_act' in 'quantization_config' of " +
                  "config.json), but what says which is of which is missing: '" + layer + ".g_idx'");
  EXPECT_SAYS(without(scattered_packed, ".weight_g_idx"),
              "('actorder' in 'quantization_config' of config.json), but what says which is of which is missing: '" +
                  layer + ".weight_g_idx'");
  const auto set = [&](const IntegerPublisher& publisher, const std::string& ending,
                       const std::function<void(test::FolderTensor&)>& change, ErrorCode code = ErrorCode::corrupt) {
    return changed(publisher, code, [&](FolderDraft& d) { change(d.tensors.at(layer + ending)); });
  };
  EXPECT_SAYS(set(kGptq, ".scales",
                  [](auto& t) {
                    t.shape = {t.shape[1], t.shape[0]};
                  }),
              "stands for 128 rows and 256 columns, for whose 2 groups of 128 the scales ('" + layer +
                  ".scales') should have the shape [2, 128], and have [128, 2]");
  EXPECT_SAYS(set(kGptq, ".qzeros",
                  [](auto& t) {
                    t.shape = {t.shape[1], t.shape[0]};
                  }),
              "'" + layer + ".qzeros' should have the shape [2, 16], and has [16, 2]");
  EXPECT_SAYS(set(kGptq, ".g_idx", [](auto& t) { t.bytes[4] = 2; }), "puts column 1 into number 2");
  EXPECT_SAYS(set(kGptq, ".g_idx", [](auto& t) { t.bytes[7] = '\xFF'; }), "puts column 1 into number -");
  EXPECT_SAYS(set(
                  kGptq, ".qzeros", [](auto& t) { t.dtype = "F32"; }, ErrorCode::unsupported),
              "wants '" + layer + ".qzeros' to be of the type I32, but it is of F32");
  EXPECT_SAYS(set(kGptq, ".qweight", [](auto& t) { t.shape = {t.shape[0] * t.shape[1]}; }),
              "expected a matrix of codes");
  EXPECT_SAYS(set(
                  kPlain, ".weight_scale", [](auto& t) { t.dtype = "I16"; }, ErrorCode::unsupported),
              "has scales ('" + layer + ".weight_scale') of the type I16; supported are F32, F16 and BF16");
  EXPECT_SAYS(set(kPacked, ".weight_shape", [](auto& t) { t.bytes[0] = 1; }), "does not hold the 1 rows");
  EXPECT_SAYS(set(kPacked, ".weight_shape", [](auto& t) { t.dtype = "F64"; }),
              "to be two numbers of the type I64 or I32");
  // What the configuration says fits no tensor.
  EXPECT_SAYS(changed(kGptq, ErrorCode::corrupt,
                      [](FolderDraft& d) { d.config["quantization_config"].as_object()["group_size"] = 64; }),
              "for whose 4 groups of 64 the scales");
  // It is named where it is known what it should say.
  const auto told = [&](const IntegerPublisher& publisher, const json::object& quantization) {
    return changed(publisher, ErrorCode::corrupt,
                   [&](FolderDraft& d) { d.config["quantization_config"] = quantization; });
  };
  const auto gptq_with = [](const char* key, const json::value& value) {
    json::object quantization = integers_config(kGptq);
    quantization[key] = value;
    return quantization;
  };
  const std::string fits_gptq =
      "; the tensors fit 'quant_method' gptq, 'bits' 4 and 'group_size' 128, where "
      "'quantization_config' of config.json says ";
  EXPECT_SAYS(told(kGptq, gptq_with("bits", 8)), fits_gptq + "'quant_method' gptq, 'bits' 8 and 'group_size' 128");
  EXPECT_SAYS(told(kGptq, gptq_with("group_size", 32)),
              fits_gptq + "'quant_method' gptq, 'bits' 4 and 'group_size' 32");
  EXPECT_SAYS(told(kGptq, integers_config(kAwq)), fits_gptq + "'quant_method' awq, 'bits' 4 and 'group_size' 128");
  EXPECT_SAYS(told(kAwq, integers_config(kGptq)), "the tensors fit 'quant_method' awq, 'bits' 4 and 'group_size' 128");
  json::object eight = integers_config(kPacked);
  eight["config_groups"].as_object()["group_0"].as_object()["weights"].as_object()["num_bits"] = 8;
  EXPECT_SAYS(told(kPacked, eight),
              "; the tensors fit 'num_bits' 4 and 'group_size' 32, where "
              "'quantization_config' of config.json says 'num_bits' 8 and 'group_size' 32");
  EXPECT_SAYS(changed(kGptq, ErrorCode::corrupt,
                      [](FolderDraft& d) { d.config["quantization_config"].as_object()["bits"] = 8; }),
              "stands for");
  EXPECT_SAYS(changed(kGptq, ErrorCode::unsupported, [](FolderDraft& d) { d.config.erase("quantization_config"); }),
              "'quantization_config' of config.json does not say how");
  EXPECT_SAYS(changed({"asymmetric", PublisherForm::packed, 4, 128, false, "BF16"}, ErrorCode::not_found,
                      [&](FolderDraft& d) { d.tensors.erase(layer + ".weight_zero_point"); }),
              layer + ".weight_zero_point'");
  EXPECT_SAYS(changed(kPlain, ErrorCode::unsupported, [](FolderDraft& d) { d.config.erase("quantization_config"); }),
              "is of the type I8; supported are F32, F16 and BF16");
}

}  // namespace
}  // namespace tidemill::model
