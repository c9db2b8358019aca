// What is left mapped of a source while it is looked at and read: models are larger than memory.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "model/checkpoint.hpp"
#include "model/gguf_writer.hpp"
#include "model/tensor_rows.hpp"
#include "quantize/quantize_model.hpp"
#include "temporary_folder.hpp"

namespace tidemill::quantize {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kTensors = 3;
constexpr int64_t kCols = 1024;
constexpr int64_t kRows = 2048;  // 8 MiB each

// Bytes of a file's maps that are in this process's tables.
size_t mapped_bytes(const fs::path& path) {
  std::ifstream maps("/proc/self/smaps");
  size_t sum = 0;
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    const size_t colon = line.find(':');
    const bool field = colon != std::string::npos && colon < line.find(' ');
    if (!field) inside = line.ends_with(path.string());
    if (inside && line.starts_with("Rss:")) sum += std::stoul(line.substr(4)) * 1024;
  }
  return sum;
}

class SourceMemory : public testing::Test {
 protected:
  void SetUp() override {
    model::GgufWriter writer;
    for (int64_t i = 0; i < kTensors; ++i)
      writer.declare_tensor("t" + std::to_string(i), tensor::DType::f32, std::vector<int64_t>{kCols, kRows});
    ASSERT_TRUE(writer.begin(path_));
    const std::vector<float> values(static_cast<size_t>(kCols * kRows), 0.25F);
    for (int64_t i = 0; i < kTensors; ++i)
      ASSERT_TRUE(writer.write(std::as_bytes(std::span(values))));
    ASSERT_TRUE(writer.finish());
  }

  test::TemporaryFolder folder_;
  fs::path path_ = fs::canonical(folder_.path()) / "source.gguf";
};

TEST_F(SourceMemory, IsLeftAloneByTheFingerprint) {
  const model::Checkpoint source = model::Checkpoint::open(path_).value();
  const size_t before = mapped_bytes(path_);
  EXPECT_GT(before, 0U) << "the header has been read there";
  const uint64_t fingerprint = fingerprint_of(source);
  EXPECT_LE(mapped_bytes(path_), before);
  // And yet it knows what is there, whatever the file's time says.
  const fs::file_time_type time = fs::last_write_time(path_);
  {
    std::fstream out(path_, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(-4, std::ios::end);
    out.write("\x00\x00\x00\x3f", 4);
  }
  fs::last_write_time(path_, time);
  EXPECT_NE(fingerprint_of(source), fingerprint);
}

// Behind every slice, not behind a tensor. Two large pages may be at work at a time.
TEST_F(SourceMemory, IsGivenBackSliceBySlice) {
  constexpr size_t most = size_t{6} << 20;
  const model::Checkpoint source = model::Checkpoint::open(path_).value();
  model::TensorRows rows(source, 64 * kCols);  // 256 KiB
  size_t slices = 0;
  for (const model::GgufTensor& tensor : source.tensors()) {
    const auto read = rows.read(tensor, [&](const model::RowSlice& slice) -> base::Result<void> {
      EXPECT_EQ(slice.values[0], 0.25F);
      if (++slices % 8 == 0) {
        EXPECT_LE(mapped_bytes(path_), most) << slices;
      }
      return {};
    });
    ASSERT_TRUE(read) << read.error().to_string();
  }
  EXPECT_EQ(slices, static_cast<size_t>(kTensors * kRows / 64));
  EXPECT_LE(mapped_bytes(path_), most);
}

}  // namespace
}  // namespace tidemill::quantize
