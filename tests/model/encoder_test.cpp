// Encoders against a plain double-precision implementation, and their texts' independence of each other.
#include "model/encoder.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "accuracy.hpp"
#include "model/gguf_writer.hpp"
#include "model/load.hpp"
#include "model/pack.hpp"
#include "model/synth.hpp"
#include "reference_encoder.hpp"
#include "temporary_folder.hpp"
#include "tensor/cpu_device.hpp"
#include "tensor/isa.hpp"
#include "tensor/kernels.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using tensor::DType;
using test::relative_error;
using test::tolerance;
using Rows = std::vector<std::vector<float>>;

struct Text {
  std::vector<Token> tokens;
  std::vector<int32_t> types;
};

Text random_text(size_t length, uint32_t seed) {
  std::mt19937 random(seed);
  Text text;
  for (size_t i = 0; i < length; ++i) {
    text.tokens.push_back(static_cast<Token>(random() % 1024));
    text.types.push_back(i > length / 2 ? 1 : 0);
  }
  return text;
}

struct LoadedEncoder {
  LoadedEncoder(const std::filesystem::path& path, tensor::Isa isa, int threads)
      : device(tensor::make_cpu_device(isa, threads)) {
    auto made = load_encoder(GgufFile::open(path).value(), *device, {.max_batch_rows = 64, .on_progress = {}});
    if (made) {
      encoder = std::move(*made);
    } else {
      ADD_FAILURE() << made.error().to_string();
    }
  }

  // The hidden states of each text, computed in one call.
  std::vector<Rows> encode(const std::vector<Text>& texts) {
    std::vector<Token> tokens;
    std::vector<int32_t> types;
    std::vector<int32_t> begins = {0};
    for (const Text& text : texts) {
      tokens.insert(tokens.end(), text.tokens.begin(), text.tokens.end());
      types.insert(types.end(), text.types.begin(), text.types.end());
      begins.push_back(static_cast<int32_t>(tokens.size()));
    }
    const tensor::ConstMatrix hidden = encoder->encode({tokens, types, begins});
    EXPECT_EQ(hidden.rows, static_cast<int64_t>(tokens.size()));
    std::vector<Rows> out(texts.size());
    for (size_t t = 0; t < texts.size(); ++t) {
      for (int64_t r = begins[t]; r < begins[t + 1]; ++r)
        out[t].emplace_back(hidden.row(r), hidden.row(r) + hidden.cols);
    }
    return out;
  }
  // The scores of the texts, computed in one call.
  std::vector<float> score(const std::vector<Text>& texts) {
    std::vector<int32_t> firsts = {0};
    for (const Text& text : texts)
      firsts.push_back(firsts.back() + static_cast<int32_t>(text.tokens.size()));
    firsts.pop_back();
    encode(texts);
    const tensor::ConstMatrix scores = encoder->score(firsts);
    EXPECT_EQ(scores.rows, std::ssize(texts));
    EXPECT_EQ(scores.cols, 1);
    std::vector<float> out;
    for (int64_t r = 0; r < scores.rows; ++r)
      out.push_back(*scores.row(r));
    return out;
  }
  Rows encode(const Text& text) { return encode(std::vector<Text>{text}).front(); }

  std::unique_ptr<tensor::Device> device;
  std::unique_ptr<Encoder> encoder;
};

std::filesystem::path write_tiny(const test::TemporaryFolder& folder, DType type,
                                 std::string_view shape = "bert-tiny") {
  const auto path = folder.path() / "model.gguf";
  const auto written = write_synthetic_model(find_shape(shape).value(), path,
                                             {.type = type, .seed = 7, .threads = 1, .on_progress = {}});
  EXPECT_TRUE(written) << written.error().to_string();
  return path;
}

class Encoders : public testing::TestWithParam<DType> {};

TEST_P(Encoders, AgreeWithTheReference) {
  const test::TemporaryFolder folder;
  const auto path = write_tiny(folder, GetParam());
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file) << file.error().to_string();
  LoadedEncoder loaded(path, tensor::choose_isa().value(), 1);
  ASSERT_NE(loaded.encoder, nullptr);
  // One token; within a block; past one block; past a segment of attention.
  for (const size_t length : {1, 7, 21, 140}) {
    const Text text = random_text(length, static_cast<uint32_t>(length));
    const auto expected = test::reference_encode(*file, text.tokens, text.types);
    const Rows got = loaded.encode(text);
    ASSERT_EQ(got.size(), expected.size());
    double worst = 0;
    for (size_t t = 0; t < got.size(); ++t)
      worst = std::max(worst, relative_error(got[t], expected[t]));
    EXPECT_LT(worst, tolerance(GetParam())) << length;
  }
}

TEST_P(Encoders, NeitherNeighboursNorThreadsMatter) {
  const test::TemporaryFolder folder;
  const auto path = write_tiny(folder, GetParam());
  const tensor::Isa isa = tensor::choose_isa().value();
  LoadedEncoder one(path, isa, 1);
  LoadedEncoder two(path, isa, 2);
  ASSERT_NE(one.encoder, nullptr);
  ASSERT_NE(two.encoder, nullptr);
  std::vector<Text> texts;
  std::vector<Rows> alone;
  for (const size_t length : {16, 1, 33, 150, 5, 17}) {
    texts.push_back(random_text(length, static_cast<uint32_t>(200 + length)));
    alone.push_back(one.encode(texts.back()));
  }
  EXPECT_EQ(one.encode(texts), alone);
  EXPECT_EQ(two.encode(texts), alone);
  std::reverse(texts.begin(), texts.end());
  std::reverse(alone.begin(), alone.end());
  EXPECT_EQ(two.encode(texts), alone);
}

INSTANTIATE_TEST_SUITE_P(Tiny, Encoders, testing::ValuesIn(tensor::all_dtypes().begin(), tensor::all_dtypes().end()),
                         [](const auto& instance) { return std::string(tensor::info(instance.param).name); });

TEST(Encoder, EveryInstructionSetGivesTheSameBits) {
  const test::TemporaryFolder folder;
  const auto path = write_tiny(folder, DType::q8_0);
  const Text text = random_text(40, 3);
  const Rows expected = LoadedEncoder(path, tensor::Isa::scalar, 1).encode(text);
  for (const tensor::Isa isa : tensor::available_isas())
    EXPECT_EQ(LoadedEncoder(path, isa, 1).encode(text), expected) << tensor::to_string(isa);
}

TEST(Encoder, TakesAsManyTextsAsItSays) {
  const test::TemporaryFolder folder;
  LoadedEncoder loaded(write_tiny(folder, DType::f32), tensor::choose_isa().value(), 1);
  ASSERT_NE(loaded.encoder, nullptr);
  EXPECT_GE(loaded.encoder->max_rows(), loaded.encoder->hyper_parameters().context);
  EXPECT_EQ(loaded.encoder->token_types(), 2);
  // Each of them fills a block and begins another, but for the last, which fills up the rows.
  std::vector<Text> texts;
  int64_t rows = loaded.encoder->max_rows();
  for (int64_t t = 1; t < loaded.encoder->max_texts(); ++t) {
    texts.push_back(random_text(17, static_cast<uint32_t>(t)));
    rows -= 17;
  }
  ASSERT_GT(rows, 0);
  texts.push_back(random_text(static_cast<size_t>(rows), 99));
  const std::vector<Rows> all = loaded.encode(texts);
  for (const size_t t : {size_t{0}, texts.size() - 2})
    EXPECT_EQ(loaded.encode(texts[t]), all[t]);
  EXPECT_TRUE(loaded.encode(std::vector<Text>{}).empty());
}

TEST(Encoder, ARerankersHeadScoresEachTextByItself) {
  const test::TemporaryFolder folder;
  for (const DType type : {DType::f32, DType::q8_0, DType::q4_0}) {
    const auto path = write_tiny(folder, type, "rerank-tiny");
    const auto file = GgufFile::open(path);
    ASSERT_TRUE(file) << file.error().to_string();
    LoadedEncoder loaded(path, tensor::choose_isa().value(), 2);
    ASSERT_NE(loaded.encoder, nullptr);
    EXPECT_TRUE(loaded.encoder->ranks());
    std::vector<Text> texts;
    std::vector<float> alone;
    for (const size_t length : {12, 3, 1, 40}) {
      texts.push_back(random_text(length, static_cast<uint32_t>(300 + length)));
      alone.push_back(loaded.score({texts.back()}).front());
      // Scores are of order one.
      EXPECT_NEAR(alone.back(), test::reference_score(*file, texts.back().tokens, texts.back().types),
                  2 * tolerance(type))
          << tensor::info(type).name << " " << length;
    }
    EXPECT_EQ(loaded.score(texts), alone);
    EXPECT_TRUE(loaded.score({}).empty());
  }
  LoadedEncoder plain(write_tiny(folder, DType::f32), tensor::choose_isa().value(), 1);
  EXPECT_FALSE(plain.encoder->ranks());
}

TEST(Encoder, PackedComputesTheSame) {
  const test::TemporaryFolder folder;
  const auto plain = write_tiny(folder, DType::q4_k);
  const auto packed = folder.path() / "packed.gguf";
  const auto summary = pack_model(GgufFile::open(plain).value(), packed, {});
  ASSERT_TRUE(summary) << summary.error().to_string();
  const Text text = random_text(20, 4);
  const tensor::Isa isa = tensor::choose_isa().value();
  EXPECT_EQ(LoadedEncoder(packed, isa, 1).encode(text), LoadedEncoder(plain, isa, 1).encode(text));

  const auto ranks = write_tiny(folder, DType::q4_k, "rerank-tiny");
  std::filesystem::remove(packed);
  ASSERT_TRUE(pack_model(GgufFile::open(ranks).value(), packed, {}));
  EXPECT_EQ(LoadedEncoder(packed, isa, 1).score({text}), LoadedEncoder(ranks, isa, 1).score({text}));
}

// A tiny encoder's file with some of it left out or replaced.
class EncoderFile : public testing::Test {
 protected:
  void SetUp() override {
    source_ = std::make_unique<GgufFile>(GgufFile::open(write_tiny(folder_, DType::f32)).value());
  }

  // Without the tensor and the key of these names; `add` may write other keys.
  std::string refusal(std::string_view tensor, std::string_view key, const std::function<void(GgufWriter&)>& add,
                      ErrorCode code) {
    const auto path = folder_.path() / "changed.gguf";
    {
      GgufWriter writer;
      for (const GgufEntry& entry : source_->metadata()) {
        if (entry.key != key) writer.add(entry);
      }
      if (add) add(writer);
      for (const GgufTensor& one : source_->tensors()) {
        if (one.name != tensor)
          writer.declare_tensor(one.name, one.type, std::span(one.shape).first(static_cast<size_t>(one.rank)));
      }
      EXPECT_TRUE(writer.begin(path));
      for (const GgufTensor& one : source_->tensors()) {
        if (one.name == tensor) continue;
        EXPECT_TRUE(writer.write(one.data));
      }
      EXPECT_TRUE(writer.finish());
    }
    const GgufFile file = GgufFile::open(path).value();
    const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
    const auto loaded = load_encoder(file, *device, {.max_batch_rows = 8, .on_progress = {}});
    const auto checked = check_loadable(file);
    EXPECT_EQ(loaded.has_value(), checked.has_value());
    if (loaded) return "(accepted)";
    EXPECT_EQ(loaded.error().code(), code) << loaded.error().to_string();
    return checked ? "(not found when it was checked)" : checked.error().to_string();
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<GgufFile> source_;
};

#define EXPECT_TELLS(message, part)                        \
  do {                                                     \
    const std::string told = (message);                    \
    EXPECT_NE(told.find(part), std::string::npos) << told; \
  } while (false)

TEST_F(EncoderFile, WhatIsMissingOrContradictoryIsNamed) {
  EXPECT_EQ(refusal("", "", {}, ErrorCode::internal), "(accepted)");
  EXPECT_EQ(refusal("", "bert.pooling_type", {}, ErrorCode::internal), "(accepted)");
  for (const char* tensor : {"position_embd.weight", "token_embd_norm.bias", "blk.1.attn_v.bias",
                             "blk.0.attn_output_norm.weight", "blk.1.ffn_up.weight", "blk.0.layer_output_norm.bias"}) {
    EXPECT_TELLS(refusal(tensor, "", {}, ErrorCode::not_found), tensor);
  }
  EXPECT_TELLS(refusal("", "bert.attention.layer_norm_epsilon", {}, ErrorCode::not_found), "layer_norm_epsilon");
  EXPECT_TELLS(
      refusal(
          "", "bert.context_length", [](GgufWriter& w) { w.add_u32("bert.context_length", 2049); }, ErrorCode::corrupt),
      "'position_embd.weight' has shape [256, 2048], but the metadata want [256, 2049] (width 256,");
  EXPECT_TELLS(
      refusal(
          "", "bert.context_length", [](GgufWriter& w) { w.add_u32("bert.context_length", 2049); }, ErrorCode::corrupt),
      "context 2049, 2 token types)");
  EXPECT_TELLS(refusal(
                   "", "tokenizer.ggml.token_type_count",
                   [](GgufWriter& w) { w.add_u32("tokenizer.ggml.token_type_count", 3); }, ErrorCode::corrupt),
               "token_type_count");
  EXPECT_TELLS(
      refusal(
          "", "bert.pooling_type", [](GgufWriter& w) { w.add_u32("bert.pooling_type", 9); }, ErrorCode::unsupported),
      "bert.pooling_type");
  EXPECT_TELLS(refusal(
                   "", "bert.attention.causal", [](GgufWriter& w) { w.add_bool("bert.attention.causal", true); },
                   ErrorCode::unsupported),
               "bert.attention.causal");
}

TEST_F(EncoderFile, ARerankerHasAHeadOfOneClass) {
  const auto path = folder_.path() / "model.gguf";
  source_.reset();
  ASSERT_TRUE(write_synthetic_model(find_shape("rerank-tiny").value(), path, {.on_progress = {}}));
  source_ = std::make_unique<GgufFile>(GgufFile::open(path).value());
  EXPECT_EQ(refusal("", "", {}, ErrorCode::internal), "(accepted)");
  EXPECT_EQ(refusal("cls.output.bias", "", {}, ErrorCode::internal), "(accepted)");
  EXPECT_EQ(refusal("cls.weight", "", {}, ErrorCode::internal), "(accepted)");
  EXPECT_TELLS(refusal("cls.output.weight", "", {}, ErrorCode::not_found), "cls.output.weight");
}

TEST_F(EncoderFile, EachLoaderRefusesTheOthersModels) {
  const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  EXPECT_TRUE(holds_encoder(*source_).value());
  const auto generates = load_model(*source_, *device, {.max_batch_rows = 8, .on_progress = {}});
  ASSERT_FALSE(generates);
  EXPECT_EQ(generates.error().code(), ErrorCode::unsupported);
  EXPECT_TELLS(generates.error().message(), "'bert' is an encoder");
  const auto shape = read_any_hyper_parameters(*source_);
  ASSERT_TRUE(shape) << shape.error().to_string();
  EXPECT_EQ(shape->architecture, "bert");
  EXPECT_EQ(shape->pooling, Pooling::first);

  const auto path = folder_.path() / "decoder.gguf";
  ASSERT_TRUE(write_synthetic_model(find_shape("llama-tiny").value(), path, {.on_progress = {}}));
  const GgufFile decoder = GgufFile::open(path).value();
  EXPECT_FALSE(holds_encoder(decoder).value());
  EXPECT_TRUE(check_loadable(decoder));
  const auto encodes = load_encoder(decoder, *device, {.max_batch_rows = 8, .on_progress = {}});
  ASSERT_FALSE(encodes);
  EXPECT_EQ(encodes.error().code(), ErrorCode::unsupported);
  EXPECT_TELLS(encodes.error().message(), "'llama' is not an encoder");
}

}  // namespace
}  // namespace tidemill::model
