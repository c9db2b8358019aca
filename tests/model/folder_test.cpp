// Hugging Face folders: the same weights as a GGUF file compute the same, and whatever is wrong with one is said.
#include "model/hugging_face/folder.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <sys/stat.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "data.hpp"
#include "expect_says.hpp"
#include "folder_fixture.hpp"
#include "model/architectures/architecture.hpp"
#include "model/pack.hpp"
#include "model/synth.hpp"
#include "model/vocabulary.hpp"
#include "runner.hpp"
#include "temporary_folder.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using tensor::DType;
using test::FolderDraft;
using test::FolderTensor;
using test::hyper_parameters_of;
using test::logits_of;

class SameAsGguf : public testing::TestWithParam<std::tuple<const char*, DType>> {
 protected:
  void SetUp() override {
    const auto& [shape, type] = GetParam();
    ASSERT_TRUE(write_synthetic_model(find_shape(shape).value(), gguf_, {.type = type, .on_progress = {}}));
  }

  test::TemporaryFolder folder_;
  std::filesystem::path gguf_ = folder_.path() / "model.gguf";
};

TEST_P(SameAsGguf, LogitsAreEqual) {
  const auto expected = logits_of(gguf_);
  ASSERT_EQ(expected.size(), 13U);
  const FolderDraft draft = test::draft_of(GgufFile::open(gguf_).value());
  for (const int shards : {1, 3}) {
    const auto path = folder_.path() / fmt::format("in {} files", shards);
    draft.write(path, shards);
    EXPECT_EQ(logits_of(path), expected) << shards;
    EXPECT_EQ(logits_of(path / ""), expected);  // with a slash behind it
  }
}

TEST_P(SameAsGguf, ShapeAndVocabularyAreEqual) {
  const GgufFile file = GgufFile::open(gguf_).value();
  const auto path = folder_.path() / "tiny-1.5";
  test::draft_of(file).write(path, 2);
  const auto read = Checkpoint::open(path);
  ASSERT_TRUE(read) << read.error().to_string();
  EXPECT_EQ(read->version(), 0U);
  EXPECT_EQ(read->stem(), "tiny-1.5");
  EXPECT_EQ(read->parameters(), file.parameters());
  EXPECT_EQ(read->tensor_bytes(), file.tensor_bytes());
  const HyperParameters ours = hyper_parameters_of(*read);
  const HyperParameters wanted = hyper_parameters_of(file);
  EXPECT_EQ(ours.architecture, wanted.architecture);
  EXPECT_EQ(ours.context, wanted.context);
  EXPECT_EQ(ours.head_dim, wanted.head_dim);
  EXPECT_EQ(ours.rms_epsilon, wanted.rms_epsilon);
  EXPECT_EQ(ours.rope.frequencies, wanted.rope.frequencies);
  EXPECT_EQ(ours.rope.pairing, wanted.rope.pairing);
  for (const GgufTensor& tensor : file.tensors()) {
    const GgufTensor* found = read->find_tensor(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->type, tensor.type) << tensor.name;
    EXPECT_EQ(found->shape_text(), tensor.shape_text());
    base::Buffer scratch;
    const auto bytes = read->read(*found, scratch);
    ASSERT_TRUE(bytes);
    EXPECT_TRUE(std::equal(bytes->begin(), bytes->end(), tensor.data.begin(), tensor.data.end())) << tensor.name;
  }
  const text::Vocabulary theirs = read_vocabulary(file).value();
  const auto vocabulary = read_vocabulary(*read);
  ASSERT_TRUE(vocabulary) << vocabulary.error().to_string();
  EXPECT_EQ(vocabulary->pre, theirs.pre);
  EXPECT_EQ(vocabulary->kinds, theirs.kinds);
  EXPECT_EQ(vocabulary->merges, theirs.merges);
  EXPECT_EQ(vocabulary->bos, theirs.bos);
  EXPECT_EQ(vocabulary->eos, theirs.eos);
  EXPECT_EQ(vocabulary->padding, theirs.padding);
  EXPECT_EQ(vocabulary->add_bos, theirs.add_bos);
  for (size_t i = 0; i < theirs.size(); ++i) {
    if (theirs.kinds[i] == text::TokenKind::unused) continue;
    EXPECT_EQ(vocabulary->pieces[i], theirs.pieces[i]);
  }
  EXPECT_EQ(read_chat_template(*read).value(), read_chat_template(file).value());
}

INSTANTIATE_TEST_SUITE_P(Shapes, SameAsGguf,
                         testing::Combine(testing::Values("llama-tiny", "qwen2-tiny", "qwen3-tiny", "granite-tiny",
                                                          "phi3-tiny", "gemma2-tiny", "gemma3-tiny", "mixtral-tiny",
                                                          "qwen2moe-tiny", "qwen3moe-tiny", "gpt-oss-tiny",
                                                          "deepseek2-tiny", "deepseek3-tiny"),
                                          testing::Values(DType::f32, DType::f16, DType::bf16)),
                         [](const auto& instance) {
                           std::string name = std::string(std::get<0>(instance.param)) + "_" +
                                              std::string(tensor::info(std::get<1>(instance.param)).name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

class Folder : public test::FolderFixture {
 protected:
  void SetUp() override { use("llama-tiny"); }
};

// By the repository, where the folder is called by a commit; and the name decides nothing about the tokens.
TEST_F(Folder, HasANameThatPeopleKnow) {
  const auto named = [&](const std::filesystem::path& name) {
    const auto path = folder_.path() / name;
    draft_.write(path);
    const auto file = Checkpoint::open(path);
    EXPECT_TRUE(file) << file.error().to_string();
    if (!file) return std::string();
    EXPECT_EQ(file->get_string("general.name").value(), file->stem());
    EXPECT_FALSE(read_vocabulary(*file).value().strip_after_special);
    return file->stem();
  };
  const std::string commit = "0123456789abcdef0123456789abcdef01234567";
  EXPECT_EQ(named("models--Qwen--Qwen3-0.6B/snapshots/" + commit), "Qwen3-0.6B");
  EXPECT_EQ(named("models--gpt2/snapshots/" + commit), "gpt2");
  EXPECT_EQ(named("snapshots/" + commit), commit);
  EXPECT_EQ(named("models--gpt2/phi3-compare"), "phi3-compare");
}

TEST_F(Folder, PacksAsItsGgufFileDoes) {
  ASSERT_TRUE(open([](FolderDraft&) {}));
  const auto source = Checkpoint::open(model());
  ASSERT_TRUE(source);
  const auto packed = folder_.path() / "packed.gguf";
  const auto summary = pack_model(*source, packed, {});
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_EQ(logits_of(packed), logits_of(folder_.path() / "model.gguf"));
  EXPECT_EQ(GgufFile::open(packed)->packed()->source, "model");
}

TEST_F(Folder, ConfigsOfAllAgesAreRead) {
  const auto frequencies = [&](const std::function<void(FolderDraft&)>& change) {
    const auto file = open(change);
    EXPECT_TRUE(file) << file.error().to_string();
    return file ? hyper_parameters_of(*file).rope.frequencies : std::vector<double>();
  };
  const auto expected = frequencies([](FolderDraft&) {});
  // Newer files have all of the rotation in one object.
  EXPECT_EQ(frequencies([](FolderDraft& d) {
              base::json::object parameters = d.config["rope_scaling"].as_object();
              parameters["rope_theta"] = d.config["rope_theta"];
              d.config.erase("rope_scaling");
              d.config.erase("rope_theta");
              d.config["rope_parameters"] = std::move(parameters);
            }),
            expected);
  const auto plain = frequencies([](FolderDraft& d) { d.config.erase("rope_scaling"); });
  EXPECT_NE(plain, expected);
  const auto linear = frequencies([](FolderDraft& d) {
    d.config["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  });
  ASSERT_EQ(linear.size(), plain.size());
  EXPECT_DOUBLE_EQ(linear[3], plain[3] / 4);
  // Older ones do not have every member.
  const auto old = open([](FolderDraft& d) {
    d.config.erase("head_dim");
    d.config.erase("tie_word_embeddings");
    d.config["model_type"] = "mistral";
  });
  ASSERT_TRUE(old) << old.error().to_string();
  EXPECT_EQ(hyper_parameters_of(*old).head_dim, 64);
  EXPECT_EQ(hyper_parameters_of(*old).architecture, "llama");
}

TEST_F(Folder, AWindowIsKeptToOrBoundsTheContext) {
  // Llama's architecture is Mistral's, whose layers all have the window.
  const auto window = [&](const std::function<void(FolderDraft&)>& change) {
    const auto file = open(change);
    EXPECT_TRUE(file) << file.error().to_string();
    const HyperParameters hyper = file ? hyper_parameters_of(*file) : HyperParameters();
    EXPECT_EQ(hyper.context, 2048);
    EXPECT_EQ(hyper.has_window(0), hyper.window > 0);
    EXPECT_EQ(hyper.has_window(1), hyper.window > 0);
    return hyper.window;
  };
  EXPECT_EQ(window([](FolderDraft&) {}), 0);
  EXPECT_EQ(window([](FolderDraft& d) { d.config["sliding_window"] = 512; }), 512);
  EXPECT_EQ(window([](FolderDraft& d) {
              d.config["sliding_window"] = 512;
              d.config["use_sliding_window"] = false;
            }),
            0);
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["sliding_window"] = 0; }, ErrorCode::corrupt),
              "'sliding_window' is 0; expected 1 to");

  use("qwen2-tiny");
  const auto context = [&](const std::function<void(FolderDraft&)>& change) {
    const auto file = open(change);
    EXPECT_TRUE(file) << file.error().to_string();
    return file ? hyper_parameters_of(*file).context : 0;
  };
  EXPECT_EQ(context([](FolderDraft&) {}), 2048);
  EXPECT_EQ(context([](FolderDraft& d) { d.config["sliding_window"] = 512; }), 512);
  EXPECT_EQ(context([](FolderDraft& d) { d.config["sliding_window"] = 4096; }), 2048);
  EXPECT_EQ(context([](FolderDraft& d) {
              d.config["sliding_window"] = 512;
              d.config["use_sliding_window"] = false;
            }),
            2048);
}

TEST_F(Folder, TiedEmbeddingsAreStoredOnceOrTwice) {
  use("qwen2-tiny");
  const auto outputs = [&](const std::function<void(FolderDraft&)>& change) {
    const auto file = open(change);
    EXPECT_TRUE(file) << file.error().to_string();
    return file && file->find_tensor("output.weight") != nullptr;
  };
  ASSERT_FALSE(draft_.tensors.contains("lm_head.weight"));
  EXPECT_FALSE(outputs([](FolderDraft&) {}));
  const auto with_head = [](FolderDraft& d) { d.tensors["lm_head.weight"] = d.tensors["model.embed_tokens.weight"]; };
  EXPECT_FALSE(outputs(with_head));  // config.json says that they are tied
  EXPECT_TRUE(outputs([&](FolderDraft& d) {
    with_head(d);
    d.config["tie_word_embeddings"] = false;
  }));
  EXPECT_TRUE(outputs([&](FolderDraft& d) {
    with_head(d);
    d.config.erase("tie_word_embeddings");
  }));
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["tie_word_embeddings"] = false; }, ErrorCode::not_found),
              "model.safetensors: tensor 'lm_head.weight' is missing");
}

// Another output matrix beside it is a contradiction: it would be passed over without a word.
TEST_F(Folder, ATiedOutputIsACopyOfTheEmbedding) {
  use("qwen2-tiny");
  const FolderTensor embedding = draft_.tensors.at("model.embed_tokens.weight");
  ASSERT_EQ(embedding.dtype, "F32");
  const auto said = [&](FolderTensor head) {
    return refusal([&](FolderDraft& d) { d.tensors["lm_head.weight"] = std::move(head); }, ErrorCode::corrupt);
  };
  EXPECT_EQ(said(embedding), "(accepted)");
  for (const size_t at : {size_t{1}, embedding.bytes.size() - 1}) {
    FolderTensor other = embedding;
    other.bytes[at] = static_cast<char>(other.bytes[at] ^ 1);
    const std::string fault = said(other);
    EXPECT_SAYS(fault,
                "model.safetensors: tensor 'lm_head.weight' holds other numbers than 'model.embed_tokens.weight'");
    EXPECT_SAYS(fault, "'tie_word_embeddings'");
  }
  EXPECT_SAYS(said({"F32", embedding.shape, std::string(embedding.bytes.size(), '\xff')}), "holds other numbers");
  const std::string shape = fmt::format("[{}, {}]", embedding.shape[0], embedding.shape[1]);
  EXPECT_SAYS(said({"F32", {3, 5}, std::string(60, '\0')}),
              "has the shape [3, 5], and 'model.embed_tokens.weight' " + shape);
  EXPECT_SAYS(said({"F32", {embedding.shape[1], embedding.shape[0]}, embedding.bytes}), "has the shape");
  // The same numbers in another type are a copy, roundings of them are none.
  const auto halves = [&](bool exact) {
    return refusal(
        [&](FolderDraft& d) {
          FolderTensor head{"BF16", embedding.shape, std::string(embedding.bytes.size() / 2, '\0')};
          FolderTensor& original = d.tensors.at("model.embed_tokens.weight");
          for (size_t i = 0; i < head.bytes.size(); i += 2) {
            head.bytes.replace(i, 2, original.bytes, 2 * i + 2, 2);
            if (exact) original.bytes.replace(2 * i, 2, 2, '\0');
          }
          d.tensors["lm_head.weight"] = std::move(head);
        },
        ErrorCode::corrupt);
  };
  EXPECT_EQ(halves(true), "(accepted)");
  EXPECT_SAYS(halves(false), "holds other numbers");
}

TEST_F(Folder, ModelsWithoutAHeadForTextHaveShorterNames) {
  const auto file = open([](FolderDraft& d) {
    std::map<std::string, test::FolderTensor> shorter;
    for (auto& [name, tensor] : d.tensors)
      shorter[name.starts_with("model.") ? name.substr(6) : name] = std::move(tensor);
    d.tensors = std::move(shorter);
  });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(logits_of(model()), logits_of(folder_.path() / "model.gguf"));
}

TEST_F(Folder, VectorsBecomeF32) {
  const auto file = open([](FolderDraft& d) {
    test::FolderTensor& norm = d.tensors["model.norm.weight"];
    norm.dtype = "BF16";
    norm.bytes.clear();
    for (int i = 0; i < 256; ++i)
      norm.bytes.append("\x40\x40", 2);  // 3
  });
  ASSERT_TRUE(file) << file.error().to_string();
  const GgufTensor* norm = file->find_tensor("output_norm.weight");
  ASSERT_NE(norm, nullptr);
  EXPECT_EQ(norm->type, DType::f32);
  EXPECT_EQ(norm->bytes(), 1024U);
  base::Buffer scratch;
  const auto bytes = file->read(*norm, scratch);
  ASSERT_TRUE(bytes);
  float last = 0;
  std::memcpy(&last, bytes->data() + 1020, sizeof last);
  EXPECT_EQ(last, 3.0F);
}

// Newer files have one object, older ones another; some have both.
TEST_F(Folder, TwoScalingsOfTheRotationSayTheSame) {
  const auto both = [&](base::json::object newer, base::json::object older) {
    return refusal(
        [&](FolderDraft& d) {
          d.config["rope_parameters"] = newer;
          d.config["rope_scaling"] = older;
        },
        ErrorCode::unsupported);
  };
  EXPECT_EQ(
      both({{"rope_type", "linear"}, {"factor", 4}, {"rope_theta", 10000.0}}, {{"type", "linear"}, {"factor", 4.0}}),
      "(accepted)");
  EXPECT_EQ(both({{"rope_theta", 10000.0}}, {{"rope_type", "default"}}), "(accepted)");
  EXPECT_EQ(both({{"rope_theta", 10000.0}}, {{"factor", nullptr}}), "(accepted)");
  EXPECT_SAYS(both({{"rope_type", "default"}, {"rope_theta", 10000.0}}, {{"rope_type", "linear"}, {"factor", 2.0}}),
              "'rope_parameters.rope_type' is default, but 'rope_scaling.rope_type' is linear; where both objects");
  EXPECT_SAYS(both({{"rope_type", "linear"}, {"factor", 4.0}}, {{"type", "linear"}, {"factor", 2.0}}),
              "'rope_parameters.factor' is 4");
  EXPECT_SAYS(both({{"rope_type", "default"}}, {{"type", "yarn"}, {"factor", 2.0}}),
              "'rope_parameters.rope_type' is default, but 'rope_scaling.type' is yarn");
  EXPECT_SAYS(both({{"rope_type", "default"}}, {{"rope_type", "default"}, {"factor", 2.0}}),
              "'rope_parameters.factor' is absent, but 'rope_scaling.factor' is 2");
}

TEST_F(Folder, NamesWhatItDoesNotDo) {
  const auto unsupported = [&](const std::function<void(FolderDraft&)>& change) {
    return refusal(change, ErrorCode::unsupported);
  };
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.config["model_type"] = "gpt_neox"; }),
              "'model_type' is 'gpt_neox'; supported are llama, mistral, mixtral, qwen2, qwen3, granite, phi3, gemma2, "
              "gemma3_text, gemma3, qwen2_moe, qwen3_moe");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.config["hidden_act"] = "gelu"; }), "'hidden_act' is 'gelu'");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.config["partial_rotary_factor"] = 0.5; }),
              "'partial_rotary_factor' is 0.5; supported is the rotation of whole heads");
  EXPECT_SAYS(unsupported([](FolderDraft& d) {
                d.config.erase("rope_scaling");
                d.config["rope_parameters"] = {{"rope_theta", 10000.0}, {"partial_rotary_factor", 0.5}};
              }),
              "'rope_parameters.partial_rotary_factor' is 0.5");
  EXPECT_SAYS(unsupported([](FolderDraft& d) {
                d.config.erase("rope_scaling");
                d.config["rope_parameters"] = {{"rope_type", "default"}, {"stretch", 2}, {"factor", nullptr}};
              }),
              "'rope_parameters.stretch' is 2; known members are type, rope_type, rope_theta, factor");
  EXPECT_SAYS(unsupported([](FolderDraft& d) {
                d.config["quantization_config"] = {{"quant_method", "hqq"}, {"bits", 4}};
              }),
              "quantised by 'hqq'");
  EXPECT_SAYS(unsupported([](FolderDraft& d) {
                d.config["rope_scaling"] = {{"rope_type", "dynamic"}, {"factor", 4.0}};
              }),
              "'rope_scaling.rope_type' is 'dynamic'; supported are default, linear, llama3, longrope and yarn");
  EXPECT_SAYS(unsupported([](FolderDraft& d) {
                d.tensors["model.layers.0.mlp.extra.weight"] = {"F32", {1}, "1234"};
              }),
              "tensor 'model.layers.0.mlp.extra.weight' is no part of");
  EXPECT_SAYS(unsupported([](FolderDraft& d) { d.config["num_hidden_layers"] = 1; }), "tensor 'model.layers.1.");
  EXPECT_SAYS(unsupported([](FolderDraft& d) {
                d.tensors["model.norm.weight"] = {"F64", {256}, std::string(2048, '\0')};
              }),
              "tensor 'model.norm.weight' is of the type F64; supported are F32, F16 and BF16");
  // What old versions of transformers stored, and follows from the configuration, is passed over.
  const auto old = open([](FolderDraft& d) {
    d.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {"F32", {1}, "1234"};
  });
  EXPECT_TRUE(old) << old.error().to_string();
}

TEST_F(Folder, OfAnyTypeIsShownAsItIsStored) {
  const auto stored = [&](const std::function<void(FolderDraft&)>& change) {
    EXPECT_FALSE(open(change));
    return open_stored_folder(model());
  };
  const auto file = stored([](FolderDraft& d) {
    d.config["model_type"] = "gpt_neox";
    d.config["initializer_range"] = 0.5;
    d.config["bias"] = -1;
    d.tensors["model.one"] = {"BF16", {2, 3, 4}, std::string(48, '\0')};
  });
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->version(), 0U);
  EXPECT_EQ(file->get_string("config.model_type").value(), "gpt_neox");
  EXPECT_EQ(file->get_int("config.hidden_size").value(), 256);
  EXPECT_EQ(file->get_float("config.initializer_range").value(), 0.5);
  EXPECT_EQ(file->get_string("config.bias").value(), "-1");
  EXPECT_FALSE(file->get_bool("config.tie_word_embeddings").value());
  EXPECT_EQ(file->tensors().size(), draft_.tensors.size() + 1);
  const GgufTensor* odd = file->find_tensor("model.one");
  ASSERT_NE(odd, nullptr);
  EXPECT_EQ(odd->shape_text(), "[4, 3, 2]");
  EXPECT_EQ(odd->type, DType::bf16);
  EXPECT_TRUE(file->has_file(model() / "config.json"));
  const auto eight_bits = stored([](FolderDraft& d) {
    d.config["model_type"] = "gpt_neox";
    d.tensors["model.one"] = {"F8_E4M3", {4}, "1234"};
  });
  ASSERT_TRUE(eight_bits) << eight_bits.error().to_string();
  const GgufTensor* codes = eight_bits->find_tensor("model.one");
  ASSERT_NE(codes, nullptr);
  EXPECT_EQ(codes->type_name(), "F8_E4M3");
  EXPECT_EQ(codes->bytes(), 4U);
  EXPECT_EQ(odd->type_name(), "BF16");
  // As some quantised folders have them.
  const auto quantized = stored([](FolderDraft& d) {
    d.config["quantization_config"] = {{"quant_method", "hqq"}, {"bits", 4}};
    d.tensors["model.layers.0.self_attn.q_proj.qweight"] = {"I32", {2, 3}, std::string(24, '\0')};
  });
  ASSERT_TRUE(quantized) << quantized.error().to_string();
  const GgufTensor* packed = quantized->find_tensor("model.layers.0.self_attn.q_proj.qweight");
  ASSERT_NE(packed, nullptr);
  EXPECT_EQ(packed->type_name(), "I32");
  EXPECT_EQ(packed->shape_text(), "[3, 2]");
  EXPECT_EQ(packed->bytes(), 24U);
  EXPECT_SAYS(refusal(
                  [](FolderDraft& d) {
                    d.config["quantization_config"] = {{"quant_method", "hqq"}, {"bits", 4}};
                  },
                  ErrorCode::unsupported),
              "quantised by 'hqq'");
}

TEST_F(Folder, NamesWhatContradictsItself) {
  const auto corrupt = [&](const std::function<void(FolderDraft&)>& change) {
    return refusal(change, ErrorCode::corrupt);
  };
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["vocab_size"] = 1025; }), "'vocab_size' of config.json is 1025");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["vocab_size"] = int64_t{1} << 30; }), "expected 1 to 16777216");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["head_dim"] = 2000; }), "'head_dim' is 2000; expected 1 to 1024");
  EXPECT_SAYS(corrupt([](FolderDraft& d) {
                d.config.erase("head_dim");
                d.config["hidden_size"] = 8192;
              }),
              "'hidden_size' 8192 is 2048 for each of 'num_attention_heads' 4");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["hidden_size"] = 0; }), "'hidden_size' is 0; expected 1 to");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["hidden_size"] = "wide"; }), "expected an integer");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["num_attention_heads"] = 6; }), "not those of 6 heads");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["num_attention_heads"] = 3; }),
              "config.json: 'num_attention_heads' 3 is not a multiple of 'num_key_value_heads' 2");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["head_dim"] = 63; }), "config.json: heads have 63 elements");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["rms_norm_eps"] = 0; }),
              "config.json: 'rms_norm_eps' is 0; expected a positive number");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["rope_theta"] = 1e300; }), "'rope_theta' is 1E300; expected a pos");
  EXPECT_SAYS(corrupt([](FolderDraft& d) {
                d.config["rope_scaling"] = {{"type", "linear"}, {"factor", -4}};
              }),
              "'rope_scaling.factor' is -4; expected a positive number");
  // The width is held against config.json before anything is made for each row.
  EXPECT_SAYS(
      corrupt([](FolderDraft& d) {
        d.tensors["model.embed_tokens.weight"] = {"F32", {1024, 1}, std::string(4096, '\0')};
      }),
      "has the shape [1, 1024] (innermost first), but 'vocab_size' of config.json is 1024 and 'hidden_size' 256");
  EXPECT_SAYS(corrupt([](FolderDraft& d) { d.config["rope_scaling"].as_object()["factor"] = -1; }), "positive numbers");
  EXPECT_SAYS(corrupt([](FolderDraft& d) {
                d.tensors["model.norm.weight"] = {"F32", {1, 1, 256}, std::string(1024, '\0')};
              }),
              "expected a vector or a matrix");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config.erase("rms_norm_eps"); }, ErrorCode::not_found),
              "config.json: 'rms_norm_eps' is missing");
  EXPECT_SAYS(
      refusal([](FolderDraft& d) { d.tensors.erase("model.layers.1.mlp.up_proj.weight"); }, ErrorCode::not_found),
      "model.safetensors: tensor 'model.layers.1.mlp.up_proj.weight' is missing");

  // Shapes that only fail together are refused when the model is loaded, with both shapes and the place.
  const auto file = open([](FolderDraft& d) { d.config["intermediate_size"] = 500; });
  ASSERT_TRUE(file) << file.error().to_string();
  const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  const auto loaded = load_model(*file, *device, {.on_progress = {}});
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(loaded.error().to_string(),
              "tensor 'blk.0.ffn_gate.weight' ('model.layers.0.mlp.gate_proj.weight' in 'model.safetensors') has shape "
              "[256, 512], but config.json wants [256, 500]");
}

TEST_F(Folder, BiasesAreThoseThatTheConfigSays) {
  const auto with = [](const char* member, bool value, const std::vector<std::string>& biased) {
    return [=](FolderDraft& d) {
      d.config[member] = value;
      for (const std::string& name : biased) {
        for (const char* layer : {"0", "1"}) {
          const std::string projection = fmt::format("model.layers.{}.{}", layer, name);
          const int64_t rows = d.tensors.at(projection + ".weight").shape.front();
          d.tensors[projection + ".bias"] = {"F32", {rows}, std::string(static_cast<size_t>(rows) * 4, '\0')};
        }
      }
    };
  };
  const std::vector<std::string> attention = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
  const std::vector<std::string> feed_forward = {"mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};
  EXPECT_TRUE(open(with("attention_bias", false, {})));
  EXPECT_TRUE(open(with("mlp_bias", false, {})));
  EXPECT_TRUE(open(with("attention_bias", true, attention)));
  EXPECT_TRUE(open(with("mlp_bias", true, feed_forward)));
  EXPECT_TRUE(open(with("other", true, feed_forward)));
  EXPECT_SAYS(refusal(with("attention_bias", true, {}), ErrorCode::corrupt),
              "config.json: 'attention_bias' is true, but tensor 'model.layers.0.self_attn.q_proj.bias' is missing");
  EXPECT_SAYS(refusal(with("attention_bias", false, {"self_attn.o_proj"}), ErrorCode::corrupt),
              "'attention_bias' is false, but tensor 'model.layers.0.self_attn.o_proj.bias' is there");
  EXPECT_SAYS(refusal(with("mlp_bias", true, {"mlp.gate_proj", "mlp.down_proj"}), ErrorCode::corrupt),
              "'mlp_bias' is true, but tensor 'model.layers.0.mlp.up_proj.bias' is missing");
  EXPECT_SAYS(refusal(with("mlp_bias", false, feed_forward), ErrorCode::corrupt),
              "'mlp_bias' is false, but tensor 'model.layers.0.mlp.gate_proj.bias' is there");
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["mlp_bias"] = 1; }, ErrorCode::corrupt), "expected true or false");
}

TEST_F(Folder, BiasesAreThoseOfTheArchitecture) {
  use("qwen2-tiny");
  EXPECT_SAYS(
      refusal([](FolderDraft& d) { d.tensors.erase("model.layers.0.self_attn.k_proj.bias"); }, ErrorCode::not_found),
      "'model.layers.0.self_attn.k_proj.bias' is missing");
  use("qwen3-tiny");
  EXPECT_SAYS(
      refusal([](FolderDraft& d) { d.tensors.erase("model.layers.0.self_attn.k_norm.weight"); }, ErrorCode::not_found),
      "'model.layers.0.self_attn.k_norm.weight' is missing");
  EXPECT_SAYS(refusal(
                  [](FolderDraft& d) {
                    d.tensors["model.layers.0.self_attn.k_proj.bias"] = {"F32", {1}, "1234"};
                  },
                  ErrorCode::unsupported),
              "'model.layers.0.self_attn.k_proj.bias' is no part of");
}

TEST_F(Folder, NamesTheFileThatIsMissingOrBroken) {
  const auto says = [&](ErrorCode code) {
    const auto opened = Checkpoint::open(model());
    if (opened) return std::string("(accepted)");
    EXPECT_EQ(opened.error().code(), code) << opened.error().to_string();
    return opened.error().to_string();
  };
  ASSERT_TRUE(open([](FolderDraft&) {}, 3));
  std::filesystem::remove(model() / "model-00002-of-00003.safetensors");
  EXPECT_SAYS(says(ErrorCode::not_found),
              "model.safetensors.index.json: it names the file 'model-00002-of-00003.safetensors', which is missing");
  ASSERT_TRUE(open([](FolderDraft&) {}));
  folder_.put("model/config.json", "{");
  EXPECT_SAYS(says(ErrorCode::corrupt), "config.json: invalid JSON at line 1");
  folder_.put("model/config.json", "[]");
  EXPECT_SAYS(says(ErrorCode::corrupt), "config.json: the file is no JSON object");
  std::filesystem::remove(model() / "config.json");
  EXPECT_SAYS(says(ErrorCode::not_found), "the folder has no 'config.json'");
  folder_.put("model/b.gguf", "");
  folder_.put("model/a.gguf", "");
  EXPECT_SAYS(says(ErrorCode::not_found), "name one of them, such as '" + (model() / "a.gguf").string());
  ASSERT_TRUE(open([](FolderDraft&) {}));
  std::filesystem::remove(model() / "model.safetensors");
  EXPECT_SAYS(says(ErrorCode::not_found), "neither 'model.safetensors' nor 'model.safetensors.index.json' is there");
  ASSERT_TRUE(open([](FolderDraft&) {}));
  const auto weights = Checkpoint::open(model() / "model.safetensors");
  ASSERT_FALSE(weights);
  EXPECT_SAYS(weights.error().to_string(), "name the folder in which it lies");
}

TEST_F(Folder, TheIndexIsHeldAgainstItsFiles) {
  const auto with_map = [&](const std::function<void(base::json::object&)>& change) {
    EXPECT_TRUE(open([](FolderDraft&) {}, 2));
    const auto path = model() / "model.safetensors.index.json";
    base::json::value index = base::parse_json(base::read_file(path).value()).value();
    change(index.as_object()["weight_map"].as_object());
    folder_.put("model/model.safetensors.index.json", base::json::serialize(index));
    const auto opened = Checkpoint::open(model());
    if (opened) return std::string("(accepted)");
    EXPECT_EQ(opened.error().code(), ErrorCode::corrupt) << opened.error().to_string();
    return opened.error().to_string();
  };
  EXPECT_EQ(with_map([](base::json::object&) {}), "(accepted)");
  const std::string first = "model-00001-of-00002.safetensors";
  EXPECT_SAYS(with_map([&](base::json::object& map) { map["model.other.weight"] = first; }),
              "tensor 'model.other.weight' is in 'model-00001-of-00002.safetensors', but it is in none of the files");
  EXPECT_SAYS(with_map([&](base::json::object& map) {
                for (auto& entry : map) {
                  if (entry.value().as_string() == first) continue;
                  entry.value() = first;
                  return;
                }
              }),
              "but it is in 'model-00002-of-00002.safetensors'");
  for (const std::string& place : {std::string("../model.safetensors"), std::string("/etc/passwd"), std::string(".."),
                                   std::string(), std::string("model\x1b[31m.safetensors"), first + '\0'}) {
    const std::string said = with_map([&](base::json::object& map) { map["model.norm.weight"] = place; });
    EXPECT_SAYS(said, "expected the name of a file in the same folder");
    EXPECT_EQ(said.find('\x1b'), std::string::npos);
  }
}

// transformers reads the one file first, and leaves the index of a sharded model behind where it saves another.
TEST_F(Folder, AFileOfAllTensorsGoesBeforeAnOldIndex) {
  ASSERT_TRUE(open([](FolderDraft&) {}, 2));
  FolderDraft newer = draft_;
  std::string& norm = newer.tensors.at("model.norm.weight").bytes;
  const float value = 3;
  std::memcpy(norm.data(), &value, sizeof value);
  newer.write(model());
  const auto index = model() / "model.safetensors.index.json";
  ASSERT_TRUE(std::filesystem::exists(index));
  const auto norm_begins = [&] {
    const auto file = Checkpoint::open(model());
    EXPECT_TRUE(file) << file.error().to_string();
    if (!file) return 0.0F;
    EXPECT_FALSE(file->has_file(index));
    EXPECT_FALSE(file->has_file(model() / "model-00001-of-00002.safetensors"));
    float first = 0;
    std::memcpy(&first, file->find_tensor("output_norm.weight")->data.data(), sizeof first);
    return first;
  };
  EXPECT_EQ(norm_begins(), 3.0F);
  std::filesystem::remove(model() / "model-00001-of-00002.safetensors");
  EXPECT_EQ(norm_begins(), 3.0F);
}

// As a cache has them whose blobs were pruned: nothing may go missing without a word.
TEST_F(Folder, ALinkToNothingIsNoAbsentFile) {
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                           "generation_config.json", "chat_template.jinja"}) {
    ASSERT_TRUE(open([](FolderDraft&) {}));
    std::filesystem::remove(model() / name);
    std::filesystem::create_symlink("../blobs/gone", model() / name);
    const auto opened = Checkpoint::open(model());
    ASSERT_FALSE(opened) << name;
    EXPECT_EQ(opened.error().code(), ErrorCode::not_found);
    EXPECT_SAYS(opened.error().to_string(), "cannot open '" + (model() / name).string() + "'");
  }
  ASSERT_TRUE(open([](FolderDraft&) {}));
  std::filesystem::remove(model() / "model.safetensors");
  std::filesystem::create_symlink("../blobs/gone", model() / "model.safetensors.index.json");
  const auto opened = Checkpoint::open(model());
  ASSERT_FALSE(opened);
  EXPECT_SAYS(opened.error().to_string(), "cannot open '" + (model() / "model.safetensors.index.json").string() + "'");
}

// Nothing is waited for that somebody may write into a pipe.
TEST_F(Folder, APipeIsNoFile) {
  for (const char* name : {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
                           "generation_config.json", "chat_template.jinja", "modules.json"}) {
    ASSERT_TRUE(open([](FolderDraft&) {}));
    std::filesystem::remove(model() / name);
    ASSERT_EQ(::mkfifo((model() / name).c_str(), 0600), 0);
    const auto opened = Checkpoint::open(model());
    ASSERT_FALSE(opened) << name;
    EXPECT_EQ(opened.error().code(), ErrorCode::io);
    EXPECT_SAYS(opened.error().to_string(), "'" + (model() / name).string() + "' is a device or pipe");
  }
}

TEST_F(Folder, NoTensorIsInTwoFiles) {
  ASSERT_TRUE(open([](FolderDraft&) {}, 2));
  std::filesystem::copy_file(model() / "model-00001-of-00002.safetensors", model() / "model-00002-of-00002.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  const auto opened = Checkpoint::open(model());
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(opened.error().to_string(), "as well");
}

// Real weights and vocabularies, SentencePiece's: a text has the same tokens, and they the same logits.
class RealFolder : public testing::TestWithParam<const char*> {};

TEST_P(RealFolder, ReadsAndComputesTheSame) {
  const std::filesystem::path name = GetParam();
  const auto path = name.has_parent_path() ? test::data_root() / name : test::nano_coder();
  TM_SKIP_WITHOUT(path);
  const test::TemporaryFolder folder;
  const GgufFile file = GgufFile::open(path).value();
  test::draft_of(file).write(folder.path() / "model", 2);
  const auto read = Checkpoint::open(folder.path() / "model");
  ASSERT_TRUE(read) << read.error().to_string();
  const auto theirs = text::Tokenizer::create(read_vocabulary(file).value());
  const auto ours = text::Tokenizer::create(read_vocabulary(*read).value());
  ASSERT_TRUE(theirs);
  ASSERT_TRUE(ours) << ours.error().to_string();
  const std::string text = "Once upon a time  there was\n\n    def f(x, na\xc3\xafve=3.14):\n\t\xf0\x9f\x8c\x8a\n";
  EXPECT_EQ((*ours)->encode(text).value(), (*theirs)->encode(text).value());
  EXPECT_EQ((*ours)->vocabulary().end_of_generation, (*theirs)->vocabulary().end_of_generation);
  const auto run = [](const std::filesystem::path& model) {
    const std::vector<Token> tokens = {1, 300, 7, 260, 411, 411};
    test::Loaded loaded = test::load(model, tensor::KvType::f16, 64, 1, 16);
    return loaded.cache == nullptr ? std::vector<std::vector<float>>() : test::Sequence(loaded).append(tokens);
  };
  const auto expected = run(path);
  ASSERT_EQ(expected.size(), 6U);
  EXPECT_EQ(run(folder.path() / "model"), expected);
}

INSTANTIATE_TEST_SUITE_P(Models, RealFolder, testing::Values("nano-coder", "models/stories260K.gguf"),
                         [](const auto& instance) { return instance.index == 0 ? "nano_coder" : "stories260K"; });

}  // namespace
}  // namespace tidemill::model
