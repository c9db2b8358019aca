// One GGUF file from a folder: it computes the same, and nothing that is wrong is written.
#include "model/convert.hpp"

#include <cstring>
#include <functional>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "expect_says.hpp"
#include "folder_writer.hpp"
#include "model/pack.hpp"
#include "model/synth.hpp"
#include "runner.hpp"
#include "small_disk.hpp"
#include "temporary_folder.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using tensor::DType;
using test::FolderDraft;

std::vector<std::vector<float>> logits(const std::filesystem::path& path) {
  test::Loaded loaded = test::load(path, tensor::KvType::f32, 64, 1, 16);
  if (loaded.cache == nullptr) return {};
  const std::vector<Token> tokens = {5, 700, 31, 2, 999, 5};
  return test::Sequence(loaded).append(tokens);
}

std::vector<float> values(const Checkpoint& file, std::string_view name) {
  const GgufTensor* tensor = file.find_tensor(name);
  if (tensor == nullptr) return {};
  base::Buffer scratch;
  const auto bytes = file.read(*tensor, scratch).value();
  std::vector<float> floats(static_cast<size_t>(tensor->elements()));
  tensor::dequantize(tensor->type, bytes.data(), tensor->elements(), floats.data());
  return floats;
}

class Convert : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(
        write_synthetic_model(find_shape("llama-tiny").value(), gguf_, {.type = DType::f32, .on_progress = {}}));
    draft_ = test::draft_of(GgufFile::open(gguf_).value());
    draft_.write(model_, 2);
  }

  // Writes the draft with one change, and converts it.
  base::Result<ConvertSummary> convert(const std::function<void(FolderDraft&)>& change, const ConvertOptions& options) {
    FolderDraft draft = draft_;
    change(draft);
    draft.write(model_, 2);
    TM_TRY(const Checkpoint source, Checkpoint::open(model_));
    return convert_model(source, out_, options);
  }

  // The error of a conversion, which leaves nothing behind.
  std::string refusal(const std::function<void(FolderDraft&)>& change, ErrorCode code, ConvertOptions options = {}) {
    const long before = folder_.entries();
    const auto converted = convert(change, options);
    if (converted) return "(accepted)";
    EXPECT_EQ(converted.error().code(), code) << converted.error().to_string();
    EXPECT_EQ(folder_.entries(), before);
    return converted.error().to_string();
  }

  static void put(FolderDraft& draft, const char* tensor, size_t element, float value) {
    std::memcpy(draft.tensors.at(tensor).bytes.data() + element * sizeof value, &value, sizeof value);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path gguf_ = folder_.path() / "source.gguf";
  std::filesystem::path model_ = folder_.path() / "model";
  std::filesystem::path out_ = folder_.path() / "out.gguf";
  FolderDraft draft_;
};

TEST_F(Convert, AFolderBecomesTheSameModel) {
  size_t last = 0;
  const Checkpoint source = Checkpoint::open(model_).value();
  ConvertOptions options;
  options.on_progress = [&](size_t done, size_t total) {
    EXPECT_GE(done, last);
    EXPECT_EQ(total, source.tensor_bytes());
    last = done;
  };
  const auto summary = convert_model(source, out_, options);
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_EQ(last, source.tensor_bytes());
  EXPECT_EQ(summary->bytes, std::filesystem::file_size(out_));
  EXPECT_EQ(summary->tensors, source.tensors().size());
  EXPECT_EQ(summary->converted, 0U);
  const auto file = GgufFile::open(out_);
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ(file->metadata().size(), source.metadata().size());
  EXPECT_EQ(file->get_int("general.file_type").value(), 0);
  const GgufFile original = GgufFile::open(gguf_).value();
  for (const GgufTensor& tensor : original.tensors()) {
    const GgufTensor* found = file->find_tensor(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_TRUE(std::equal(found->data.begin(), found->data.end(), tensor.data.begin(), tensor.data.end()))
        << tensor.name;
  }
  EXPECT_EQ(logits(out_), logits(gguf_));
}

TEST_F(Convert, MatricesTakeTheTypeThatIsAskedFor) {
  const Checkpoint source = Checkpoint::open(model_).value();
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    ConvertOptions options;
    options.type = type;
    const auto summary = convert_model(source, out_, options);
    ASSERT_TRUE(summary) << summary.error().to_string();
    EXPECT_EQ(summary->converted, type == DType::f32 ? 0U : 16U);  // two layers of seven, and both ends
    const auto file = GgufFile::open(out_);
    ASSERT_TRUE(file) << file.error().to_string();
    EXPECT_EQ(file->get_int("general.file_type").value(), type == DType::f32 ? 0 : type == DType::f16 ? 1 : 32);
    EXPECT_EQ(file->find_tensor("output_norm.weight")->type, DType::f32);
    EXPECT_EQ(file->find_tensor("rope_freqs.weight")->type, DType::f32);
    EXPECT_EQ(file->find_tensor("blk.1.attn_q.weight")->type, type);
    const std::vector<float> before = values(source, "blk.1.attn_q.weight");
    const std::vector<float> after = values(*file, "blk.1.attn_q.weight");
    ASSERT_EQ(after.size(), before.size());
    for (size_t i = 0; i < before.size(); ++i) {
      const float expected = type == DType::f32   ? before[i]
                             : type == DType::f16 ? tensor::f16_to_f32(tensor::f32_to_f16(before[i]))
                                                  : tensor::bf16_to_f32(tensor::f32_to_bf16(before[i]));
      ASSERT_EQ(after[i], expected) << i;
    }
  }
  ConvertOptions options;
  options.type = DType::q8_0;
  EXPECT_EQ(convert_model(source, out_, options).error().code(), ErrorCode::invalid_argument);
}

TEST_F(Convert, NamesWeightsThatAreNoNumbers) {
  const float infinity = std::numeric_limits<float>::infinity();
  const char* up = "model.layers.1.mlp.up_proj.weight";
  EXPECT_SAYS(
      refusal([&](FolderDraft& d) { put(d, up, 70'000, std::numeric_limits<float>::quiet_NaN()); }, ErrorCode::corrupt),
      "tensor 'blk.1.ffn_up.weight' ('model.layers.1.mlp.up_proj.weight' in 'model-0000");
  EXPECT_SAYS(refusal([&](FolderDraft& d) { put(d, up, 70'000, -infinity); }, ErrorCode::corrupt),
              "holds -inf at element 70000");
  EXPECT_SAYS(refusal([&](FolderDraft& d) { put(d, "model.norm.weight", 255, infinity); }, ErrorCode::corrupt),
              "'output_norm.weight' ('model.norm.weight'");
  const auto large = [&](FolderDraft& d) { put(d, up, 3, -70'000); };
  ConvertOptions to_f16;
  to_f16.type = DType::f16;
  EXPECT_SAYS(refusal(large, ErrorCode::corrupt, to_f16),
              "holds -70000 at element 3, which is beyond F16; convert to BF16 or F32");
  EXPECT_TRUE(convert(large, {}));
  // BF16 has F32's exponents, but fewer bits to round to.
  const auto largest = [&](FolderDraft& d) { put(d, up, 5, std::numeric_limits<float>::max()); };
  ConvertOptions to_bf16;
  to_bf16.type = DType::bf16;
  EXPECT_SAYS(refusal(largest, ErrorCode::corrupt, to_bf16), "at element 5, which is beyond BF16; convert to F32");
  EXPECT_TRUE(convert(largest, {}));
}

// F16 ends at 2^-24, and a matrix of smaller numbers would be one of zeros.
TEST_F(Convert, NamesMatricesThatAreTooSmallForF16) {
  const char* up = "model.layers.1.mlp.up_proj.weight";
  const auto times = [&](float factor) {
    return [=](FolderDraft& d) {
      std::string& bytes = d.tensors.at(up).bytes;
      for (size_t at = 0; at < bytes.size(); at += sizeof(float)) {
        float value = 0;
        std::memcpy(&value, bytes.data() + at, sizeof value);
        value *= factor;
        std::memcpy(bytes.data() + at, &value, sizeof value);
      }
    };
  };
  ConvertOptions to;
  to.type = DType::f16;
  for (const float factor : {0x1p-18F, 0x1p-22F, 0x1p-60F}) {
    const std::string fault = refusal(times(factor), ErrorCode::corrupt, to);
    EXPECT_SAYS(fault, "tensor 'blk.1.ffn_up.weight' ('model.layers.1.mlp.up_proj.weight' in 'model-0000");
    EXPECT_SAYS(fault, "in size, which are too small for F16: they would be ");
    EXPECT_SAYS(fault, "; convert to BF16 or F32");
  }
  EXPECT_EQ(refusal(times(0x1p-10F), ErrorCode::corrupt, to), "(accepted)");
  EXPECT_EQ(refusal(times(0), ErrorCode::corrupt, to), "(accepted)");
  to.type = DType::bf16;
  EXPECT_EQ(refusal(times(0x1p-60F), ErrorCode::corrupt, to), "(accepted)");
}

// Also in blocks that stay as they are.
TEST_F(Convert, NamesScalesThatAreNoNumbers) {
  const auto quantised = folder_.path() / "quantised.gguf";
  ASSERT_TRUE(
      write_synthetic_model(find_shape("llama-tiny").value(), quantised, {.type = DType::q4_k, .on_progress = {}}));
  std::string bytes = base::read_file(quantised).value();
  {
    const GgufFile file = GgufFile::open(quantised).value();
    const GgufTensor* tensor = file.find_tensor("blk.1.ffn_up.weight");
    ASSERT_NE(tensor, nullptr);
    ASSERT_EQ(tensor->type, DType::q4_k);
    const auto at = static_cast<size_t>(tensor->data.data() - file.mapping()->bytes().data());
    bytes[at + 3 * 144 + 1] = '\x7e';  // of the fourth block's scale: all bits of the exponent
  }
  folder_.put("damaged.gguf", bytes);
  const long before = folder_.entries();
  const auto converted = convert_model(Checkpoint::open(folder_.path() / "damaged.gguf").value(), out_, {});
  ASSERT_FALSE(converted);
  EXPECT_EQ(converted.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(converted.error().to_string(), "damaged.gguf: tensor 'blk.1.ffn_up.weight' holds NaN at element 768");
  EXPECT_EQ(folder_.entries(), before);
}

TEST_F(Convert, QuantisedMatricesBecomePlainOnes) {
  const auto quantised = folder_.path() / "quantised.gguf";
  ASSERT_TRUE(
      write_synthetic_model(find_shape("qwen2-tiny").value(), quantised, {.type = DType::q6_k, .on_progress = {}}));
  const Checkpoint source = Checkpoint::open(quantised).value();
  ConvertOptions options;
  options.type = DType::bf16;
  const auto summary = convert_model(source, out_, options);
  ASSERT_TRUE(summary) << summary.error().to_string();
  const GgufFile file = GgufFile::open(out_).value();
  size_t converted = 0;
  for (const GgufTensor& tensor : source.tensors()) {
    const GgufTensor* found = file.find_tensor(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->type, tensor.rank == 1 ? DType::f32 : DType::bf16) << tensor.name;
    if (found->type != tensor.type) ++converted;
    const std::vector<float> before = values(source, tensor.name);
    const std::vector<float> after = values(file, tensor.name);
    ASSERT_EQ(after.size(), before.size());
    for (size_t i = 0; i < before.size(); ++i) {
      const float expected = tensor.rank == 1 ? before[i] : tensor::bf16_to_f32(tensor::f32_to_bf16(before[i]));
      ASSERT_EQ(after[i], expected) << tensor.name << " " << i;
    }
  }
  EXPECT_EQ(summary->converted, converted);
  EXPECT_EQ(logits(out_).size(), 6U);
}

// Readers of GGUF add the rows of these to F32 as they are.
TEST_F(Convert, PositionsAndTokenTypesStayF32) {
  const auto encoder = folder_.path() / "encoder.gguf";
  ASSERT_TRUE(write_synthetic_model(find_shape("bert-tiny").value(), encoder, {.type = DType::f32, .on_progress = {}}));
  const Checkpoint source = Checkpoint::open(encoder).value();
  for (const DType type : {DType::f16, DType::bf16}) {
    ConvertOptions options;
    options.type = type;
    const auto summary = convert_model(source, out_, options);
    ASSERT_TRUE(summary) << summary.error().to_string();
    const GgufFile file = GgufFile::open(out_).value();
    for (const char* name : {"position_embd.weight", "token_types.weight", "token_embd_norm.weight"}) {
      ASSERT_NE(file.find_tensor(name), nullptr) << name;
      EXPECT_EQ(file.find_tensor(name)->type, DType::f32) << name;
      EXPECT_EQ(values(file, name), values(source, name)) << name;
    }
    EXPECT_EQ(file.find_tensor("token_embd.weight")->type, type);
    EXPECT_EQ(file.find_tensor("blk.0.attn_q.weight")->type, type);
    EXPECT_TRUE(check_loadable(file));
  }
}

TEST_F(Convert, WhatCouldNotRunIsNotWritten) {
  EXPECT_SAYS(refusal([](FolderDraft& d) { d.config["intermediate_size"] = 500; }, ErrorCode::corrupt),
              "has shape [256, 512], but config.json wants [256, 500]");
}

TEST_F(Convert, NeverReplacesItsSource) {
  const Checkpoint source = Checkpoint::open(model_).value();
  std::filesystem::create_symlink(model_ / "model-00001-of-00002.safetensors", folder_.path() / "link.gguf");
  for (const auto& own : {model_ / "model-00002-of-00002.safetensors", model_ / "config.json",
                          model_ / "tokenizer.json", folder_.path() / "link.gguf"}) {
    const std::string before = base::read_file(own).value();
    const auto onto = convert_model(source, own, {});
    ASSERT_FALSE(onto) << own;
    EXPECT_EQ(onto.error().code(), ErrorCode::invalid_argument);
    EXPECT_EQ(base::read_file(own).value(), before);
  }
  EXPECT_FALSE(convert_model(source, model_, {}));  // the folder itself
}

TEST_F(Convert, PackedFilesAreNotConverted) {
  const auto packed = folder_.path() / "packed.gguf";
  ASSERT_TRUE(pack_model(GgufFile::open(gguf_).value(), packed, {}));
  const auto converted = convert_model(GgufFile::open(packed).value(), out_, {});
  ASSERT_FALSE(converted);
  EXPECT_EQ(converted.error().code(), ErrorCode::unsupported);
  EXPECT_SAYS(converted.error().to_string(), "convert its source");
}

TEST_F(Convert, LeavesNothingBehindWhenInterrupted) {
  int asked = 0;
  ConvertOptions options;
  options.cancelled = [&] { return ++asked > 5; };
  EXPECT_SAYS(refusal([](FolderDraft&) {}, ErrorCode::cancelled, options), "interrupted");
  EXPECT_EQ(asked, 6);
}

TEST_F(Convert, LeavesNothingBehindWhenTheDiskIsTooSmall) {
  const Checkpoint source = Checkpoint::open(model_).value();
  const long before = folder_.entries();
  const auto full = [&] {
    const test::SmallDisk disk;
    disk.end_at(4096 * 10);
    return convert_model(source, out_, {});
  }();
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), ErrorCode::io);
  EXPECT_SAYS(full.error().to_string(), "out.gguf");
  EXPECT_EQ(folder_.entries(), before);
}

// The space was there at first: a write in the middle is cut short, and the next one fails.
TEST_F(Convert, LeavesNothingBehindWhenTheDiskIsFullHalfWay) {
  const Checkpoint source = Checkpoint::open(model_).value();
  const size_t whole = convert_model(source, out_, {}).value().bytes;
  std::filesystem::remove(out_);
  const long before = folder_.entries();
  size_t end = 0;
  const auto full = [&] {
    const test::SmallDisk disk;
    ConvertOptions options;
    options.on_progress = [&](size_t done, size_t total) {
      if (end > 0 || done <= total / 2) return;
      end = whole - total + done + 100;  // a little behind what is written
      disk.end_at(end);
    };
    return convert_model(source, out_, options);
  }();
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), ErrorCode::io);
  EXPECT_SAYS(full.error().to_string(), "cannot write");
  EXPECT_SAYS(full.error().to_string(), "out.gguf");
  EXPECT_GT(end, whole / 2);
  EXPECT_EQ(folder_.entries(), before);
}

}  // namespace
}  // namespace tidemill::model
