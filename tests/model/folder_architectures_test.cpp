// What config.json says in members that one architecture alone has.
#include <cmath>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.hpp"
#include "expect_says.hpp"
#include "folder_fixture.hpp"
#include "model/architectures/architecture.hpp"
#include "model/convert.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/folder.hpp"
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

// Of a file that is mapped, the bytes that this process has in memory.
size_t resident_bytes(const std::filesystem::path& path) {
  std::ifstream maps("/proc/self/smaps");
  const std::string name = std::filesystem::canonical(path).string();
  size_t kilobytes = 0;
  bool wanted = false;
  for (std::string line; std::getline(maps, line);) {
    const bool field = !line.empty() && line.front() >= 'A' && line.front() <= 'Z';  // else an address, which is hex
    if (!field) wanted = line.ends_with(name);
    if (wanted && line.starts_with("Rss:")) kilobytes += std::stoul(line.substr(4));
  }
  return kilobytes * 1024;
}

class OwnMembers : public test::FolderFixture {
 protected:
  void SetUp() override { use("gemma3-tiny"); }
};

// What reads images is passed over; of the part that writes, files leave out what is usual.
TEST_F(OwnMembers, ModelsThatReadImagesWriteText) {
  const auto expected = logits_of(folder_.path() / "model.gguf");
  const auto with_images = [](FolderDraft& d, const std::string& prefix, const char* left_out) {
    base::json::object text = std::move(d.config);
    text.erase(left_out);
    d.config = {{"model_type", "gemma3"}, {"text_config", std::move(text)}};
    std::map<std::string, test::FolderTensor> renamed;
    for (auto& [name, tensor] : d.tensors)
      renamed[name.starts_with("model.") ? prefix + name.substr(6) : name] = std::move(tensor);
    renamed["vision_tower.embeddings.weight"] = {"F32", {1}, "1234"};
    renamed["model.multi_modal_projector.weight"] = {"F32", {1}, "1234"};
    d.tensors = std::move(renamed);
  };
  for (const char* prefix : {"language_model.model.", "model.language_model."}) {
    const auto file = open([&](FolderDraft& d) { with_images(d, prefix, "rope_theta"); });
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(logits_of(model()), expected);
  }
  const auto file = open([&](FolderDraft& d) { with_images(d, "language_model.model.", "rms_norm_eps"); });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(hyper_parameters_of(*file).rms_epsilon, 1e-6F);
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["model_type"] = "gemma3"; }, ErrorCode::not_found),
              "'text_config' is missing");
}

TEST_F(OwnMembers, GemmasRefuseWhatIsComputedOtherwise) {
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["use_bidirectional_attention"] = true; }, ErrorCode::unsupported),
              "'use_bidirectional_attention' is true");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["hidden_activation"] = "silu"; }, ErrorCode::unsupported),
              "'hidden_activation' is 'silu'; supported is gelu_pytorch_tanh");
  const auto types = [](const char* last) {
    return base::json::array{"sliding_attention", "sliding_attention", "sliding_attention",
                             "sliding_attention", "sliding_attention", last};
  };
  EXPECT_SAYS(
      refusal([&](FolderDraft& d) { d.config["layer_types"] = types("sliding_attention"); }, ErrorCode::unsupported),
      "another type than full_attention for layer 5");
  const auto usual = open([&](FolderDraft& d) { d.config["layer_types"] = types("full_attention"); });
  ASSERT_TRUE(usual) << usual.error().to_string();
  // Newer files have an object for each way of rotating.
  const auto newer = open([](FolderDraft& d) {
    base::json::object full = {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1000000.0}};
    base::json::object sliding = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
    d.config["rope_parameters"] = {{"full_attention", std::move(full)}, {"sliding_attention", std::move(sliding)}};
    d.config.erase("rope_scaling");
    d.config.erase("rope_theta");
    d.config.erase("rope_local_base_freq");
  });
  ASSERT_TRUE(newer) << newer.error().to_string();
  EXPECT_EQ(hyper_parameters_of(*newer).rope, hyper_parameters_of(*usual).rope);
  EXPECT_EQ(hyper_parameters_of(*newer).window_rope, hyper_parameters_of(*usual).window_rope);
  const auto sliding = [&](const char* name, base::json::value value) {
    return refusal(
        [&](FolderDraft& d) {
          base::json::object rotation = {{"rope_type", "default"}, {"rope_theta", 10000.0}};
          rotation[name] = value;
          d.config.erase("rope_scaling");
          d.config["rope_parameters"] = {{"full_attention", {{"rope_type", "default"}, {"rope_theta", 1000000.0}}},
                                         {"sliding_attention", std::move(rotation)}};
        },
        ErrorCode::unsupported);
  };
  EXPECT_SAYS(
      sliding("rope_type", "linear"),
      "'rope_parameters.sliding_attention.rope_type' is \"linear\"; layers with a window rotate by 'rope_theta'");
  EXPECT_SAYS(sliding("factor", 8.0), "'rope_parameters.sliding_attention.factor' is 8");
  EXPECT_EQ(sliding("factor", nullptr), "(accepted)");
  const auto period = open([](FolderDraft& d) { d.config["sliding_window_pattern"] = 3; });
  ASSERT_TRUE(period) << period.error().to_string();
  EXPECT_TRUE(hyper_parameters_of(*period).has_window(1));
  EXPECT_FALSE(hyper_parameters_of(*period).has_window(2));
  const auto scaled = open([](FolderDraft& d) { d.config["query_pre_attn_scalar"] = 168; });
  ASSERT_TRUE(scaled) << scaled.error().to_string();
  EXPECT_FLOAT_EQ(hyper_parameters_of(*scaled).attention_scale, 1 / std::sqrt(168.0F));
}

// null is no cap, which is kept in a converted file; it is not the released models', which files that do not say have.
TEST_F(OwnMembers, Gemma2sCapsMayBeNone) {
  use("gemma2-tiny");
  const auto capped = logits_of(folder_.path() / "model.gguf");
  const auto attention = [](FolderDraft& d) { d.config["attn_logit_softcapping"] = nullptr; };
  const auto logits = [](FolderDraft& d) { d.config["final_logit_softcapping"] = nullptr; };
  const auto hyper = [&](const std::function<void(FolderDraft&)>& change) {
    const auto file = open(change);
    EXPECT_TRUE(file) << file.error().to_string();
    return file ? hyper_parameters_of(*file) : HyperParameters();
  };
  EXPECT_EQ(hyper(attention).attention_soft_cap, 0);
  EXPECT_GT(hyper(attention).logit_soft_cap, 0);
  EXPECT_EQ(hyper(logits).logit_soft_cap, 0);
  EXPECT_GT(hyper(logits).attention_soft_cap, 0);
  const auto neither = open([&](FolderDraft& d) {
    attention(d);
    logits(d);
  });
  ASSERT_TRUE(neither) << neither.error().to_string();
  const auto expected = logits_of(model());
  EXPECT_NE(expected, capped);
  const auto converted = folder_.path() / "converted.gguf";
  ASSERT_TRUE(convert_model(*neither, converted, {}));
  EXPECT_EQ(logits_of(converted), expected);
  for (const double cap : {0.0, -1.0}) {
    EXPECT_SAYS(refusal([&](FolderDraft& d) { d.config["final_logit_softcapping"] = cap; }, ErrorCode::corrupt),
                "expected a positive number, or null for none");
  }
}

// What a folder becomes is a GGUF file that computes the same, and as well without the folder.
TEST_F(OwnMembers, AreKeptInAConvertedFile) {
  for (const char* shape : {"granite-tiny", "phi3-tiny", "gemma2-tiny", "gemma3-tiny", "mixtral-tiny", "qwen2moe-tiny",
                            "gpt-oss-tiny", "deepseek2-tiny", "deepseek3-tiny"}) {
    use(shape);
    const auto expected = logits_of(folder_.path() / "model.gguf");
    const auto source = open([](FolderDraft&) {}, 2);
    ASSERT_TRUE(source) << source.error().to_string();
    const auto converted = folder_.path() / "converted.gguf";
    const auto summary = convert_model(*source, converted, {});
    ASSERT_TRUE(summary) << summary.error().to_string();
    std::filesystem::remove_all(model());
    EXPECT_EQ(logits_of(converted), expected) << shape;
  }
}

// LongRoPE's factors and magnitude, and the part of each head that is rotated.
TEST_F(OwnMembers, OfPhi3ScaleItsRotation) {
  use("phi3-tiny");
  const auto plain = open([](FolderDraft&) {});
  ASSERT_TRUE(plain) << plain.error().to_string();
  const HyperParameters hyper = hyper_parameters_of(*plain);
  EXPECT_EQ(hyper.rope.frequencies.size(), 24U);
  EXPECT_EQ(hyper.short_context, 16);
  EXPECT_NEAR(hyper.rope.magnitude, std::sqrt(1 + std::log(128.0) / std::log(16.0)), 1e-6);
  const auto given = open([](FolderDraft& d) {
    d.config["rope_scaling"].as_object()["attention_factor"] = 1.5;
    d.config["rope_scaling"].as_object()["type"] = "su";
  });
  ASSERT_TRUE(given) << given.error().to_string();
  EXPECT_EQ(hyper_parameters_of(*given).rope.magnitude, 1.5);
  // The context is 2048, of which 16 were first trained for.
  const auto factor = [](FolderDraft& d) { d.config["rope_scaling"].as_object()["factor"] = 64.0; };
  EXPECT_SAYS(refusal(factor, ErrorCode::unsupported),
              "'rope_scaling.factor' is 64, but 'max_position_embeddings' 2048 is 128 times "
              "'original_max_position_embeddings' 16");
  const auto same = open([](FolderDraft& d) { d.config["rope_scaling"].as_object()["factor"] = 128.0; });
  ASSERT_TRUE(same) << same.error().to_string();
  EXPECT_EQ(hyper_parameters_of(*same).rope, hyper.rope);
  const auto overruled = open([&](FolderDraft& d) {
    factor(d);
    d.config["rope_scaling"].as_object()["attention_factor"] = 1.5;
  });
  ASSERT_TRUE(overruled) << overruled.error().to_string();
  EXPECT_EQ(hyper_parameters_of(*overruled).rope.magnitude, 1.5);
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["rope_scaling"].as_object()["long_factor"].as_array().pop_back(); },
                      ErrorCode::corrupt),
              "'rope_scaling.long_factor' has 23 numbers; the rotation has 24 pairs");
  EXPECT_SAYS(
      refusal([](FolderDraft& d) { d.config["rope_scaling"].as_object().erase("short_factor"); }, ErrorCode::not_found),
      "'rope_scaling.short_factor' is missing");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["partial_rotary_factor"] = 2; }, ErrorCode::corrupt),
              "'partial_rotary_factor' is 2");
}

// The frequencies are those that transformers 4.57 (_compute_yarn_parameters) gives of these numbers.
TEST_F(OwnMembers, OfYarnScaleTheRotation) {
  use("llama-tiny");
  const base::json::object plain = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 512}};
  const auto hyper_of = [&](const std::function<void(FolderDraft&, base::json::object&)>& change) {
    const auto file = open([&](FolderDraft& d) {
      base::json::object scaling = plain;
      change(d, scaling);
      d.config["rope_scaling"] = std::move(scaling);
    });
    EXPECT_TRUE(file) << file.error().to_string();
    return file ? hyper_parameters_of(*file) : HyperParameters();
  };
  const auto rope_with = [&](const char* name, base::json::value value) {
    return hyper_of([&](FolderDraft&, base::json::object& s) { s[name] = value; }).rope;
  };
  const auto expect_frequency = [](const tensor::Rope& rope, size_t pair, double expected) {
    ASSERT_EQ(rope.frequencies.size(), 32U);
    EXPECT_NEAR(rope.frequencies[pair] / expected, 1, 1e-12) << pair;
  };
  const HyperParameters usual = hyper_of([](FolderDraft&, base::json::object&) {});
  EXPECT_EQ(usual.context, 2048);
  expect_frequency(usual.rope, 0, 1);
  expect_frequency(usual.rope, 2, 0.44036660267178046);
  expect_frequency(usual.rope, 6, 0.056931400190510406);
  expect_frequency(usual.rope, 11, 0.0027473821336349564);
  expect_frequency(usual.rope, 31, 7.534645380347927e-07);
  EXPECT_NEAR(usual.rope.magnitude, 1.138629436111989, 1e-12);
  const std::vector<std::pair<const char*, base::json::value>> of_no_effect = {
      {"type", "yarn"}, {"truncate", true}, {"beta_fast", 32.0}, {"beta_slow", 1}, {"mscale", 1}, {"factor", nullptr}};
  for (const auto& [name, value] : of_no_effect)
    EXPECT_EQ(rope_with(name, value), usual.rope) << name;
  const tensor::Rope exact = rope_with("truncate", false);
  expect_frequency(exact, 6, 0.05720113102230486);
  expect_frequency(exact, 10, 0.005214192075608356);
  EXPECT_EQ(exact.magnitude, usual.rope.magnitude);
  EXPECT_NE(rope_with("beta_fast", 8).frequencies, usual.rope.frequencies);
  EXPECT_NEAR(rope_with("attention_factor", 1.5).magnitude, 1.5, 1e-6);
  const auto divided = [&](double part, double all) {
    return hyper_of([&](FolderDraft&, base::json::object& s) {
             s["mscale"] = part;
             s["mscale_all_dim"] = all;
           })
        .rope.magnitude;
  };
  EXPECT_NEAR(divided(0.707, 0.707), 1, 1e-6);
  EXPECT_NEAR(divided(1, 0.5), (1 + 0.1 * std::log(4.0)) / (1 + 0.05 * std::log(4.0)), 1e-6);
  EXPECT_NEAR(divided(0, 0.5), usual.rope.magnitude, 1e-6);
  // As newer files have it.
  const HyperParameters newer = hyper_of([&](FolderDraft& d, base::json::object&) {
    base::json::object all = plain;
    all["rope_theta"] = 500000.0;
    d.config["rope_parameters"] = std::move(all);
    d.config.erase("rope_theta");
  });
  EXPECT_EQ(newer.rope, usual.rope);
  // The members may be all that was changed in a model of shorter contexts.
  EXPECT_EQ(hyper_of([](FolderDraft&, base::json::object& s) { s["factor"] = 8.0; }).context, 4096);
  const auto refused = [&](const char* name, base::json::value value) {
    return refusal(
        [&](FolderDraft& d) {
          base::json::object scaling = plain;
          scaling[name] = value;
          d.config["rope_scaling"] = std::move(scaling);
        },
        ErrorCode::corrupt);
  };
  EXPECT_SAYS(refused("mscale", -1), "'rope_scaling.mscale' is -1; expected a positive number");
  EXPECT_SAYS(refused("factor", 0), "'rope_scaling.factor' is 0; expected a positive number");
  EXPECT_SAYS(refused("original_max_position_embeddings", 1),
              "'rope_scaling.original_max_position_embeddings' is 1; expected 2 or more");
  // And all of it is in a converted file.
  const auto source = open([&](FolderDraft& d) {
    base::json::object scaling = plain;
    scaling["truncate"] = false;
    scaling["attention_factor"] = 1.5;
    d.config["rope_scaling"] = std::move(scaling);
  });
  ASSERT_TRUE(source) << source.error().to_string();
  const auto converted = folder_.path() / "converted.gguf";
  ASSERT_TRUE(convert_model(*source, converted, {}));
  EXPECT_EQ(hyper_parameters_of(*Checkpoint::open(converted)).rope, hyper_parameters_of(*source).rope);
}

TEST_F(OwnMembers, OfMixturesNameTheirExperts) {
  use("qwen2moe-tiny");
  const auto plain = open([](FolderDraft&) {}, 3);
  ASSERT_TRUE(plain) << plain.error().to_string();
  const ExpertShape experts = hyper_parameters_of(*plain).experts;
  EXPECT_EQ(experts.count, 8);
  EXPECT_EQ(experts.rule.used, 2);
  EXPECT_FALSE(experts.rule.normalised);
  EXPECT_EQ(experts.shared_feed_forward, 512);
  const auto normalised = open([](FolderDraft& d) { d.config["norm_topk_prob"] = true; });
  ASSERT_TRUE(normalised) << normalised.error().to_string();
  EXPECT_TRUE(hyper_parameters_of(*normalised).experts.rule.normalised);
  EXPECT_SAYS(
      refusal([](FolderDraft& d) { d.config["mlp_only_layers"] = base::json::array{1}; }, ErrorCode::unsupported),
      "leave layers without experts");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["num_experts"] = 9; }, ErrorCode::not_found),
              "tensor 'model.layers.0.mlp.experts.8.gate_proj.weight' is missing");
  EXPECT_SAYS(
      refusal(
          [](FolderDraft& d) {
            d.tensors["model.layers.1.mlp.experts.3.up_proj.weight"] = {"F32", {1, 256}, std::string(1024, '\0')};
          },
          ErrorCode::corrupt),
      "tensor 'model.layers.1.mlp.experts.3.up_proj.weight' is no matrix of the type and shape of");
  // What chooses experts becomes F32.
  const auto halves = open([](FolderDraft& d) {
    for (const char* name : {"gate", "shared_expert_gate"}) {
      test::FolderTensor& tensor = d.tensors[fmt::format("model.layers.0.mlp.{}.weight", name)];
      tensor.dtype = "BF16";
      tensor.bytes.resize(tensor.bytes.size() / 2);
      for (size_t i = 0; i < tensor.bytes.size(); i += 2) {
        tensor.bytes[i] = '\x40';
        tensor.bytes[i + 1] = '\x40';  // 3
      }
    }
  });
  ASSERT_TRUE(halves) << halves.error().to_string();
  for (const char* name : {"blk.0.ffn_gate_inp.weight", "blk.0.ffn_gate_inp_shexp.weight"}) {
    const GgufTensor* tensor = halves->find_tensor(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(tensor->type, DType::f32);
    base::Buffer scratch;
    const auto bytes = halves->read(*tensor, scratch);
    ASSERT_TRUE(bytes) << bytes.error().to_string();
    float last = 0;
    std::memcpy(&last, bytes->data() + bytes->size() - sizeof last, sizeof last);
    EXPECT_EQ(last, 3.0F) << name;
  }
}

// As the released files are: experts in MXFP4, and all else plain.
TEST_F(OwnMembers, OfGptOssExpertsMayBeMxfp4) {
  use("gpt-oss-tiny");
  const auto mixed = folder_.path() / "mixed.gguf";
  {
    const Checkpoint plain = Checkpoint::open(folder_.path() / "model.gguf").value();
    GgufWriter writer;
    for (const GgufEntry& entry : plain.metadata())
      writer.add(entry);
    const auto type_of = [](const GgufTensor& tensor) { return tensor.rank == 3 ? DType::mxfp4 : tensor.type; };
    for (const GgufTensor& tensor : plain.tensors()) {
      writer.declare_tensor(tensor.name, type_of(tensor),
                            std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
    }
    ASSERT_TRUE(writer.begin(mixed));
    for (const GgufTensor& tensor : plain.tensors()) {
      std::vector<float> values(static_cast<size_t>(tensor.elements()));
      tensor::dequantize(tensor.type, tensor.data.data(), tensor.elements(), values.data());
      std::vector<std::byte> bytes(static_cast<size_t>(tensor::row_bytes(type_of(tensor), tensor.elements())));
      tensor::quantize(type_of(tensor), values.data(), tensor.elements(), bytes.data());
      ASSERT_TRUE(writer.write(bytes));
    }
    ASSERT_TRUE(writer.finish());
  }
  const auto expected = logits_of(mixed);
  draft_ = test::draft_of(GgufFile::open(mixed).value());
  ASSERT_TRUE(draft_.tensors.contains("model.layers.1.mlp.experts.gate_up_proj_blocks"));
  for (const int shards : {1, 3}) {
    const auto file = open([](FolderDraft&) {}, shards);
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(file->find_tensor("blk.1.ffn_up_exps.weight")->type, DType::mxfp4);
    EXPECT_EQ(logits_of(model()), expected) << shards;
    const auto converted = folder_.path() / "converted.gguf";
    const auto summary = convert_model(*file, converted, {});
    ASSERT_TRUE(summary) << summary.error().to_string();
    EXPECT_EQ(logits_of(converted), expected) << shards;
    std::filesystem::remove(converted);
  }
  const std::string experts = "model.layers.1.mlp.experts.";
  const auto wrong = [&](const std::string& name, const std::function<void(test::FolderTensor&)>& change,
                         ErrorCode code) {
    return refusal([&](FolderDraft& d) { change(d.tensors.at(experts + name)); }, code);
  };
  EXPECT_SAYS(wrong(
                  "down_proj_scales",
                  [](test::FolderTensor& t) {
                    t.shape = {8, 128, 16};
                  },
                  ErrorCode::corrupt),
              "down_proj_scales' has the shape [8, 128, 16]; expected [8, 256, 8]");
  EXPECT_SAYS(wrong(
                  "gate_up_proj_blocks", [](test::FolderTensor& t) { t.dtype = "I8"; }, ErrorCode::unsupported),
              "gate_up_proj_blocks' is of the type I8; MXFP4's codes and scales are U8");
  EXPECT_SAYS(wrong(
                  "gate_up_proj_bias",
                  [](test::FolderTensor& t) {
                    t.shape = {16, 256};
                  },
                  ErrorCode::corrupt),
              "gate_up_proj_bias' has the shape [16, 256]; expected [8, rows]");
  for (const char* name : {"gate_up_proj_scales", "gate_up_proj_blocks", "down_proj_bias"}) {
    EXPECT_SAYS(refusal([&](FolderDraft& d) { d.tensors.erase(experts + name); }, ErrorCode::not_found),
                fmt::format("tensor '{}{}' is missing", experts, name));
  }
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["num_local_experts"] = 9; }, ErrorCode::corrupt),
              "gate_up_proj_blocks' has the shape [8, 512, 8, 16]; expected [9, rows, groups, 16]");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.tensors.erase("model.layers.0.self_attn.sinks"); }, ErrorCode::not_found),
              "tensor 'model.layers.0.self_attn.sinks' is missing");
}

TEST_F(OwnMembers, GptOssRefusesWhatIsComputedOtherwise) {
  use("gpt-oss-tiny");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["swiglu_limit"] = 5.0; }, ErrorCode::unsupported),
              "'swiglu_limit' is 5; supported is 7");
  EXPECT_SAYS(refusal(
                  [](FolderDraft& d) {
                    d.config["layer_types"] = base::json::array{"full_attention", "sliding_attention"};
                  },
                  ErrorCode::unsupported),
              "another type than sliding_attention for layer 0");
  EXPECT_SAYS(refusal(
                  [](FolderDraft& d) {
                    d.config["quantization_config"] = {{"quant_method", "quip"}};
                  },
                  ErrorCode::unsupported),
              "quantised by 'quip'");
  const auto plain = open([](FolderDraft&) {});
  ASSERT_TRUE(plain) << plain.error().to_string();
  const HyperParameters hyper = hyper_parameters_of(*plain);
  EXPECT_EQ(hyper.activation, tensor::Activation::silu_clamped);
  EXPECT_EQ(hyper.windowed, (std::vector<bool>{true, false}));
  EXPECT_TRUE(hyper.experts.rule.normalised);
  // Without the member, what YaRN stretches in part begins and ends at whole pairs, as transformers has it.
  const auto truncated = open([](FolderDraft& d) {
    d.config["rope_theta"] = 20000.0;
    d.config["rope_scaling"].as_object().erase("truncate");
  });
  const auto exact = open([](FolderDraft& d) { d.config["rope_theta"] = 20000.0; });
  ASSERT_TRUE(truncated && exact);
  EXPECT_NE(hyper_parameters_of(*truncated).rope.frequencies, hyper_parameters_of(*exact).rope.frequencies);
}

// Packed weights are the only copy, of mixtures too, whose experts lie apart in the file.
TEST_F(OwnMembers, OfMixturesAreReleasedBehindTheLoad) {
  use("mixtral-tiny");
  const auto file = open([](FolderDraft&) {});
  ASSERT_TRUE(file) << file.error().to_string();
  size_t experts = 0;
  for (const GgufTensor& tensor : file->tensors())
    experts += tensor.rank == 3 ? tensor.bytes() : 0;
  ASSERT_GT(experts, size_t{16} << 20);
  const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  const auto loaded = load_model(*file, *device, {.max_batch_rows = 4, .on_progress = {}});
  ASSERT_TRUE(loaded) << loaded.error().to_string();
  const auto weights = model() / "model.safetensors";
  // The kernel maps what lies around a page that is read, and so a little of what was released.
  EXPECT_LT(resident_bytes(weights), experts / 2);
  size_t sum = 0;
  for (const CheckpointFile& part : file->files()) {
    for (size_t at = 0; part.map != nullptr && at < part.map->bytes().size(); at += 512)
      sum += std::to_integer<size_t>(part.map->bytes()[at]);
  }
  EXPECT_GT(sum, 0U);
  EXPECT_GE(resident_bytes(weights), experts);
}

}  // namespace
}  // namespace tidemill::model
