// A device that shows what matrices are multiplied by.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tensor/device.hpp"

namespace tidemill::quantize {

// Does everything on another device, which must outlive it, and calls `watch` before each linear operation with its
// products and the input that they share, [rows][cols], which holds for the call alone. Results are the other's, bit
// for bit.
class WatchedDevice final : public tensor::Device {
 public:
  using Watch = std::function<void(std::span<const tensor::Product> products, tensor::ConstMatrix input)>;

  explicit WatchedDevice(tensor::Device& inner) : inner_(inner) {}
  void watch(Watch watch) { watch_ = std::move(watch); }

  std::string description() const override { return inner_.description(); }
  tensor::ActivationScheme activations() const override { return inner_.activations(); }
  base::Result<std::unique_ptr<tensor::Weight>> load_weight(tensor::DType type, int64_t rows, int64_t cols,
                                                            std::span<const std::byte> source,
                                                            const tensor::SourceRelease& release) override {
    return inner_.load_weight(type, rows, cols, source, release);
  }
  base::Result<std::vector<std::unique_ptr<tensor::Weight>>> load_weights(
      tensor::DType type, int64_t count, int64_t rows, int64_t cols, std::span<const std::byte> source,
      const tensor::SourceRelease& release) override {
    return inner_.load_weights(type, count, rows, cols, source, release);
  }
  base::Result<std::unique_ptr<tensor::Weight>> load_panels(tensor::DType type, int64_t rows, int64_t cols,
                                                            std::span<const std::byte> panels,
                                                            std::optional<uint64_t> checksum) override {
    return inner_.load_panels(type, rows, cols, panels, checksum);
  }
  base::Result<std::unique_ptr<tensor::KvCache>> make_kv_cache(const tensor::KvShape& shape) override {
    return inner_.make_kv_cache(shape);
  }
  void embed(const tensor::Weight& table, std::span<const int32_t> tokens, tensor::Matrix out) override {
    inner_.embed(table, tokens, out);
  }
  void linear(std::span<const tensor::Product> products, const tensor::LinearInput& input) override;
  void rms_norm(tensor::ConstMatrix x, std::span<const float> weight, float epsilon, tensor::Matrix y) override {
    inner_.rms_norm(x, weight, epsilon, y);
  }
  void layer_norm(tensor::ConstMatrix x, std::span<const float> weight, std::span<const float> bias, float epsilon,
                  tensor::Matrix y) override {
    inner_.layer_norm(x, weight, bias, epsilon, y);
  }
  void gelu(tensor::Matrix x) override { inner_.gelu(x); }
  void tanh(tensor::Matrix x) override { inner_.tanh(x); }
  void rope(const tensor::Rope& rope, std::span<const int32_t> positions, int64_t head_dim, tensor::Matrix x) override {
    inner_.rope(rope, positions, head_dim, x);
  }
  void copy(tensor::ConstMatrix x, tensor::Matrix y) override { inner_.copy(x, y); }
  void add(tensor::Matrix x, tensor::ConstMatrix y) override { inner_.add(x, y); }
  void scale(tensor::Matrix x, float factor) override { inner_.scale(x, factor); }
  void soft_cap(tensor::Matrix x, float cap) override { inner_.soft_cap(x, cap); }
  void sigmoid(tensor::Matrix x) override { inner_.sigmoid(x); }
  void choose_experts(tensor::ConstMatrix logits, const tensor::ExpertRule& rule, std::span<int32_t> experts,
                      std::span<float> weights) override {
    inner_.choose_experts(logits, rule, experts, weights);
  }
  void gather(tensor::ConstMatrix x, std::span<const int32_t> rows, tensor::Matrix y) override {
    inner_.gather(x, rows, y);
  }
  // Not shown: what many experts are multiplied by says little of each.
  void add_experts(std::span<const tensor::ExpertMatrices> experts, tensor::Activation activation,
                   tensor::ConstMatrix x, std::span<const int32_t> chosen, std::span<const float> weights,
                   tensor::Matrix out) override {
    inner_.add_experts(experts, activation, x, chosen, weights, out);
  }
  void add_scaled(tensor::Matrix x, tensor::ConstMatrix y, std::span<const float> factors) override {
    inner_.add_scaled(x, y, factors);
  }
  void store_kv(tensor::KvCache& cache, int64_t layer, const tensor::KvRows& rows, tensor::ConstMatrix keys,
                tensor::ConstMatrix values) override {
    inner_.store_kv(cache, layer, rows, keys, values);
  }
  void attention(const tensor::KvCache& cache, int64_t layer, const tensor::KvRows& rows,
                 const tensor::AttentionRule& rule, tensor::ConstMatrix q, tensor::Matrix out) override {
    inner_.attention(cache, layer, rows, rule, q, out);
  }

 private:
  // The input written out, in made_ where it is made on the way.
  tensor::ConstMatrix written_out(const tensor::LinearInput& input);

  tensor::Device& inner_;
  Watch watch_;
  std::vector<float> made_;
};

}  // namespace tidemill::quantize
