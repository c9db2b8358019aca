// GGUF models in several files: any one of them stands for the whole, and what does not fit together is said.
#include "model/split_gguf.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "data.hpp"
#include "expect_says.hpp"
#include "model/convert.hpp"
#include "model/gguf_writer.hpp"
#include "model/pack.hpp"
#include "model/synth.hpp"
#include "runner.hpp"
#include "temporary_folder.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;

// What is told of one file of a split, in llama-gguf-split's types.
struct Told {
  uint16_t number = 0;
  uint16_t count = 3;
  int32_t tensors = 0;
};

void add_told(GgufWriter& writer, const Told& told) {
  const auto add = [&](std::string_view key, GgufType type, const auto& value) {
    writer.add({.key = key, .value = {.type = type, .element = type, .payload = std::as_bytes(std::span(&value, 1))}});
  };
  add("split.no", GgufType::u16, told.number);
  add("split.count", GgufType::u16, told.count);
  add("split.tensors.count", GgufType::i32, told.tensors);
}

class SplitGguf : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(write_synthetic_model(find_shape("llama-tiny").value(), whole_,
                                      {.type = tensor::DType::q8_0, .on_progress = {}}));
    for (uint16_t i = 0; i < 3; ++i)
      write_shard(i, {.number = i, .tensors = static_cast<int32_t>(GgufFile::open(whole_)->tensors().size())});
  }

  std::filesystem::path shard(int number) const {
    return folder_.path() / "split" / fmt::format("tiny-{:05}-of-00003.gguf", number + 1);
  }

  // A third of the tensors, and for the first file all metadata; the tensor `damaged` begins with what is no number.
  void write_shard(int index, const Told& told, std::string_view damaged = {}) {
    std::filesystem::create_directories(folder_.path() / "split");
    const GgufFile source = GgufFile::open(whole_).value();
    const size_t count = source.tensors().size();
    const auto part =
        source.tensors().subspan(count * static_cast<size_t>(index) / 3,
                                 count * static_cast<size_t>(index + 1) / 3 - count * static_cast<size_t>(index) / 3);
    GgufWriter writer;
    if (index == 0) {
      for (const GgufEntry& entry : source.metadata())
        writer.add(entry);
    }
    add_told(writer, told);
    for (const GgufTensor& tensor : part)
      writer.declare_tensor(tensor.name, tensor.type, std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
    ASSERT_TRUE(writer.begin(shard(index)));
    for (const GgufTensor& tensor : part) {
      std::vector<std::byte> bytes(tensor.data.begin(), tensor.data.end());
      if (tensor.name == damaged) std::fill_n(bytes.begin(), 4, std::byte{0xff});
      ASSERT_TRUE(writer.write(bytes));
    }
    ASSERT_TRUE(writer.finish());
  }

  std::string refusal(const std::filesystem::path& path, ErrorCode code) {
    const auto opened = Checkpoint::open(path);
    if (opened) return "(accepted)";
    EXPECT_EQ(opened.error().code(), code) << opened.error().to_string();
    return opened.error().to_string();
  }

  std::vector<std::vector<float>> logits(const std::filesystem::path& path) {
    test::Loaded loaded = test::load(path, tensor::KvType::f16, 64);
    if (loaded.cache == nullptr) return {};
    const std::array<Token, 5> tokens = {1, 700, 31, 2, 999};
    return test::Sequence(loaded).append(tokens);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path whole_ = folder_.path() / "whole.gguf";
};

TEST_F(SplitGguf, AnyFileStandsForTheWhole) {
  const GgufFile whole = GgufFile::open(whole_).value();
  const auto expected = logits(whole_);
  ASSERT_FALSE(expected.empty());
  for (int i = 0; i < 3; ++i) {
    const auto joined = Checkpoint::open(shard(i));
    ASSERT_TRUE(joined) << joined.error().to_string();
    EXPECT_EQ(joined->version(), 3U);
    EXPECT_EQ(joined->stem(), "tiny");
    EXPECT_EQ(joined->files().size(), 3U);
    EXPECT_EQ(joined->parameters(), whole.parameters());
    EXPECT_EQ(joined->tensor_bytes(), whole.tensor_bytes());
    EXPECT_EQ(joined->metadata().size(), whole.metadata().size());
    EXPECT_EQ(joined->find("split.count"), nullptr);
    size_t bytes = 0;
    for (int k = 0; k < 3; ++k)
      bytes += std::filesystem::file_size(shard(k));
    EXPECT_EQ(joined->file_bytes(), bytes);
    EXPECT_EQ(logits(shard(i)), expected);
  }
}

TEST_F(SplitGguf, PacksIntoOneFile) {
  const auto packed = folder_.path() / "packed.gguf";
  const auto source = Checkpoint::open(shard(1));
  ASSERT_TRUE(source) << source.error().to_string();
  const auto summary = pack_model(*source, packed, {});
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_EQ(logits(packed), logits(whole_));
  // None of its files is overwritten, whichever was named.
  const auto onto = pack_model(*source, shard(2), {});
  ASSERT_FALSE(onto);
  EXPECT_EQ(onto.error().code(), ErrorCode::invalid_argument);
}

TEST_F(SplitGguf, ConvertsIntoOneFile) {
  const auto joined = folder_.path() / "joined.gguf";
  const auto source = Checkpoint::open(shard(2));
  ASSERT_TRUE(source) << source.error().to_string();
  const auto summary = convert_model(*source, joined, {});
  ASSERT_TRUE(summary) << summary.error().to_string();
  const auto file = GgufFile::open(joined);
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_FALSE(is_split(*file));
  EXPECT_EQ(logits(joined), logits(whole_));
}

TEST_F(SplitGguf, NamesWhatIsMissing) {
  std::filesystem::remove(shard(1));
  for (const int named : {0, 2})
    EXPECT_SAYS(refusal(shard(named), ErrorCode::not_found), "tiny-00002-of-00003.gguf' is missing");
}

TEST_F(SplitGguf, NamesWhatDoesNotFitTogether) {
  const auto tensors = static_cast<int32_t>(GgufFile::open(whole_)->tensors().size());
  write_shard(1, {.number = 2, .tensors = tensors});
  EXPECT_SAYS(refusal(shard(0), ErrorCode::corrupt), "by its name this is file 2 of 3, but it says that it is 3 of 3");
  write_shard(1, {.number = 1, .count = 4, .tensors = tensors});
  EXPECT_SAYS(refusal(shard(0), ErrorCode::corrupt), "2 of 4");
  write_shard(1, {.number = 4, .count = 3, .tensors = tensors});
  EXPECT_SAYS(refusal(shard(0), ErrorCode::corrupt), "number 4 (split.no, from 0) of 3");
  write_shard(1, {.number = 1, .tensors = tensors});
  write_shard(0, {.number = 0, .tensors = tensors + 1});
  EXPECT_SAYS(refusal(shard(2), ErrorCode::corrupt), fmt::format("split.tensors.count is {}", tensors + 1));
}

// Not a whole model, whatever it is.
TEST_F(SplitGguf, RefusesCountsThatCannotBe) {
  write_shard(0, {.number = 0, .count = 0});
  EXPECT_SAYS(refusal(shard(0), ErrorCode::corrupt), "number 0 (split.no, from 0) of 0 (split.count)");
  GgufWriter writer;
  writer.add_u32("split.no", 0);
  writer.add_u64("split.count", uint64_t{1} << 63);
  ASSERT_TRUE(writer.begin(shard(0)));
  ASSERT_TRUE(writer.finish());
  EXPECT_SAYS(refusal(shard(0), ErrorCode::corrupt), "split.count");
}

TEST_F(SplitGguf, NeedsItsName) {
  const auto renamed = folder_.path() / "split" / "part.gguf";
  std::filesystem::rename(shard(1), renamed);
  EXPECT_SAYS(refusal(renamed, ErrorCode::corrupt), "name it '...-00002-of-00003.gguf'");
}

TEST_F(SplitGguf, TensorsAreThereOnce) {
  // The second file once more as the third, and a count that fits.
  const GgufFile whole = GgufFile::open(whole_).value();
  const size_t count = whole.tensors().size();
  const size_t first = count / 3;
  const size_t second = count * 2 / 3 - first;
  const auto tensors = static_cast<int32_t>(first + 2 * second);
  write_shard(1, {.number = 2, .tensors = tensors});
  std::filesystem::rename(shard(1), shard(2));
  write_shard(1, {.number = 1, .tensors = tensors});
  write_shard(0, {.number = 0, .tensors = tensors});
  EXPECT_SAYS(refusal(shard(0), ErrorCode::corrupt),
              fmt::format("tensor '{}' (in 'tiny-00003-of-00003.gguf') appears twice, also in "
                          "'tiny-00002-of-00003.gguf'",
                          whole.tensors()[first].name));
}

TEST_F(SplitGguf, NamesTheFileOfADamagedTensor) {
  const GgufFile whole = GgufFile::open(whole_).value();
  const auto tensors = static_cast<int32_t>(whole.tensors().size());
  const auto last_file = whole.tensors().subspan(whole.tensors().size() * 2 / 3);
  const auto matrix = std::find_if(last_file.begin(), last_file.end(), [](const GgufTensor& t) { return t.rank == 2; });
  ASSERT_NE(matrix, last_file.end());
  const std::string damaged(matrix->name);
  write_shard(2, {.number = 2, .tensors = tensors}, damaged);
  const auto source = Checkpoint::open(shard(0));
  ASSERT_TRUE(source) << source.error().to_string();
  const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  const auto loaded = load_model(*source, *device, {.max_batch_rows = 4, .on_progress = {}});
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code(), ErrorCode::corrupt);
  EXPECT_SAYS(loaded.error().to_string(),
              fmt::format("tensor '{}' (in 'tiny-00003-of-00003.gguf') holds NaN at element 0", damaged));
}

TEST(CheckpointRead, NamesTheTensorThatMemoryIsTooShortFor) {
  GgufTensor tensor;
  tensor.name = "blk.0.ffn_up.weight";
  tensor.origin = "in 'b.gguf'";
  tensor.rank = 2;
  tensor.shape = {int64_t{1} << 30, int64_t{1} << 24, 1, 1};  // 64 PiB, beyond any address space
  tensor.make = [](std::span<std::byte> /*to*/) {};
  const auto file = Checkpoint::assemble(Metadata("a.gguf"), {tensor}, {}, nullptr, 3);
  ASSERT_TRUE(file);
  base::Buffer scratch;
  const auto read = file->read(*file->find_tensor("blk.0.ffn_up.weight"), scratch);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::exhausted);
  EXPECT_SAYS(read.error().to_string(), "a.gguf: tensor 'blk.0.ffn_up.weight' (in 'b.gguf'): cannot allocate");
}

TEST(ShardName, IsRead) {
  const auto name = parse_shard_name("a-b-00002-of-00010.gguf");
  ASSERT_TRUE(name);
  EXPECT_EQ(name->name, "a-b");
  EXPECT_EQ(name->number, 2);
  EXPECT_EQ(name->count, 10);
  for (const char* other : {"a.gguf", "-00001-of-00002.gguf", "a-00003-of-00002.gguf", "a-00000-of-00002.gguf",
                            "a-0000x-of-00002.gguf", "a-00001-of-00002.bin", "a-00001_of-00002.gguf", ""})
    EXPECT_FALSE(parse_shard_name(other)) << other;
}

}  // namespace
}  // namespace tidemill::model
