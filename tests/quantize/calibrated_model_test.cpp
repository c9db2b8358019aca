// What a calibration is worth, by the predictions of the model that comes of it.
#include <array>
#include <filesystem>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "data.hpp"
#include "evaluate/judged_model.hpp"
#include "evaluate/text_runner.hpp"
#include "quantize/calibration.hpp"
#include "quantize/quantize_model.hpp"
#include "temporary_folder.hpp"

namespace tidemill::quantize {
namespace {

namespace fs = std::filesystem;

using model::Checkpoint;

// Some 4,800 tokens of Python of four kinds.
std::string much_python() {
  const std::array nouns = {"point", "line", "word", "user", "file", "page", "node", "item", "path", "color"};
  const std::array titles = {"Point", "Line", "Word", "User", "File", "Page", "Node", "Item", "Path", "Color"};
  const std::array verbs = {"read", "load", "make", "find", "sort", "join", "send", "keep", "drop", "move"};
  const std::array kinds = {
      "def {v}_{n}({m}s, limit={i}):\n"
      "    return [{n} for {n} in {m}s if len({n}) > limit]\n\n\n",
      "class {N}:\n"
      "    def __init__(self, {m}, size={i}):\n"
      "        self.{m} = {m}\n"
      "        self.size = size\n\n"
      "    def {v}(self):\n"
      "        for {n} in self.{m}:\n"
      "            if {n} is not None:\n"
      "                yield {n} * self.size\n\n\n",
      "with open('{n}.txt') as {m}:\n"
      "    total = {i}\n"
      "    for line in {m}:\n"
      "        total += int(line.strip())\n"
      "    print(total, {m}.name)\n\n\n",
      "def {v}_{n}({m}, {n}=None):\n"
      "    if {n} is None:\n"
      "        {n} = {i}\n"
      "    return {m} * {n} + {i}\n\n\n"};
  std::string text;
  for (size_t i = 0; i < 100; ++i) {
    text += fmt::format(fmt::runtime(kinds[i % 4]), fmt::arg("n", nouns[i % 10]), fmt::arg("N", titles[i % 10]),
                        fmt::arg("m", nouns[(i + 1 + i / 10) % 10]), fmt::arg("v", verbs[(i / 10 + i) % 10]),
                        fmt::arg("i", i));
  }
  return text;
}

// Calibration is worth its time: in four bits the model stays closer to the original, on a text that it has not seen.
TEST(CalibratedModel, IsCloserToTheOriginal) {
  const test::TemporaryFolder folder;
  const fs::path out = folder.path() / "out.gguf";
  std::string text;
  for (int i = 0; i < 30; ++i) {
    text += "def scale_" + std::to_string(i) + "(values, factor=" + std::to_string(i) +
            "):\n    return [value * factor for value in values]\n\n";
  }
  const auto divergence = [&](const fs::path& path) {
    const test::Judged model = test::judged(path, {});
    const test::Judged original = test::judged(test::nano_coder(), {});
    if (!model.subject || !original.subject) return 0.0;
    evaluate::TextOptions options;
    options.window = options.stride = 256;
    options.tokens = 1000;
    const auto judged = evaluate::judge_text(*model.subject, original.subject.get(), text, options);
    EXPECT_TRUE(judged) << judged.error().to_string();
    return judged ? judged->comparison->divergence_mean() : 0;
  };
  const Checkpoint file = Checkpoint::open(test::nano_coder()).value();
  QuantizeOptions options;
  options.type = tensor::DType::q4_0;
  ASSERT_TRUE(quantize_model(file, out, options));
  const double plain = divergence(out);

  CalibrationOptions reading;
  reading.isa = tensor::choose_isa().value();
  reading.window = 256;
  const auto calibration = Calibration::create(file, much_python(), reading);
  ASSERT_TRUE(calibration) << calibration.error().to_string();
  options.calibration = calibration->get();
  options.smooth = false;
  const auto summary = quantize_model(file, out, options);
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_EQ(summary->compensated, 42U);  // seven matrices of six layers
  EXPECT_EQ(summary->smoothed, 0U);
  const double calibrated = divergence(out);
  EXPECT_GT(calibrated, 0);
  EXPECT_LT(calibrated, plain);
  options.compensate = false;
  const auto weighed = quantize_model(file, out, options);
  ASSERT_TRUE(weighed);
  EXPECT_EQ(weighed->compensated, 0U);
  EXPECT_GT(divergence(out), calibrated);
}

}  // namespace
}  // namespace tidemill::quantize
