#include "model/synth.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "model/architectures/architecture.hpp"
#include "model/gguf.hpp"
#include "model/shape_tensors.hpp"
#include "model/synth_vocabulary.hpp"
#include "model/vocabulary.hpp"
#include "temporary_folder.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::model {
namespace {

using tensor::DType;

TEST(Shapes, HaveTheParametersTheirNamesSay) {
  // Published counts, in millions.
  const std::vector<std::pair<std::string_view, double>> published = {
      {"llama-3.2-1b", 1235.8},
      {"llama-3.2-3b", 3212.7},
      {"llama-3.1-8b", 8030.3},
      {"llama-3.1-70b", 70553.7},
      {"qwen2.5-0.5b", 494.0},
      {"qwen2.5-1.5b", 1543.7},
      {"qwen2.5-7b", 7615.6},
      {"qwen3-0.6b", 596.0},
      {"qwen3-1.7b", 1720.6},
      {"qwen3-4b", 4022.5},
      {"qwen3-8b", 8190.7},
      {"qwen3-30b-a3b", 30532.1},
      {"mixtral-8x7b", 46702.8},
      {"gpt-oss-20b", 20914.8},
      {"deepseek-v2-lite", 15706.5},
      // Without the pooler, which embeddings do not use: 33.4, 109.5 and 22.7 with it.
      {"bge-small", 33.2},
      {"bge-base", 108.9},
      {"minilm-l6", 22.6}};
  for (const auto& [name, millions] : published) {
    EXPECT_NEAR(static_cast<double>(find_shape(name).value().parameters()) / 1e6, millions, 0.1) << name;
  }
}

// A step of so many layers is as large a part of the whole model's as of its layers.
TEST(Shapes, OfFewerLayersKeepTheirProportions) {
  for (const char* name : {"llama-3.2-1b", "qwen3-30b-a3b", "gpt-oss-20b"}) {
    const Shape whole = find_shape(name).value();
    const Shape quarter = with_layers(whole, whole.layers / 4).value();
    EXPECT_NEAR(static_cast<double>(whole.parameters()) / static_cast<double>(quarter.parameters()), 4, 0.001) << name;
    EXPECT_EQ(quarter.tokens - quarter.text_tokens, whole.tokens - whole.text_tokens);
    EXPECT_EQ(std::ssize(make_synth_vocabulary(quarter).tokens), quarter.tokens);
  }
  const Shape encoder = with_layers(find_shape("bge-small").value(), 1).value();
  EXPECT_EQ(encoder.tokens, 30522);
  const Shape least = with_layers(find_shape("llama-tiny").value(), 1).value();
  EXPECT_EQ(std::ssize(make_synth_vocabulary(least).tokens), least.tokens);
}

TEST(Shapes, RefuseLayersThatTheyDoNotHave) {
  const auto message = [](const char* name, int64_t layers) {
    const auto shape = with_layers(find_shape(name).value(), layers);
    return shape ? std::string("none") : shape.error().message();
  };
  EXPECT_EQ(message("qwen3-0.6b", 28), "none");
  EXPECT_EQ(message("qwen3-0.6b", 29), "qwen3-0.6b has 28 layers: 29 of them is not possible, 1 to 28 are");
  EXPECT_EQ(message("qwen3-0.6b", 0), "qwen3-0.6b has 28 layers: 0 of them is not possible, 1 to 28 are");
  EXPECT_EQ(message("deepseek-v2-lite", 1), "deepseek-v2-lite has 27 layers: 1 of them is not possible, 2 to 27 are");
}

TEST(Shapes, EveryDecoderHasATinyOne) {
  for (const Architecture* architecture : architectures()) {
    const auto is_one = [&](const Shape& shape) {
      return shape.architecture == architecture->name && shape.name.ends_with("-tiny");
    };
    EXPECT_TRUE(std::any_of(shapes().begin(), shapes().end(), is_one)) << architecture->name;
  }
}

TEST(Shapes, NameEachTensorOnce) {
  for (const Shape& shape : shapes()) {
    std::set<std::string> names;
    for (const ShapeTensor& tensor : tensors_of(shape)) {
      EXPECT_TRUE(names.insert(tensor.name).second) << shape.name << ' ' << tensor.name;
      EXPECT_GT(tensor.elements(), 0) << shape.name << ' ' << tensor.name;
    }
    EXPECT_TRUE(names.contains("token_embd.weight")) << shape.name;
  }
}

TEST(Shapes, UnknownNameListsTheKnown) {
  const auto shape = find_shape("llama-9-900b");
  ASSERT_FALSE(shape);
  EXPECT_EQ(shape.error().code(), base::ErrorCode::invalid_argument);
  EXPECT_NE(shape.error().message().find("llama-3.2-1b"), std::string::npos);
}

TEST(Shapes, AllHaveConsistentVocabularies) {
  for (const Shape& shape : shapes()) {
    const SynthVocabulary vocabulary = make_synth_vocabulary(shape);
    ASSERT_EQ(static_cast<int64_t>(vocabulary.tokens.size()), shape.tokens) << shape.name;
    ASSERT_EQ(vocabulary.kinds.size(), vocabulary.tokens.size());
    const std::map<Shape::Vocabulary, std::string> ends = {{Shape::Vocabulary::llama3, "<|eot_id|>"},
                                                           {Shape::Vocabulary::qwen, "<|im_end|>"},
                                                           {Shape::Vocabulary::harmony, "<|return|>"},
                                                           {Shape::Vocabulary::bert, "[SEP]"}};
    EXPECT_EQ(vocabulary.tokens[static_cast<size_t>(vocabulary.eos)], ends.at(shape.vocabulary));
  }
  const SynthVocabulary llama = make_synth_vocabulary(find_shape("llama-3.2-1b").value());
  EXPECT_EQ(llama.bos, 128000);
  EXPECT_EQ(llama.eos, 128009);
  EXPECT_EQ(llama.tokens[128255], "<|reserved_special_token_247|>");
  const SynthVocabulary qwen = make_synth_vocabulary(find_shape("qwen3-4b").value());
  EXPECT_EQ(qwen.eos, 151645);
  EXPECT_EQ(qwen.tokens[151668], "</think>");
  const SynthVocabulary harmony = make_synth_vocabulary(find_shape("gpt-oss-20b").value());
  EXPECT_EQ(harmony.eos, 200002);
  EXPECT_EQ(harmony.tokens[200007], "<|end|>");
  EXPECT_EQ(harmony.tokens[200012], "<|call|>");
  EXPECT_EQ(harmony.tokens[201087], "<|reserved_201087|>");
}

TEST(Synth, LeavesNothingWhenCancelled) {
  const test::TemporaryFolder folder;
  int asked = 0;
  const auto written = write_synthetic_model(find_shape("llama-tiny").value(), folder.path() / "model.gguf",
                                             {.on_progress = {}, .cancelled = [&] { return ++asked == 3; }});
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), base::ErrorCode::cancelled);
  EXPECT_EQ(folder.entries(), 0);
}

class SynthText : public testing::TestWithParam<const char*> {};

TEST_P(SynthText, SpellsAnything) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  ASSERT_TRUE(write_synthetic_model(find_shape(GetParam()).value(), path, {.on_progress = {}}));
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file) << file.error().to_string();
  auto vocabulary = read_vocabulary(*file);
  ASSERT_TRUE(vocabulary) << vocabulary.error().to_string();
  const auto created = text::Tokenizer::create(std::move(*vocabulary));
  ASSERT_TRUE(created) << created.error().to_string();
  const text::Tokenizer& tokenizer = **created;
  std::string all_bytes;
  for (int byte = 0; byte < 256; ++byte)
    all_bytes += static_cast<char>(byte);
  for (const std::string& text : {std::string("Hello, the world and w12 of tokens!"),
                                  std::string("naïve 你好 🙂\n\t  x"), all_bytes, std::string()}) {
    const auto tokens = tokenizer.encode(text, {.add_special = false});
    ASSERT_TRUE(tokens) << tokens.error().to_string();
    EXPECT_EQ(tokenizer.decode(*tokens), text);
  }
  // Common words are single tokens, fillers are never produced.
  EXPECT_EQ(tokenizer.encode(" the", {.add_special = false}).value().size(), 1U);
  const auto fillers = tokenizer.encode(" w12 w345", {.add_special = false}).value();
  for (const text::Token token : fillers) {
    EXPECT_LT(tokenizer.piece_bytes(token).size(), 4U);
  }
  const text::Vocabulary& filled = tokenizer.vocabulary();
  ASSERT_TRUE(filled.eos);
  EXPECT_TRUE(tokenizer.ends_generation(*filled.eos));
  EXPECT_FALSE(read_chat_template(*file).value().empty());
}

TEST(Synth, AnEncodersVocabularyFoldsCase) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  ASSERT_TRUE(write_synthetic_model(find_shape("bert-tiny").value(), path, {.on_progress = {}}));
  const auto file = GgufFile::open(path).value();
  const auto tokenizer = text::Tokenizer::create(read_vocabulary(file).value()).value();
  const auto tokens = tokenizer->encode("The cat, W12!").value();
  EXPECT_EQ(tokens.front(), 101);
  EXPECT_EQ(tokens.back(), 102);
  EXPECT_EQ(tokens.size(), 2U + 1 + 3 + 1 + 3 + 1);  // "the" is a word of its own
  EXPECT_EQ(tokenizer->decode(tokens), "the cat , w12 !");
  EXPECT_EQ(read_chat_template(file).value(), "");
}

INSTANTIATE_TEST_SUITE_P(Families, SynthText,
                         testing::Values("llama-tiny", "qwen2-tiny", "qwen3-tiny", "granite-tiny", "phi3-tiny",
                                         "gemma2-tiny", "gemma3-tiny", "mixtral-tiny", "qwen2moe-tiny", "qwen3moe-tiny",
                                         "gpt-oss-tiny"),
                         [](const auto& instance) {
                           return std::string(instance.param, std::string(instance.param).find('-'));
                         });

TEST(Synth, TheSeedDecidesAndThreadsDoNot) {
  const test::TemporaryFolder folder;
  const Shape shape = find_shape("qwen2-tiny").value();
  const auto make = [&](const char* name, uint64_t seed, int threads) {
    const auto path = folder.path() / name;
    EXPECT_TRUE(
        write_synthetic_model(shape, path, {.type = DType::q4_0, .seed = seed, .threads = threads, .on_progress = {}}));
    return base::read_file(path).value();
  };
  const std::string first = make("a", 1, 1);
  EXPECT_EQ(first, make("b", 1, 2));
  EXPECT_NE(first, make("c", 2, 1));
}

TEST(Synth, WeightsHaveTheVarianceOfTheirInputs) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  size_t reported = 0;
  size_t total = 0;
  ASSERT_TRUE(write_synthetic_model(find_shape("llama-tiny").value(), path,
                                    {.type = DType::q8_0, .on_progress = [&](size_t done, size_t all) {
                                       EXPECT_GE(done, reported);
                                       reported = done;
                                       total = all;
                                     }}));
  EXPECT_EQ(reported, total);
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file);
  EXPECT_EQ(total, file->tensor_bytes());
  for (const char* name : {"token_embd.weight", "blk.1.ffn_down.weight"}) {
    const GgufTensor* tensor = file->find_tensor(name);
    ASSERT_NE(tensor, nullptr);
    std::vector<float> values(static_cast<size_t>(tensor->elements()));
    tensor::dequantize(tensor->type, tensor->data.data(), tensor->elements(), values.data());
    double sum = 0;
    double squares = 0;
    for (const float v : values) {
      sum += v;
      squares += static_cast<double>(v) * v;
    }
    const auto n = static_cast<double>(values.size());
    EXPECT_NEAR(sum / n * std::sqrt(static_cast<double>(tensor->cols())), 0, 0.02);
    EXPECT_NEAR(squares / n * static_cast<double>(tensor->cols()), 1, 0.02);
  }
}

TEST(Synth, OutlierChannelsAreTheSameInEveryNorm) {
  const test::TemporaryFolder folder;
  const Shape shape = find_shape("qwen3-tiny").value();
  const auto channels = [&](const char* name, uint64_t seed, int64_t count) {
    const auto path = folder.path() / name;
    EXPECT_TRUE(write_synthetic_model(shape, path, {.seed = seed, .outlier_channels = count, .on_progress = {}}));
    const auto file = GgufFile::open(path).value();
    std::set<std::set<int64_t>> found;
    for (const GgufTensor& tensor : file.tensors()) {
      if (!tensor.name.ends_with("norm.weight") || tensor.cols() != shape.width) continue;
      std::vector<float> values(static_cast<size_t>(tensor.cols()));
      tensor::dequantize(tensor.type, tensor.data.data(), tensor.cols(), values.data());
      std::set<int64_t> large;
      for (size_t i = 0; i < values.size(); ++i) {
        if (values[i] > 20) large.insert(static_cast<int64_t>(i));
      }
      found.insert(large);
    }
    EXPECT_EQ(found.size(), 1U) << name;
    return *found.begin();
  };
  EXPECT_TRUE(channels("none", 1, 0).empty());
  const auto three = channels("three", 1, 3);
  EXPECT_EQ(three.size(), 3U);
  EXPECT_EQ(three, channels("again", 1, 3));
  EXPECT_NE(three, channels("other", 2, 3));
  EXPECT_EQ(channels("all", 1, shape.width).size(), static_cast<size_t>(shape.width));
  for (const int64_t count : {int64_t{-1}, shape.width + 1}) {
    const auto written =
        write_synthetic_model(shape, folder.path() / "wrong", {.outlier_channels = count, .on_progress = {}});
    ASSERT_FALSE(written);
    EXPECT_EQ(written.error().code(), base::ErrorCode::invalid_argument);
  }
}

TEST(Synth, NarrowRowsFallBackToQ8) {
  EXPECT_EQ(synth_type(DType::q4_k, 896), DType::q8_0);
  EXPECT_EQ(synth_type(DType::q4_k, 4864), DType::q4_k);
  EXPECT_EQ(synth_type(DType::q4_0, 896), DType::q4_0);
  EXPECT_EQ(synth_type(DType::iq4_xs, 896), DType::q8_0);
  EXPECT_EQ(synth_type(DType::mxfp4, 896), DType::mxfp4);
}

TEST(Synth, FailureLeavesNothing) {
  const auto written =
      write_synthetic_model(find_shape("llama-tiny").value(), "/nonexistent/model.gguf", {.on_progress = {}});
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), base::ErrorCode::not_found);
}

}  // namespace
}  // namespace tidemill::model
