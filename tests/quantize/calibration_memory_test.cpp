// The most memory that a calibration takes, against its model's largest layer.
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "base/memory.hpp"
#include "model/shapes.hpp"
#include "model/synth.hpp"
#include "quantize/calibration.hpp"
#include "sanitized.hpp"
#include "temporary_folder.hpp"

namespace tidemill::quantize {
namespace {

namespace fs = std::filesystem;

size_t most_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6)) * 1024;
  }
  return 0;
}

// From here on, where the kernel lets that be.
bool forget_most_resident_bytes() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5" << std::flush;
  return file.good() && most_resident_bytes() <= base::resident_bytes() + (size_t{1} << 20);
}

size_t largest_layer(const model::Checkpoint& file, int64_t layers) {
  size_t largest = 0;
  for (int64_t i = 0; i < layers; ++i) {
    size_t bytes = 0;
    for (const model::GgufTensor& tensor : file.tensors()) {
      if (tensor.name.starts_with("blk." + std::to_string(i) + ".")) bytes += tensor.bytes();
    }
    largest = std::max(largest, bytes);
  }
  return largest;
}

// Matrices large beside what tokens need on their way, as those of large models are. A second layer, a whole one, a
// whole matrix of the file or the hidden states of all tokens (17 MB) would be too much.
TEST(CalibrationMemory, IsLessThanTheLargestLayer) {
  if (test::sanitized) GTEST_SKIP() << "a sanitizer's own memory counts too";
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "model.gguf";
  model::Shape shape = model::find_shape("llama-tiny").value();
  shape.width = 2048;
  shape.heads = 16;
  shape.kv_heads = 16;
  shape.head_dim = 128;
  shape.feed_forward = 6144;
  shape.layers = 2;
  shape.tied = true;
  ASSERT_TRUE(model::write_synthetic_model(shape, path, {.type = tensor::DType::f16, .on_progress = {}}));
  const model::Checkpoint file = model::Checkpoint::open(path).value();
  std::string text;
  while (text.size() < 64 * 1024)
    text += "def scale(values, by):\n    return [by * x for x in values]\n";
  CalibrationOptions options;
  options.isa = tensor::choose_isa().value();
  options.tokens = 2048;
  options.window = 64;
  options.threads = 2;
  options.folder = folder.path();
  options.compensated = [](std::string_view) { return false; };
  base::release_freed_memory();
  if (!forget_most_resident_bytes()) GTEST_SKIP() << "the kernel does not let the most resident memory be set back";
  const size_t before = base::resident_bytes();
  const auto calibration = Calibration::create(file, text, options);
  const size_t most = most_resident_bytes() - before;
  ASSERT_TRUE(calibration) << calibration.error().to_string();
  EXPECT_EQ((*calibration)->tokens(), 2048);
  const size_t layer = largest_layer(file, shape.layers);
  EXPECT_GT(layer, size_t{100} << 20);
  EXPECT_LT(most, layer / 10 * 9);
  EXPECT_GT(most, layer / 2) << "nothing was measured";
}

}  // namespace
}  // namespace tidemill::quantize
