// Folders of integers with scales, as they are published: every matrix is what its codes, zeros and scales stand for,
// exactly where blocks hold it, and rounded once where none do.
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

#include "base/json.hpp"
#include "encoder_writer.hpp"
#include "expect_says.hpp"
#include "folder_fixture.hpp"
#include "integer_forms.hpp"
#include "model/convert.hpp"
#include "model/encoder.hpp"
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

struct IntegerCase {
  IntegerPublisher publisher;
  DType type;  // what matrices become
};
constexpr IntegerCase kIntegerCases[] = {
    {kGptq, DType::q4_0},
    {{"gptq_asymmetric", PublisherForm::gptq, 4, 128, false, "F16"}, DType::q8_0},
    {{"gptq_act_order", PublisherForm::gptq, 4, 128, true, "F16", true}, DType::f16},
    {{"gptq_act_order_asymmetric", PublisherForm::gptq, 4, 64, false, "F16", true}, DType::f16},
    {{"gptq_rows", PublisherForm::gptq, 4, -1, true, "F16"}, DType::q4_0},
    {{"gptq_cut_group", PublisherForm::gptq, 4, 96, true, "BF16"}, DType::q4_0},
    {{"gptq_small_group", PublisherForm::gptq, 4, 16, true, "F16"}, DType::f16},
    {{"gptq_eight_bits", PublisherForm::gptq, 8, 128, true, "F16"}, DType::q8_0},
    {{"gptq_eight_bits_asymmetric", PublisherForm::gptq, 8, 32, false, "F16"}, DType::f16},
    {{"gptq_v2", PublisherForm::gptq_v2, 4, 128, false, "BF16"}, DType::q8_0},
    {{"gptq_v2_symmetric", PublisherForm::gptq_v2, 4, 128, true, "F16"}, DType::q4_0},
    {kAwq, DType::q8_0},
    {{"awq_small_groups", PublisherForm::awq, 4, 32, false, "F16"}, DType::q8_0},
    {kPacked, DType::q4_0},
    {{"packed_asymmetric", PublisherForm::packed, 4, 128, false, "BF16"}, DType::q8_0},
    {{"packed_act_order", PublisherForm::packed, 4, 128, true, "BF16", true}, DType::bf16},
    {{"packed_rows", PublisherForm::packed, 4, -1, true, "F16"}, DType::q4_0},
    {{"packed_eight_bits", PublisherForm::packed, 8, 128, true, "F16"}, DType::q8_0},
    {{"packed_eight_bits_asymmetric", PublisherForm::packed, 8, 128, false, "BF16"}, DType::bf16},
    {{"packed_whole", PublisherForm::packed, 8, -1, true, "F32", false, true}, DType::f32},
    {kPlain, DType::q8_0},
    {{"plain_f32_scales", PublisherForm::plain, 8, -1, true, "F32"}, DType::f32},
    {{"plain_whole", PublisherForm::plain, 8, -1, true, "F16", false, true}, DType::q8_0},
    {{"plain_groups", PublisherForm::plain, 8, 64, true, "F16"}, DType::q8_0},
    {{"plain_asymmetric", PublisherForm::plain, 8, -1, false, "BF16"}, DType::bf16},
};

double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const double size = exponent == 0 ? std::ldexp(bits & 1023, -24) : std::ldexp(1024 + (bits & 1023), exponent - 25);
  return bits >> 15 == 0 ? size : -size;
}

// What a tensor's bytes stand for, by GGUF's description of its types.
std::vector<double> values_of(DType type, const std::byte* at, int64_t elements) {
  std::vector<double> values(static_cast<size_t>(elements));
  const auto u16 = [](const std::byte* from) {
    uint16_t bits = 0;
    std::memcpy(&bits, from, sizeof bits);
    return bits;
  };
  for (int64_t i = 0; i < elements; ++i) {
    double& value = values[static_cast<size_t>(i)];
    const int64_t in_block = i % 32;
    if (type == DType::q4_0) {
      const std::byte* const block = at + i / 32 * 18;
      const int pair = static_cast<int>(block[2 + in_block % 16]);
      value = half_value(u16(block)) * ((in_block < 16 ? pair & 15 : pair >> 4) - 8);
    } else if (type == DType::q8_0) {
      const std::byte* const block = at + i / 32 * 34;
      value = half_value(u16(block)) * static_cast<int8_t>(block[2 + in_block]);
    } else if (type == DType::f16) {
      value = half_value(u16(at + i * 2));
    } else if (type == DType::bf16) {
      value = std::bit_cast<float>(static_cast<uint32_t>(u16(at + i * 2)) << 16);
    } else {
      float plain = 0;
      std::memcpy(&plain, at + i * 4, sizeof plain);
      value = plain;
    }
  }
  return values;
}

// How far a number may be from one rounded to the type: half a unit of its last place.
double half_unit(DType type, double value) {
  if (type == DType::f16) return std::max(std::abs(value) * 0x1p-11, 0x1p-25);
  return type == DType::bf16 ? std::abs(value) * 0x1p-8 : 0;
}

class FolderOfIntegers : public test::FolderFixture {
 protected:
  // The tensors that both have, whose numbers differ by more than rounding.
  static std::vector<std::string> unlike(const Checkpoint& one, const Checkpoint& numbers) {
    std::vector<std::string> names;
    base::Buffer scratch;
    base::Buffer other_scratch;
    for (const GgufTensor& tensor : one.tensors()) {
      const GgufTensor* const other = numbers.find_tensor(tensor.name);
      if (other == nullptr || other->elements() != tensor.elements()) {
        names.emplace_back(tensor.name);
        continue;
      }
      const auto bytes = one.read(tensor, scratch);
      const auto wanted = numbers.read(*other, other_scratch);
      EXPECT_TRUE(bytes && wanted);
      if (!bytes || !wanted) continue;
      const auto got = values_of(tensor.type, bytes->data(), tensor.elements());
      const auto expected = values_of(other->type, wanted->data(), tensor.elements());
      const bool alike = std::equal(got.begin(), got.end(), expected.begin(),
                                    [&](double a, double b) { return std::abs(a - b) <= half_unit(tensor.type, b); });
      if (!alike) names.emplace_back(tensor.name);
    }
    return names;
  }

  // Opens both drafts, the numbers first, which leaves the codes as model().
  std::pair<base::Result<Checkpoint>, base::Result<Checkpoint>> open_both(const IntegerDrafts& drafts) {
    drafts.numbers.write(folder_.path() / "numbers");
    auto numbers = Checkpoint::open(folder_.path() / "numbers");
    auto codes = open([&](FolderDraft& d) { d = drafts.codes; }, 2);
    EXPECT_TRUE(numbers) << numbers.error().to_string();
    EXPECT_TRUE(codes) << codes.error().to_string();
    return {std::move(codes), std::move(numbers)};
  }
};

double relative_distance(const std::vector<std::vector<float>>& one, const std::vector<std::vector<float>>& other) {
  double squares = 0;
  double all = 0;
  for (size_t row = 0; row < one.size(); ++row) {
    for (size_t i = 0; i < one[row].size(); ++i) {
      squares += std::pow(one[row][i] - other[row][i], 2.0);
      all += std::pow(other[row][i], 2.0);
    }
  }
  return std::sqrt(squares / all);
}

class WhatIntegersStandFor : public FolderOfIntegers, public testing::WithParamInterface<IntegerCase> {};

TEST_P(WhatIntegersStandFor, IsWhatIsRead) {
  const auto& [publisher, type] = GetParam();
  use("llama-tiny");
  const IntegerDrafts drafts = publish_all_integers(publisher, draft_);
  const auto [codes, numbers] = open_both(drafts);
  ASSERT_TRUE(codes && numbers);
  ASSERT_EQ(codes->tensors().size(), numbers->tensors().size());
  EXPECT_EQ(unlike(*codes, *numbers), std::vector<std::string>());
  for (const char* part : {"attn_q", "attn_v", "attn_output", "ffn_down"}) {
    EXPECT_EQ(codes->find_tensor(fmt::format("blk.1.{}.weight", part))->type, type) << part;
  }
  // Of blocks, the device rounds what they are multiplied with to eight bits.
  const auto expected = test::logits_of(folder_.path() / "numbers");
  const auto logits = test::logits_of(model());
  ASSERT_EQ(logits.size(), 13U);
  EXPECT_LT(relative_distance(logits, expected), type == DType::q4_0 || type == DType::q8_0 ? 0.05 : 0.02);
}

INSTANTIATE_TEST_SUITE_P(Forms, WhatIntegersStandFor, testing::ValuesIn(kIntegerCases),
                         [](const auto& instance) { return std::string(instance.param.publisher.name); });

class IntegersOfShapes : public FolderOfIntegers,
                         public testing::WithParamInterface<std::tuple<const char*, IntegerPublisher>> {};

// What becomes one tensor of several, and two of one; and matrices of both projections in one.
TEST_P(IntegersOfShapes, AreReadAndConverted) {
  const auto& [shape, publisher] = GetParam();
  use(shape);
  const auto [codes, numbers] = open_both(publish_all_integers(publisher, draft_));
  ASSERT_TRUE(codes && numbers);
  EXPECT_EQ(unlike(*codes, *numbers), std::vector<std::string>());
  const auto out = folder_.path() / "out.gguf";
  const auto converted = convert_model(*codes, out, {});
  ASSERT_TRUE(converted) << converted.error().to_string();
  const auto logits = test::logits_of(model());
  EXPECT_EQ(logits.size(), 13U);
  EXPECT_TRUE(test::logits_of(out) == logits);
}

INSTANTIATE_TEST_SUITE_P(Shapes, IntegersOfShapes,
                         testing::Combine(testing::Values("qwen3moe-tiny", "deepseek3-tiny", "phi3-tiny",
                                                          "gemma3-tiny"),
                                          testing::Values(kGptq, kAwq, kPacked, kPlain)),
                         [](const auto& instance) {
                           std::string name =
                               fmt::format("{}_{}", std::get<0>(instance.param), std::get<1>(instance.param).name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_F(FolderOfIntegers, OfLatentsOnlyWhatMakesKeysIsNumbers) {
  use("deepseek3-tiny");
  const auto [codes, numbers] = open_both(publish_all_integers(kGptq, draft_));
  ASSERT_TRUE(codes && numbers);
  EXPECT_EQ(codes->find_tensor("blk.1.attn_k_b.weight")->type, DType::f16);
  EXPECT_EQ(codes->find_tensor("blk.1.attn_v_b.weight")->type, DType::q4_0);
}

// One expert's zeros want more than the others': together they are numbers.
TEST_F(FolderOfIntegers, ExpertsThatBlocksDoNotHoldAlikeAreNumbers) {
  use("qwen3moe-tiny");
  IntegerDrafts drafts = publish_all_integers(kGptq, draft_);
  const std::string expert = "model.layers.1.mlp.experts.3.up_proj";
  drafts.numbers.tensors[expert + ".weight"] = draft_.tensors.at(expert + ".weight");
  test::publish_integers({"other", PublisherForm::gptq, 4, 128, false, "F16"}, expert + ".weight", drafts.codes,
                         drafts.numbers);
  EXPECT_TRUE(drafts.codes.tensors.contains(expert + ".qweight"));
  const auto [codes, numbers] = open_both(drafts);
  ASSERT_TRUE(codes && numbers);
  EXPECT_EQ(unlike(*codes, *numbers), std::vector<std::string>());
  EXPECT_EQ(codes->find_tensor("blk.1.ffn_up_exps.weight")->type, DType::f16);
  EXPECT_EQ(codes->find_tensor("blk.1.ffn_down_exps.weight")->type, DType::q4_0);
}

// F16 has no scale as small as this.
TEST_F(FolderOfIntegers, ScalesThatBlocksDoNotHoldAreFound) {
  use("llama-tiny");
  IntegerDrafts drafts = publish_all_integers(kPacked, draft_);
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  std::string& scales = drafts.codes.tensors.at(name + "_scale").bytes;
  const uint16_t tiny = 0x3381;  // 2^-24 and a little more
  std::memcpy(scales.data() + 10, &tiny, sizeof tiny);
  const auto file = open([&](FolderDraft& d) { d = drafts.codes; });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->find_tensor("blk.0.ffn_up.weight")->type, DType::bf16);
  EXPECT_EQ(file->find_tensor("blk.0.ffn_down.weight")->type, DType::q4_0);
  const uint16_t infinity = 0x7F80;
  std::memcpy(scales.data() + 10, &infinity, sizeof infinity);
  const auto broken = open([&](FolderDraft& d) { d = drafts.codes; });
  ASSERT_TRUE(broken) << broken.error().to_string();
  const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  const auto loaded = load_model(*broken, *device, {.on_progress = {}});
  ASSERT_FALSE(loaded);
  EXPECT_SAYS(loaded.error().to_string(), "'model.layers.0.mlp.up_proj.weight_packed' in 'model.safetensors') holds ");
  EXPECT_SAYS(loaded.error().to_string(),
              "since the scale of row 0 and group 5 in '" + name + "_scale' is inf; weights are finite numbers");
}

// F16 has them, and not what they are times their codes.
TEST_F(FolderOfIntegers, LargeScalesMakeNumbersOfF32) {
  use("qwen3moe-tiny");
  const IntegerPublisher scattered = {"scattered", PublisherForm::gptq, 4, 64, true, "F16", true};
  IntegerDrafts drafts = publish_all_integers(scattered, draft_);
  for (const char* name : {"model.layers.0.mlp.experts.1.down_proj", "model.layers.0.self_attn.o_proj"}) {
    const uint16_t large = 0x7BFF;  // 65504
    std::memcpy(drafts.codes.tensors.at(std::string(name) + ".scales").bytes.data(), &large, sizeof large);
  }
  const auto file = open([&](FolderDraft& d) { d = drafts.codes; });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->find_tensor("blk.0.attn_output.weight")->type, DType::f32);
  EXPECT_EQ(file->find_tensor("blk.0.ffn_down_exps.weight")->type, DType::f32);
  EXPECT_EQ(file->find_tensor("blk.0.attn_v.weight")->type, DType::f16);
  const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  const auto loaded = load_model(*file, *device, {.on_progress = {}});
  EXPECT_TRUE(loaded) << loaded.error().to_string();
  const auto converted =
      convert_model(*file, folder_.path() / "f16.gguf", {.type = DType::f16, .on_progress = {}, .cancelled = {}});
  ASSERT_FALSE(converted);
  EXPECT_SAYS(converted.error().to_string(), "which is beyond F16; convert to BF16 or F32");
}

TEST_F(FolderOfIntegers, WhatIsNoWeightOrTiedIsPassedOver) {
  use("qwen2-tiny");
  draft_.tensors["lm_head.weight"] = draft_.tensors.at("model.embed_tokens.weight");
  for (const IntegerPublisher& publisher : {kGptq, kPlain}) {
    IntegerDrafts drafts = publish_all_integers(publisher, draft_);
    test::publish_integers(publisher, "lm_head.weight", drafts.codes, drafts.numbers);
    drafts.codes.tensors["model.layers.1.self_attn.k_proj.input_scale"] = {"F32", {1}, "1234"};
    const auto tied = open([&](FolderDraft& d) { d = drafts.codes; });
    ASSERT_TRUE(tied) << tied.error().to_string();
    EXPECT_EQ(tied->find_tensor("output.weight"), nullptr);
    const auto apart = open([&](FolderDraft& d) {
      d = drafts.codes;
      d.config["tie_word_embeddings"] = false;
    });
    ASSERT_TRUE(apart) << apart.error().to_string();
    ASSERT_NE(apart->find_tensor("output.weight"), nullptr);
    EXPECT_NE(apart->find_tensor("output.weight")->type, DType::f32);
  }
}

TEST_F(FolderOfIntegers, EncodersAreReadAlike) {
  for (const IntegerPublisher& publisher : {kPlain, kPacked}) {
    const auto gguf = folder_.path() / "encoder.gguf";
    std::filesystem::remove(gguf);
    ASSERT_TRUE(write_synthetic_model(find_shape("bert-tiny").value(), gguf, {.type = DType::f32, .on_progress = {}}));
    draft_ = test::encoder_draft_of(GgufFile::open(gguf).value(), "bert");
    const auto [codes, numbers] = open_both(publish_all_integers(publisher, draft_));
    ASSERT_TRUE(codes && numbers);
    EXPECT_EQ(unlike(*codes, *numbers), std::vector<std::string>());
    const auto* const up = codes->find_tensor("blk.1.ffn_up.weight");
    ASSERT_NE(up, nullptr);
    EXPECT_EQ(up->type, publisher.bits == 4 ? DType::q4_0 : DType::q8_0);
    const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
    const auto encoder = load_encoder(*codes, *device, {.max_batch_rows = 64, .on_progress = {}});
    EXPECT_TRUE(encoder) << encoder.error().to_string();
  }
}

// As published: columns that were rounded in another order than they lie in are of groups in order all the same, and so
// are those of the only one.
TEST_F(FolderOfIntegers, GroupsInOrderNeedNobodyToSaySo) {
  use("llama-tiny");
  const auto type_of = [&](const IntegerPublisher& publisher, const std::function<void(json::object&)>& say) {
    IntegerDrafts drafts = publish_all_integers(publisher, draft_);
    std::erase_if(drafts.codes.tensors, [](const auto& tensor) { return tensor.first.ends_with("g_idx"); });
    say(drafts.codes.config["quantization_config"].as_object());
    const auto file = open([&](FolderDraft& d) { d = drafts.codes; });
    EXPECT_TRUE(file) << file.error().to_string();
    return file ? std::optional(file->find_tensor("blk.1.attn_k.weight")->type) : std::nullopt;
  };
  const auto act_order = [](const json::value& order) {
    return [order](json::object& quantization) {
      json::object& group = quantization["config_groups"].as_object()["group_0"].as_object();
      group["weights"].as_object()["actorder"] = order;
    };
  };
  EXPECT_EQ(type_of(kGptq, [](json::object&) {}), DType::q4_0);
  EXPECT_EQ(type_of(kGptq,
                    [](json::object& quantization) {
                      quantization["desc_act"] = true;
                      quantization["static_groups"] = true;
                    }),
            DType::q4_0);
  EXPECT_EQ(type_of({"rows", PublisherForm::gptq, 4, -1, true, "F16"},
                    [](json::object& quantization) { quantization["desc_act"] = true; }),
            DType::q4_0);
  for (const json::value& order : {json::value("weight"), json::value("static"), json::value(false)})
    EXPECT_EQ(type_of(kPacked, act_order(order)), DType::q4_0);
}

}  // namespace
}  // namespace tidemill::model
