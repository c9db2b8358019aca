// Whole models in fewer bits: what they become, what they cost, and that nothing half-done or wrong is left.
#include "quantize/quantize_model.hpp"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "data.hpp"
#include "evaluate/judged_model.hpp"
#include "evaluate/text_runner.hpp"
#include "expect_says.hpp"
#include "model/file_type.hpp"
#include "model/gguf.hpp"
#include "model/pack.hpp"
#include "model/synth.hpp"
#include "quantize/partial_file.hpp"
#include "sanitized.hpp"
#include "temporary_folder.hpp"

namespace tidemill::quantize {
namespace {

namespace fs = std::filesystem;

using base::ErrorCode;
using model::Checkpoint;
using model::GgufTensor;
using tensor::DType;

std::vector<float> floats_of(const GgufTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  tensor::dequantize(tensor.type, tensor.data.data(), tensor.elements(), values.data());
  return values;
}

// Root of the mean square of differences over that of the values.
double relative_error(const std::vector<float>& found, const std::vector<float>& expected) {
  double off = 0;
  double all = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    off += std::pow(static_cast<double>(found[i]) - expected[i], 2);
    all += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(off / all);
}

// Of normal numbers: three times what as many bits leave of a range of about six deviations, or what a number's own
// bits do.
double most_error(DType type) {
  if (type == DType::f16) return std::pow(2.0, -11);
  if (type == DType::bf16) return std::pow(2.0, -8);
  const tensor::DTypeInfo& info = tensor::info(type);
  const auto bits = static_cast<int>(8 * info.block_bytes / info.block_elements);
  const bool minimum = type == DType::q4_1 || type == DType::q5_1;  // a whole bit of each is that of the minimum
  return 3 * std::pow(2.0, minimum ? 1 - bits : -bits);
}

// Of this process, as RLIMIT_DATA counts them.
size_t data_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmData:")) return std::stoul(line.substr(7)) * 1024;
  }
  return 0;
}

class QuantizeModel : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(model::write_synthetic_model(model::find_shape("llama-tiny").value(), source_,
                                             {.type = DType::f32, .on_progress = {}}));
  }
  Checkpoint source() const { return Checkpoint::open(source_).value(); }

  base::Result<QuantizeSummary> quantize(const QuantizeOptions& options) const {
    return quantize_model(source(), out_, options);
  }
  static QuantizeOptions to(DType type) {
    QuantizeOptions options;
    options.type = type;
    return options;
  }
  // Writes one float of a tensor of the source.
  void put(std::string_view tensor, size_t element, float value) const {
    size_t offset = 0;
    {
      const Checkpoint file = source();
      offset = static_cast<size_t>(file.find_tensor(tensor)->data.data() - file.mapping()->bytes().data());
    }
    std::fstream out(source_, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(offset + element * sizeof value));
    out.write(reinterpret_cast<const char*>(&value), sizeof value);
  }

  test::TemporaryFolder folder_;
  fs::path source_ = folder_.path() / "source.gguf";
  fs::path out_ = folder_.path() / "out.gguf";
};

TEST_F(QuantizeModel, EveryTypeKeepsTheModelAsWellAsItsBitsAllow) {
  const std::string before = base::read_file(source_).value();
  for (const DType type : tensor::all_dtypes()) {
    size_t last = 0;
    QuantizeOptions options = to(type);
    options.on_progress = [&](size_t done, size_t total) {
      EXPECT_GE(done, last);
      EXPECT_EQ(total, source().tensor_bytes());
      last = done;
    };
    const auto summary = quantize(options);
    ASSERT_TRUE(summary) << summary.error().to_string();
    EXPECT_EQ(summary->bytes, fs::file_size(out_));
    EXPECT_EQ(summary->changed, type == DType::f32 ? 0U : 16U);  // two layers of seven, and both ends
    EXPECT_TRUE(summary->other_types.empty());
    const auto file = model::GgufFile::open(out_);
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(file->tensor_bytes(), summary->tensor_bytes);
    EXPECT_EQ(file->get_int("general.file_type").value(), model::file_type_number(type));
    EXPECT_EQ(file->get_int("general.quantization_version").value(), 2);
    const Checkpoint original = source();
    for (const GgufTensor& tensor : original.tensors()) {
      const GgufTensor* found = file->find_tensor(tensor.name);
      ASSERT_NE(found, nullptr);
      EXPECT_EQ(found->type, is_matrix(tensor) ? type : DType::f32) << tensor.name;
      const double error = relative_error(floats_of(*found), floats_of(tensor));
      EXPECT_LE(error, found->type == DType::f32 ? 0 : most_error(type)) << tensor.name;
    }
    const test::Judged judged = test::judged(out_, {});
    ASSERT_NE(judged.subject, nullptr);
    evaluate::TextOptions few;
    few.tokens = 20;
    const auto text = evaluate::judge_text(*judged.subject, nullptr, "some words to be read, and some more", few);
    EXPECT_TRUE(text) << text.error().to_string();
  }
  EXPECT_EQ(base::read_file(source_).value(), before);
  EXPECT_EQ(folder_.entries(), 2);
}

TEST_F(QuantizeModel, Int8TakesAQuarter) {
  const auto summary = quantize(to(DType::q8_0));
  ASSERT_TRUE(summary);
  EXPECT_LT(static_cast<double>(summary->tensor_bytes), 0.27 * static_cast<double>(source().tensor_bytes()));
}

TEST_F(QuantizeModel, RulesGiveTensorsTypesOfTheirOwn) {
  QuantizeOptions options = to(DType::q4_0);
  options.rules = {{"output.weight", DType::q6_k}, {"blk.?.attn_v.weight", DType::q8_0}};
  const auto summary = quantize(options);
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_EQ(summary->changed, 16U);
  EXPECT_EQ(summary->of_type, 13U);
  EXPECT_EQ(summary->other_types, (std::vector<std::string>{"2 in Q8_0", "1 in Q6_K"}));
  const auto file = Checkpoint::open(out_);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->find_tensor("output.weight")->type, DType::q6_k);
  EXPECT_EQ(file->find_tensor("blk.1.attn_v.weight")->type, DType::q8_0);
  EXPECT_EQ(file->find_tensor("blk.1.attn_q.weight")->type, DType::q4_0);
  options.rules = {{"blk.9.*", DType::q6_k}};
  EXPECT_EQ(quantize(options).error().code(), ErrorCode::invalid_argument);
}

TEST_F(QuantizeModel, ThreadsAndSlicesDoNotMatter) {
  QuantizeOptions options = to(DType::q4_k);
  ASSERT_TRUE(quantize(options));
  const std::string expected = base::read_file(out_).value();
  options.threads = 2;
  options.slice_elements = 1000;
  ASSERT_TRUE(quantize(options));
  EXPECT_TRUE(base::read_file(out_).value() == expected);
}

TEST_F(QuantizeModel, NeverReplacesItsSource) {
  const std::string before = base::read_file(source_).value();
  fs::create_hard_link(source_, folder_.path() / "hard.gguf");
  fs::create_symlink(source_, folder_.path() / "soft.gguf");
  for (const fs::path& own :
       {source_, folder_.path() / "hard.gguf", folder_.path() / "soft.gguf", folder_.path() / "." / "source.gguf"}) {
    const auto refused = quantize_model(source(), own, to(DType::q8_0));
    ASSERT_FALSE(refused) << own;
    EXPECT_EQ(refused.error().code(), ErrorCode::invalid_argument);
    EXPECT_SAYS(refused.error().to_string(), "is the source itself");
    EXPECT_FALSE(check_quantization(source(), own, to(DType::q8_0)));
  }
  // Nor where what it writes on the way has the source's name.
  fs::rename(source_, partial_path(out_));
  const auto refused = quantize_model(Checkpoint::open(partial_path(out_)).value(), out_, to(DType::q8_0));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::invalid_argument);
  EXPECT_TRUE(base::read_file(partial_path(out_)).value() == before);
  // Whether that is its own or that of what the output links to.
  QuantizeOptions options = to(DType::q8_0);
  options.restart = true;
  folder_.put("out.gguf", "an older one");
  fs::create_symlink(out_, folder_.path() / "link.gguf");
  const auto again =
      quantize_model(Checkpoint::open(partial_path(out_)).value(), folder_.path() / "link.gguf", options);
  ASSERT_FALSE(again);
  EXPECT_SAYS(again.error().to_string(), "out.gguf.partial' is the source itself");
  EXPECT_TRUE(base::read_file(partial_path(out_)).value() == before);
}

TEST_F(QuantizeModel, NeverReplacesWhatItReads) {
  const fs::path text = folder_.put("notes.txt", "words");
  QuantizeOptions options = to(DType::q8_0);
  options.inputs = {text};
  fs::create_symlink(text, folder_.path() / "link.gguf");
  for (const fs::path& own : {text, folder_.path() / "link.gguf"}) {
    const auto refused = quantize_model(source(), own, options);
    ASSERT_FALSE(refused) << own;
    EXPECT_EQ(refused.error().code(), ErrorCode::invalid_argument);
    EXPECT_SAYS(refused.error().to_string(), "notes.txt' is what is read to calibrate");
    EXPECT_FALSE(check_quantization(source(), own, options));
  }
  EXPECT_EQ(base::read_file(text).value(), "words");
}

TEST_F(QuantizeModel, NamesWeightsThatAreNoNumbers) {
  put("blk.1.ffn_up.weight", 70'000, std::numeric_limits<float>::quiet_NaN());
  const auto refused = quantize(to(DType::q4_k));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(refused.error().to_string(), "tensor 'blk.1.ffn_up.weight' holds NaN at element 70000");
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(QuantizeModel, NamesWeightsThatTheTypeCannotHold) {
  put("blk.1.ffn_up.weight", 256 + 3, -1e9F);  // beyond all but BF16 and MXFP4
  for (const DType type : tensor::all_dtypes()) {
    if (type == DType::f32 || type == DType::bf16 || type == DType::mxfp4) continue;
    const auto refused = quantize(to(type));
    ASSERT_FALSE(refused) << tensor::info(type).name;
    EXPECT_EQ(refused.error().code(), ErrorCode::corrupt);
    EXPECT_SAYS(refused.error().to_string(),
                "tensor 'blk.1.ffn_up.weight' holds numbers up to 1e+09 in size, in row 1 such that " +
                    std::string(tensor::info(type).name));
    EXPECT_SAYS(refused.error().to_string(), "--tensor 'blk.1.ffn_up.weight=f32'");
    EXPECT_EQ(folder_.entries(), 1);
  }
  QuantizeOptions apart = to(DType::q4_0);
  apart.rules = {{"blk.1.ffn_up.weight", DType::f32}};
  EXPECT_TRUE(quantize(apart));
}

TEST_F(QuantizeModel, PackedFilesAreNotQuantized) {
  const auto packed = folder_.path() / "packed.gguf";
  ASSERT_TRUE(model::pack_model(source(), packed, {}));
  const auto refused = quantize_model(Checkpoint::open(packed).value(), out_, to(DType::q4_0));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::unsupported);
  EXPECT_SAYS(refused.error().to_string(), "quantize its source");
}

TEST_F(QuantizeModel, GoesOnWhereItWasInterrupted) {
  QuantizeOptions options = to(DType::q4_0);
  ASSERT_TRUE(quantize(options));
  const std::string expected = base::read_file(out_).value();
  fs::remove(out_);
  options.flush_bytes = 1;
  int left = 4;
  options.cancelled = [&left] { return left-- <= 0; };
  size_t before = 0;
  std::vector<size_t> told;
  options.on_progress = [&told](size_t done, size_t /*total*/) { told.push_back(done); };
  for (int round = 0; round < 100; ++round) {
    left = 4;
    told.clear();
    const auto stopped = quantize(options);
    if (stopped) {
      EXPECT_GT(stopped->resumed, before);
      const Checkpoint original = source();
      size_t resumed_bytes = 0;
      for (const GgufTensor& tensor : original.tensors().first(stopped->resumed))
        resumed_bytes += tensor.bytes();
      ASSERT_FALSE(told.empty());
      EXPECT_EQ(told.front(), resumed_bytes) << "what was there from before is told of first, and at once";
      EXPECT_GT(round, 2);
      break;
    }
    ASSERT_EQ(stopped.error().code(), ErrorCode::cancelled) << stopped.error().to_string();
    EXPECT_SAYS(stopped.error().to_string(), "out.gguf.partial', and the same command goes on behind that");
    EXPECT_FALSE(fs::exists(out_));
    EXPECT_EQ(folder_.entries(), 3);  // the source, the parts, the journal
  }
  EXPECT_TRUE(base::read_file(out_).value() == expected);
  EXPECT_EQ(folder_.entries(), 2);
}

TEST_F(QuantizeModel, WhatWasBegunOtherwiseIsNotGoneOnWith) {
  QuantizeOptions options = to(DType::q4_0);
  options.flush_bytes = 1;
  int left = 6;
  options.cancelled = [&left] { return left-- <= 0; };
  ASSERT_FALSE(quantize(options));
  QuantizeOptions other = to(DType::q5_0);
  const auto refused = quantize(other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::invalid_argument);
  EXPECT_SAYS(refused.error().to_string(), "--restart");
  // Which shows before anything long is done.
  EXPECT_TRUE(check_quantization(source(), out_, options));
  EXPECT_FALSE(check_quantization(source(), out_, other));
  for (const bool calibrated : {false, true}) {
    QuantizeOptions mixed = options;
    mixed.calibration_fingerprint = calibrated ? 1 : 0;
    EXPECT_EQ(check_quantization(source(), out_, mixed).has_value(), !calibrated);
    mixed.bits = 6;
    EXPECT_FALSE(check_quantization(source(), out_, mixed));
  }
  // Nor after the source has changed.
  options.cancelled = {};
  put("blk.0.ffn_up.weight", 0, 0.25F);
  EXPECT_FALSE(quantize(options));
  other.restart = true;
  const auto restarted = quantize(other);
  ASSERT_TRUE(restarted) << restarted.error().to_string();
  EXPECT_EQ(restarted->resumed, 0U);
  EXPECT_EQ(folder_.entries(), 2);
}

TEST_F(QuantizeModel, LeavesNothingBehindWhenTheDiskIsTooSmall) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small{4096 * 10, limit.rlim_max};
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  const Checkpoint file = source();
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto full = quantize_model(file, out_, to(DType::q8_0));
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, ignored);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), ErrorCode::io);
  EXPECT_SAYS(full.error().to_string(), "out.gguf");
  EXPECT_EQ(folder_.entries(), 1);
}

// A model of 40 tensors of 8 MiB, made when they are read, in the memory of a few.
TEST_F(QuantizeModel, NeedsTheMemoryOfOneTensor) {
  if (test::sanitized) GTEST_SKIP() << "sanitizers keep memory that was freed";
  constexpr int64_t cols = 1024;
  constexpr int64_t rows = 2048;
  std::vector<std::string> names;
  names.reserve(40);
  for (int i = 0; i < 40; ++i)
    names.push_back("blk." + std::to_string(i) + ".ffn_up.weight");
  std::vector<GgufTensor> tensors;
  for (size_t i = 0; i < names.size(); ++i) {
    GgufTensor tensor;
    tensor.name = names[i];
    tensor.rank = 2;
    tensor.shape = {cols, rows, 1, 1};
    tensor.make = [i](std::span<std::byte> out) {
      auto* values = reinterpret_cast<float*>(out.data());
      for (size_t at = 0; at < out.size() / sizeof(float); ++at)
        values[at] = static_cast<float>((at * 2654435761U + i) % 1000) / 1000 - 0.5F;
    };
    tensors.push_back(std::move(tensor));
  }
  const Checkpoint large = Checkpoint::assemble(model::Metadata("large"), std::move(tensors), {}, nullptr, 3).value();
  ASSERT_EQ(large.tensor_bytes(), 40U * 8 << 20);
  const size_t data = data_bytes();
  ASSERT_GT(data, 0U);
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_DATA, &limit), 0);
  // One tensor, one slice as floats, its blocks, and as much again.
  const rlimit small{data + (size_t{64} << 20), limit.rlim_max};
  QuantizeOptions options = to(DType::q8_0);
  options.slice_elements = 1 << 20;
  ASSERT_EQ(setrlimit(RLIMIT_DATA, &small), 0);
  const auto done = quantize_model(large, out_, options);
  setrlimit(RLIMIT_DATA, &limit);
  ASSERT_TRUE(done) << done.error().to_string();
  EXPECT_EQ(done->tensors, 40U);
}

// Memory may be there the next time.
TEST_F(QuantizeModel, GoesOnWhereMemoryWasShort) {
  if (test::sanitized) GTEST_SKIP() << "sanitizers need more memory than there is here";
  std::vector<GgufTensor> tensors(2);
  tensors[0].name = "blk.0.ffn_up.weight";
  tensors[1].name = "blk.1.ffn_up.weight";
  tensors[0].shape = {1024, 16, 1, 1};
  tensors[1].shape = {1024, 1 << 16, 1, 1};  // 256 MiB
  for (GgufTensor& tensor : tensors) {
    tensor.rank = 2;
    tensor.make = [](std::span<std::byte> out) { std::fill(out.begin(), out.end(), std::byte{}); };
  }
  const Checkpoint large = Checkpoint::assemble(model::Metadata("large"), std::move(tensors), {}, nullptr, 3).value();
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_DATA, &limit), 0);
  const rlimit small{data_bytes() + (size_t{64} << 20), limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_DATA, &small), 0);
  const auto stopped = quantize_model(large, out_, to(DType::q8_0));
  setrlimit(RLIMIT_DATA, &limit);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code(), ErrorCode::exhausted);
  EXPECT_SAYS(stopped.error().to_string(), "out.gguf.partial', and the same command goes on behind that");
  const auto done = quantize_model(large, out_, to(DType::q8_0));
  ASSERT_TRUE(done) << done.error().to_string();
  EXPECT_EQ(done->resumed, 1U);
}

// Every block of a row has the row's scale, as an INT8 format with a scale for each output channel would.
TEST_F(QuantizeModel, ChannelsHaveOneScale) {
  put("blk.0.ffn_up.weight", 5, 3.5F);  // an outlier of the first row
  QuantizeOptions options = to(DType::q8_0);
  options.per_channel = true;
  const auto done = quantize(options);
  ASSERT_TRUE(done) << done.error().to_string();
  const Checkpoint from = source();
  const Checkpoint made = Checkpoint::open(out_).value();
  size_t matrices = 0;
  for (const GgufTensor& tensor : made.tensors()) {
    if (!is_matrix(tensor)) continue;
    ++matrices;
    ASSERT_EQ(tensor.type, DType::q8_0) << tensor.name;
    const std::vector<float> expected = floats_of(*from.find_tensor(tensor.name));
    const std::vector<float> found = floats_of(tensor);
    const auto cols = static_cast<size_t>(tensor.cols());
    const size_t row_bytes = tensor.data.size() / static_cast<size_t>(tensor.rows());
    for (size_t r = 0; r < static_cast<size_t>(tensor.rows()); ++r) {
      const auto row = tensor.data.subspan(r * row_bytes, row_bytes);
      for (size_t block = 34; block < row_bytes; block += 34)
        ASSERT_TRUE(std::equal(row.begin(), row.begin() + 2, row.begin() + static_cast<std::ptrdiff_t>(block)));
      float largest = 0;
      for (size_t c = 0; c < cols; ++c)
        largest = std::max(largest, std::fabs(expected[r * cols + c]));
      // Half a step, and what the scale's own rounding to binary16 does to the largest code.
      const float most = 1.001F * (largest / 127 * 0.5F + largest * 0x1p-11F);
      for (size_t c = 0; c < cols; ++c)
        ASSERT_NEAR(found[r * cols + c], expected[r * cols + c], most) << tensor.name << " " << r << " " << c;
    }
  }
  EXPECT_GT(matrices, 10U);

  // What has a scale for each 32 is rounded again.
  const auto grouped = folder_.path() / "grouped.gguf";
  ASSERT_TRUE(quantize_model(source(), grouped, to(DType::q8_0)));
  const auto again = quantize_model(Checkpoint::open(grouped).value(), folder_.path() / "again.gguf", options);
  ASSERT_TRUE(again) << again.error().to_string();
  const Checkpoint regrouped = Checkpoint::open(folder_.path() / "again.gguf").value();
  const auto row = regrouped.find_tensor("blk.0.ffn_up.weight")->data;
  EXPECT_TRUE(std::equal(row.begin(), row.begin() + 2, row.begin() + 34));
}

TEST(Fingerprint, LooksAtEveryPieceOfATensor) {
  std::vector<std::byte> bytes(4 * 64 * sizeof(float));
  const auto fingerprint = [&] {
    GgufTensor tensor;
    tensor.name = "blk.0.ffn_up_exps.weight";
    tensor.rank = 3;
    tensor.shape = {32, 2, 4, 1};
    const size_t piece = bytes.size() / 4;
    tensor.data = std::span(bytes).first(piece);
    for (size_t i = 1; i < 4; ++i)
      tensor.more_data.push_back(std::span(bytes).subspan(i * piece, piece));
    return fingerprint_of(Checkpoint::assemble(model::Metadata("pieces"), {tensor}, {}, nullptr, 0).value());
  };
  const uint64_t before = fingerprint();
  EXPECT_EQ(fingerprint(), before);
  bytes.back() = std::byte{1};
  EXPECT_NE(fingerprint(), before);
}

TEST(Fingerprint, TellsSourcesApart) {
  const test::TemporaryFolder folder;
  std::vector<uint64_t> seen;
  for (const uint64_t seed : {1, 2}) {
    const auto path = folder.path() / "model.gguf";
    ASSERT_TRUE(
        model::write_synthetic_model(model::find_shape("llama-tiny").value(), path, {.seed = seed, .on_progress = {}}));
    const Checkpoint file = Checkpoint::open(path).value();
    seen.push_back(fingerprint_of(file));
    EXPECT_EQ(fingerprint_of(file), seen.back());
  }
  EXPECT_NE(seen[0], seen[1]);
}

TEST(Fingerprint, TellsWhatDecidesTheResultApart) {
  const Checkpoint file = Checkpoint::open(test::nano_coder()).value();
  std::vector<QuantizeOptions> all(6);
  all[5].per_channel = true;
  all[1].calibration_fingerprint = 1;
  all[2] = all[3] = all[4] = all[1];
  all[4].bits = 6;
  all[2].smooth = false;
  all[3].compensate = false;
  std::set<uint64_t> seen = {fingerprint_of(file, all[1], "0.2.0")};
  for (QuantizeOptions& options : all) {
    const uint64_t fingerprint = fingerprint_of(file, options, "0.1.0");
    EXPECT_TRUE(seen.insert(fingerprint).second);
    options.threads = 7;
    EXPECT_EQ(fingerprint_of(file, options, "0.1.0"), fingerprint);
  }
}

}  // namespace
}  // namespace tidemill::quantize
