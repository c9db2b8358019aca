#include "tensor/cpu_device.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <string>
#include <vector>

#include "base/checksum.hpp"
#include "tensor/attention_runner.hpp"
#include "tensor/kernels.hpp"
#include "tensor/kv_cache.hpp"
#include "tensor/packed_weight.hpp"
#include "tensor/rope_table.hpp"

namespace tidemill::tensor {
namespace {

// Work below this many element operations is not worth waking another thread for (a region costs a few microseconds).
constexpr int64_t kWorthSharing = 32 * 1024;
// Activation codes of one block of rows stay in L2 while a core's panels pass over them.
constexpr int64_t kRowBlockBytes = 512 * 1024;
constexpr int64_t kRowBlockMultiple = 8;
static_assert(kMostLinearRows % kRowBlockMultiple == 0);

class CpuDevice final : public Device {
 public:
  CpuDevice(Isa isa, int threads) : kernels_(kernels_for(isa)), team_(threads), attention_(kernels_, team_) {}

  std::string description() const override {
    return "CPU " + std::string(to_string(kernels_.isa)) + ", " + std::to_string(team_.size()) +
           (team_.size() == 1 ? " thread" : " threads");
  }

  base::Result<std::unique_ptr<Weight>> load_weight(DType type, int64_t rows, int64_t cols,
                                                    std::span<const std::byte> source) override {
    return PackedWeight::pack(type, rows, cols, source, team_);
  }

  base::Result<std::unique_ptr<Weight>> load_panels(DType type, int64_t rows, int64_t cols,
                                                    std::span<const std::byte> panels, uint64_t checksum) override {
    TM_TRY(std::unique_ptr<Weight> weight, PackedWeight::view(type, rows, cols, panels));
    if (base::piecewise_checksum(panels, team_) == checksum) return weight;
    return base::Error(base::ErrorCode::corrupt, "its data do not have the checksum that they were written with");
  }

  base::Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape) override {
    return CpuKvCache::make(shape);
  }

  void embed(const Weight& table, std::span<const int32_t> tokens, Matrix out) override;
  void linear(const Weight& w, std::span<const float> bias, ConstMatrix x, Matrix y) override;
  void rms_norm(ConstMatrix x, std::span<const float> weight, float epsilon, Matrix y) override;
  void rope(const Rope& rope, std::span<const int32_t> positions, int64_t head_dim, Matrix x) override;
  void add(Matrix x, ConstMatrix y) override;
  void silu_multiply(ConstMatrix gate, ConstMatrix up, Matrix out) override;
  void store_kv(KvCache& cache, int64_t layer, const KvRows& rows, ConstMatrix keys, ConstMatrix values) override;
  void attention(const KvCache& cache, int64_t layer, const KvRows& rows, float scale, ConstMatrix q,
                 Matrix out) override;

 private:
  // body(row) for each of `rows` rows, each costing about `row_cost` element operations.
  template <typename Body>
  void for_rows(int64_t rows, int64_t row_cost, Body&& body);
  QuantizedRows quantize(ConstMatrix x, const PanelLayout& layout);
  QuantizedRows round_to_bf16(ConstMatrix x);

  const Kernels& kernels_;
  base::ThreadTeam team_;

  // Activations of the current linear(), quantised.
  std::vector<std::byte> codes_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
  AttentionRunner attention_;
  RopeTable rope_table_;
};

template <typename T>
void grow(std::vector<T>& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) buffer.resize(static_cast<size_t>(size));
}

template <typename Body>
void CpuDevice::for_rows(int64_t rows, int64_t row_cost, Body&& body) {
  const int64_t chunk = std::max<int64_t>(1, kWorthSharing / std::max<int64_t>(1, row_cost));
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

QuantizedRows CpuDevice::quantize(ConstMatrix x, const PanelLayout& layout) {
  const int64_t padded = round_up(x.cols, layout.step);
  const int64_t groups = (padded + layout.activation_group - 1) / layout.activation_group;
  grow(codes_, x.rows * padded * (layout.wide ? kernels_.wide_bytes : kernels_.narrow_bytes) + kQuantizedSlack);
  grow(scales_, x.rows * groups + kQuantizedSlack);
  grow(sums_, x.rows * (padded / layout.sum_group) + kQuantizedSlack);
  const QuantizedRows q{x.rows, codes_.data(), scales_.data(), sums_.data()};
  for_rows(x.rows, x.cols * 2, [&](int64_t r) { kernels_.quantize_row(x.row(r), x.cols, padded, layout, r, q); });
  return q;
}

QuantizedRows CpuDevice::round_to_bf16(ConstMatrix x) {
  grow(codes_, x.rows * round_up(x.cols, kBf16Block) * int64_t{sizeof(uint16_t)} + kQuantizedSlack);
  const QuantizedRows rounded{x.rows, codes_.data(), nullptr, nullptr};
  for_rows(x.rows, x.cols, [&](int64_t r) { kernels_.round_row(x.row(r), x.cols, r, rounded); });
  return rounded;
}

void CpuDevice::linear(const Weight& w, std::span<const float> bias, ConstMatrix x, Matrix y) {
  const auto& packed = static_cast<const PackedWeight&>(w);
  assert(x.cols == w.cols() && y.cols == w.rows() && x.rows == y.rows);
  assert(bias.empty() || static_cast<int64_t>(bias.size()) == w.rows());
  if (x.rows == 0) return;
  const PanelLayout layout = panel_layout(w.type());
  QuantizedRows q{};
  const bool rounds = kernels_.rounds[static_cast<size_t>(w.type())];
  if (layout.quantized) q = quantize(x, layout);
  if (rounds) q = round_to_bf16(x);

  const int64_t code_bytes = layout.wide ? kernels_.wide_bytes : kernels_.narrow_bytes;
  const int64_t plain_bytes = rounds ? sizeof(uint16_t) : sizeof(float);
  const int64_t row_cost = x.cols * (layout.quantized ? code_bytes : plain_bytes);
  const int64_t row_block =
      std::clamp(kRowBlockBytes / row_cost / kRowBlockMultiple * kRowBlockMultiple, kRowBlockMultiple, kMostLinearRows);
  const int64_t row_blocks = (x.rows + row_block - 1) / row_block;
  const int64_t columns = (packed.panels() + kLinearPanels - 1) / kLinearPanels;
  const int64_t items = row_blocks * columns;
  // Enough chunks for the threads to even out, few enough that handing them out costs nothing.
  const int64_t item_cost = kLinearPanels * kPanelRows * x.cols * std::min(x.rows, row_block) / 8;
  const int64_t chunk = std::max<int64_t>(items / (team_.size() * int64_t{16}), kWorthSharing / item_cost + 1);
  const auto kernel = kernels_.linear[static_cast<size_t>(w.type())];
  team_.parallel_for(items, chunk, [&](int64_t begin, int64_t end, int /*member*/) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t first_row = item / columns * row_block;
      const int64_t panel = item % columns * kLinearPanels;
      LinearCall call{};
      call.panels = packed.panel(panel);
      call.panel_stride = panel_bytes(w.type(), w.cols());
      call.cols = w.cols();
      call.outputs = std::min(kLinearPanels * kPanelRows, w.rows() - panel * kPanelRows);
      call.bias = bias.empty() ? nullptr : bias.data() + panel * kPanelRows;
      call.rows = std::min(row_block, x.rows - first_row);
      if (layout.quantized || rounds) {
        call.x = q;
        call.first_row = first_row;
      } else {
        call.x_data = x.row(first_row);
        call.x_stride = x.stride;
      }
      call.y = y.row(first_row) + panel * kPanelRows;
      call.y_stride = y.stride;
      kernel(call);
    }
  });
}

void CpuDevice::rms_norm(ConstMatrix x, std::span<const float> weight, float epsilon, Matrix y) {
  assert(static_cast<int64_t>(weight.size()) == x.cols && x.rows == y.rows && x.cols == y.cols);
  for_rows(x.rows, x.cols, [&](int64_t r) { kernels_.rms_norm(x.row(r), weight.data(), epsilon, x.cols, y.row(r)); });
}

void CpuDevice::rope(const Rope& rope, std::span<const int32_t> positions, int64_t head_dim, Matrix x) {
  const auto pairs = static_cast<int64_t>(rope.frequencies.size());
  assert(static_cast<int64_t>(positions.size()) == x.rows && x.cols % head_dim == 0 && 2 * pairs <= head_dim);
  rope_table_.prepare(rope, positions);
  for_rows(x.rows, x.cols * 4, [&](int64_t r) {
    rotate_row(rope.pairing, rope_table_.row(r), pairs, head_dim, x.cols / head_dim, x.row(r));
  });
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

void CpuDevice::silu_multiply(ConstMatrix gate, ConstMatrix up, Matrix out) {
  assert(gate.rows == out.rows && gate.cols == out.cols && up.rows == out.rows && up.cols == out.cols);
  for_rows(out.rows, out.cols * 2,
           [&](int64_t r) { kernels_.silu_multiply(gate.row(r), up.row(r), out.cols, out.row(r)); });
}

void CpuDevice::store_kv(KvCache& cache, int64_t layer, const KvRows& rows, ConstMatrix keys, ConstMatrix values) {
  auto& kv = static_cast<CpuKvCache&>(cache);
  assert(keys.cols == cache.shape().kv_heads * cache.shape().head_dim && values.cols == keys.cols);
  assert(layer >= 0 && layer < cache.shape().layers);
  for_rows(keys.rows, keys.cols * 8, [&](int64_t r) {
    const int32_t position = rows.positions[r];
    const int32_t block = rows.block_tables[rows.sequences[r]][position / kKvBlockTokens];
    kv.store(kernels_, layer, block, position % kKvBlockTokens, keys.row(r), values.row(r));
  });
}

void CpuDevice::attention(const KvCache& cache, int64_t layer, const KvRows& rows, float scale, ConstMatrix q,
                          Matrix out) {
  attention_.run(static_cast<const CpuKvCache&>(cache), layer, rows, scale, q, out);
}

}  // namespace

std::unique_ptr<Device> make_cpu_device(Isa isa, int threads) {
  return std::make_unique<CpuDevice>(isa, threads);
}

}  // namespace tidemill::tensor
