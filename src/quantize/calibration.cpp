#include "quantize/calibration.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "evaluate/subject.hpp"
#include "evaluate/windows.hpp"
#include "model/load.hpp"
#include "quantize/hidden_file.hpp"
#include "quantize/output_influence.hpp"
#include "quantize/smoothing.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::quantize {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

// Of the mean of the moments' diagonal; what the paper takes.
constexpr double kDamping = 0.01;

// Rows that go through a layer at once: so few that what they need on the way stays small beside a layer (50 MB of
// Llama 3.1 70B's), and so many that reading its weights for them costs little.
constexpr int64_t kStepRows = 64;

// Whose likelihoods of all tokens are in memory at once.
constexpr int64_t kSampledStates = 64;

// Experts of a layer are matrices of one tensor with inputs of their own: what all of them together are multiplied by
// says little of each, and least of what the inner channels of one are worth.
bool is_one_matrix(const model::GgufTensor& tensor) {
  return tensor.shape[2] == 1;
}

// How much of what a row has become is new, squared; 0 of a row of zeros.
double share_of_change(const float* before, std::span<const float> after) {
  double change = 0;
  double all = 0;
  for (size_t c = 0; c < after.size(); ++c) {
    const double by = static_cast<double>(after[c]) - before[c];
    change += by * by;
    all += static_cast<double>(after[c]) * after[c];
  }
  return all > 0 ? change / all : 0;
}

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

uint64_t moment_bytes(const model::Checkpoint& source, const TensorChoice& compensated) {
  const auto counts = [&](std::string_view name) { return !compensated || compensated(name); };
  // Of those that share an input behind a norm, one.
  std::set<std::string, std::less<>> others;
  for (const NormGroup& group : norm_groups(source)) {
    bool first = true;
    for (const std::string& name : group.matrices) {
      if (counts(name) && !std::exchange(first, false)) others.insert(name);
    }
  }
  uint64_t bytes = 0;
  for (const model::GgufTensor& tensor : source.tensors()) {
    if (is_one_matrix(tensor) && counts(tensor.name) && !others.contains(tensor.name))
      bytes += Moments::bytes(tensor.cols());
  }
  return bytes;
}

struct Calibration::Input {
  std::string tensor;  // the first of those that it is the input of
  InputStatistics statistics;
  std::vector<double> squares;  // sums, while its layer is read
  std::optional<Moments> moments;
  MomentFile::Place place;
  std::optional<Compensation> compensation;
  size_t wanted = 0;  // times that a compensation may be asked for
  size_t asked = 0;
};

// One way through the model.
class Calibration::Reading {
 public:
  explicit Reading(Calibration& into)
      : into_(into),
        device_(tensor::make_cpu_device(into.options_.isa, std::max(1, into.options_.threads))),
        watched_(*device_) {}

  Result<void> run(const model::Checkpoint& source) {
    model::LoadOptions load;
    load.context = into_.options_.window;
    load.max_batch_rows = kStepRows;
    load.threads = into_.options_.threads;
    load.cancelled = into_.options_.cancelled;
    load.on_matrix = [this, &source](std::string_view tensor, const tensor::Weight& weight) {
      layer_tensors_.emplace_back(tensor);
      if (is_one_matrix(*source.find_tensor(tensor))) names_[&weight] = tensor;
    };
    TM_TRY(decoder_, model::LayerwiseDecoder::create(source, watched_, load));
    TM_CHECK(embed());
    watched_.watch([this](std::span<const tensor::Product> products, tensor::ConstMatrix x) { watch(products, x); });
    for (int64_t layer = 0; layer < decoder_->hyper_parameters().layers; ++layer) {
      layer_tensors_.clear();
      layer_shares_ = 0;
      for (const model::LayerPart part : model::kLayerParts) {
        names_.clear();
        TM_CHECK(decoder_->load(layer, part));
        TM_CHECK(read());
        TM_CHECK(finish(source));
      }
      if (!into_.options_.influences) continue;
      for (const std::string& tensor : layer_tensors_)
        into_.influence_[tensor] = layer_shares_ / static_cast<double>(rows_);
    }
    TM_CHECK(measure_output());
    TM_CHECK(finish(source));
    if (into_.options_.influences) TM_CHECK(weigh_output(source));
    if (into_.options_.on_read) into_.options_.on_read(into_.tokens_.size(), into_.tokens_.size());
    return {};
  }

 private:
  // Rows of hidden states that are one window's, which starts afresh.
  struct Sequence {
    int64_t first;
    int64_t rows;
    size_t end;  // of its tokens in the text
  };

  // Room for the hidden states of a step.
  tensor::Matrix step_of(int64_t rows) {
    const int64_t width = decoder_->hyper_parameters().width;
    return {step_.data(), rows, width, width};
  }

  Result<void> embed() {
    const size_t lead = into_.lead_.size();
    into_.options_.window = std::min(into_.options_.window, decoder_->hyper_parameters().context);
    const auto window = static_cast<size_t>(std::max<int64_t>(into_.options_.window, static_cast<int64_t>(lead) + 1));
    std::vector<model::Token> all;
    for (const evaluate::Window& cut : evaluate::cut(into_.tokens_.size(), window, window, lead)) {
      const auto first = static_cast<int64_t>(all.size());
      all.insert(all.end(), into_.lead_.begin(), into_.lead_.end());
      all.insert(all.end(), into_.tokens_.begin() + static_cast<int64_t>(cut.begin),
                 into_.tokens_.begin() + static_cast<int64_t>(cut.end));
      sequences_.push_back({first, static_cast<int64_t>(all.size()) - first, cut.end});
    }
    rows_ = static_cast<int64_t>(all.size());
    const int64_t width = decoder_->hyper_parameters().width;
    step_.resize(static_cast<size_t>(std::min(kStepRows, rows_) * width));
    TM_TRY(HiddenFile hidden, HiddenFile::create(into_.folder(), rows_, width));
    hidden_.emplace(std::move(hidden));
    for (int64_t row = 0; row < rows_; row += kStepRows) {
      const tensor::Matrix step = step_of(std::min(kStepRows, rows_ - row));
      TM_CHECK(decoder_->embed(std::span(all).subspan(static_cast<size_t>(row), static_cast<size_t>(step.rows)), step));
      TM_CHECK(hidden_->write(row, step));
    }
    return {};
  }

  // The whole text through the part that is there.
  Result<void> read() {
    const size_t tokens = into_.tokens_.size();
    const size_t parts = static_cast<size_t>(decoder_->hyper_parameters().layers) * model::kLayerParts.size();
    for (const Sequence& sequence : sequences_) {
      for (int64_t row = 0; row < sequence.rows; row += kStepRows) {
        if (into_.options_.cancelled && into_.options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
        const tensor::Matrix step = step_of(std::min(kStepRows, sequence.rows - row));
        TM_CHECK(hidden_->read(sequence.first + row, step));
        forward(row, step);
        TM_CHECK(hidden_->write(sequence.first + row, step));
      }
      if (into_.options_.on_read) into_.options_.on_read((parts_read_ * tokens + sequence.end) / parts, tokens);
    }
    ++parts_read_;
    return {};
  }

  // Rows of a sequence through the part.
  void forward(int64_t position, tensor::Matrix hidden) {
    assert(hidden.stride == hidden.cols);
    if (into_.options_.influences) before_.assign(hidden.data, hidden.data + hidden.rows * hidden.cols);
    decoder_->forward(position, hidden);
    if (!into_.options_.influences) return;
    for (int64_t r = 0; r < hidden.rows; ++r) {
      layer_shares_ +=
          share_of_change(before_.data() + r * hidden.cols, std::span(hidden.row(r), static_cast<size_t>(hidden.cols)));
    }
  }

  Result<void> measure_output() {
    const std::string_view output = decoder_->output_tensor();
    for (int64_t row = 0; row < rows_; row += kStepRows) {
      const tensor::Matrix step = step_of(std::min(kStepRows, rows_ - row));
      TM_CHECK(hidden_->read(row, step));
      decoder_->normalise(step);
      measure(std::span(&output, 1), step);
    }
    return {};
  }

  // What the output matrix's errors matter, by some hidden states spread over all.
  Result<void> weigh_output(const model::Checkpoint& source) {
    const model::HyperParameters& hyper = decoder_->hyper_parameters();
    const int64_t count = std::min(kSampledStates, rows_);
    std::vector<float> values(static_cast<size_t>(count * hyper.width));
    const tensor::Matrix states{values.data(), count, hyper.width, hyper.width};
    for (int64_t i = 0; i < count; ++i)
      TM_CHECK(hidden_->read(i * rows_ / count, {states.row(i), 1, states.cols, states.stride}));
    decoder_->normalise(states);
    const std::string& output = decoder_->output_tensor();
    TM_TRY(const double influence,
           output_influence(source, *source.find_tensor(output), states, hyper.logit_scale, *device_));
    // An embedding that is also the output matrix errs at both ends.
    into_.influence_[output] = influence + (output == decoder_->embedding_tensor() ? 1 : 0);
    return {};
  }

  void watch(std::span<const tensor::Product> products, tensor::ConstMatrix x) {
    std::vector<std::string_view> tensors;
    for (const tensor::Product& product : products) {
      const auto name = names_.find(product.weight);
      if (name != names_.end()) tensors.push_back(name->second);
    }
    if (!tensors.empty()) measure(tensors, x);
  }

  // `x` is the input of all of them.
  void measure(std::span<const std::string_view> tensors, tensor::ConstMatrix x) {
    Input& input = input_of(tensors, x.cols);
    input.statistics.rows += x.rows;
    for (int64_t r = 0; r < x.rows; ++r) {
      const float* row = x.row(r);
      for (size_t c = 0; c < input.squares.size(); ++c) {
        input.squares[c] += static_cast<double>(row[c]) * row[c];
        input.statistics.peak[c] = std::max(input.statistics.peak[c], std::fabs(row[c]));
      }
    }
    if (input.moments) input.moments->add(x.data, x.rows, x.stride, into_.team_);
  }

  // The one that is known, or a new one.
  Input& input_of(std::span<const std::string_view> tensors, int64_t cols) {
    if (Input* known = into_.find(tensors.front())) return *known;
    Input& made = *open_.emplace_back(into_.inputs_.emplace_back(std::make_unique<Input>()).get());
    made.tensor = tensors.front();
    made.squares.resize(static_cast<size_t>(cols));
    made.statistics.peak.resize(static_cast<size_t>(cols));
    for (const std::string_view tensor : tensors) {
      into_.input_of_[std::string(tensor)] = &made;
      if (into_.compensates(tensor)) ++made.wanted;
    }
    if (made.wanted > 0) made.moments.emplace(cols);
    return made;
  }

  // Of what was seen since the last time: sums of squares become means, and moments go to the disk. They are sums of
  // floats, and as large as the squares.
  Result<void> finish(const model::Checkpoint& source) {
    for (Input* input : open_) {
      const bool finite = std::all_of(input->squares.begin(), input->squares.end(),
                                      [](double sum) { return std::isfinite(static_cast<float>(sum)); });
      if (!finite) {
        return source.error(ErrorCode::corrupt,
                            fmt::format("tensor '{}' is multiplied by numbers whose squares overflow when the model "
                                        "reads the text; weights before it are too large",
                                        model::printable(input->tensor)));
      }
      const auto rows = static_cast<double>(input->statistics.rows);
      for (const double sum : input->squares)
        input->statistics.mean_square.push_back(static_cast<float>(sum / rows));
      input->squares = std::vector<double>();
      if (!input->moments) continue;
      TM_TRY(input->place, into_.moments_->put(std::move(*input->moments)));
      input->moments.reset();
    }
    open_.clear();
    return {};
  }

  Calibration& into_;
  std::unique_ptr<tensor::Device> device_;
  WatchedDevice watched_;
  std::unique_ptr<model::LayerwiseDecoder> decoder_;
  std::unordered_map<const tensor::Weight*, std::string> names_;  // of the part, with inputs of their own
  std::vector<std::string> layer_tensors_;                        // all matrices of the layer
  double layer_shares_ = 0;                                       // of what its parts have added, sum over all rows
  std::vector<float> before_;                                     // a step's rows, before the part
  std::vector<Sequence> sequences_;
  std::optional<HiddenFile> hidden_;  // [rows_][width] of all sequences, as the next part is given them
  int64_t rows_ = 0;
  std::vector<float> step_;   // [kStepRows][width] of them
  size_t parts_read_ = 0;     // of layers
  std::vector<Input*> open_;  // of the part
};

Calibration::Calibration(CalibrationOptions options)
    : options_(std::move(options)), team_(std::max(1, options_.threads)) {}

Calibration::~Calibration() = default;

Result<std::unique_ptr<Calibration>> Calibration::create(const model::Checkpoint& source, std::string_view text,
                                                         const CalibrationOptions& options) {
  TM_CHECK(check_calibration(source));
  std::unique_ptr<Calibration> made(new Calibration(options));
  TM_CHECK(made->read_tokens(source, text));
  if (const uint64_t bytes = moment_bytes(source, options.compensated); bytes > 0) {
    TM_TRY(MomentFile moments, MomentFile::create(made->folder(), bytes));
    made->moments_.emplace(std::move(moments));
  }
  TM_CHECK(Reading(*made).run(source));
  return made;
}

Result<void> Calibration::read_tokens(const model::Checkpoint& source, std::string_view text) {
  TM_TRY(const evaluate::SubjectText subject, evaluate::SubjectText::load(source));
  lead_ = subject.lead;
  TM_TRY(tokens_, subject.tokenizer->encode(text, {.add_special = false}));
  if (static_cast<int64_t>(tokens_.size()) > options_.tokens) {
    tokens_.resize(static_cast<size_t>(options_.tokens));
    tokens_.shrink_to_fit();
  }
  if (evaluate::scored_tokens(tokens_.size(), lead_.size()) > 0) return {};
  return Error(ErrorCode::invalid_argument, "the text to calibrate with is empty; some thousand tokens are needed");
}

std::filesystem::path Calibration::folder() const {
  std::error_code ignored;
  return options_.folder.empty() ? std::filesystem::temp_directory_path(ignored) : options_.folder;
}

Calibration::Input* Calibration::find(std::string_view tensor) const {
  const auto found = input_of_.find(tensor);
  return found == input_of_.end() ? nullptr : found->second;
}

const InputStatistics* Calibration::input_of(std::string_view tensor) const {
  const Input* input = find(tensor);
  return input == nullptr ? nullptr : &input->statistics;
}

double Calibration::influence_of(std::string_view tensor) const {
  const auto found = influence_.find(tensor);
  return found == influence_.end() ? 1 : found->second;
}

Result<const Compensation*> Calibration::compensation(std::string_view tensor, std::span<const float> factors) {
  Input* input = find(tensor);
  assert(input != nullptr && compensates(tensor));
  let_go_before(*input);
  if (!input->compensation) {
    TM_TRY(Moments moments, moments_->get(input->place));
    TM_TRY(Compensation made, Compensation::create(std::move(moments), factors, kDamping, team_, options_.cancelled));
    input->compensation.emplace(std::move(made));
  }
  std::erase(made_, input);
  made_.push_back(input);
  ++input->asked;
  return &*input->compensation;
}

// Those that nobody will ask for any more, and the ones longest not asked for, so that the rest leaves room for `next`.
void Calibration::let_go_before(const Input& next) {
  size_t left = options_.compensation_bytes;
  std::vector<Input*> kept;
  for (auto at = made_.rbegin(); at != made_.rend(); ++at) {
    Input& input = **at;
    const size_t bytes = input.compensation->bytes();
    const bool stays = &input == &next || (input.asked < input.wanted && bytes <= left);
    if (stays) {
      left -= std::min(left, bytes);
      kept.push_back(&input);
    } else {
      input.compensation.reset();
    }
  }
  made_.assign(kept.rbegin(), kept.rend());
}

}  // namespace tidemill::quantize
