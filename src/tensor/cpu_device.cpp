#include "tensor/cpu_device.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <string>
#include <vector>

#include "base/checksum.hpp"
#include "tensor/attention_runner.hpp"
#include "tensor/encoder_rows.hpp"
#include "tensor/expert_rows.hpp"
#include "tensor/expert_runner.hpp"
#include "tensor/kernels.hpp"
#include "tensor/kv_cache.hpp"
#include "tensor/linear_runner.hpp"
#include "tensor/packed_weight.hpp"
#include "tensor/rope_table.hpp"

namespace tidemill::tensor {
namespace {

// Work below this many element operations is not worth waking another thread for (a region costs a few microseconds).
constexpr int64_t kWorthWaking = 32 * 1024;

class CpuDevice final : public Device {
 public:
  CpuDevice(Isa isa, int threads, ActivationScheme activations)
      : kernels_(kernels_for(isa)),
        activations_(activations),
        team_(threads),
        linear_(kernels_, activations, team_),
        experts_(kernels_, activations, team_),
        attention_(kernels_, team_) {}

  std::string description() const override {
    return "CPU " + std::string(to_string(kernels_.isa)) + ", " + std::to_string(team_.size()) +
           (team_.size() == 1 ? " thread" : " threads") +
           (activations_ == ActivationScheme::f32 ? ", F32 activations" : "");
  }
  ActivationScheme activations() const override { return activations_; }

  base::Result<std::unique_ptr<Weight>> load_weight(DType type, int64_t rows, int64_t cols,
                                                    std::span<const std::byte> source,
                                                    const SourceRelease& release) override {
    return PackedWeight::pack(type, rows, cols, source, team_, release);
  }

  base::Result<std::vector<std::unique_ptr<Weight>>> load_weights(DType type, int64_t count, int64_t rows, int64_t cols,
                                                                  std::span<const std::byte> source,
                                                                  const SourceRelease& release) override {
    return PackedWeight::pack_all(type, count, rows, cols, source, team_, release);
  }

  base::Result<std::unique_ptr<Weight>> load_panels(DType type, int64_t rows, int64_t cols,
                                                    std::span<const std::byte> panels,
                                                    std::optional<uint64_t> checksum) override {
    TM_TRY(std::unique_ptr<Weight> weight, PackedWeight::view(type, rows, cols, panels));
    if (!checksum || base::piecewise_checksum(panels, team_) == *checksum) return weight;
    return base::Error(base::ErrorCode::corrupt, "its data do not have the checksum that they were written with");
  }

  base::Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape) override {
    return CpuKvCache::make(shape);
  }

  void embed(const Weight& table, std::span<const int32_t> tokens, Matrix out) override;
  void linear(std::span<const Product> products, const LinearInput& input) override { linear_.run(products, input); }
  void linear_each(std::span<const Product> products, std::span<const ConstMatrix> inputs) override;
  void rms_norm(ConstMatrix x, std::span<const float> weight, float epsilon, Matrix y) override;
  void layer_norm(ConstMatrix x, std::span<const float> weight, std::span<const float> bias, float epsilon,
                  Matrix y) override;
  void gelu(Matrix x) override;
  void tanh(Matrix x) override;
  void rope(const Rope& rope, std::span<const int32_t> positions, int64_t head_dim, Matrix x) override;
  void copy(ConstMatrix x, Matrix y) override;
  void add(Matrix x, ConstMatrix y) override;
  void scale(Matrix x, float factor) override;
  void soft_cap(Matrix x, float cap) override;
  void choose_experts(ConstMatrix logits, const ExpertRule& rule, std::span<int32_t> experts,
                      std::span<float> weights) override;
  void gather(ConstMatrix x, std::span<const int32_t> rows, Matrix y) override;
  void add_experts(std::span<const ExpertMatrices> experts, Activation activation, ConstMatrix x,
                   std::span<const int32_t> chosen, std::span<const float> weights, Matrix out) override {
    experts_.run(experts, activation, x, chosen, weights, out);
  }
  void add_scaled(Matrix x, ConstMatrix y, std::span<const float> factors) override;
  void sigmoid(Matrix x) override;
  void store_kv(KvCache& cache, int64_t layer, const KvRows& rows, ConstMatrix keys, ConstMatrix values) override;
  void attention(const KvCache& cache, int64_t layer, const KvRows& rows, const AttentionRule& rule, ConstMatrix q,
                 Matrix out) override;

 private:
  // One that computes on the thread that calls it.
  struct LoneRunner {
    LoneRunner(const Kernels& kernels, ActivationScheme activations) : team(1), linear(kernels, activations, team) {}

    base::ThreadTeam team;
    LinearRunner linear;
  };

  // body(row) for each of `rows` rows, each costing about `row_cost` element operations.
  template <typename Body>
  void for_rows(int64_t rows, int64_t row_cost, Body&& body);

  const Kernels& kernels_;
  const ActivationScheme activations_;
  base::ThreadTeam team_;
  LinearRunner linear_;
  std::vector<std::unique_ptr<LoneRunner>> lone_;  // of each member of the team; none before they are wanted
  ExpertRunner experts_;
  AttentionRunner attention_;
  RopeTables rope_tables_;
};

template <typename Body>
void CpuDevice::for_rows(int64_t rows, int64_t row_cost, Body&& body) {
  const int64_t chunk = std::max<int64_t>(1, kWorthWaking / std::max<int64_t>(1, row_cost));
  team_.parallel_for(rows, chunk, [&](int64_t begin, int64_t end, int /*member*/) {
    for (int64_t r = begin; r < end; ++r)
      body(r);
  });
}

void CpuDevice::embed(const Weight& table, std::span<const int32_t> tokens, Matrix out) {
  const auto& packed = static_cast<const PackedWeight&>(table);
  assert(static_cast<int64_t>(tokens.size()) == out.rows && out.cols == table.cols());
  // Unpacking touches one cache line per four elements; count it dearer than arithmetic.
  for_rows(out.rows, out.cols * 16, [&](int64_t r) {
    assert(tokens[r] >= 0 && tokens[r] < table.rows());
    packed.unpack_row(tokens[r], out.row(r));
  });
}

// Where there are products enough, each is one thread's: that saves waiting for each other after every one.
void CpuDevice::linear_each(std::span<const Product> products, std::span<const ConstMatrix> inputs) {
  assert(products.size() == inputs.size());
  constexpr int64_t kProductsPerThread = 4;
  const auto count = static_cast<int64_t>(products.size());
  if (team_.size() == 1 || count < kProductsPerThread * team_.size()) return Device::linear_each(products, inputs);
  while (static_cast<int>(lone_.size()) < team_.size())
    lone_.push_back(std::make_unique<LoneRunner>(kernels_, activations_));
  const int64_t cost = products[0].weight->rows() * products[0].weight->cols() * std::max<int64_t>(1, inputs[0].rows);
  team_.parallel_for(count, kWorthWaking / cost + 1, [&](int64_t begin, int64_t end, int member) {
    for (int64_t i = begin; i < end; ++i)
      lone_[static_cast<size_t>(member)]->linear.run(products.subspan(static_cast<size_t>(i), 1), inputs[i]);
  });
}

void CpuDevice::rms_norm(ConstMatrix x, std::span<const float> weight, float epsilon, Matrix y) {
  assert(static_cast<int64_t>(weight.size()) == x.cols && x.rows == y.rows && x.cols == y.cols);
  for_rows(x.rows, x.cols, [&](int64_t r) {
    kernels_.normalize(x.row(r), kernels_.inverse_rms(x.row(r), epsilon, x.cols), weight.data(), x.cols, y.row(r));
  });
}

void CpuDevice::layer_norm(ConstMatrix x, std::span<const float> weight, std::span<const float> bias, float epsilon,
                           Matrix y) {
  assert(static_cast<int64_t>(weight.size()) == x.cols && bias.size() == weight.size());
  assert(x.rows == y.rows && x.cols == y.cols);
  for_rows(x.rows, x.cols * 4,
           [&](int64_t r) { kernels_.layer_norm(x.row(r), weight.data(), bias.data(), epsilon, x.cols, y.row(r)); });
}

void CpuDevice::gelu(Matrix x) {
  for_rows(x.rows, x.cols * 16, [&](int64_t r) { kernels_.gelu(x.row(r), x.cols); });
}

void CpuDevice::tanh(Matrix x) {
  for_rows(x.rows, x.cols * 64, [&](int64_t r) { tanh_row(x.row(r), x.cols); });
}

void CpuDevice::rope(const Rope& rope, std::span<const int32_t> positions, int64_t head_dim, Matrix x) {
  const auto pairs = static_cast<int64_t>(rope.frequencies.size());
  assert(static_cast<int64_t>(positions.size()) == x.rows && x.cols % head_dim == 0);
  assert(rope.first + 2 * pairs <= head_dim);
  const RopeTable& table = rope_tables_.prepare(rope, positions);
  for_rows(x.rows, x.cols * 4, [&](int64_t r) {
    rotate_row(rope.pairing, table.row(r), pairs, head_dim, x.cols / head_dim, x.row(r) + rope.first);
  });
}

void CpuDevice::copy(ConstMatrix x, Matrix y) {
  assert(x.rows == y.rows && x.cols == y.cols);
  for_rows(y.rows, y.cols, [&](int64_t r) { std::copy_n(x.row(r), y.cols, y.row(r)); });
}

void CpuDevice::add(Matrix x, ConstMatrix y) {
  assert(x.rows == y.rows && x.cols == y.cols);
  for_rows(x.rows, x.cols, [&](int64_t r) {
    float* to = x.row(r);
    const float* from = y.row(r);
    for (int64_t i = 0; i < x.cols; ++i)
      to[i] = to[i] + from[i];
  });
}

void CpuDevice::scale(Matrix x, float factor) {
  for_rows(x.rows, x.cols, [&](int64_t r) {
    float* row = x.row(r);
    for (int64_t i = 0; i < x.cols; ++i)
      row[i] = row[i] * factor;
  });
}

void CpuDevice::soft_cap(Matrix x, float cap) {
  for_rows(x.rows, x.cols * 8, [&](int64_t r) { kernels_.soft_cap(x.row(r), cap, x.cols, x.row(r)); });
}

void CpuDevice::choose_experts(ConstMatrix logits, const ExpertRule& rule, std::span<int32_t> experts,
                               std::span<float> weights) {
  assert(static_cast<int64_t>(experts.size()) == logits.rows * rule.used && weights.size() == experts.size());
  for_rows(logits.rows, logits.cols * (rule.used + 4), [&](int64_t r) {
    choose_experts_row(kernels_, logits.row(r), logits.cols, rule, experts.data() + r * rule.used,
                       weights.data() + r * rule.used);
  });
}

void CpuDevice::gather(ConstMatrix x, std::span<const int32_t> rows, Matrix y) {
  assert(static_cast<int64_t>(rows.size()) == y.rows && x.cols == y.cols);
  for_rows(y.rows, y.cols, [&](int64_t r) { std::copy_n(x.row(rows[r]), y.cols, y.row(r)); });
}

void CpuDevice::add_scaled(Matrix x, ConstMatrix y, std::span<const float> factors) {
  assert(x.rows == y.rows && static_cast<int64_t>(factors.size()) == y.rows && x.cols == y.cols);
  for_rows(y.rows, y.cols, [&](int64_t r) { add_scaled_row(x.row(r), y.row(r), factors[r], x.cols); });
}

void CpuDevice::sigmoid(Matrix x) {
  for_rows(x.rows, x.cols * 8, [&](int64_t r) { sigmoid_row(kernels_, x.row(r), x.cols); });
}

void CpuDevice::store_kv(KvCache& cache, int64_t layer, const KvRows& rows, ConstMatrix keys, ConstMatrix values) {
  auto& kv = static_cast<CpuKvCache&>(cache);
  const bool apart = cache.shape().latent == 0;
  assert(keys.cols == cache.shape().kv_heads * cache.shape().head_dim && (!apart || values.cols == keys.cols));
  assert(layer >= 0 && layer < cache.shape().layers);
  for_rows(keys.rows, keys.cols * 8, [&](int64_t r) {
    const int32_t position = rows.positions[r];
    const int32_t block = rows.block_tables[rows.sequences[r]][position / kKvBlockTokens];
    kv.store(kernels_, layer, block, position % kKvBlockTokens, keys.row(r), apart ? values.row(r) : nullptr);
  });
}

void CpuDevice::attention(const KvCache& cache, int64_t layer, const KvRows& rows, const AttentionRule& rule,
                          ConstMatrix q, Matrix out) {
  attention_.run(static_cast<const CpuKvCache&>(cache), layer, rows, rule, q, out);
}

}  // namespace

std::string_view to_string(ActivationScheme scheme) {
  return scheme == ActivationScheme::f32 ? "f32" : "dynamic";
}

std::optional<ActivationScheme> parse_activation_scheme(std::string_view word) {
  for (const ActivationScheme scheme : {ActivationScheme::dynamic, ActivationScheme::f32}) {
    if (to_string(scheme) == word) return scheme;
  }
  return std::nullopt;
}

std::unique_ptr<Device> make_cpu_device(Isa isa, int threads, ActivationScheme activations) {
  return std::make_unique<CpuDevice>(isa, threads, activations);
}

}  // namespace tidemill::tensor
