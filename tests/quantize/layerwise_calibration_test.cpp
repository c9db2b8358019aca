// What a calibration finds layer by layer, against a plain pass of the whole model over the same windows: the same
// bits, of every architecture.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "evaluate/subject.hpp"
#include "evaluate/windows.hpp"
#include "model/shapes.hpp"
#include "model/synth.hpp"
#include "quantize/calibration.hpp"
#include "temporary_folder.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::quantize {
namespace {

namespace fs = std::filesystem;
using model::Checkpoint;

// Everything in memory, and forward() of all layers for each step of a window.
class WholeModel {
 public:
  struct Input {
    std::vector<double> squares;
    std::vector<float> peak;
    Moments moments;
  };

  WholeModel(const Checkpoint& file, const std::string& text, const CalibrationOptions& options)
      : device_(tensor::make_cpu_device(options.isa, 1)), watched_(*device_), team_(1) {
    evaluate::SubjectOptions load;
    load.context = options.window;
    load.kv_type = tensor::KvType::f32;
    load.on_matrix = [&](std::string_view tensor, const tensor::Weight& weight) {
      if (file.find_tensor(tensor)->shape[2] == 1) names_[&weight] = tensor;
    };
    auto subject = evaluate::Subject::load(file, watched_, load);
    if (!subject) {
      ADD_FAILURE() << subject.error().to_string();
      return;
    }
    watched_.watch([this](std::span<const tensor::Product> products, tensor::ConstMatrix x) { add(products, x); });
    read(*subject, text, options);
  }

  // Null where the model multiplies by no such tensor.
  const Input* input_of(std::string_view tensor) const {
    const auto found = inputs_.find(tensor);
    return found == inputs_.end() ? nullptr : found->second.get();
  }
  int64_t rows() const { return rows_; }

 private:
  void read(evaluate::Subject& subject, const std::string& text, const CalibrationOptions& options) {
    const auto tokens = subject.tokenizer().encode(text, {.add_special = false}).value();
    const int64_t window = std::min(options.window, subject.context());
    evaluate::Reader reader = subject.make_reader(window).value();
    const auto size = static_cast<size_t>(window);
    for (const evaluate::Window& cut : evaluate::cut(tokens.size(), size, size, subject.lead().size())) {
      std::vector<evaluate::Token> sequence(subject.lead().begin(), subject.lead().end());
      sequence.insert(sequence.end(), tokens.begin() + static_cast<int64_t>(cut.begin),
                      tokens.begin() + static_cast<int64_t>(cut.end));
      // In steps of another size than the calibration's, each with the logits of all rows.
      const auto all = static_cast<int64_t>(sequence.size());
      for (int64_t row = 0; row < all; row += 40) {
        const int64_t count = std::min<int64_t>(40, all - row);
        reader.read(std::span(sequence).subspan(static_cast<size_t>(row), static_cast<size_t>(count)), row, 0);
      }
      rows_ += all;
    }
  }

  void add(std::span<const tensor::Product> products, tensor::ConstMatrix x) {
    std::shared_ptr<Input> input;
    for (const tensor::Product& product : products) {
      const auto name = names_.find(product.weight);
      if (name == names_.end()) continue;
      std::shared_ptr<Input>& known = inputs_[name->second];
      if (known == nullptr && input == nullptr) {
        input = std::make_shared<Input>(Input{std::vector<double>(static_cast<size_t>(x.cols)),
                                              std::vector<float>(static_cast<size_t>(x.cols)), Moments(x.cols)});
      }
      if (known == nullptr) known = input;
      input = known;
    }
    if (input == nullptr) return;
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t c = 0; c < x.cols; ++c) {
        const auto i = static_cast<size_t>(c);
        input->squares[i] += static_cast<double>(x.row(r)[c]) * x.row(r)[c];
        input->peak[i] = std::max(input->peak[i], std::fabs(x.row(r)[c]));
      }
    }
    input->moments.add(x.data, x.rows, x.stride, team_);
  }

  std::unique_ptr<tensor::Device> device_;
  WatchedDevice watched_;
  base::ThreadTeam team_;
  std::unordered_map<const tensor::Weight*, std::string> names_;
  std::map<std::string, std::shared_ptr<Input>, std::less<>> inputs_;
  int64_t rows_ = 0;
};

class LayerwiseCalibration : public testing::Test {
 protected:
  Checkpoint synthesise(const model::Shape& shape, tensor::DType type) const {
    const fs::path path = folder_.path() / "model.gguf";
    EXPECT_TRUE(model::write_synthetic_model(shape, path, {.type = type, .on_progress = {}}));
    return Checkpoint::open(path).value();
  }

  // What a row of sevenths and ninths becomes in four bits.
  static std::vector<std::byte> rounded(const Compensation& compensation) {
    std::vector<float> row(static_cast<size_t>(compensation.cols()));
    for (size_t c = 0; c < row.size(); ++c)
      row[c] = static_cast<float>(c % 7) / 7 - static_cast<float>(c % 9) / 9;
    std::vector<std::byte> out(static_cast<size_t>(tensor::row_bytes(tensor::DType::q4_0, compensation.cols())));
    compensation.round(tensor::DType::q4_0, row.data(), 1, out.data());
    return out;
  }

  // How many tensors have inputs that were compared; those of layer 1 and the output with how their channels go
  // together.
  size_t compare(const Checkpoint& file, const std::string& text, int64_t window) {
    CalibrationOptions options;
    options.isa = tensor::choose_isa().value();
    options.window = window;
    options.folder = folder_.path();
    auto found = Calibration::create(file, text, options);
    EXPECT_TRUE(found) << found.error().to_string();
    if (!found) return 0;
    const WholeModel expected(file, text, options);
    size_t compared = 0;
    for (const model::GgufTensor& tensor : file.tensors()) {
      const InputStatistics* input = (*found)->input_of(tensor.name);
      const WholeModel::Input* other = expected.input_of(tensor.name);
      EXPECT_EQ(input == nullptr, other == nullptr) << tensor.name;
      if (input == nullptr || other == nullptr) continue;
      ++compared;
      EXPECT_EQ(input->rows, expected.rows()) << tensor.name;
      EXPECT_EQ(input->peak, other->peak) << tensor.name;
      std::vector<float> mean_square;
      for (const double sum : other->squares)
        mean_square.push_back(static_cast<float>(sum / static_cast<double>(expected.rows())));
      EXPECT_EQ(input->mean_square, mean_square) << tensor.name;
      if (tensor.name.starts_with("blk.") && !tensor.name.starts_with("blk.1.")) continue;
      const auto compensation = (*found)->compensation(tensor.name, {});
      base::ThreadTeam team(1);
      const auto wanted = Compensation::create(other->moments, {}, 0.01, team, {});
      EXPECT_TRUE(compensation && wanted) << tensor.name;
      if (!compensation || !wanted) continue;
      EXPECT_EQ(rounded(**compensation), rounded(*wanted)) << tensor.name;
    }
    return compared;
  }

  static std::string text_of(int lines) {
    std::string text;
    for (int i = 0; i < lines; ++i)
      text += "def scale_" + std::to_string(i) + "(values, by):\n    return [by * x for x in values]\n";
    return text;
  }

  const test::TemporaryFolder folder_;
};

// Windows longer and shorter than those that layers see, than the texts of the first of two rotations, and than a step.
TEST_F(LayerwiseCalibration, FindsWhatTheWholeModelShows) {
  size_t models = 0;
  for (const model::Shape& shape : model::shapes()) {
    if (!shape.name.ends_with("-tiny") || shape.encodes()) continue;
    SCOPED_TRACE(shape.name);
    const Checkpoint file = synthesise(shape, tensor::DType::f16);
    EXPECT_GE(compare(file, text_of(3), 16), 4U * static_cast<size_t>(shape.layers));
    EXPECT_GE(compare(file, text_of(12), 300), 4U * static_cast<size_t>(shape.layers));
    ++models;
  }
  EXPECT_GE(models, 13U);
}

// Rows of an embedding are looked up in the file as they are on the device.
TEST_F(LayerwiseCalibration, ReadsQuantisedModelsAsTheyAre) {
  for (const tensor::DType type : {tensor::DType::q8_0, tensor::DType::q4_k, tensor::DType::q6_k, tensor::DType::q3_k,
                                   tensor::DType::iq4_xs, tensor::DType::q5_1, tensor::DType::bf16}) {
    SCOPED_TRACE(tensor::info(type).name);
    EXPECT_GT(compare(synthesise(model::find_shape("qwen2-tiny").value(), type), text_of(3), 100), 0U);
  }
}

}  // namespace
}  // namespace tidemill::quantize
