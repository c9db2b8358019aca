// What a model's matrices are multiplied by while it reads a text: how large each channel of their inputs is, and how
// channels go together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "base/thread_team.hpp"
#include "evaluate/subject.hpp"
#include "model/checkpoint.hpp"
#include "quantize/error_compensation.hpp"
#include "quantize/watched_device.hpp"
#include "tensor/isa.hpp"

namespace tidemill::quantize {

struct CalibrationOptions {
  int64_t tokens = 16384;  // at most so many of the text
  int64_t window = 512;    // that are read together; at most the context
  tensor::Isa isa = tensor::Isa::scalar;
  int threads = 1;
  // Memory for moments, for one input at least. Where it does not hold those of all inputs the text is read again.
  size_t moment_bytes = size_t{1} << 30;
  std::function<void(size_t done, size_t total)> on_load;  // bytes of tensors
  std::function<void(size_t done, size_t total)> on_read;  // tokens of one reading
  std::function<bool()> cancelled;
};

// Of the text and all options that decide what is found: not of memory and threads. Arithmetic is the instruction
// set's.
uint64_t fingerprint_of(std::string_view text, const CalibrationOptions& options);

// `unsupported` for models that predict no tokens: encoders.
base::Result<void> check_calibration(const model::Checkpoint& source);

// One input of one or more matrices.
struct InputStatistics {
  std::vector<float> mean_square;  // [cols]
  std::vector<float> peak;         // [cols], the largest magnitude
  int64_t rows = 0;                // that were seen
};

// Holds the whole model while it lives. Not thread-safe. Everything that it finds depends on the model, the text and
// the options but for memory and threads.
class Calibration {
 public:
  // Loads the model and reads the text once. `source` must outlive it. Errors: those of evaluate::Subject and
  // check_calibration(), `invalid_argument` for a text of no tokens, and `corrupt` naming a tensor whose inputs
  // overflow.
  static base::Result<std::unique_ptr<Calibration>> create(const model::Checkpoint& source, std::string_view text,
                                                           const CalibrationOptions& options);
  ~Calibration();

  // Of the matrix's input; null where the model multiplies by no such tensor, and for tensors of several experts.
  const InputStatistics* input_of(std::string_view tensor) const;

  // The compensation of the matrix's input, divided by `factors` where there are some, which are those of every matrix
  // of that input. Reads the text again where its moments are not there, then with those of as many tensors of `coming`
  // as fit: those that will be asked for next. input_of(tensor) is not null.
  base::Result<const Compensation*> compensation(std::string_view tensor, std::span<const float> factors,
                                                 std::span<const std::string_view> coming);

  int64_t tokens() const { return static_cast<int64_t>(tokens_.size()); }

 private:
  struct Input;
  explicit Calibration(CalibrationOptions options);

  base::Result<void> load(const model::Checkpoint& source, std::string_view text);
  base::Result<void> read();
  base::Result<void> average(const model::Checkpoint& source);
  void measure(std::span<const tensor::Product> products, tensor::ConstMatrix x);
  Input* find(std::string_view tensor) const;
  base::Result<void> correlate(std::string_view tensor, std::span<const std::string_view> coming);

  CalibrationOptions options_;
  base::ThreadTeam team_;
  std::unique_ptr<tensor::Device> device_;
  std::unique_ptr<WatchedDevice> watched_;
  std::optional<evaluate::Subject> subject_;
  std::vector<evaluate::Token> tokens_;
  std::unordered_map<const tensor::Weight*, std::string> names_;
  std::vector<std::unique_ptr<Input>> inputs_;
  std::map<std::string, Input*, std::less<>> input_of_;  // by tensor
};

}  // namespace tidemill::quantize
