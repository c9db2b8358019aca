#include "quantize/calibration.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "evaluate/windows.hpp"
#include "model/load.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::quantize {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

// Of the mean of the moments' diagonal; what the paper takes.
constexpr double kDamping = 0.01;

}  // namespace

uint64_t fingerprint_of(std::string_view text, const CalibrationOptions& options) {
  const std::string made_from = fmt::format("{:016x} {} {} {}", base::checksum(std::as_bytes(std::span(text))),
                                            options.tokens, options.window, tensor::to_string(options.isa));
  return base::checksum(std::as_bytes(std::span(made_from)));
}

Result<void> check_calibration(const model::Checkpoint& source) {
  TM_TRY(const bool encodes, model::holds_encoder(source));
  if (!encodes) return {};
  return source.error(
      ErrorCode::unsupported,
      "the model is an encoder, and only models that predict tokens are calibrated; quantise it without");
}

struct Calibration::Input {
  InputStatistics statistics;
  std::vector<double> squares;  // sums, until the first reading is over
  std::optional<Moments> moments;
  std::optional<Compensation> compensation;
};

Calibration::Calibration(CalibrationOptions options)
    : options_(std::move(options)), team_(std::max(1, options_.threads)) {}

Calibration::~Calibration() = default;

Result<std::unique_ptr<Calibration>> Calibration::create(const model::Checkpoint& source, std::string_view text,
                                                         const CalibrationOptions& options) {
  std::unique_ptr<Calibration> calibration(new Calibration(options));
  TM_CHECK(calibration->load(source, text));
  Calibration& made = *calibration;
  made.watched_->watch(
      [&made](std::span<const tensor::Product> products, tensor::ConstMatrix x) { made.measure(products, x); });
  TM_CHECK(made.read());
  TM_CHECK(made.average(source));
  return calibration;
}

// Sums of squares become means. Sums of moments are floats, and as large.
Result<void> Calibration::average(const model::Checkpoint& source) {
  for (const auto& [tensor, input] : input_of_) {
    const bool finite = std::all_of(input->squares.begin(), input->squares.end(),
                                    [](double sum) { return std::isfinite(static_cast<float>(sum)); });
    if (finite) continue;
    return source.error(ErrorCode::corrupt,
                        fmt::format("tensor '{}' is multiplied by numbers whose squares overflow when the model reads "
                                    "the text; weights before it are too large",
                                    model::printable(tensor)));
  }
  for (const std::unique_ptr<Input>& input : inputs_) {
    const auto rows = static_cast<double>(input->statistics.rows);
    for (const double sum : input->squares)
      input->statistics.mean_square.push_back(static_cast<float>(sum / rows));
    input->squares = std::vector<double>();
  }
  return {};
}

Result<void> Calibration::load(const model::Checkpoint& source, std::string_view text) {
  TM_CHECK(check_calibration(source));
  device_ = tensor::make_cpu_device(options_.isa, std::max(1, options_.threads));
  watched_ = std::make_unique<WatchedDevice>(*device_);
  evaluate::SubjectOptions load;
  load.context = options_.window;
  load.threads = options_.threads;
  load.kv_type = tensor::KvType::f32;
  load.on_progress = options_.on_load;
  load.cancelled = options_.cancelled;
  // Experts of a layer are matrices of one tensor with inputs of their own: what all of them together are multiplied by
  // says little of each, and least of what the inner channels of one are worth.
  load.on_matrix = [this, &source](std::string_view tensor, const tensor::Weight& weight) {
    if (source.find_tensor(tensor)->shape[2] == 1) names_[&weight] = tensor;
  };
  TM_TRY(evaluate::Subject subject, evaluate::Subject::load(source, *watched_, load));
  subject_.emplace(std::move(subject));
  TM_TRY(tokens_, subject_->tokenizer().encode(text, {.add_special = false}));
  if (static_cast<int64_t>(tokens_.size()) > options_.tokens) tokens_.resize(static_cast<size_t>(options_.tokens));
  if (evaluate::scored_tokens(tokens_.size(), subject_->lead().size()) == 0) {
    return Error(ErrorCode::invalid_argument, "the text to calibrate with is empty; some thousand tokens are needed");
  }
  options_.window = std::min(options_.window, subject_->context());
  return {};
}

// The whole text, in windows that start afresh; what is computed on the way is shown to the watch.
Result<void> Calibration::read() {
  const std::span<const evaluate::Token> lead = subject_->lead();
  const auto window = static_cast<size_t>(std::max<int64_t>(options_.window, static_cast<int64_t>(lead.size()) + 1));
  TM_TRY(evaluate::Reader reader, subject_->make_reader(static_cast<int64_t>(window)));
  for (const evaluate::Window& cut : evaluate::cut(tokens_.size(), window, window, lead.size())) {
    std::vector<evaluate::Token> sequence(lead.begin(), lead.end());
    sequence.insert(sequence.end(), tokens_.begin() + static_cast<int64_t>(cut.begin),
                    tokens_.begin() + static_cast<int64_t>(cut.end));
    const auto rows = static_cast<int64_t>(sequence.size());
    for (int64_t row = 0; row < rows; row += reader.step_rows()) {
      if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      const int64_t count = std::min(reader.step_rows(), rows - row);
      // With logits, so that the output matrix is multiplied by all rows too.
      reader.read(std::span(sequence).subspan(static_cast<size_t>(row), static_cast<size_t>(count)), row, 0);
    }
    if (options_.on_read) options_.on_read(cut.end, tokens_.size());
  }
  if (options_.on_read) options_.on_read(tokens_.size(), tokens_.size());
  return {};
}

void Calibration::measure(std::span<const tensor::Product> products, tensor::ConstMatrix x) {
  Input* input = nullptr;
  for (const tensor::Product& product : products) {
    const auto name = names_.find(product.weight);
    if (name == names_.end()) continue;
    Input*& known = input_of_[name->second];
    if (known == nullptr) {
      if (input == nullptr) {
        inputs_.push_back(std::make_unique<Input>());
        input = inputs_.back().get();
        input->squares.resize(static_cast<size_t>(x.cols));
        input->statistics.peak.resize(static_cast<size_t>(x.cols));
      }
      known = input;
    }
    input = known;
  }
  if (input == nullptr) return;
  input->statistics.rows += x.rows;
  for (int64_t r = 0; r < x.rows; ++r) {
    const float* row = x.row(r);
    for (size_t c = 0; c < input->squares.size(); ++c) {
      input->squares[c] += static_cast<double>(row[c]) * row[c];
      input->statistics.peak[c] = std::max(input->statistics.peak[c], std::fabs(row[c]));
    }
  }
}

Calibration::Input* Calibration::find(std::string_view tensor) const {
  const auto found = input_of_.find(tensor);
  return found == input_of_.end() ? nullptr : found->second;
}

const InputStatistics* Calibration::input_of(std::string_view tensor) const {
  const Input* input = find(tensor);
  return input == nullptr ? nullptr : &input->statistics;
}

Result<const Compensation*> Calibration::compensation(std::string_view tensor, std::span<const float> factors,
                                                      std::span<const std::string_view> coming) {
  Input* input = find(tensor);
  assert(input != nullptr);
  if (!input->compensation) {
    if (!input->moments) TM_CHECK(correlate(tensor, coming));
    Moments moments = std::move(*input->moments);
    input->moments.reset();
    TM_TRY(Compensation made, Compensation::create(std::move(moments), factors, kDamping, team_, options_.cancelled));
    input->compensation.emplace(std::move(made));
  }
  return &*input->compensation;
}

// Reads the text for the moments of the tensor's input, and of those of `coming` that fit beside it.
Result<void> Calibration::correlate(std::string_view tensor, std::span<const std::string_view> coming) {
  for (const std::unique_ptr<Input>& input : inputs_) {
    input->moments.reset();
    input->compensation.reset();
  }
  size_t left = options_.moment_bytes;
  const auto want = [&](Input& input) {
    const auto cols = static_cast<int64_t>(input.statistics.mean_square.size());
    if (input.moments) return true;
    if (Moments::bytes(cols) > left) return false;
    left -= Moments::bytes(cols);
    input.moments.emplace(cols);
    return true;
  };
  Input& first = *find(tensor);
  left = std::max(left, Moments::bytes(static_cast<int64_t>(first.statistics.mean_square.size())));
  want(first);
  for (const std::string_view next : coming) {
    Input* input = find(next);
    if (input != nullptr && !want(*input)) break;
  }
  watched_->watch([this](std::span<const tensor::Product> products, tensor::ConstMatrix x) {
    Input* input = nullptr;
    for (const tensor::Product& product : products) {
      const auto name = names_.find(product.weight);
      if (input == nullptr && name != names_.end()) input = find(name->second);
    }
    if (input != nullptr && input->moments) input->moments->add(x.data, x.rows, x.stride, team_);
  });
  return read();
}

}  // namespace tidemill::quantize
