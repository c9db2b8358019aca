// What a model's matrices are multiplied by while it reads a text: how large each channel of their inputs is, and how
// channels go together.
//
// The model is gone through once and layer by layer, with all of the text, of each layer first through its attention
// and then through its feed-forward block. In memory are the weights of that part, and how the channels of its inputs
// go together, which then waits on the disk (moment_file.hpp), where the hidden states of all tokens are too
// (hidden_file.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/memory.hpp"
#include "base/result.hpp"
#include "base/thread_team.hpp"
#include "model/checkpoint.hpp"
#include "model/layerwise_decoder.hpp"
#include "quantize/error_compensation.hpp"
#include "quantize/moment_file.hpp"
#include "quantize/watched_device.hpp"
#include "tensor/isa.hpp"

namespace tidemill::quantize {

// Of a tensor's name.
using TensorChoice = std::function<bool(std::string_view tensor)>;

struct CalibrationOptions {
  int64_t tokens = 16384;  // at most so many of the text
  int64_t window = 512;    // that are read together; at most the context
  tensor::Isa isa = tensor::Isa::scalar;
  int threads = 1;
  // Tensors that compensation() may be asked for; null: all. Moments are taken of their inputs alone.
  TensorChoice compensated = {};
  // Where moments wait, moment_bytes() of the disk, and the text's hidden states: 4 bytes for each token and channel.
  // Empty: the system's folder for temporary files.
  std::filesystem::path folder = {};
  // Memory for compensations that tensors share, the last ones that were asked for; one is there at least.
  size_t compensation_bytes = size_t{256} << 20;
  // Whether influence_of() will be asked for. The output matrix is read for it, twice, and the likelihoods of all
  // tokens are in memory for 64 rows.
  bool influences = false;
  std::function<void(size_t done, size_t total)> on_read = {};  // tokens, as if the layers were read side by side
  std::function<bool()> cancelled = {};
};

// Of the text and all options that decide what is found: not of memory and threads. Arithmetic is the instruction
// set's.
uint64_t fingerprint_of(std::string_view text, const CalibrationOptions& options);

// `unsupported` for models that predict no tokens: encoders.
base::Result<void> check_calibration(const model::Checkpoint& source);

// Most bytes of moments that a calibration keeps on the disk, with CalibrationOptions::compensated.
uint64_t moment_bytes(const model::Checkpoint& source, const TensorChoice& compensated);

// One input of one or more matrices.
struct InputStatistics {
  std::vector<float> mean_square;  // [cols]
  std::vector<float> peak;         // [cols], the largest magnitude
  int64_t rows = 0;                // that were seen
};

// Not thread-safe. Everything that it finds depends on the model, the text and the options but for memory and threads.
class Calibration {
 public:
  // Reads the text, once. `source` is not needed afterwards. Errors: those of model::LayerwiseDecoder,
  // evaluate::SubjectText, MomentFile, HiddenFile and check_calibration(), `invalid_argument` for a text of no tokens,
  // and `corrupt` naming a tensor whose inputs overflow.
  static base::Result<std::unique_ptr<Calibration>> create(const model::Checkpoint& source, std::string_view text,
                                                           const CalibrationOptions& options);
  ~Calibration();

  // Of the matrix's input; null where the model multiplies by no such tensor, and for tensors of several experts.
  const InputStatistics* input_of(std::string_view tensor) const;

  // How much a matrix's errors matter, if they are as large relative to its outputs as others' are to theirs: of one
  // in a layer, what shares of the hidden states behind them the layer's two parts have added, squared, on average and
  // in sum. If each part errs as what it is given does, those shares of the errors are left behind all layers. The
  // embedding's, of which nothing is something else, is 1; for the output matrix's see output_influence.hpp. 1 of all
  // others, and where options had no `influences`.
  double influence_of(std::string_view tensor) const;

  // The compensation of the matrix's input, divided by `factors` where there are some, which are those of every matrix
  // of that input. input_of(tensor) is not null, and CalibrationOptions::compensated holds for the tensor. Valid until
  // the next call. Errors: those of MomentFile and Compensation.
  base::Result<const Compensation*> compensation(std::string_view tensor, std::span<const float> factors);

  int64_t tokens() const { return static_cast<int64_t>(tokens_.size()); }

 private:
  struct Input;
  class Reading;
  explicit Calibration(CalibrationOptions options);

  base::Result<void> read_tokens(const model::Checkpoint& source, std::string_view text);
  Input* find(std::string_view tensor) const;
  bool compensates(std::string_view tensor) const { return !options_.compensated || options_.compensated(tensor); }
  void let_go_before(const Input& next);
  std::filesystem::path folder() const;

  CalibrationOptions options_;
  base::ThreadTeam team_;
  std::vector<model::Token> lead_;
  std::vector<model::Token> tokens_;
  std::vector<std::unique_ptr<Input>> inputs_;
  std::map<std::string, Input*, std::less<>> input_of_;   // by tensor
  std::map<std::string, double, std::less<>> influence_;  // by tensor, but for those of 1
  std::optional<MomentFile> moments_;
  std::vector<Input*> made_;  // that have a compensation, the last that was asked for behind
};

}  // namespace tidemill::quantize
