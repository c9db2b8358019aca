// Models whose keys and values are kept as latents: what is kept, the forms of files that they come in, and what is
// refused. That they compute what they should is for decoder_test.cpp.
#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "accuracy.hpp"
#include "expect_says.hpp"
#include "folder_fixture.hpp"
#include "folder_writer.hpp"
#include "model/convert.hpp"
#include "model/gguf_writer.hpp"
#include "model/pack.hpp"
#include "model/synth.hpp"
#include "runner.hpp"
#include "temporary_folder.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using tensor::DType;
using test::FolderDraft;
using test::hyper_parameters_of;
using test::logits_of;

// One value for each element of a latent and of the rotated part, and not the two of each head.
TEST(LatentAttention, KeepsLatentsAlone) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  const Shape shape = find_shape("deepseek3-tiny").value();
  ASSERT_TRUE(write_synthetic_model(shape, path, {.type = DType::bf16, .on_progress = {}}));
  const test::Loaded loaded = test::load(path, tensor::KvType::bf16, 64);
  ASSERT_NE(loaded.cache, nullptr);
  const auto token = static_cast<size_t>(shape.layers * (shape.latent + shape.rotated) * 2);
  EXPECT_EQ(tensor::kv_block_bytes(loaded.cache->shape()), token * tensor::kKvBlockTokens);
  EXPECT_EQ(loaded.cache->shape().kv_heads, 1);
  EXPECT_EQ(loaded.cache->shape().value_dim(), shape.latent);
}

std::vector<std::byte> as_type(DType type, std::string_view bytes, DType from) {
  const auto elements = static_cast<int64_t>(bytes.size()) / tensor::info(from).block_bytes;
  std::vector<float> values(static_cast<size_t>(elements));
  tensor::dequantize(from, reinterpret_cast<const std::byte*>(bytes.data()), elements, values.data());
  std::vector<std::byte> out(static_cast<size_t>(tensor::row_bytes(type, elements)));
  tensor::quantize(type, values.data(), elements, out.data());
  return out;
}

// As files were before heads had matrices of their own: one for keys and values, and other numbers.
void write_older_file(const std::filesystem::path& from, const std::filesystem::path& to, DType expansion_type) {
  const GgufFile file = GgufFile::open(from).value();
  const auto number = [&](const char* key) { return file.get_int(std::string("deepseek2.") + key).value(); };
  GgufWriter writer;
  const std::map<std::string, int64_t, std::less<>> changed = {
      {"deepseek2.attention.head_count_kv", number("attention.head_count")},
      {"deepseek2.attention.key_length", number("attention.key_length_mla")},
      {"deepseek2.attention.value_length", number("attention.value_length_mla")}};
  for (const GgufEntry& entry : file.metadata()) {
    if (entry.key.ends_with("_mla")) continue;
    if (const auto found = changed.find(entry.key); found != changed.end()) {
      writer.add_u32(entry.key, static_cast<uint32_t>(found->second));
    } else {
      writer.add(entry);
    }
  }
  std::vector<std::vector<std::byte>> contents;
  for (const GgufTensor& tensor : file.tensors()) {
    if (tensor.name.ends_with("attn_k_b.weight")) continue;
    const bool values = tensor.name.ends_with("attn_v_b.weight");
    if (values) {
      std::string name(tensor.name);
      name.replace(name.find("attn_v_b"), 8, "attn_kv_b");
      const std::string bytes = test::latent_expansion(file, tensor);
      contents.push_back(as_type(expansion_type, bytes, tensor.type));
      const int64_t rows = static_cast<int64_t>(bytes.size()) / tensor::row_bytes(tensor.type, tensor.cols());
      writer.declare_tensor(name, expansion_type, std::vector<int64_t>{tensor.cols(), rows});
      continue;
    }
    contents.emplace_back(tensor.data.begin(), tensor.data.end());
    writer.declare_tensor(tensor.name, tensor.type, std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
  }
  ASSERT_TRUE(writer.begin(to));
  for (const auto& content : contents)
    ASSERT_TRUE(writer.write(content));
  ASSERT_TRUE(writer.finish());
}

TEST(LatentAttention, OlderFilesComputeTheSame) {
  const test::TemporaryFolder folder;
  const auto newer = folder.path() / "newer.gguf";
  const auto older = folder.path() / "older.gguf";
  const auto packed = folder.path() / "packed.gguf";
  for (const char* shape : {"deepseek2-tiny", "deepseek3-tiny"}) {
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
      ASSERT_TRUE(write_synthetic_model(find_shape(shape).value(), newer, {.type = type, .on_progress = {}}));
      write_older_file(newer, older, type);
      const auto expected = logits_of(newer);
      ASSERT_FALSE(expected.empty());
      EXPECT_EQ(logits_of(older), expected) << shape << " " << tensor::info(type).name;
      const auto packing = pack_model(Checkpoint::open(older).value(), packed, {});
      ASSERT_TRUE(packing) << packing.error().to_string();
      EXPECT_EQ(logits_of(packed), expected) << shape << " " << tensor::info(type).name;
    }
  }
  const HyperParameters hyper = hyper_parameters_of(Checkpoint::open(older).value());
  EXPECT_EQ(hyper.kv_heads, 1);
  EXPECT_EQ(hyper.head_dim, 288);
}

// Blocks are cut along rows, of which there are none any more when keys are transposed. What is left of the error is
// that of quantised weights and of the activations that meet them; a wrong computation is off by all of the norm.
TEST(LatentAttention, OlderQuantisedFilesAreRoundedOnceMore) {
  const test::TemporaryFolder folder;
  const auto newer = folder.path() / "newer.gguf";
  const auto older = folder.path() / "older.gguf";
  Shape shape = find_shape("deepseek2-tiny").value();
  shape.experts = 0;  // no choices, which are made by a hair
  ASSERT_TRUE(write_synthetic_model(shape, newer, {.type = DType::f32, .on_progress = {}}));
  const auto expected = logits_of(newer);
  for (const auto& [type, most] : {std::pair(DType::q8_0, 0.05), std::pair(DType::q6_k, 0.15)}) {
    write_older_file(newer, older, type);
    const auto logits = logits_of(older);
    ASSERT_EQ(logits.size(), expected.size());
    for (size_t t = 0; t < logits.size(); ++t) {
      const std::vector<double> wanted(expected[t].begin(), expected[t].end());
      EXPECT_LT(test::relative_error(logits[t], wanted), most) << tensor::info(type).name << ", token " << t;
    }
  }
}

class LatentFolders : public test::FolderFixture {
 protected:
  void SetUp() override { use("deepseek3-tiny"); }
};

TEST_F(LatentFolders, SayWhatTheyDoNotFit) {
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config.erase("kv_lora_rank"); }, ErrorCode::not_found),
              "'kv_lora_rank' is missing");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["v_head_dim"] = 0; }, ErrorCode::corrupt), "'v_head_dim' is 0");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["qk_nope_head_dim"] = 48; }, ErrorCode::corrupt),
              "tensor 'model.layers.0.self_attn.kv_b_proj.weight' has the shape [512, 256], but config.json wants "
              "[448, 256]");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["q_lora_rank"] = nullptr; }, ErrorCode::not_found),
              "tensor 'model.layers.0.self_attn.q_proj.weight' is missing");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["moe_layer_freq"] = 2; }, ErrorCode::unsupported),
              "'moe_layer_freq' is 2");
  EXPECT_SAYS(
      refusal([](FolderDraft& d) { d.config["topk_method"] = "group_limited_greedy"; }, ErrorCode::corrupt),
      "'topk_method' is \"group_limited_greedy\"; expected greedy or, where 'scoring_func' is sigmoid, noaux_tc");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["scoring_func"] = "tanh"; }, ErrorCode::corrupt),
              "'scoring_func' is \"tanh\"; expected softmax or sigmoid");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["topk_group"] = 5; }, ErrorCode::corrupt), "'topk_group' is 5");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["rope_interleave"] = false; }, ErrorCode::unsupported),
              "'rope_interleave' is false");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["first_k_dense_replace"] = 2; }, ErrorCode::not_found),
              "tensor 'model.layers.1.mlp.gate_proj.weight' is missing");
}

// What is usual of V3, and written by some files alone.
TEST_F(LatentFolders, MayLeaveOutWhatIsUsual) {
  const auto expected = logits_of(folder_.path() / "model.gguf");
  const auto file = open([](FolderDraft& d) {
    for (const char* member : {"scoring_func", "topk_method", "norm_topk_prob", "moe_layer_freq"})
      d.config.erase(member);
  });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(logits_of(model()), expected);
}

// Layers behind the model's own are not part of it.
TEST_F(LatentFolders, PassOverWhatGuessesFurther) {
  const auto add_layer = [](FolderDraft& d) { d.tensors["model.layers.3.eh_proj.weight"] = {"F32", {1}, "1234"}; };
  EXPECT_SAYS(refusal(add_layer, ErrorCode::unsupported), "'model.layers.3.eh_proj.weight' is no part of a model");
  const auto file = open([&](FolderDraft& d) {
    add_layer(d);
    d.config["num_nextn_predict_layers"] = 1;
  });
  ASSERT_TRUE(file) << file.error().to_string();
}

// As DeepSeek publishes it.
TEST_F(LatentFolders, MayCutTextAsV3Does) {
  const auto split = [](const char* regex) {
    return base::json::object{
        {"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
  };
  const auto file = open([&](FolderDraft& d) {
    base::json::object& tokenizer = d.tokenizer->as_object();
    tokenizer["model"].as_object()["ignore_merges"] = false;
    tokenizer["pre_tokenizer"] = {
        {"type", "Sequence"},
        {"pretokenizers",
         base::json::array{
             split("\\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"),
             split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
                   "?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"),
             base::json::object{
                 {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}}}}};
  });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->get_string("tokenizer.ggml.pre").value(), "deepseek-v3");
}

TEST_F(LatentFolders, OfV2ChooseFromGroupsByTheirBest) {
  use("deepseek2-tiny");
  const auto grouped = open([](FolderDraft& d) {
    d.config["topk_method"] = "group_limited_greedy";
    d.config["n_group"] = 4;
    d.config["topk_group"] = 2;
  });
  ASSERT_TRUE(grouped) << grouped.error().to_string();
  const tensor::ExpertRule rule = hyper_parameters_of(*grouped).experts.rule;
  EXPECT_EQ(rule.groups, 4);
  EXPECT_EQ(rule.used_groups, 2);
  EXPECT_EQ(rule.group_best, 1);
  EXPECT_EQ(rule.score, tensor::ExpertRule::Score::softmax);
  EXPECT_FALSE(rule.normalised);
  use("deepseek3-tiny");
  const auto third = open([](FolderDraft&) {});
  ASSERT_TRUE(third) << third.error().to_string();
  EXPECT_EQ(hyper_parameters_of(*third).experts.rule.group_best, 2);
  EXPECT_EQ(hyper_parameters_of(*third).experts.first_layer, 1);
}

// The square of 1 + 0.1 * mscale_all_dim * ln(factor), and one over the root of a key's size.
TEST_F(LatentFolders, ScaleScoresByYarn) {
  const auto scale_of = [&](const std::function<void(base::json::object&)>& change) {
    const auto file = open([&](FolderDraft& d) { change(d.config["rope_scaling"].as_object()); });
    EXPECT_TRUE(file) << file.error().to_string();
    return file ? hyper_parameters_of(*file) : HyperParameters();
  };
  const double usual = 1 + 0.1 * std::log(32.0);
  const HyperParameters plain = scale_of([](base::json::object&) {});
  EXPECT_NEAR(plain.attention_scale, usual * usual / std::sqrt(96.0), 1e-6);
  EXPECT_EQ(plain.rope.magnitude, 1);
  EXPECT_EQ(plain.rope.first, 256);
  EXPECT_EQ(plain.rope.frequencies.size(), 16U);
  const HyperParameters without = scale_of([](base::json::object& s) { s.erase("mscale_all_dim"); });
  EXPECT_NEAR(without.attention_scale, 1 / std::sqrt(96.0), 1e-6);
  EXPECT_NEAR(without.rope.magnitude, usual, 1e-6);
}

}  // namespace
}  // namespace tidemill::model
