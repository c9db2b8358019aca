#include "model/tensor_loader.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "base/log.hpp"
#include "model/finite.hpp"
#include "model/packed_file.hpp"

namespace tidemill::model {

using base::Error;
using base::ErrorCode;
using base::Result;
using Matrices = TensorLoader::Matrices;

namespace {

// Work for all threads, where there is so much of it.
constexpr size_t kWorthAll = size_t{4} << 20;

// Bytes of a tensor that are looked at before they are released: few beside a matrix, many beside what that costs.
constexpr auto kCheckedTogether = static_cast<int64_t>(2 * kWorthAll);

bool is_left_out(const Checkpoint& file, const std::string& name, Presence presence) {
  return presence == Presence::absent || (presence == Presence::optional && file.find_tensor(name) == nullptr);
}

Result<base::Buffer> dequantized(tensor::DType type, std::span<const std::byte> bytes, int64_t elements) {
  TM_TRY(base::Buffer plain, base::Buffer::allocate(static_cast<size_t>(elements) * sizeof(float)));
  tensor::dequantize(type, bytes.data(), elements, plain.as<float>());
  return plain;
}

}  // namespace

TensorLoader::TensorLoader(const Checkpoint& file, const HyperParameters& hyper, std::string numbers,
                           tensor::Device* device, LoadOptions options)
    : file_(file),
      hyper_(hyper),
      numbers_(std::move(numbers)),
      device_(device),
      options_(std::move(options)),
      release_([&file](std::span<const std::byte> read) { file.release(read); }),
      total_(file.tensor_bytes()) {}

Result<void> TensorLoader::verify_vectors() const {
  if (file_.packed() == nullptr) return {};
  base::PiecewiseChecksum sum;
  for (const GgufTensor& tensor : file_.tensors()) {
    if (tensor.panels) continue;
    sum.add(tensor.data);
    if (sum.finish() != tensor.checksum) return damaged(tensor, "its data do not have the checksum that was written");
  }
  return {};
}

Result<std::unique_ptr<tensor::Weight>> TensorLoader::matrix(const std::string& name, int64_t rows, int64_t cols) {
  TM_TRY(const GgufTensor* tensor, require(name + ".weight"));
  if (tensor->cols() != cols || tensor->shape[1] != rows || tensor->rows() != rows) {
    return wrong_shape(*tensor, fmt::format("[{}, {}]", cols, rows));
  }
  if (only_checks()) return std::unique_ptr<tensor::Weight>();
  TM_CHECK(check_cancelled());
  TM_TRY(const auto bytes, read(*tensor));
  if (!tensor->panels) TM_CHECK(check_numbers(*tensor, bytes));
  TM_TRY(auto weight, load_one(*tensor, bytes, tensor->checksum, rows, cols));
  finish(*tensor);
  return weight;
}

Result<Matrices> TensorLoader::matrices(const std::string& name, int64_t count, int64_t rows, int64_t cols) {
  Matrices weights;
  TM_TRY(const GgufTensor* tensor, require(name + ".weight"));
  if (tensor->shape != std::array<int64_t, 4>{cols, rows, count, 1}) {
    return wrong_shape(*tensor, fmt::format("[{}, {}, {}]", cols, rows, count));
  }
  if (only_checks()) return weights;
  TM_CHECK(check_cancelled());
  TM_TRY(const auto bytes, read(*tensor));
  if (tensor->panels) {
    TM_CHECK(check_panels(*tensor));
    const size_t each = bytes.size() / static_cast<size_t>(count);
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
      TM_TRY(auto weight, load_one(*tensor, bytes.subspan(i * each, each), std::nullopt, rows, cols));
      weights.push_back(std::move(weight));
    }
  } else {
    TM_CHECK(check_numbers(*tensor, bytes));
    TM_TRY(weights, load_together(*tensor, tensor->type, bytes, count, rows, cols));
    for (const auto& weight : weights)
      add(*tensor, *weight);
  }
  finish(*tensor);
  return weights;
}

Result<std::vector<float>> TensorLoader::vector(const std::string& name, int64_t elements, Presence presence) {
  if (is_left_out(file_, name, presence)) return std::vector<float>();
  TM_TRY(const GgufTensor* tensor, require(name));
  if (tensor->cols() != elements || tensor->rows() != 1) return wrong_shape(*tensor, fmt::format("[{}]", elements));
  if (tensor->panels) return packed_as_matrix(*tensor);
  if (only_checks()) return std::vector<float>();
  TM_TRY(const auto bytes, file_.read(*tensor, made_));
  TM_CHECK(check_numbers(*tensor, bytes));
  std::vector<float> values = read_vector(tensor->type, bytes.data(), elements);
  finish(*tensor);
  return values;
}

Result<std::vector<std::vector<float>>> TensorLoader::vectors(const std::string& name, int64_t count, int64_t elements,
                                                              Presence presence) {
  std::vector<std::vector<float>> parts(static_cast<size_t>(count));
  if (is_left_out(file_, name, presence)) return parts;
  TM_TRY(const GgufTensor* tensor, require(name));
  if (tensor->shape != std::array<int64_t, 4>{elements, count, 1, 1}) {
    return wrong_shape(*tensor, fmt::format("[{}, {}]", elements, count));
  }
  if (tensor->panels) return packed_as_matrix(*tensor);
  if (only_checks()) return std::vector<std::vector<float>>();
  TM_TRY(const auto bytes, file_.read(*tensor, made_));
  TM_CHECK(check_numbers(*tensor, bytes));
  const int64_t row_bytes = tensor::row_bytes(tensor->type, elements);
  for (size_t i = 0; i < parts.size(); ++i)
    parts[i] = read_vector(tensor->type, bytes.data() + static_cast<int64_t>(i) * row_bytes, elements);
  finish(*tensor);
  return parts;
}

Result<Projection> TensorLoader::projection(const std::string& name, int64_t rows, int64_t cols, Presence bias) {
  Projection projection;
  TM_TRY(projection.weight, matrix(name, rows, cols));
  TM_TRY(projection.bias, vector(name + ".bias", rows, bias));
  return projection;
}

Result<TensorLoader::Source> TensorLoader::source(const std::string& name, int64_t rows, int64_t cols) {
  TM_TRY(const GgufTensor* tensor, require(name + ".weight"));
  if (tensor->cols() != cols || tensor->shape[1] != rows || tensor->rows() != rows) {
    return wrong_shape(*tensor, fmt::format("[{}, {}]", cols, rows));
  }
  if (tensor->panels) {
    return with_packing_advice(file_.error(ErrorCode::corrupt, fmt::format("{} is packed", tensor->title())));
  }
  if (only_checks()) return Source{tensor, {}};
  TM_CHECK(check_cancelled());
  TM_TRY(const auto bytes, read(*tensor));
  TM_CHECK(check_numbers(*tensor, bytes));
  return Source{tensor, bytes};
}

Result<Matrices> TensorLoader::made_of(const Source& source, tensor::DType type, std::span<const std::byte> bytes,
                                       int64_t count, int64_t rows, int64_t cols) {
  TM_TRY(Matrices weights, load_together(*source.tensor, type, bytes, count, rows, cols));
  for (const auto& weight : weights)
    bytes_ += weight->bytes();
  return weights;
}

void TensorLoader::complete() const {
  if (only_checks()) return;
  if (options_.on_progress) options_.on_progress(total_, total_);
  warn_of_unused();
}

std::shared_ptr<const base::MappedFile> TensorLoader::mapping() const {
  return file_.packed() == nullptr ? nullptr : file_.mapping();
}

Result<const GgufTensor*> TensorLoader::require(const std::string& name) const {
  if (const GgufTensor* tensor = file_.find_tensor(name)) return tensor;
  return file_.error(ErrorCode::not_found,
                     fmt::format("tensor '{}' is missing, which architecture '{}' with {} layers needs", name,
                                 hyper_.architecture, hyper_.layers));
}

Error TensorLoader::wrong_shape(const GgufTensor& tensor, std::string_view wanted) const {
  return file_.error(ErrorCode::corrupt,
                     fmt::format("{} has shape {}, but {} {} ({})", tensor.title(), tensor.shape_text(),
                                 file_.version() == 0 ? "config.json wants" : "the metadata want", wanted, numbers_));
}

Error TensorLoader::damaged(const GgufTensor& tensor, std::string_view how) const {
  return with_packing_advice(
      file_.error(ErrorCode::corrupt, fmt::format("tensor '{}' is damaged: {}", printable(tensor.name), how)));
}

Error TensorLoader::packed_as_matrix(const GgufTensor& tensor) const {
  return file_.error(ErrorCode::corrupt, fmt::format("{} is packed as a matrix", tensor.title()));
}

Error TensorLoader::not_loaded(const GgufTensor& tensor, const Error& reason) const {
  if (tensor.panels && reason.code() == ErrorCode::corrupt) return damaged(tensor, reason.message());
  return file_.error(reason.code(), fmt::format("cannot load {}: {}", tensor.title(), reason.to_string()));
}

Result<void> TensorLoader::check_cancelled() const {
  if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
  return {};
}

Result<void> TensorLoader::check_panels(const GgufTensor& tensor) {
  const auto checksum = [&] {
    if (base::ThreadTeam* team = team_for(tensor.data)) return base::piecewise_checksum(tensor.data, *team);
    base::PiecewiseChecksum sum;
    sum.add(tensor.data);
    return sum.finish();
  };
  if (checksum() == tensor.checksum) return {};
  return damaged(tensor, "its data do not have the checksum that they were written with");
}

Result<std::span<const std::byte>> TensorLoader::read(const GgufTensor& tensor) {
  TM_TRY(const auto bytes, file_.read(tensor, made_));
  if (tensor.make) file_.release(tensor);  // what it was made of
  return bytes;
}

Result<void> TensorLoader::check_numbers(const GgufTensor& tensor, std::span<const std::byte> bytes) {
  const int64_t row_bytes = tensor::row_bytes(tensor.type, tensor.cols());
  const int64_t step = std::max<int64_t>(1, kCheckedTogether / row_bytes);
  for (int64_t row = 0; row < tensor.rows(); row += step) {
    const int64_t rows = std::min(step, tensor.rows() - row);
    const auto slice = bytes.subspan(static_cast<size_t>(row * row_bytes), static_cast<size_t>(rows * row_bytes));
    TM_CHECK(check_finite(file_, tensor, slice, row * tensor.cols(), team_for(slice)));
    if (file_.packed() == nullptr) file_.release(bytes.first(static_cast<size_t>((row + rows) * row_bytes)));
  }
  return {};
}

base::ThreadTeam* TensorLoader::team_for(std::span<const std::byte> bytes) {
  if (options_.threads <= 1 || bytes.size() < kWorthAll) return nullptr;
  if (!team_) team_.emplace(options_.threads);
  return &*team_;
}

Result<std::unique_ptr<tensor::Weight>> TensorLoader::load_one(const GgufTensor& tensor,
                                                               std::span<const std::byte> bytes,
                                                               std::optional<uint64_t> checksum, int64_t rows,
                                                               int64_t cols) {
  auto weight = [&]() -> Result<std::unique_ptr<tensor::Weight>> {
    if (tensor.panels) return device_->load_panels(tensor.type, rows, cols, bytes, checksum);
    if (!options_.dequantize) return device_->load_weight(tensor.type, rows, cols, bytes, release_);
    TM_TRY(const base::Buffer plain, dequantized(tensor.type, bytes, rows * cols));
    return device_->load_weight(tensor::DType::f32, rows, cols, {plain.data(), plain.size()});
  }();
  if (!weight) return not_loaded(tensor, weight.error());
  add(tensor, **weight);
  return weight;
}

Result<Matrices> TensorLoader::load_together(const GgufTensor& tensor, tensor::DType type,
                                             std::span<const std::byte> bytes, int64_t count, int64_t rows,
                                             int64_t cols) {
  auto weights = [&]() -> Result<Matrices> {
    if (!options_.dequantize) return device_->load_weights(type, count, rows, cols, bytes, release_);
    TM_TRY(const base::Buffer plain, dequantized(type, bytes, count * rows * cols));
    return device_->load_weights(tensor::DType::f32, count, rows, cols, {plain.data(), plain.size()});
  }();
  if (!weights) return not_loaded(tensor, weights.error());
  return weights;
}

std::vector<float> TensorLoader::read_vector(tensor::DType type, const std::byte* from, int64_t elements) {
  std::vector<float> values(static_cast<size_t>(elements));
  tensor::dequantize(type, from, elements, values.data());
  bytes_ += values.size() * sizeof(float);
  return values;
}

void TensorLoader::add(const GgufTensor& tensor, const tensor::Weight& weight) {
  bytes_ += weight.bytes();
  if (options_.on_matrix) options_.on_matrix(tensor.name, weight);
}

void TensorLoader::finish(const GgufTensor& tensor) {
  if (file_.packed() == nullptr) file_.release(tensor);
  ++used_;
  done_ += tensor.bytes();
  if (options_.on_progress) options_.on_progress(done_, total_);
}

// A tensor that nothing reads means that the file asks for something which is not computed.
void TensorLoader::warn_of_unused() const {
  size_t known = used_;
  // Read with the hyper-parameters.
  for (const std::string_view name : {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}) {
    if (file_.find_tensor(name) != nullptr) ++known;
  }
  if (file_.tensors().size() > known) {
    base::log::warn("{}: {} of {} tensors are not part of architecture '{}' and are left out", file_.path().string(),
                    file_.tensors().size() - known, file_.tensors().size(), hyper_.architecture);
  }
}

std::vector<Projection> projections(Matrices matrices) {
  std::vector<Projection> all;
  all.reserve(matrices.size());
  for (auto& weight : matrices)
    all.push_back({std::move(weight), {}});
  return all;
}

}  // namespace tidemill::model
