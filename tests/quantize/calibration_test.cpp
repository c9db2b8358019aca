// What a calibration sees of the embedded model, against the definition where that is short: the input of the first
// layer's projections is the normalised embedding.
#include "quantize/calibration.hpp"

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data.hpp"
#include "evaluate/text_runner.hpp"
#include "model/gguf.hpp"
#include "model/synth.hpp"
#include "temporary_folder.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::quantize {
namespace {

const std::string kText =
    "import os\n\n\ndef area(width, height):\n    return width * height\n\n\nclass Box:\n    pass\n";

CalibrationOptions options_here() {
  CalibrationOptions options;
  options.isa = tensor::choose_isa().value();
  return options;
}

std::vector<float> floats_of(const model::Checkpoint& file, std::string_view name) {
  const model::GgufTensor* tensor = file.find_tensor(name);
  std::vector<float> values(static_cast<size_t>(tensor->elements()));
  tensor::dequantize(tensor->type, tensor->data.data(), tensor->elements(), values.data());
  return values;
}

TEST(Calibration, SeesTheInputsOfMatrices) {
  const model::Checkpoint file = model::Checkpoint::open(test::nano_coder()).value();
  size_t read = 0;
  CalibrationOptions options = options_here();
  options.window = 16;
  options.on_read = [&read](size_t done, size_t total) {
    EXPECT_LE(done, total);
    read = done;
  };
  const auto calibration = Calibration::create(file, kText, options);
  ASSERT_TRUE(calibration) << calibration.error().to_string();
  EXPECT_EQ(read, static_cast<size_t>((*calibration)->tokens()));
  const InputStatistics* query = (*calibration)->input_of("blk.0.attn_q.weight");
  ASSERT_NE(query, nullptr);
  EXPECT_EQ((*calibration)->input_of("blk.0.attn_k.weight"), query);
  EXPECT_EQ((*calibration)->input_of("blk.0.attn_v.weight"), query);
  EXPECT_NE((*calibration)->input_of("blk.1.attn_q.weight"), query);
  EXPECT_EQ((*calibration)->input_of("blk.0.ffn_gate.weight"), (*calibration)->input_of("blk.0.ffn_up.weight"));
  EXPECT_EQ((*calibration)->input_of("blk.0.ffn_down.weight")->mean_square.size(), 768U);
  EXPECT_NE((*calibration)->input_of("token_embd.weight"), nullptr);  // it is the output matrix too
  EXPECT_EQ((*calibration)->input_of("blk.0.attn_norm.weight"), nullptr);
  EXPECT_EQ((*calibration)->input_of("no.such.tensor"), nullptr);

  // All tokens that were read: in windows of 16, which the beginning of sequence opens.
  const auto device = tensor::make_cpu_device(options.isa, 1);
  const auto subject = evaluate::Subject::load(file, *device, {});
  ASSERT_TRUE(subject);
  const auto tokens = subject->tokenizer().encode(kText, {.add_special = false}).value();
  std::vector<evaluate::Token> all;
  const size_t lead = subject->lead().size();
  for (size_t at = 0; at + 1 - lead < tokens.size(); at += 16) {
    all.insert(all.end(), subject->lead().begin(), subject->lead().end());
    const size_t end = std::min(at + 16 - lead, tokens.size() - 1);
    all.insert(all.end(), tokens.begin() + static_cast<int64_t>(at), tokens.begin() + static_cast<int64_t>(end));
  }
  const std::vector<float> table = floats_of(file, "token_embd.weight");
  const std::vector<float> norm = floats_of(file, "blk.0.attn_norm.weight");
  const size_t width = norm.size();
  std::vector<double> squares(width, 0);
  std::vector<double> peaks(width, 0);
  for (const evaluate::Token token : all) {
    const float* row = table.data() + static_cast<size_t>(token) * width;
    double mean = 0;
    for (size_t c = 0; c < width; ++c)
      mean += static_cast<double>(row[c]) * row[c] / static_cast<double>(width);
    for (size_t c = 0; c < width; ++c) {
      const double x = row[c] / std::sqrt(mean + subject->model().hyper_parameters().rms_epsilon) * norm[c];
      squares[c] += x * x / static_cast<double>(all.size());
      peaks[c] = std::max(peaks[c], std::fabs(x));
    }
  }
  EXPECT_EQ(query->rows, static_cast<int64_t>(all.size()));
  for (size_t c = 0; c < width; ++c) {
    EXPECT_NEAR(query->mean_square[c], squares[c], 1e-4 * squares[c] + 1e-9) << c;
    EXPECT_NEAR(query->peak[c], peaks[c], 1e-4 * peaks[c] + 1e-6) << c;
  }
}

// In a layer, what its attention and its mixture add.
TEST(Calibration, SaysHowMuchErrorsMatter) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("qwen2moe-tiny").value(), path,
                                           {.type = tensor::DType::f32, .on_progress = {}}));
  const auto influences = [&](std::string_view tensor, bool asked) {
    const model::Checkpoint file = model::Checkpoint::open(path).value();
    CalibrationOptions options = options_here();
    options.window = 16;
    options.influences = asked;
    const auto calibration = Calibration::create(file, kText, options);
    EXPECT_TRUE(calibration);
    return calibration ? (*calibration)->influence_of(tensor) : -1;
  };
  const double first = influences("blk.0.attn_q.weight", true);
  EXPECT_GT(first, 0.1);  // projections of random weights are about as large as embeddings
  EXPECT_LT(first, 2);
  EXPECT_EQ(influences("blk.0.attn_output.weight", true), first);
  EXPECT_EQ(influences("blk.0.ffn_down_exps.weight", true), first);
  EXPECT_NE(influences("blk.1.attn_q.weight", true), first);
  EXPECT_EQ(influences("token_embd.weight", true), 1);
  EXPECT_EQ(influences("no.such.tensor", true), 1);
  EXPECT_GE(influences("output.weight", true), 1);
  for (const char* tensor : {"blk.0.attn_q.weight", "output.weight"})
    EXPECT_EQ(influences(tensor, false), 1);
}

TEST(Calibration, MemoryAndThreadsChangeNothing) {
  const model::Checkpoint file = model::Checkpoint::open(test::nano_coder()).value();
  // The last again: what it shares with the first two may have been let go.
  const std::vector<std::string_view> names = {"blk.0.attn_q.weight", "blk.0.attn_v.weight", "blk.0.ffn_down.weight",
                                               "blk.0.attn_k.weight"};
  std::vector<std::vector<std::byte>> results;
  for (const bool small : {false, true}) {
    CalibrationOptions options = options_here();
    options.threads = small ? 2 : 1;
    if (small) options.compensation_bytes = 1;
    const auto calibration = Calibration::create(file, kText, options);
    ASSERT_TRUE(calibration);
    std::vector<std::byte> all;
    for (size_t i = 0; i < names.size(); ++i) {
      const auto compensation = (*calibration)->compensation(names[i], {});
      ASSERT_TRUE(compensation) << compensation.error().to_string();
      std::vector<float> row = floats_of(file, names[i]);
      row.resize(static_cast<size_t>((*compensation)->cols()));
      std::vector<std::byte> out(static_cast<size_t>(tensor::row_bytes(tensor::DType::q4_0, (*compensation)->cols())));
      (*compensation)->round(tensor::DType::q4_0, row.data(), 1, out.data());
      all.insert(all.end(), out.begin(), out.end());
    }
    results.push_back(std::move(all));
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(Calibration, WatchingChangesNoBit) {
  const model::Checkpoint file = model::Checkpoint::open(test::nano_coder()).value();
  const auto device = tensor::make_cpu_device(tensor::choose_isa().value(), 1);
  WatchedDevice watched(*device);
  int64_t operations = 0;
  watched.watch([&operations](std::span<const tensor::Product> products, tensor::ConstMatrix x) {
    EXPECT_FALSE(products.empty());
    EXPECT_EQ(products[0].weight->cols(), x.cols);
    ++operations;
  });
  auto plain = evaluate::Subject::load(file, *device, {});
  auto seen = evaluate::Subject::load(file, watched, {});
  ASSERT_TRUE(plain && seen);
  const auto expected = evaluate::judge_text(*plain, nullptr, kText, {});
  const auto found = evaluate::judge_text(*seen, nullptr, kText, {});
  ASSERT_TRUE(expected && found);
  EXPECT_EQ(found->score.nats, expected->score.nats);
  EXPECT_EQ(operations, 6 * 4 + 1);  // of each layer's four, and the output
}

TEST(Calibration, FingerprintsTellApartWhatItFinds) {
  const CalibrationOptions options;
  const uint64_t fingerprint = fingerprint_of(kText, options);
  std::vector<CalibrationOptions> others(3, options);
  others[0].tokens = 100;
  others[1].window = 100;
  others[2].isa = tensor::Isa::avx2;
  for (const CalibrationOptions& other : others)
    EXPECT_NE(fingerprint_of(kText, other), fingerprint);
  EXPECT_NE(fingerprint_of(kText + "\n", options), fingerprint);
  CalibrationOptions same = options;
  same.threads = 3;
  same.compensation_bytes = 1;
  EXPECT_EQ(fingerprint_of(kText, same), fingerprint);
}

TEST(Calibration, EncodersAreNotCalibrated) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "encoder.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("bert-tiny").value(), path, {}));
  const model::Checkpoint file = model::Checkpoint::open(path).value();
  const auto refused = Calibration::create(file, kText, options_here());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::ErrorCode::unsupported);
  EXPECT_NE(refused.error().to_string().find("quantise it without"), std::string::npos);
}

TEST(Calibration, InputsThatOverflowAreFoundOut) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "large.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("llama-tiny").value(), path,
                                           {.type = tensor::DType::f32, .on_progress = {}}));
  size_t offset = 0;
  {
    const model::Checkpoint file = model::Checkpoint::open(path).value();
    offset =
        static_cast<size_t>(file.find_tensor("blk.1.ffn_norm.weight")->data.data() - file.mapping()->bytes().data());
  }
  const std::vector<float> weights(64, 1e20F);  // whose squares are beyond float
  std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(static_cast<std::streamoff>(offset));
  out.write(reinterpret_cast<const char*>(weights.data()),
            static_cast<std::streamsize>(weights.size() * sizeof(float)));
  out.close();
  const model::Checkpoint file = model::Checkpoint::open(path).value();
  const auto refused = Calibration::create(file, kText, options_here());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::ErrorCode::corrupt);
  EXPECT_NE(refused.error().to_string().find("tensor 'blk.1.ffn_"), std::string::npos) << refused.error().to_string();
}

TEST(Calibration, KnowsNothingOfExperts) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "mixture.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("qwen2moe-tiny").value(), path, {}));
  const model::Checkpoint file = model::Checkpoint::open(path).value();
  const auto calibration = Calibration::create(file, kText, options_here());
  ASSERT_TRUE(calibration) << calibration.error().to_string();
  for (const char* name : {"blk.0.ffn_gate_exps.weight", "blk.0.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"}) {
    EXPECT_NE(file.find_tensor(name), nullptr);
    EXPECT_EQ((*calibration)->input_of(name), nullptr) << name;
  }
  for (const char* name : {"blk.0.attn_q.weight", "blk.0.ffn_gate_shexp.weight", "blk.1.ffn_down_shexp.weight"})
    EXPECT_NE((*calibration)->input_of(name), nullptr) << name;
}

// Nor of what heads make of latents, each by a matrix of its own.
TEST(Calibration, KnowsNothingOfHeads) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "latent.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("deepseek3-tiny").value(), path, {}));
  const model::Checkpoint file = model::Checkpoint::open(path).value();
  const auto calibration = Calibration::create(file, kText, options_here());
  ASSERT_TRUE(calibration) << calibration.error().to_string();
  for (const char* name : {"blk.0.attn_k_b.weight", "blk.1.attn_v_b.weight"}) {
    EXPECT_NE(file.find_tensor(name), nullptr);
    EXPECT_EQ((*calibration)->input_of(name), nullptr) << name;
  }
  for (const char* name :
       {"blk.0.attn_q_a.weight", "blk.0.attn_q_b.weight", "blk.2.attn_kv_a_mqa.weight", "blk.1.ffn_down_shexp.weight"})
    EXPECT_NE((*calibration)->input_of(name), nullptr) << name;
}

// Where windows are short enough for the first of LongRoPE's two rotations, the second decides nothing.
TEST(Calibration, ReadsWithTheRotationOfItsWindow) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "phi.gguf";
  ASSERT_TRUE(model::write_synthetic_model(model::find_shape("phi3-tiny").value(), path, {}));
  CalibrationOptions options = options_here();
  options.window = 16;
  std::vector<std::vector<float>> seen;
  for (const bool other : {false, true}) {
    if (other) {
      size_t offset = 0;
      {
        const model::Checkpoint file = model::Checkpoint::open(path).value();
        offset = static_cast<size_t>(file.find_tensor("rope_factors_long.weight")->data.data() -
                                     file.mapping()->bytes().data());
      }
      const std::vector<float> factors(24, 3.5F);
      std::fstream out(path, std::ios::in | std::ios::out | std::ios::binary);
      out.seekp(static_cast<std::streamoff>(offset));
      out.write(reinterpret_cast<const char*>(factors.data()),
                static_cast<std::streamsize>(factors.size() * sizeof(float)));
    }
    const model::Checkpoint file = model::Checkpoint::open(path).value();
    const auto calibration = Calibration::create(file, kText, options);
    ASSERT_TRUE(calibration) << calibration.error().to_string();
    seen.push_back((*calibration)->input_of("blk.1.ffn_down.weight")->mean_square);
  }
  EXPECT_EQ(seen[0], seen[1]);
}

TEST(Calibration, WantsAText) {
  const model::Checkpoint file = model::Checkpoint::open(test::nano_coder()).value();
  const auto empty = Calibration::create(file, "", options_here());
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code(), base::ErrorCode::invalid_argument);
  CalibrationOptions options = options_here();
  options.cancelled = [] { return true; };
  const auto cancelled = Calibration::create(file, kText, options);
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code(), base::ErrorCode::cancelled);
}

}  // namespace
}  // namespace tidemill::quantize
