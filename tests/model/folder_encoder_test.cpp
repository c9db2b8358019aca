// Hugging Face folders of text encoders: the same weights as a GGUF file compute the same, and what is computed
// otherwise is refused.
#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <string>
#include <tuple>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "encoder_writer.hpp"
#include "expect_says.hpp"
#include "model/checkpoint.hpp"
#include "model/convert.hpp"
#include "model/encoder.hpp"
#include "model/load.hpp"
#include "model/synth.hpp"
#include "model/vocabulary.hpp"
#include "temporary_folder.hpp"
#include "tensor/cpu_device.hpp"
#include "tensor/isa.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using tensor::DType;
using test::FolderDraft;
namespace json = base::json;

// Of two texts, whatever form the model has: the hidden states, and of a reranker the scores behind them.
std::vector<float> outputs_of(const std::filesystem::path& path) {
  const auto file = Checkpoint::open(path);
  EXPECT_TRUE(file) << file.error().to_string();
  if (!file) return {};
  const auto device = tensor::make_cpu_device(tensor::choose_isa().value(), 1);
  const auto encoder = load_encoder(*file, *device, {.max_batch_rows = 64, .on_progress = {}});
  EXPECT_TRUE(encoder) << encoder.error().to_string();
  if (!encoder) return {};
  std::vector<Token> tokens(13);
  std::vector<int32_t> types(13);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<Token>((i * 37 + 5) % 1000);
    types[i] = i % 2 == 0 ? 0 : 1;
  }
  const std::vector<int32_t> begins = {0, 6, 13};
  const tensor::ConstMatrix hidden = (*encoder)->encode({tokens, types, begins});
  std::vector<float> out;
  for (int64_t r = 0; r < hidden.rows; ++r)
    out.insert(out.end(), hidden.row(r), hidden.row(r) + hidden.cols);
  if (!(*encoder)->ranks()) return out;
  const std::vector<int32_t> firsts = {0, 6};
  const tensor::ConstMatrix scores = (*encoder)->score(firsts);
  for (int64_t r = 0; r < scores.rows; ++r)
    out.push_back(*scores.row(r));
  return out;
}

class EncoderSameAsGguf : public testing::TestWithParam<std::tuple<const char*, const char*, DType>> {};

TEST_P(EncoderSameAsGguf, OutputsAreEqual) {
  const auto& [shape, model_type, type] = GetParam();
  const test::TemporaryFolder folder;
  const auto gguf = folder.path() / "model.gguf";
  ASSERT_TRUE(write_synthetic_model(find_shape(shape).value(), gguf, {.type = type, .on_progress = {}}));
  const auto expected = outputs_of(gguf);
  ASSERT_GT(expected.size(), 13U);
  const auto path = folder.path() / "model";
  test::encoder_draft_of(GgufFile::open(gguf).value(), model_type).write(path, 2);
  EXPECT_EQ(outputs_of(path), expected);

  const auto source = Checkpoint::open(path);
  ASSERT_TRUE(source) << source.error().to_string();
  EXPECT_TRUE(holds_encoder(*source).value());
  const auto converted = folder.path() / "converted.gguf";
  const auto summary = convert_model(*source, converted, {});
  ASSERT_TRUE(summary) << summary.error().to_string();
  std::filesystem::remove_all(path);
  EXPECT_EQ(outputs_of(converted), expected);
}

INSTANTIATE_TEST_SUITE_P(Shapes, EncoderSameAsGguf,
                         testing::Combine(testing::Values("bert-tiny", "rerank-tiny"),
                                          testing::Values("bert", "roberta", "xlm-roberta"),
                                          testing::Values(DType::f32, DType::bf16)),
                         [](const auto& instance) {
                           std::string name = std::string(std::get<0>(instance.param)) + "_" +
                                              std::get<1>(instance.param) + "_" +
                                              std::string(tensor::info(std::get<2>(instance.param)).name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class EncoderFolder : public testing::Test {
 protected:
  void SetUp() override { use("bert-tiny", "bert"); }

  void use(const char* shape, const char* model_type) {
    const auto gguf = folder_.path() / "model.gguf";
    ASSERT_TRUE(write_synthetic_model(find_shape(shape).value(), gguf, {.type = DType::f32, .on_progress = {}}));
    draft_ = test::encoder_draft_of(GgufFile::open(gguf).value(), model_type);
  }

  std::filesystem::path model() const { return folder_.path() / "model"; }

  // `more` are other files, by their place in the folder.
  base::Result<Checkpoint> open(const std::function<void(FolderDraft&)>& change,
                                const std::map<std::string, json::value>& more = {}) {
    FolderDraft draft = draft_;
    change(draft);
    std::filesystem::remove_all(model());
    draft.write(model());
    for (const auto& [name, value] : more) {
      std::filesystem::create_directories((model() / name).parent_path());
      std::ofstream(model() / name, std::ios::binary) << json::serialize(value);
    }
    return Checkpoint::open(model());
  }

  std::string refusal(const std::function<void(FolderDraft&)>& change, ErrorCode code,
                      const std::map<std::string, json::value>& more = {}) {
    const auto opened = open(change, more);
    if (opened) return "(accepted)";
    EXPECT_EQ(opened.error().code(), code) << opened.error().to_string();
    return opened.error().to_string();
  }

  static json::object module(const char* path, const char* type) {
    return {{"path", path}, {"type", std::string("sentence_transformers.models.") + type}};
  }
  // What sentence-transformers writes of a model whose embeddings are pooled so.
  static std::map<std::string, json::value> pooled_by(json::object pooling) {
    return {{"modules.json", json::array{module("", "Transformer"), module("1_Pooling", "Pooling"),
                                         module("2_Normalize", "Normalize")}},
            {"1_Pooling/config.json", std::move(pooling)}};
  }

  test::TemporaryFolder folder_;
  FolderDraft draft_;
};

const auto unchanged = [](FolderDraft&) {};

TEST_F(EncoderFolder, ShapeAndVocabularyAreThoseOfTheGgufFile) {
  const GgufFile file = GgufFile::open(folder_.path() / "model.gguf").value();
  const auto read = open(unchanged);
  ASSERT_TRUE(read) << read.error().to_string();
  EXPECT_EQ(read->tensor_bytes(), file.tensor_bytes());
  const HyperParameters ours = read_any_hyper_parameters(*read).value();
  const HyperParameters wanted = read_any_hyper_parameters(file).value();
  EXPECT_EQ(ours.architecture, "bert");
  EXPECT_EQ(ours.context, wanted.context);
  EXPECT_EQ(ours.heads, wanted.heads);
  EXPECT_EQ(ours.feed_forward, wanted.feed_forward);
  const text::Vocabulary theirs = read_vocabulary(file).value();
  const text::Vocabulary vocabulary = read_vocabulary(*read).value();
  EXPECT_EQ(vocabulary.model, text::Vocabulary::Model::wordpiece);
  EXPECT_EQ(vocabulary.pieces, theirs.pieces);
  EXPECT_EQ(vocabulary.kinds, theirs.kinds);
  EXPECT_EQ(vocabulary.bos, theirs.bos);
  EXPECT_EQ(vocabulary.eos, theirs.eos);
  EXPECT_EQ(vocabulary.unknown, theirs.unknown);
  EXPECT_EQ(vocabulary.padding, theirs.padding);
  EXPECT_TRUE(vocabulary.add_bos);
  EXPECT_TRUE(vocabulary.add_eos);
  EXPECT_EQ(vocabulary.lower_case, true);
}

TEST_F(EncoderFolder, PositionsOfRobertaBeginBehindThePadding) {
  use("bert-tiny", "roberta");
  const auto context = [&](const std::function<void(FolderDraft&)>& change) {
    const auto file = open(change);
    EXPECT_TRUE(file) << file.error().to_string();
    return file ? read_any_hyper_parameters(*file)->context : 0;
  };
  EXPECT_EQ(context(unchanged), 2048);
  EXPECT_EQ(context([](FolderDraft& d) { d.config["pad_token_id"] = 3; }), 2046);
  EXPECT_EQ(context([](FolderDraft& d) { d.config.erase("pad_token_id"); }), 2048);
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["pad_token_id"] = 2049; }, ErrorCode::corrupt),
              "'pad_token_id' is 2049");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["max_position_embeddings"] = 2048; }, ErrorCode::corrupt),
              "tensor 'roberta.embeddings.position_embeddings.weight' has the shape [2050, 256], but "
              "'max_position_embeddings' of config.json is 2048");
}

TEST_F(EncoderFolder, EmbeddingsArePooledAsSentenceTransformersHasIt) {
  const auto pooling = [&](const std::map<std::string, json::value>& more) {
    const auto file = open(unchanged, more);
    EXPECT_TRUE(file) << file.error().to_string();
    return file ? read_any_hyper_parameters(*file)->pooling : Pooling::none;
  };
  EXPECT_EQ(pooling({}), Pooling::none);
  EXPECT_EQ(pooling({{"modules.json", json::array{module("", "Transformer")}}}), Pooling::none);
  EXPECT_EQ(pooling(pooled_by({{"word_embedding_dimension", 256}, {"pooling_mode_cls_token", true}})), Pooling::first);
  EXPECT_EQ(pooling(pooled_by({{"pooling_mode_cls_token", false}, {"pooling_mode_mean_tokens", true}})), Pooling::mean);
  EXPECT_EQ(pooling(pooled_by({{"pooling_mode_mean_sqrt_len_tokens", true}})), Pooling::mean);
  EXPECT_EQ(pooling(pooled_by({{"pooling_mode_lasttoken", true}})), Pooling::last);
  EXPECT_EQ(pooling(pooled_by({{"pooling_mode", "cls"}})), Pooling::first);
  const auto refused = [&](ErrorCode code, const std::map<std::string, json::value>& more) {
    return refusal(unchanged, code, more);
  };
  EXPECT_SAYS(refused(ErrorCode::unsupported, pooled_by({{"pooling_mode_max_tokens", true}})), "'max_tokens'");
  EXPECT_SAYS(refused(ErrorCode::unsupported,
                      pooled_by({{"pooling_mode_cls_token", true}, {"pooling_mode_mean_tokens", true}})),
              "'cls_token, mean_tokens'");
  EXPECT_SAYS(refused(ErrorCode::corrupt, pooled_by({{"word_embedding_dimension", 255}})),
              "1_Pooling/config.json: 'word_embedding_dimension' is 255, but 'hidden_size' of config.json 256");
  EXPECT_SAYS(refused(ErrorCode::unsupported,
                      {{"modules.json", json::array{module("", "Transformer"), module("2_Dense", "Dense")}}}),
              "'sentence_transformers.models.Dense'; supported are Transformer, one Pooling, and Normalize");
  EXPECT_SAYS(refused(ErrorCode::corrupt, {{"modules.json", json::array{module("../1_Pooling", "Pooling")}}}),
              "'../1_Pooling'; expected the name of a folder");
  EXPECT_SAYS(refused(ErrorCode::corrupt, {{"modules.json", json::object{}}}), "no JSON list");
}

TEST_F(EncoderFolder, RefusesWhatIsComputedOtherwise) {
  const auto unsupported = [&](const std::function<void(FolderDraft&)>& change) {
    return refusal(change, ErrorCode::unsupported);
  };
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.config["hidden_act"] = "gelu_new"; }),
              "'hidden_act' is 'gelu_new'; supported is gelu");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.config["position_embedding_type"] = "relative_key"; }),
              "'relative_key'; supported is absolute");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.config["is_decoder"] = true; }), "'is_decoder' is true");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.config["quantization_config"] = json::object{}; }),
              "'quantization_config'");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.config["model_type"] = "modernbert"; }), "bert, roberta, xlm-roberta");
  EXPECT_SAYS(
      unsupported([](FolderDraft& d) {
        d.tensors["classifier.weight"] = {"F32", {2, 256}, std::string(2048, '\0')};
      }),
      "tensor 'classifier.weight' is no part of a model of the type 'bert' with 2 layers that makes embeddings");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["num_attention_heads"] = 3; }, ErrorCode::corrupt),
              "'hidden_size' 256 is not a multiple of 'num_attention_heads' 3");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["num_hidden_layers"] = 0; }, ErrorCode::corrupt),
              "'num_hidden_layers' is 0; expected 1 to");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["vocab_size"] = 5000; }, ErrorCode::corrupt),
              "but 'vocab_size' of config.json is 5000");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["type_vocab_size"] = 1; }, ErrorCode::corrupt),
              "'type_vocab_size' of config.json is 1");
  EXPECT_SAYS(
      refusal([](FolderDraft& d) { d.tensors.erase("bert.encoder.layer.1.output.dense.bias"); }, ErrorCode::not_found),
      "tensor 'bert.encoder.layer.1.output.dense.bias' is missing");
}

// Models that were saved long ago, or with what only their training needed.
TEST_F(EncoderFolder, TakesTensorsUnderTheNamesOfAllAges) {
  const auto expected = outputs_of(folder_.path() / "model.gguf");
  const auto renamed = [&](const std::function<std::string(std::string)>& rename) {
    const auto file = open([&](FolderDraft& d) {
      std::map<std::string, test::FolderTensor> tensors;
      for (auto& [name, tensor] : d.tensors)
        tensors[rename(name)] = std::move(tensor);
      d.tensors = std::move(tensors);
    });
    EXPECT_TRUE(file) << file.error().to_string();
    return file ? outputs_of(model()) : std::vector<float>();
  };
  EXPECT_EQ(renamed([](const std::string& name) { return name.substr(5); }), expected);
  EXPECT_EQ(renamed([](std::string name) {
              for (const auto& [now, once] :
                   {std::pair("LayerNorm.weight", "LayerNorm.gamma"), std::pair("LayerNorm.bias", "LayerNorm.beta")}) {
                if (name.ends_with(now)) name = name.substr(0, name.size() - std::string(now).size()) + once;
              }
              return name;
            }),
            expected);
  const auto file = open([](FolderDraft& d) {
    d.tensors["bert.embeddings.position_ids"] = {"I64", {1, 2048}, std::string(16384, '\0')};
    d.tensors["bert.pooler.dense.weight"] = {"F32", {1}, std::string(4, '\0')};
    d.tensors["cls.predictions.bias"] = {"F32", {1}, std::string(4, '\0')};
  });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(outputs_of(model()), expected);
}

TEST_F(EncoderFolder, ARerankersHeadHasOneClass) {
  use("rerank-tiny", "bert");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.tensors.erase("bert.pooler.dense.weight"); }, ErrorCode::not_found),
              "tensor 'bert.pooler.dense.weight' is missing, which a model of the type 'bert' with 2 layers that "
              "scores texts needs");
  const auto classes = open([](FolderDraft& d) {
    d.tensors["classifier.weight"] = {"F32", {2, 256}, std::string(2048, '\0')};
    d.tensors["classifier.bias"] = {"F32", {2}, std::string(8, '\0')};
  });
  ASSERT_TRUE(classes) << classes.error().to_string();
  const auto loadable = check_loadable(*classes);
  ASSERT_FALSE(loadable);
  EXPECT_SAYS(loadable.error().to_string(), "has 2 classes; rerankers have 1");
}

TEST_F(EncoderFolder, TextIsPutInLowerCaseByTheTokenizerAlone) {
  const std::map<std::string, json::value> lower = {
      {"sentence_bert_config.json", json::object{{"do_lower_case", true}}}};
  EXPECT_TRUE(open(unchanged, lower));
  const auto cased = [](FolderDraft& d) { d.tokenizer->as_object()["normalizer"].as_object()["lowercase"] = false; };
  const auto kept = open(cased);
  ASSERT_TRUE(kept) << kept.error().to_string();
  EXPECT_EQ(read_vocabulary(*kept)->lower_case, false);
  EXPECT_SAYS(refusal(cased, ErrorCode::unsupported, lower),
              "sentence_bert_config.json: 'do_lower_case' is true, but the tokenizer keeps capitals");
}

}  // namespace
}  // namespace tidemill::model
