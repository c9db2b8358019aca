#include "model/weights.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "base/log.hpp"
#include "base/memory.hpp"
#include "base/thread_team.hpp"
#include "model/finite.hpp"
#include "model/latent_expansion.hpp"
#include "model/packed_file.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

// What loading a decoder and an encoder have in common.
class Loader {
 public:
  // Without a device, loading only checks. `numbers` are those that shapes follow from, for errors.
  Loader(const Checkpoint& file, const HyperParameters& hyper, std::string numbers, tensor::Device* device,
         const LoadOptions& options)
      : hyper_(hyper),
        file_(file),
        numbers_(std::move(numbers)),
        device_(device),
        on_progress_(options.on_progress),
        cancelled_(options.cancelled),
        dequantize_(options.dequantize),
        threads_(std::max(1, options.threads)),
        on_matrix_(options.on_matrix),
        total_(file.tensor_bytes()) {}

  // A packed file's tensors that are no matrices are small, and some are read with the hyper-parameters.
  Result<void> verify_vectors() const {
    if (file_.packed() == nullptr) return {};
    base::PiecewiseChecksum sum;
    for (const GgufTensor& tensor : file_.tensors()) {
      if (tensor.panels) continue;
      sum.add(tensor.data);
      if (sum.finish() != tensor.checksum) return damaged(tensor, "its data do not have the checksum that was written");
    }
    return {};
  }

 protected:
  bool only_checks() const { return device_ == nullptr; }

  // `weights` are all there.
  template <typename All>
  void complete(All& weights) const {
    if (only_checks()) return;
    weights.bytes = bytes_;
    if (file_.packed() != nullptr) weights.mapping = file_.mapping();
    if (on_progress_) on_progress_(total_, total_);
    warn_of_unused();
  }

  bool has(const std::string& name) const { return file_.find_tensor(name) != nullptr; }

  Error damaged(const GgufTensor& tensor, std::string_view how) const {
    return with_packing_advice(
        file_.error(ErrorCode::corrupt, fmt::format("tensor '{}' is damaged: {}", printable(tensor.name), how)));
  }

  Error wrong_shape(const GgufTensor& tensor, std::string_view wanted) const {
    return file_.error(ErrorCode::corrupt,
                       fmt::format("{} has shape {}, but {} {} ({})", tensor.title(), tensor.shape_text(),
                                   file_.version() == 0 ? "config.json wants" : "the metadata want", wanted, numbers_));
  }

  Result<const GgufTensor*> require(const std::string& name) const {
    if (const GgufTensor* tensor = file_.find_tensor(name)) return tensor;
    return file_.error(ErrorCode::not_found,
                       fmt::format("tensor '{}' is missing, which architecture '{}' with {} layers needs", name,
                                   hyper_.architecture, hyper_.layers));
  }

  Result<std::unique_ptr<tensor::Weight>> matrix(const std::string& name, int64_t rows, int64_t cols) {
    TM_TRY(const GgufTensor* tensor, require(name + ".weight"));
    if (tensor->cols() != cols || tensor->shape[1] != rows || tensor->rows() != rows) {
      return wrong_shape(*tensor, fmt::format("[{}, {}]", cols, rows));
    }
    if (device_ == nullptr) return std::unique_ptr<tensor::Weight>();
    if (cancelled_ && cancelled_()) return Error(ErrorCode::cancelled, "interrupted");
    TM_TRY(const auto bytes, file_.read(*tensor, made_));
    if (!tensor->panels) TM_CHECK(check_numbers(*tensor, bytes));
    const std::optional<uint64_t> checksum = tensor->checksum;
    TM_TRY(auto weight, on_device(tensor, bytes, checksum, rows, cols));
    finish(*tensor);
    return weight;
  }

  // `count` matrices of one tensor, one behind the other. Empty where loading only checks.
  Result<std::vector<std::unique_ptr<tensor::Weight>>> matrices(const std::string& name, int64_t count, int64_t rows,
                                                                int64_t cols) {
    std::vector<std::unique_ptr<tensor::Weight>> weights;
    TM_TRY(const GgufTensor* tensor, require(name + ".weight"));
    if (tensor->shape != std::array<int64_t, 4>{cols, rows, count, 1}) {
      return wrong_shape(*tensor, fmt::format("[{}, {}, {}]", cols, rows, count));
    }
    if (device_ == nullptr) return weights;
    if (cancelled_ && cancelled_()) return Error(ErrorCode::cancelled, "interrupted");
    TM_TRY(const auto bytes, file_.read(*tensor, made_));
    if (tensor->panels) {
      TM_CHECK(check_panels(*tensor));
      const size_t each = bytes.size() / static_cast<size_t>(count);
      for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
        TM_TRY(auto weight, on_device(tensor, bytes.subspan(i * each, each), std::nullopt, rows, cols));
        weights.push_back(std::move(weight));
      }
    } else {
      TM_CHECK(check_numbers(*tensor, bytes));
      TM_TRY(weights, on_device_together(*tensor, bytes, count, rows, cols));
    }
    finish(*tensor);
    return weights;
  }

  // That panels of several matrices are as they were written.
  Result<void> check_panels(const GgufTensor& tensor) {
    const auto checksum = [&] {
      if (base::ThreadTeam* team = team_for(tensor.data)) return base::piecewise_checksum(tensor.data, *team);
      base::PiecewiseChecksum sum;
      sum.add(tensor.data);
      return sum.finish();
    };
    if (checksum() == tensor.checksum) return {};
    return damaged(tensor, "its data do not have the checksum that they were written with");
  }

  // A matrix of `tensor`, or a part of it that is one, from its bytes; panels are compared with `checksum`.
  Result<std::unique_ptr<tensor::Weight>> on_device(const GgufTensor* tensor, std::span<const std::byte> bytes,
                                                    std::optional<uint64_t> checksum, int64_t rows, int64_t cols) {
    auto weight = tensor->panels ? device_->load_panels(tensor->type, rows, cols, bytes, checksum)
                  : dequantize_  ? load_dequantized(tensor->type, bytes, rows, cols)
                                 : device_->load_weight(tensor->type, rows, cols, bytes);
    if (!weight) return not_loaded(*tensor, weight.error());
    add(*tensor, **weight);
    return weight;
  }

  // All matrices of `tensor`, which are no panels.
  Result<std::vector<std::unique_ptr<tensor::Weight>>> on_device_together(const GgufTensor& tensor,
                                                                          std::span<const std::byte> bytes,
                                                                          int64_t count, int64_t rows, int64_t cols) {
    TM_TRY(auto weights, load_together(tensor, tensor.type, bytes, count, rows, cols));
    for (const auto& weight : weights)
      add(tensor, *weight);
    return weights;
  }

  // `count` matrices that were made of `tensor`, or are its own.
  Result<std::vector<std::unique_ptr<tensor::Weight>>> load_together(const GgufTensor& tensor, tensor::DType type,
                                                                     std::span<const std::byte> bytes, int64_t count,
                                                                     int64_t rows, int64_t cols) {
    auto weights = [&]() -> Result<std::vector<std::unique_ptr<tensor::Weight>>> {
      if (!dequantize_) return device_->load_weights(type, count, rows, cols, bytes);
      TM_TRY(const base::Buffer plain, dequantized(type, bytes, count * rows * cols));
      return device_->load_weights(tensor::DType::f32, count, rows, cols, {plain.data(), plain.size()});
    }();
    if (!weights) return not_loaded(tensor, weights.error());
    return weights;
  }

  // The heads' own matrices, from the one that older files have them in. That one is none by which anything is
  // multiplied: nobody is told of it.
  Result<void> split_expansion(const std::string& name, LatentWeights& latent) {
    const LatentShape& shape = hyper_.latent;
    TM_TRY(const GgufTensor* tensor, require(name + ".weight"));
    const LatentExpansion expansion(tensor->type, hyper_.heads, shape);
    if (tensor->cols() != shape.rank || tensor->shape[1] != expansion.rows() || tensor->rows() != expansion.rows()) {
      return wrong_shape(*tensor, fmt::format("[{}, {}]", shape.rank, expansion.rows()));
    }
    if (tensor->panels) {
      return with_packing_advice(file_.error(ErrorCode::corrupt, fmt::format("{} is packed", tensor->title())));
    }
    if (device_ == nullptr) return {};
    if (cancelled_ && cancelled_()) return Error(ErrorCode::cancelled, "interrupted");
    TM_TRY(const auto bytes, file_.read(*tensor, made_));
    TM_CHECK(check_numbers(*tensor, bytes));
    const auto load = [&](tensor::DType type, size_t size, auto write, int64_t rows,
                          int64_t cols) -> Result<std::vector<Projection>> {
      TM_TRY(base::Buffer part, base::Buffer::allocate(size));
      write({part.data(), part.size()});
      TM_TRY(auto weights, load_together(*tensor, type, {part.data(), part.size()}, hyper_.heads, rows, cols));
      for (const auto& weight : weights)
        bytes_ += weight->bytes();
      return projections(std::move(weights));
    };
    TM_TRY(latent.key_up,
           load(
               expansion.key_type(), expansion.key_bytes(),
               [&](std::span<std::byte> to) { expansion.write_keys(bytes, to); }, shape.rank, shape.key_dim));
    TM_TRY(latent.value_up,
           load(
               tensor->type, expansion.value_bytes(),
               [&](std::span<std::byte> to) { expansion.write_values(bytes, to); }, shape.value_dim, shape.rank));
    finish(*tensor);
    return {};
  }

  static std::vector<Projection> projections(std::vector<std::unique_ptr<tensor::Weight>> weights) {
    std::vector<Projection> all;
    all.reserve(weights.size());
    for (auto& weight : weights)
      all.push_back({std::move(weight), {}});
    return all;
  }

  Error not_loaded(const GgufTensor& tensor, const Error& reason) const {
    if (tensor.panels && reason.code() == ErrorCode::corrupt) return damaged(tensor, reason.message());
    return file_.error(reason.code(), fmt::format("cannot load {}: {}", tensor.title(), reason.to_string()));
  }

  // `weight` is a matrix of `tensor`, and there.
  void add(const GgufTensor& tensor, const tensor::Weight& weight) {
    bytes_ += weight.bytes();
    if (on_matrix_) on_matrix_(tensor.name, weight);
  }

  Result<std::unique_ptr<tensor::Weight>> load_dequantized(tensor::DType type, std::span<const std::byte> bytes,
                                                           int64_t rows, int64_t cols) {
    TM_TRY(const base::Buffer plain, dequantized(type, bytes, rows * cols));
    return device_->load_weight(tensor::DType::f32, rows, cols, {plain.data(), plain.size()});
  }

  static Result<base::Buffer> dequantized(tensor::DType type, std::span<const std::byte> bytes, int64_t elements) {
    TM_TRY(base::Buffer plain, base::Buffer::allocate(static_cast<size_t>(elements) * sizeof(float)));
    tensor::dequantize(type, bytes.data(), elements, plain.as<float>());
    return plain;
  }

  Result<std::vector<float>> vector(const std::string& name, int64_t elements) {
    TM_TRY(const GgufTensor* tensor, require(name));
    if (tensor->cols() != elements || tensor->rows() != 1) return wrong_shape(*tensor, fmt::format("[{}]", elements));
    if (tensor->panels) return packed_as_matrix(*tensor);
    if (device_ == nullptr) return std::vector<float>();
    TM_TRY(const auto bytes, file_.read(*tensor, made_));
    TM_CHECK(check_numbers(*tensor, bytes));
    std::vector<float> values(static_cast<size_t>(elements));
    tensor::dequantize(tensor->type, bytes.data(), elements, values.data());
    bytes_ += values.size() * sizeof(float);
    finish(*tensor);
    return values;
  }

  // `count` vectors of one tensor, one behind the other. Empty ones where it is absent, none where loading only checks.
  Result<std::vector<std::vector<float>>> vectors(const std::string& name, int64_t count, int64_t elements,
                                                  Presence presence) {
    std::vector<std::vector<float>> parts(static_cast<size_t>(count));
    if (presence == Presence::absent || (presence == Presence::optional && !has(name))) return parts;
    TM_TRY(const GgufTensor* tensor, require(name));
    if (tensor->shape != std::array<int64_t, 4>{elements, count, 1, 1}) {
      return wrong_shape(*tensor, fmt::format("[{}, {}]", elements, count));
    }
    if (tensor->panels) return packed_as_matrix(*tensor);
    if (device_ == nullptr) return std::vector<std::vector<float>>();
    TM_TRY(const auto bytes, file_.read(*tensor, made_));
    TM_CHECK(check_numbers(*tensor, bytes));
    const int64_t row_bytes = tensor::row_bytes(tensor->type, elements);
    for (size_t i = 0; i < parts.size(); ++i) {
      parts[i].resize(static_cast<size_t>(elements));
      tensor::dequantize(tensor->type, bytes.data() + static_cast<int64_t>(i) * row_bytes, elements, parts[i].data());
      bytes_ += parts[i].size() * sizeof(float);
    }
    finish(*tensor);
    return parts;
  }

  Error packed_as_matrix(const GgufTensor& tensor) const {
    return file_.error(ErrorCode::corrupt, fmt::format("{} is packed as a matrix", tensor.title()));
  }

  Result<std::vector<float>> maybe_vector(const std::string& name, int64_t elements, Presence presence) {
    if (presence == Presence::absent || (presence == Presence::optional && !has(name))) return std::vector<float>();
    return vector(name, elements);
  }

  Result<Projection> projection(const std::string& name, int64_t rows, int64_t cols, Presence bias) {
    Projection projection;
    TM_TRY(projection.weight, matrix(name, rows, cols));
    TM_TRY(projection.bias, maybe_vector(name + ".bias", rows, bias));
    return projection;
  }

  const HyperParameters& hyper_;

 private:
  Result<void> check_numbers(const GgufTensor& tensor, std::span<const std::byte> bytes) {
    return check_finite(file_, tensor, bytes, 0, team_for(bytes));
  }

  // All threads look at large tensors; for small ones, threads that are not there yet would cost more than they give:
  // null.
  base::ThreadTeam* team_for(std::span<const std::byte> bytes) {
    constexpr size_t large = size_t{4} << 20;
    if (threads_ == 1 || bytes.size() < large) return nullptr;
    if (!team_) team_.emplace(threads_);
    return &*team_;
  }

  void finish(const GgufTensor& tensor) {
    if (file_.packed() == nullptr) file_.release(tensor);
    ++used_;
    done_ += tensor.bytes();
    if (on_progress_) on_progress_(done_, total_);
  }

  // A tensor that nothing reads means that the file asks for something which this decoder does not compute.
  void warn_of_unused() const {
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

  const Checkpoint& file_;
  std::string numbers_;
  tensor::Device* device_;
  const std::function<void(size_t, size_t)>& on_progress_;
  const std::function<bool()>& cancelled_;
  bool dequantize_;
  int threads_;
  std::optional<base::ThreadTeam> team_;
  const std::function<void(std::string_view, const tensor::Weight&)>& on_matrix_;
  base::Buffer made_;  // of the tensor that is being loaded, where the file has it in another form
  size_t total_;
  size_t done_ = 0;
  size_t used_ = 0;
  size_t bytes_ = 0;
};

std::string numbers_of(const HyperParameters& hyper) {
  return fmt::format("width {}, {} heads and {} key/value heads of {}, feed-forward {}, vocabulary {}", hyper.width,
                     hyper.heads, hyper.kv_heads, hyper.head_dim, hyper.feed_forward, hyper.vocabulary);
}

std::string numbers_of(const EncoderParameters& parameters) {
  return fmt::format("{}, context {}, {} token types", numbers_of(parameters.shape), parameters.shape.context,
                     parameters.token_types);
}

class DecoderLoader final : public Loader {
 public:
  DecoderLoader(const Checkpoint& file, const Architecture& architecture, const HyperParameters& hyper,
                tensor::Device* device, const LoadOptions& options)
      : Loader(file, hyper, numbers_of(hyper), device, options),
        parts_(architecture.parts),
        names_(architecture.names) {}

  Result<Weights> load() {
    TM_TRY(Weights weights, load_tensors());
    complete(weights);
    return weights;
  }

 private:
  Result<Weights> load_tensors() {
    const int64_t width = hyper_.width;
    Weights weights;
    TM_TRY(weights.token_embedding, matrix(std::string(names_.token_embedding), hyper_.vocabulary, width));
    for (int64_t i = 0; i < hyper_.layers; ++i) {
      TM_TRY(LayerWeights layer, load_layer(i));
      if (!only_checks()) weights.layers.push_back(std::move(layer));
    }
    TM_TRY(weights.output_norm, vector(std::string(names_.output_norm) + ".weight", width));
    if (has(std::string(names_.output) + ".weight")) {
      TM_TRY(weights.output, matrix(std::string(names_.output), hyper_.vocabulary, width));
    }
    return weights;
  }

  Result<LayerWeights> load_layer(int64_t index) {
    const std::string prefix = fmt::format("blk.{}.", index);
    const int64_t width = hyper_.width;
    const int64_t q_width = hyper_.heads * hyper_.head_dim;
    const int64_t kv_width = hyper_.kv_heads * hyper_.head_dim;
    const auto name = [&](std::string_view part) { return prefix + std::string(part); };
    LayerWeights layer;
    TM_TRY(layer.attention_norm, vector(name(names_.attention_norm) + ".weight", width));
    const bool apart = parts_.apart != Presence::absent;
    if (hyper_.latent.rank > 0) {
      TM_TRY(layer.latent, load_latent(prefix));
    } else if (apart) {
      TM_TRY(layer.query, projection(name(names_.query), q_width, width, parts_.qkv_bias));
      TM_TRY(layer.key, projection(name(names_.key), kv_width, width, parts_.qkv_bias));
      TM_TRY(layer.value, projection(name(names_.value), kv_width, width, parts_.qkv_bias));
    } else {
      TM_TRY(layer.query_key_value,
             projection(name(names_.query_key_value), q_width + 2 * kv_width, width, parts_.qkv_bias));
    }
    TM_TRY(layer.query_norm, maybe_vector(name(names_.query_norm) + ".weight", hyper_.head_dim, parts_.head_norms));
    TM_TRY(layer.key_norm, maybe_vector(name(names_.key_norm) + ".weight", hyper_.head_dim, parts_.head_norms));
    TM_TRY(layer.sinks, maybe_vector(name(names_.sinks) + ".weight", hyper_.heads, parts_.sinks));
    TM_TRY(layer.attention_output,
           projection(name(names_.attention_output), width, hyper_.attended_width(), parts_.output_bias));
    TM_TRY(layer.post_attention_norm,
           maybe_vector(name(names_.post_attention_norm) + ".weight", width, parts_.post_norms));
    TM_TRY(layer.feed_forward_norm, vector(name(names_.feed_forward_norm) + ".weight", width));
    const bool mixes = hyper_.has_experts(index);
    if (mixes) {
      TM_CHECK(load_experts(prefix, layer));
    } else if (apart) {
      TM_TRY(layer.gate, projection(name(names_.gate), hyper_.feed_forward, width, parts_.feed_forward_bias));
      TM_TRY(layer.up, projection(name(names_.up), hyper_.feed_forward, width, parts_.feed_forward_bias));
    } else {
      TM_TRY(layer.gate_and_up,
             projection(name(names_.gate_and_up), 2 * hyper_.feed_forward, width, parts_.feed_forward_bias));
    }
    if (!mixes) {
      TM_TRY(layer.down, projection(name(names_.down), width, hyper_.feed_forward, parts_.feed_forward_bias));
    }
    TM_TRY(layer.post_feed_forward_norm,
           maybe_vector(name(names_.post_feed_forward_norm) + ".weight", width, parts_.post_norms));
    return layer;
  }

  Result<LatentWeights> load_latent(const std::string& prefix) {
    const LatentShape& shape = hyper_.latent;
    const int64_t heads_width = hyper_.heads * (shape.key_dim + hyper_.head_dim - shape.rank);
    const auto name = [&](std::string_view part) { return prefix + std::string(part); };
    LatentWeights latent;
    if (shape.query_rank > 0) {
      TM_TRY(latent.query_down, projection(name(names_.query_down), shape.query_rank, hyper_.width, Presence::absent));
      TM_TRY(latent.query_down_norm, vector(name(names_.query_down_norm) + ".weight", shape.query_rank));
      TM_TRY(latent.query, projection(name(names_.query_up), heads_width, shape.query_rank, Presence::absent));
    } else {
      TM_TRY(latent.query, projection(name(names_.query), heads_width, hyper_.width, Presence::absent));
    }
    TM_TRY(latent.latent, projection(name(names_.latent), hyper_.head_dim, hyper_.width, Presence::absent));
    TM_TRY(latent.norm, vector(name(names_.latent_norm) + ".weight", shape.rank));
    if (has(name(names_.latent_expansion) + ".weight")) {
      TM_CHECK(split_expansion(name(names_.latent_expansion), latent));
      return latent;
    }
    TM_TRY(auto key_up, matrices(name(names_.key_up), hyper_.heads, shape.rank, shape.key_dim));
    TM_TRY(auto value_up, matrices(name(names_.value_up), hyper_.heads, shape.value_dim, shape.rank));
    latent.key_up = projections(std::move(key_up));
    latent.value_up = projections(std::move(value_up));
    return latent;
  }

  Result<void> load_experts(const std::string& prefix, LayerWeights& layer) {
    const ExpertShape& shape = hyper_.experts;
    const int64_t width = hyper_.width;
    const auto name = [&](std::string_view part) { return prefix + std::string(part); };
    TM_TRY(layer.router, projection(name(names_.router), shape.count, width, parts_.expert_biases));
    TM_TRY(layer.expert_bias, maybe_vector(name(names_.expert_bias) + ".bias", shape.count, parts_.expert_bias));
    layer.experts.resize(only_checks() ? 0 : static_cast<size_t>(shape.count));
    TM_CHECK(load_expert_part(&Expert::gate, name(names_.expert_gate), shape.feed_forward, width, layer.experts));
    TM_CHECK(load_expert_part(&Expert::up, name(names_.expert_up), shape.feed_forward, width, layer.experts));
    TM_CHECK(load_expert_part(&Expert::down, name(names_.expert_down), width, shape.feed_forward, layer.experts));
    const int64_t shared = shape.shared_feed_forward;
    if (shared == 0) return {};
    if (parts_.shared_gate != Presence::absent) {
      TM_TRY(layer.shared_gate, projection(name(names_.shared_gate_input), 1, width, Presence::absent));
    }
    TM_TRY(layer.shared.gate, projection(name(names_.shared_gate), shared, width, Presence::absent));
    TM_TRY(layer.shared.up, projection(name(names_.shared_up), shared, width, Presence::absent));
    TM_TRY(layer.shared.down, projection(name(names_.shared_down), width, shared, Presence::absent));
    return {};
  }

  Result<void> load_expert_part(Projection Expert::*part, const std::string& name, int64_t rows, int64_t cols,
                                std::vector<Expert>& experts) {
    const int64_t count = hyper_.experts.count;
    TM_TRY(auto weights, matrices(name, count, rows, cols));
    TM_TRY(auto biases, vectors(name + ".bias", count, rows, parts_.expert_biases));
    for (size_t i = 0; i < experts.size(); ++i)
      experts[i].*part = {std::move(weights[i]), std::move(biases[i])};
    return {};
  }

  const DecoderParts& parts_;
  const TensorNames& names_;
};

class EncoderLoader final : public Loader {
 public:
  EncoderLoader(const Checkpoint& file, const EncoderArchitecture& architecture, const EncoderParameters& parameters,
                tensor::Device* device, const LoadOptions& options)
      : Loader(file, parameters.shape, numbers_of(parameters), device, options),
        names_(architecture.names),
        parameters_(parameters) {}

  Result<EncoderWeights> load() {
    TM_TRY(EncoderWeights weights, load_tensors());
    complete(weights);
    return weights;
  }

 private:
  Result<EncoderWeights> load_tensors() {
    const HyperParameters& shape = parameters_.shape;
    EncoderWeights weights;
    TM_TRY(weights.token_embedding, matrix(std::string(names_.token_embedding), shape.vocabulary, shape.width));
    TM_TRY(weights.position_embedding, matrix(std::string(names_.position_embedding), shape.context, shape.width));
    if (parameters_.token_types > 0) {
      TM_TRY(weights.type_embedding, matrix(std::string(names_.type_embedding), parameters_.token_types, shape.width));
    }
    TM_TRY(weights.embedding_norm, norm(std::string(names_.embedding_norm)));
    for (int64_t i = 0; i < shape.layers; ++i) {
      TM_TRY(EncoderLayerWeights layer, load_layer(fmt::format("blk.{}.", i)));
      if (!only_checks()) weights.layers.push_back(std::move(layer));
    }
    if (!parameters_.ranks) return weights;
    const std::string pooler(names_.pooler);
    if (has(pooler + ".weight")) {
      TM_TRY(weights.pooler, projection(pooler, shape.width, shape.width, Presence::optional));
    }
    TM_TRY(weights.score, projection(std::string(names_.score), 1, shape.width, Presence::optional));
    return weights;
  }

  Result<EncoderLayerWeights> load_layer(const std::string& prefix) {
    const HyperParameters& shape = parameters_.shape;
    const int64_t q_width = shape.heads * shape.head_dim;
    const int64_t kv_width = shape.kv_heads * shape.head_dim;
    const auto load = [&](std::string_view part, int64_t rows, int64_t cols) {
      return projection(prefix + std::string(part), rows, cols, Presence::required);
    };
    EncoderLayerWeights layer;
    TM_TRY(layer.query, load(names_.query, q_width, shape.width));
    TM_TRY(layer.key, load(names_.key, kv_width, shape.width));
    TM_TRY(layer.value, load(names_.value, kv_width, shape.width));
    TM_TRY(layer.attention_output, load(names_.attention_output, shape.width, q_width));
    TM_TRY(layer.attention_norm, norm(prefix + std::string(names_.attention_norm)));
    TM_TRY(layer.up, load(names_.up, shape.feed_forward, shape.width));
    TM_TRY(layer.down, load(names_.down, shape.width, shape.feed_forward));
    TM_TRY(layer.output_norm, norm(prefix + std::string(names_.output_norm)));
    return layer;
  }

  Result<LayerNorm> norm(const std::string& name) {
    LayerNorm norm;
    TM_TRY(norm.weight, vector(name + ".weight", parameters_.shape.width));
    TM_TRY(norm.bias, vector(name + ".bias", parameters_.shape.width));
    return norm;
  }

  const EncoderTensorNames& names_;
  const EncoderParameters& parameters_;
};

// All shapes first: a wrong file is refused before minutes of packing.
template <typename LoaderOf, typename Of, typename Parameters>
auto check_and_load(const Checkpoint& file, const Of& architecture, const Parameters& parameters,
                    tensor::Device& device, const LoadOptions& options) -> decltype(std::declval<LoaderOf>().load()) {
  TM_CHECK(check_packed_layout(file));
  if (options.dequantize && file.packed() != nullptr) {
    return file.error(ErrorCode::unsupported, "a packed file is not dequantised; load its source");
  }
  TM_CHECK(LoaderOf(file, architecture, parameters, nullptr, {}).load());
  LoaderOf loader(file, architecture, parameters, &device, options);
  TM_CHECK(loader.verify_vectors());
  return loader.load();
}

}  // namespace

tensor::Product product(const Projection& projection, tensor::Matrix y) {
  return {projection.weight.get(), projection.bias, y};
}

Result<void> check_tensors(const Checkpoint& file, const Architecture& architecture, const HyperParameters& hyper) {
  TM_CHECK(DecoderLoader(file, architecture, hyper, nullptr, {}).load());
  return {};
}

Result<Weights> load_weights(const Checkpoint& file, const Architecture& architecture, const HyperParameters& hyper,
                             tensor::Device& device, const LoadOptions& options) {
  return check_and_load<DecoderLoader>(file, architecture, hyper, device, options);
}

Result<void> check_encoder_tensors(const Checkpoint& file, const EncoderArchitecture& architecture,
                                   const EncoderParameters& parameters) {
  TM_CHECK(EncoderLoader(file, architecture, parameters, nullptr, {}).load());
  return {};
}

Result<EncoderWeights> load_encoder_weights(const Checkpoint& file, const EncoderArchitecture& architecture,
                                            const EncoderParameters& parameters, tensor::Device& device,
                                            const LoadOptions& options) {
  return check_and_load<EncoderLoader>(file, architecture, parameters, device, options);
}

}  // namespace tidemill::model
