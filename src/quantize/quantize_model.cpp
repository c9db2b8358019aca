#include "quantize/quantize_model.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <fcntl.h>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "base/log.hpp"
#include "base/positioned_io.hpp"
#include "base/version.hpp"
#include "model/file_type.hpp"
#include "model/finite.hpp"
#include "model/gguf_writer.hpp"
#include "model/load.hpp"
#include "model/small_numbers.hpp"
#include "model/tensor_rows.hpp"
#include "quantize/partial_file.hpp"
#include "quantize/round_rows.hpp"
#include "quantize/smoothing.hpp"
#include "tensor/block_encoders.hpp"

namespace tidemill::quantize {

using base::Error;
using base::ErrorCode;
using base::Result;
using model::Checkpoint;
using model::GgufTensor;
using tensor::DType;

namespace {

constexpr uint64_t kAlignment = 32;  // GGUF's, of tensors

// Keys that tell of the old file.
bool is_replaced(std::string_view key) {
  return key == "general.file_type" || key == "general.alignment" || key == "general.quantization_version";
}

bool makes_up_for_errors(DType type) {
  const tensor::DTypeInfo& info = tensor::info(type);
  return info.block_elements > 1 && 2 * 8 * info.block_bytes <= 11 * info.block_elements;
}

// What is done to one tensor beside rounding.
struct Recipe {
  const std::vector<float>* factors = nullptr;  // of smoothing
  bool norm = false;                            // whether the tensor is the norm, which is divided by them
};

class Quantizer {
 public:
  Quantizer(const Checkpoint& source, const QuantizeOptions& options)
      : source_(source),
        options_(options),
        team_(std::max(1, options.threads)),
        rows_(source, options.slice_elements),
        total_(source.tensor_bytes()) {}

  // What run() would refuse before it writes, as far as that is known.
  Result<void> check(const std::filesystem::path& path) {
    TM_TRY(types_, plan_types(source_, options_.type, options_.rules));
    PartialOptions partial = partial_options();
    if (options_.calibration_fingerprint != 0) {
      const std::set<std::string, std::less<>> tensors = compensated();
      partial.before_bytes =
          moment_bytes(source_, [&tensors](std::string_view tensor) { return tensors.contains(tensor); });
    }
    if (options_.bits > 0) return PartialFile::check(path, {}, {least_bytes()}, kAlignment, partial);
    model::GgufWriter writer;
    describe(writer);
    return PartialFile::check(path, writer.header(), sizes(), kAlignment, partial);
  }

  Result<std::set<std::string, std::less<>>> plan_compensated() {
    TM_TRY(types_, plan_types(source_, options_.type, options_.rules));
    return compensated();
  }

  Result<QuantizeSummary> run(const std::filesystem::path& path) {
    TM_TRY(types_, plan_types(source_, options_.type, options_.rules));
    TM_CHECK(plan_recipes());
    model::GgufWriter writer;
    describe(writer);
    const std::string header = writer.header();
    summary_.bytes = static_cast<size_t>(writer.file_bytes());
    summary_.tensor_bytes = static_cast<size_t>(writer.tensor_bytes());
    TM_TRY(file_, PartialFile::open(path, header, sizes(), kAlignment, partial_options()));
    if (auto written = write_all(); !written) return stopped(std::move(written).error(), path);
    summarize();
    return summary_;
  }

 private:
  PartialOptions partial_options() const {
    return {.fingerprint = fingerprint_of(source_, options_, base::version()),
            .restart = options_.restart,
            .flush_bytes = options_.flush_bytes};
  }

  // Bytes of each tensor.
  std::vector<uint64_t> sizes() const {
    std::vector<uint64_t> sizes;
    for (size_t i = 0; i < types_.size(); ++i) {
      const GgufTensor& tensor = source_.tensors()[i];
      sizes.push_back(static_cast<uint64_t>(tensor.rows() * tensor::row_bytes(types_[i], tensor.cols())));
    }
    return sizes;
  }

  // Of a file whose types are to be chosen: of its matrices, which spend their bits, and take less in a file than in
  // memory by a twentieth at most.
  uint64_t least_bytes() const {
    int64_t weights = 0;
    for (const GgufTensor& tensor : source_.tensors()) {
      if (is_matrix(tensor)) weights += tensor.elements();
    }
    constexpr double most_bits = 8.5;
    return static_cast<uint64_t>(0.9 * std::min(options_.bits, most_bits) / 8 * static_cast<double>(weights));
  }

  Result<void> plan_recipes() {
    recipes_.resize(types_.size());
    if (options_.calibration == nullptr || !options_.smooth) return {};
    TM_TRY(smoothed_,
           plan_smoothing(source_, *options_.calibration, types_, options_.cancelled, options_.on_smoothing));
    for (const SmoothedNorm& one : smoothed_) {
      recipes_[index_of(one.group.norm)] = {&one.factors, true};
      for (const std::string& name : one.group.matrices)
        recipes_[index_of(name)] = {&one.factors, false};
    }
    summary_.smoothed = smoothed_.size();
    return {};
  }

  size_t index_of(std::string_view name) const {
    return static_cast<size_t>(source_.find_tensor(name) - source_.tensors().data());
  }

  // Everything but the tensors' data.
  void describe(model::GgufWriter& writer) const {
    for (const model::GgufEntry& entry : source_.metadata()) {
      if (!is_replaced(entry.key)) writer.add(entry);
    }
    writer.add_u32("general.quantization_version", 2);
    writer.add_u32("general.file_type", model::file_type_number(options_.type));
    for (size_t i = 0; i < types_.size(); ++i) {
      const GgufTensor& tensor = source_.tensors()[i];
      writer.declare_tensor(tensor.name, types_[i], std::span(tensor.shape).first(static_cast<size_t>(tensor.rank)));
    }
  }

  Result<void> write_all() {
    const auto tensors = source_.tensors();
    summary_.resumed = file_->done();
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (i >= summary_.resumed) {
        TM_CHECK(write(i));
        source_.release(tensors[i]);
      }
      done_ += tensors[i].bytes();
      // What was there from before is told of at once, so that nobody takes it for this run's.
      if (options_.on_progress && i + 1 >= summary_.resumed) options_.on_progress(done_, total_);
    }
    return file_->finish();
  }

  // The parts stay where going on with them can succeed.
  Error stopped(Error error, const std::filesystem::path& path) {
    const bool resumable =
        error.code() == ErrorCode::cancelled || error.code() == ErrorCode::io || error.code() == ErrorCode::exhausted;
    const bool flushed = file_->flush().has_value();
    if (!resumable || (flushed && file_->done() == 0)) {
      file_->discard();
      return error;
    }
    return {error.code(), fmt::format("{}; what is whole of it lies in '{}', and the same command goes on behind that",
                                      error.to_string(), partial_path(path).string())};
  }

  Result<void> write(size_t index) {
    const GgufTensor& tensor = source_.tensors()[index];
    const DType type = types_[index];
    const Recipe& recipe = recipes_[index];
    TM_TRY(const Compensation* compensation, compensation_of(index));
    if (compensation != nullptr) ++summary_.compensated;
    const std::vector<float> importance = importance_of(tensor, recipe);
    const bool kept = type == tensor.type && recipe.factors == nullptr && !is_per_channel(index);
    const size_t before = done_;
    size_t read = 0;
    model::SmallNumbers small(type, tensor.cols(), is_per_channel(index));
    const auto take = [&](const model::RowSlice& slice) -> Result<void> {
      if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      TM_CHECK(kept ? file_->write(slice.bytes) : write_slice(index, importance, compensation, slice, small));
      read += slice.bytes.size();
      if (options_.on_progress) options_.on_progress(before + read, total_);
      return {};
    };
    if (kept) return rows_.read_stored(tensor, take);
    TM_CHECK(rows_.read(tensor, take));
    return small.loss() ? too_small(tensor, recipe, small) : Result<void>();
  }

  bool is_per_channel(size_t index) const {
    return options_.per_channel && types_[index] == DType::q8_0 && is_matrix(source_.tensors()[index]);
  }

  Result<void> write_slice(size_t index, std::span<const float> importance, const Compensation* compensation,
                           const model::RowSlice& slice, model::SmallNumbers& small) {
    const GgufTensor& tensor = source_.tensors()[index];
    const DType type = types_[index];
    const Recipe& recipe = recipes_[index];
    const int64_t cols = tensor.cols();
    if (recipe.factors != nullptr) scale(slice, cols, recipe);
    if (tensor::info(type).block_elements > 1) TM_CHECK(check_blocks(tensor, type, recipe, slice));
    encoded_.resize(static_cast<size_t>(slice.rows * tensor::row_bytes(type, cols)));
    std::span<const float> wanted = slice.values;
    if (compensation != nullptr && small.can_be()) {  // which changes the values
      wanted_.assign(slice.values.begin(), slice.values.end());
      wanted = wanted_;
    }
    if (is_per_channel(index)) {
      round_channels(slice.values, slice.rows, cols, encoded_, team_);
    } else {
      round_rows(type, slice.values, slice.rows, cols, importance, compensation, encoded_, team_);
    }
    if (tensor::info(type).block_elements == 1) TM_CHECK(check_plain(tensor, type, recipe, slice));
    small.add(wanted, encoded_, &team_);
    return file_->write(encoded_);
  }

  static void scale(const model::RowSlice& slice, int64_t cols, const Recipe& recipe) {
    for (int64_t r = 0; r < slice.rows; ++r) {
      float* row = slice.values.data() + r * cols;
      for (int64_t c = 0; c < cols; ++c) {
        const float factor = (*recipe.factors)[static_cast<size_t>(c)];
        row[c] = recipe.norm ? row[c] / factor : row[c] * factor;
      }
    }
  }

  // Before they are rounded: blocks take what is beyond their range for the nearest that they can hold.
  Result<void> check_blocks(const GgufTensor& tensor, DType type, const Recipe& recipe, const model::RowSlice& slice) {
    const auto cols = static_cast<size_t>(tensor.cols());
    for (int64_t r = 0; r < slice.rows; ++r) {
      if (tensor::holds(type, slice.values.subspan(static_cast<size_t>(r) * cols, cols))) continue;
      return too_large(tensor, type, recipe, slice, r);
    }
    return {};
  }

  // Afterwards: finite numbers that became infinities.
  Result<void> check_plain(const GgufTensor& tensor, DType type, const Recipe& recipe, const model::RowSlice& slice) {
    const auto found = model::find_not_finite(type, encoded_, &team_);
    if (!found) return {};
    return too_large(tensor, type, recipe, slice, found->element / tensor.cols());
  }

  // Of row `r` of the slice, whose numbers are named as the source has them.
  Error too_large(const GgufTensor& tensor, DType type, const Recipe& recipe, const model::RowSlice& slice,
                  int64_t r) const {
    std::vector<float> row(static_cast<size_t>(tensor.cols()));
    tensor::dequantize(tensor.type, slice.bytes.data() + r * tensor::row_bytes(tensor.type, tensor.cols()),
                       tensor.cols(), row.data());
    float peak = 0;
    for (const float value : row)
      peak = std::max(peak, std::fabs(value));
    return source_.error(ErrorCode::corrupt,
                         fmt::format("{} holds numbers up to {:g} in size, in row {} such that {} cannot hold them{}; "
                                     "give it a type that can with --tensor '{}=f32'",
                                     tensor.title(), peak, slice.first + r, tensor::info(type).name, folded(recipe),
                                     model::printable(tensor.name)));
  }

  Error too_small(const GgufTensor& tensor, const Recipe& recipe, const model::SmallNumbers& small) const {
    return source_.error(ErrorCode::corrupt,
                         fmt::format("{} {}{}; give it a type that holds them with --tensor '{}=bf16'", tensor.title(),
                                     small.fault(), folded(recipe), model::printable(tensor.name)));
  }

  static std::string_view folded(const Recipe& recipe) {
    return recipe.factors != nullptr ? " with outlier channels folded in (--no-smoothing leaves them)" : "";
  }

  std::vector<float> importance_of(const GgufTensor& tensor, const Recipe& recipe) const {
    if (options_.calibration == nullptr) return {};
    const InputStatistics* input = options_.calibration->input_of(tensor.name);
    if (input == nullptr || static_cast<int64_t>(input->mean_square.size()) != tensor.cols()) return {};
    std::span<const float> factors;
    if (recipe.factors != nullptr) factors = *recipe.factors;
    return damped(divided_squares(input->mean_square, factors));
  }

  // Whether its type asks for it, or may once types are known. A table of embeddings is looked up as well as multiplied
  // by: its rows must stay what they are.
  bool may_compensate(size_t index) const {
    const GgufTensor& tensor = source_.tensors()[index];
    if (!options_.compensate || tensor.rank != 2 || tensor.name.starts_with("token_embd")) return false;
    const bool typed = types_[index] != tensor.type && makes_up_for_errors(types_[index]);
    return typed || (options_.bits > 0 && options_.calibration == nullptr && is_matrix(tensor));
  }

  std::set<std::string, std::less<>> compensated() const {
    std::set<std::string, std::less<>> tensors;
    for (size_t i = 0; i < types_.size(); ++i) {
      if (may_compensate(i)) tensors.emplace(source_.tensors()[i].name);
    }
    return tensors;
  }

  Result<const Compensation*> compensation_of(size_t index) {
    const GgufTensor& tensor = source_.tensors()[index];
    if (options_.calibration == nullptr || !may_compensate(index)) return static_cast<const Compensation*>(nullptr);
    const InputStatistics* input = options_.calibration->input_of(tensor.name);
    if (input == nullptr || static_cast<int64_t>(input->mean_square.size()) != tensor.cols())
      return static_cast<const Compensation*>(nullptr);
    std::span<const float> factors;
    if (recipes_[index].factors != nullptr) factors = *recipes_[index].factors;
    return options_.calibration->compensation(tensor.name, factors);
  }

  void summarize() {
    std::map<DType, size_t> others;
    for (size_t i = 0; i < types_.size(); ++i) {
      const GgufTensor& tensor = source_.tensors()[i];
      ++summary_.tensors;
      if (types_[i] != tensor.type) ++summary_.changed;
      if (is_matrix(tensor)) ++(types_[i] == options_.type ? summary_.of_type : others[types_[i]]);
    }
    for (const auto& [type, count] : others)
      summary_.other_types.push_back(fmt::format("{} in {}", count, tensor::info(type).name));
  }

  const Checkpoint& source_;
  const QuantizeOptions& options_;
  base::ThreadTeam team_;
  model::TensorRows rows_;
  std::vector<DType> types_;
  std::vector<SmoothedNorm> smoothed_;
  std::vector<Recipe> recipes_;
  std::unique_ptr<PartialFile> file_;
  std::vector<std::byte> encoded_;
  std::vector<float> wanted_;  // what compensation makes up for
  QuantizeSummary summary_;
  size_t total_;
  size_t done_ = 0;
};

// `target` and what lies beside it on the way, by whatever names.
Result<void> check_target(const Checkpoint& source, const std::filesystem::path& target,
                          std::span<const std::filesystem::path> inputs) {
  for (const std::filesystem::path& written : {target, partial_path(target), journal_path(target)}) {
    if (source.has_file(written)) {
      return Error(ErrorCode::invalid_argument,
                   fmt::format("'{}' is the source itself; write the file under another name", written.string()));
    }
    for (const std::filesystem::path& input : inputs) {
      std::error_code ignored;
      if (!std::filesystem::equivalent(input, written, ignored)) continue;
      return Error(
          ErrorCode::invalid_argument,
          fmt::format("'{}' is what is read to calibrate; write the file under another name", written.string()));
    }
  }
  return {};
}

Result<void> check_source(const Checkpoint& source) {
  if (const model::PackedInfo* packed = source.packed()) {
    return source.error(ErrorCode::unsupported, fmt::format("this file is packed (from '{}'); quantize its source",
                                                            model::printable(packed->source)));
  }
  // What could not be run is refused before it is written, but for architectures of other programs.
  if (source.version() == 0) return model::check_loadable(source);
  if (source.find("general.architecture") == nullptr) return {};
  auto loadable = model::check_loadable(source);
  if (!loadable && loadable.error().code() != ErrorCode::unsupported) return loadable;
  return {};
}

void warn_of_second_rounding(const Checkpoint& source, DType type) {
  const auto rounded = std::find_if(source.tensors().begin(), source.tensors().end(), [type](const GgufTensor& tensor) {
    return is_matrix(tensor) && tensor::info(tensor.type).block_elements > 1 && tensor.type != type;
  });
  if (rounded == source.tensors().end()) return;
  base::log::warn("{}: {} is quantised already ({}); rounding it again loses more than rounding the original would",
                  source.path().string(), rounded->title(), tensor::info(rounded->type).name);
}

// Reads bytes of a source from its files, not where they are mapped: a page that is touched there brings much around it
// along, which stays, of every tensor.
class SampleReader {
 public:
  explicit SampleReader(const Checkpoint& source) {
    for (const model::CheckpointFile& file : source.files()) {
      if (file.map != nullptr)
        files_.push_back({file.map->bytes(), ::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)});
    }
  }
  SampleReader(const SampleReader&) = delete;
  SampleReader& operator=(const SampleReader&) = delete;
  ~SampleReader() {
    for (const File& file : files_) {
      if (file.fd >= 0) ::close(file.fd);
    }
  }

  // `data` themselves where they are in memory, or cannot be read otherwise. Until the next call.
  std::span<const std::byte> read(std::span<const std::byte> data) {
    const std::less_equal<> before;
    for (const File& file : files_) {
      const std::byte* end = file.bytes.data() + file.bytes.size();
      if (!before(file.bytes.data(), data.data()) || !before(data.data() + data.size(), end)) continue;
      buffer_.resize(data.size());
      const auto got = base::read_at(file.fd, buffer_, static_cast<uint64_t>(data.data() - file.bytes.data()), {});
      if (got && *got == data.size()) return buffer_;
    }
    return data;
  }

 private:
  struct File {
    std::span<const std::byte> bytes;  // as it is mapped
    int fd;
  };
  std::vector<File> files_;
  std::vector<std::byte> buffer_;
};

}  // namespace

uint64_t fingerprint_of(const Checkpoint& source) {
  constexpr size_t looked_at = 4096;
  SampleReader reader(source);
  std::string text;
  for (const model::CheckpointFile& file : source.files()) {
    struct stat status {};
    if (::stat(file.path.c_str(), &status) != 0) continue;
    text += fmt::format("{} {} {}.{}\n", file.bytes, status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  }
  const auto look_at = [&](std::span<const std::byte> data) {
    const size_t some = std::min(looked_at, data.size());
    const uint64_t first = base::checksum(reader.read(data.first(some)));
    const uint64_t last = base::checksum(reader.read(data.last(some)));
    text += fmt::format(" {:016x} {:016x}", first, last);
  };
  for (const GgufTensor& tensor : source.tensors()) {
    text += fmt::format("\n{} {} {}", tensor.name, tensor.shape_text(), tensor::info(tensor.type).name);
    look_at(tensor.data);
    for (const std::span<const std::byte> piece : tensor.more_data)
      look_at(piece);
  }
  return base::checksum(std::as_bytes(std::span(text)));
}

uint64_t fingerprint_of(const Checkpoint& source, const QuantizeOptions& options, std::string_view version) {
  const bool calibrated = options.calibration != nullptr || options.calibration_fingerprint != 0;
  const std::string text = fmt::format("{} {:016x} {} {} {} {:016x} {} {}", version, fingerprint_of(source),
                                       options.bits, options.per_channel, calibrated, options.calibration_fingerprint,
                                       calibrated && options.smooth, calibrated && options.compensate);
  return base::checksum(std::as_bytes(std::span(text)));
}

Result<std::set<std::string, std::less<>>> compensated_tensors(const Checkpoint& source,
                                                               const QuantizeOptions& options) {
  return Quantizer(source, options).plan_compensated();
}

Result<void> check_quantization(const Checkpoint& source, const std::filesystem::path& path,
                                const QuantizeOptions& options) {
  TM_TRY(const std::filesystem::path target, model::target_of(path));
  TM_CHECK(check_source(source));
  TM_CHECK(check_target(source, target, options.inputs));
  if (options.calibration_fingerprint != 0) TM_CHECK(check_calibration(source));
  return Quantizer(source, options).check(target);
}

Result<QuantizeSummary> quantize_model(const Checkpoint& source, const std::filesystem::path& path,
                                       const QuantizeOptions& options) {
  TM_TRY(const std::filesystem::path target, model::target_of(path));
  TM_CHECK(check_source(source));
  TM_CHECK(check_target(source, target, options.inputs));
  warn_of_second_rounding(source, options.type);
  return Quantizer(source, options).run(target);
}

}  // namespace tidemill::quantize
