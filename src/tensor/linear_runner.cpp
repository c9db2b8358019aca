#include "tensor/linear_runner.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "tensor/packed_layout.hpp"
#include "tensor/packed_weight.hpp"

namespace tidemill::tensor {
namespace {

auto gate_of(const Kernels& kernels, Activation activation) {
  switch (activation) {
    case Activation::gelu_tanh:
      return kernels.gelu_multiply;
    case Activation::silu_clamped:
      return kernels.clamped_silu_multiply;
    case Activation::silu:
      break;
  }
  return kernels.silu_multiply;
}

// Making ready: element operations that are worth handing to another thread.
constexpr int64_t kReadyCost = 8 * 1024;
// Rows that one item makes ready: as many as share a cache line of scales and of sums, which threads then seldom share.
constexpr int64_t kReadyRows = 16;
// Columns that are made at a time, while they are in L1. Groups and blocks of every type begin at its multiples.
constexpr int64_t kReadyCols = 2048;
constexpr int64_t kReadyMultiple = 256;
static_assert(kReadyCols % kReadyMultiple == 0 && kReadyMultiple % kCodeBlock == 0 && kReadyMultiple % kBf16Block == 0);

// Bytes that are worth handing to another thread to be copied.
constexpr int64_t kCopyBytes = 64 * 1024;

// Multiplying: eighths of multiply-accumulates that are worth handing out, and the most at a time (a thread that the
// system puts aside keeps the others waiting for its chunk).
constexpr int64_t kLeastCost = 8 * 1024;
constexpr int64_t kMostCost = 4 * 1024 * 1024;
// Chunks shrink towards the end of the list, so that the threads end together: each takes this fraction of a thread's
// share of what is left. A chunk's first weights have to be waited for, so there are few.
constexpr int64_t kShareFraction = 2;
// Nor is the last chunk small where threads are few: up to so many times kLeastCost, and this fraction of their share.
constexpr int64_t kLastChunk = 4;
constexpr int64_t kLastFraction = 8;
// Activation codes of one block of rows stay in L2 while a core's panels pass over them.
constexpr int64_t kRowBlockBytes = 512 * 1024;
constexpr int64_t kRowBlockMultiple = 8;
static_assert(kMostLinearRows % kRowBlockMultiple == 0);

// How far ahead of the multiplication of one row its weights are asked for, in bytes.
constexpr int64_t kFarAhead = 6144;      // CpuFeatures::reads_far_ahead
constexpr int64_t kShortlyAhead = 1024;  // all else, but for AVX2
constexpr int64_t kWideAhead = 1024;     // on AVX2, of types that multiply wide codes
constexpr int64_t kNarrowAhead = 2048;   // and of the others: Zen 3 (docs/performance.md)

int64_t ahead_of_one_row(Isa isa, DType type) {
  if (cpu_features().reads_far_ahead) return kFarAhead;
  if (isa != Isa::avx2) return kShortlyAhead;
  return panel_layout(type).wide ? kWideAhead : kNarrowAhead;
}

template <typename T>
void grow(std::vector<T>& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) buffer.resize(static_cast<size_t>(size));
}

const PackedWeight& packed(const Product& product) {
  return static_cast<const PackedWeight&>(*product.weight);
}

// An item of work is kLinearPanels panels of a matrix.
int64_t columns(const Product& product) {
  return (packed(product).panels() + kLinearPanels - 1) / kLinearPanels;
}

ConstMatrix shape_of(const LinearInput& input) {
  if (const auto* x = std::get_if<ConstMatrix>(&input)) return *x;
  if (const auto* norm = std::get_if<RmsNormed>(&input)) return norm->x;
  return std::get<Gated>(input).gate;
}

// `groups` pieces of every row, of `bytes` each: all rows' first ones, then their second ones, and so on. Those of some
// rows, in the same order.
struct RowPieces {
  const std::byte* from;
  int64_t from_rows;
  std::byte* to;
  int64_t groups;
  int64_t bytes;

  void take(int64_t group, std::span<const int32_t> rows) const {
    const std::byte* source = from + group * from_rows * bytes;
    std::byte* target = to + group * static_cast<int64_t>(rows.size()) * bytes;
    for (size_t i = 0; i < rows.size(); ++i)
      std::memcpy(target + static_cast<int64_t>(i) * bytes, source + rows[i] * bytes, static_cast<size_t>(bytes));
  }
};

}  // namespace

bool LinearRunner::takes_codes(DType type) const {
  if (activations_ == ActivationScheme::f32) return false;
  return panel_layout(type).quantized || kernels_.rounds[static_cast<size_t>(type)];
}

DType LinearRunner::format_of(DType type) const {
  return kernels_.rounds[static_cast<size_t>(type)] ? DType::bf16 : type;
}

int64_t LinearRunner::code_bytes(DType format) const {
  const PanelLayout layout = panel_layout(format);
  if (!layout.quantized) return sizeof(uint16_t);
  return layout.wide ? kernels_.wide_bytes : kernels_.narrow_bytes;
}

void LinearRunner::make_room(DType format, int64_t rows, int64_t cols) {
  const PanelLayout layout = panel_layout(format);
  Codes& codes = codes_[static_cast<size_t>(format)];
  const int64_t padded = round_up(cols, layout.quantized ? layout.step : kBf16Block);
  grow(codes.codes, rows * padded * code_bytes(format) + kQuantizedSlack);
  if (!layout.quantized) return;
  const int64_t groups = (padded + layout.activation_group - 1) / layout.activation_group;
  grow(codes.scales, rows * groups + kQuantizedSlack);
  grow(codes.sums, rows * (padded / layout.sum_group) + kQuantizedSlack);
}

// Of `n` columns of row r from k on, which lie at `from`; the input has `rows` rows.
void LinearRunner::write_codes(DType format, const float* from, int64_t r, int64_t k, int64_t n, int64_t rows) {
  const PanelLayout layout = panel_layout(format);
  QuantizedRows to = codes_[static_cast<size_t>(format)].rows(rows);
  to.codes += k * rows * code_bytes(format);
  if (layout.quantized) {
    to.scales += k / layout.activation_group * rows;
    to.sums += k / layout.sum_group * rows;
    kernels_.quantize_row(from, n, round_up(n, layout.step), layout, r, to);
  } else {
    kernels_.round_row(from, n, r, to);
  }
}

void LinearRunner::run(std::span<const Product> products, const LinearInput& input) {
  const ConstMatrix shape = shape_of(input);
  if (shape.rows == 0) return;
  all_rows_.clear();
  for (const Product& product : products) {
    assert(product.y.rows == shape.rows);
    all_rows_.push_back({product, 0});
  }
  make_ready(all_rows_, input);
  multiply(all_rows_);
}

void LinearRunner::choose_formats(std::span<const RowsProduct> products, const LinearInput& input) {
  const ConstMatrix shape = shape_of(input);
  formats_.clear();
  plain_ = {};
  for (const RowsProduct& product : products) {
    const Weight& w = *product.product.weight;
    assert(w.cols() == shape.cols);
    assert(product.product.bias.empty() || static_cast<int64_t>(product.product.bias.size()) == w.rows());
    if (takes_codes(w.type())) {
      const DType format = format_of(w.type());
      if (std::ranges::find(formats_, format) != formats_.end()) continue;
      formats_.push_back(format);
      make_room(format, shape.rows, shape.cols);
    } else if (const auto* x = std::get_if<ConstMatrix>(&input)) {
      plain_ = *x;
    } else {
      grow(made_, shape.rows * shape.cols);
      plain_ = {made_.data(), shape.rows, shape.cols, shape.cols};
    }
  }
}

void LinearRunner::make_ready(std::span<const RowsProduct> products, const LinearInput& input) {
  choose_formats(products, input);
  const ConstMatrix shape = shape_of(input);
  rows_ = shape.rows;
  cols_ = shape.cols;
  const bool made = !std::holds_alternative<ConstMatrix>(input);
  const bool keeps_floats = made && plain_.data != nullptr;
  if (formats_.empty() && !keeps_floats) return;
  const int64_t element_cost = 2 * static_cast<int64_t>(formats_.size()) + (made ? 2 : 0);
  const int64_t blocks = (shape.rows + kReadyRows - 1) / kReadyRows;
  // Few rows are spread by columns too.
  int64_t stretch = shape.cols;
  if (blocks < team_.size() * int64_t{4}) {
    stretch = round_up(kReadyCost / (element_cost * std::min(shape.rows, kReadyRows)) + 1, kReadyMultiple);
    stretch = std::min(stretch, shape.cols);
  }
  const int64_t stretches = (shape.cols + stretch - 1) / stretch;
  const auto* norm = std::get_if<RmsNormed>(&input);
  grow(inverses_, norm == nullptr ? 0 : shape.rows);
  if (norm != nullptr && stretches > 1) {
    const int64_t chunk = std::max<int64_t>(1, 2 * kReadyCost / shape.cols);
    team_.parallel_for(shape.rows, chunk, [&](int64_t begin, int64_t end, int /*member*/) {
      for (int64_t r = begin; r < end; ++r)
        inverses_[static_cast<size_t>(r)] = kernels_.inverse_rms(norm->x.row(r), norm->epsilon, shape.cols);
    });
  }
  const int64_t item_cost = element_cost * stretch * std::min(shape.rows, kReadyRows);
  team_.parallel_for(blocks * stretches, kReadyCost / item_cost + 1, [&](int64_t begin, int64_t end, int /*member*/) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t row = item / stretches * kReadyRows;
      const int64_t k = item % stretches * stretch;
      make_area(input, {row, std::min(row + kReadyRows, shape.rows), k, std::min(k + stretch, shape.cols)});
    }
  });
}

void LinearRunner::make_area(const LinearInput& input, const Area& area) {
  const ConstMatrix shape = shape_of(input);
  const auto* norm = std::get_if<RmsNormed>(&input);
  const bool whole = area.end - area.begin == shape.cols;
  for (int64_t k = area.begin; k < area.end; k += kReadyCols) {
    const int64_t n = std::min(kReadyCols, area.end - k);
    for (int64_t r = area.first_row; r < area.end_row; ++r) {
      if (norm != nullptr && whole && k == 0)
        inverses_[static_cast<size_t>(r)] = kernels_.inverse_rms(norm->x.row(r), norm->epsilon, shape.cols);
      alignas(64) std::array<float, kReadyCols> made;
      const float* from = make_row(input, r, k, n, made.data());
      for (const DType format : formats_)
        write_codes(format, from, r, k, n, shape.rows);
    }
  }
}

// Columns k .. k + n - 1 of row r: where they lie, or made, in made_ where they are to stay and else in `space`.
const float* LinearRunner::make_row(const LinearInput& input, int64_t r, int64_t k, int64_t n, float* space) {
  if (const auto* x = std::get_if<ConstMatrix>(&input)) return x->row(r) + k;
  if (plain_.data != nullptr) space = made_.data() + r * plain_.stride + k;
  if (const auto* norm = std::get_if<RmsNormed>(&input)) {
    kernels_.normalize(norm->x.row(r) + k, inverses_[static_cast<size_t>(r)], norm->weight.data() + k, n, space);
  } else {
    const auto& gated = std::get<Gated>(input);
    gate_of(kernels_, gated.activation)(gated.gate.row(r) + k, gated.up.row(r) + k, n, space);
  }
  return space;
}

void LinearRunner::take_ready(const LinearRunner& from, std::span<const int32_t> rows) {
  rows_ = static_cast<int64_t>(rows.size());
  cols_ = from.cols_;
  formats_ = from.formats_;
  plain_ = {};
  std::vector<RowPieces> pieces;
  const auto add = [&](const auto& source, auto& target, int64_t groups, int64_t bytes) {
    pieces.push_back({reinterpret_cast<const std::byte*>(source.data()), from.rows_,
                      reinterpret_cast<std::byte*>(target.data()), groups, bytes});
  };
  for (const DType format : formats_) {
    make_room(format, rows_, cols_);
    const PanelLayout layout = panel_layout(format);
    const Codes& source = from.codes_[static_cast<size_t>(format)];
    Codes& target = codes_[static_cast<size_t>(format)];
    const int64_t block = layout.quantized ? kCodeBlock : kBf16Block;
    const int64_t padded = round_up(cols_, layout.quantized ? layout.step : kBf16Block);
    add(source.codes, target.codes, padded / block, block * code_bytes(format));
    if (!layout.quantized) continue;
    add(source.scales, target.scales, (padded + layout.activation_group - 1) / layout.activation_group, sizeof(float));
    add(source.sums, target.sums, padded / layout.sum_group, sizeof(int32_t));
  }
  int64_t groups = 0;
  for (const RowPieces& piece : pieces)
    groups += piece.groups;
  team_.parallel_for(groups, kCopyBytes / (rows_ * kCodeBlock) + 1, [&](int64_t begin, int64_t end, int /*member*/) {
    for (int64_t group = begin; group < end; ++group) {
      int64_t at = group;
      const RowPieces* piece = pieces.data();
      for (; at >= piece->groups; ++piece)
        at -= piece->groups;
      piece->take(at, rows);
    }
  });
  if (from.plain_.data == nullptr) return;
  grow(made_, rows_ * cols_);
  plain_ = {made_.data(), rows_, cols_, cols_};
  const int64_t row_bytes = cols_ * static_cast<int64_t>(sizeof(float));
  team_.parallel_for(rows_, kCopyBytes / row_bytes + 1, [&](int64_t begin, int64_t end, int /*member*/) {
    for (int64_t r = begin; r < end; ++r)
      std::copy_n(from.plain_.row(rows[static_cast<size_t>(r)]), cols_, made_.data() + r * cols_);
  });
}

int64_t LinearRunner::most_rows_of_block() const {
  int64_t row_cost = plain_.data == nullptr ? 1 : cols_ * static_cast<int64_t>(sizeof(float));
  for (const DType format : formats_)
    row_cost = std::max(row_cost, cols_ * code_bytes(format));
  return std::clamp(kRowBlockBytes / row_cost / kRowBlockMultiple * kRowBlockMultiple, kRowBlockMultiple,
                    kMostLinearRows);
}

// Block of rows by block of rows, and in each matrix by matrix.
void LinearRunner::list_work(std::span<const RowsProduct> products) {
  stretches_.clear();
  const int64_t block = most_rows_of_block();
  bool more = true;
  for (int64_t first = 0; more; first += block) {
    more = false;
    for (const RowsProduct& product : products) {
      const int64_t rows = std::min(block, product.product.y.rows - first);
      if (rows <= 0) continue;
      more = true;
      assert(product.product.y.cols == product.product.weight->rows());
      assert(product.first_row + product.product.y.rows <= rows_);
      stretches_.push_back({&product.product, product.first_row + first, first, rows, columns(product.product),
                            std::max<int64_t>(1, kLinearPanels * kPanelRows * cols_ * rows / 8)});
    }
  }
}

// Chunk i is from cuts_[i] on, up to cuts_[i + 1].
void LinearRunner::cut() {
  int64_t left = 0;
  for (const Stretch& stretch : stretches_)
    left += stretch.items * stretch.item_cost;
  const int64_t least = std::clamp(left / (team_.size() * kLastFraction), kLeastCost, kLastChunk * kLeastCost);
  cuts_.assign(1, {0, 0});
  Cut at = {0, 0};
  while (at.stretch < stretches_.size()) {
    const int64_t most = std::min(left / (team_.size() * kShareFraction), kMostCost);
    int64_t taken = 0;
    while (at.stretch < stretches_.size()) {
      const Stretch& stretch = stretches_[at.stretch];
      const int64_t wanted =
          std::max(taken <= least ? (least - taken) / stretch.item_cost + 1 : 0, (most - taken) / stretch.item_cost);
      const int64_t items = std::clamp<int64_t>(wanted, 0, stretch.items - at.item);
      taken += items * stretch.item_cost;
      at.item += items;
      if (at.item < stretch.items) break;
      at = {at.stretch + 1, 0};
    }
    left -= taken;
    cuts_.push_back(at);
  }
}

void LinearRunner::multiply(std::span<const RowsProduct> products) {
  list_work(products);
  cut();
  team_.parallel_for(static_cast<int64_t>(cuts_.size()) - 1, 1, [&](int64_t chunk, int64_t /*end*/, int /*member*/) {
    Cut at = cuts_[static_cast<size_t>(chunk)];
    const Cut end = cuts_[static_cast<size_t>(chunk) + 1];
    for (; at.stretch <= end.stretch; at = {at.stretch + 1, 0}) {
      const int64_t last = at.stretch < end.stretch ? stretches_[at.stretch].items : end.item;
      if (at.item < last) multiply_items(stretches_[at.stretch], at.item, last);
    }
  });
}

void LinearRunner::multiply_items(const Stretch& stretch, int64_t begin, int64_t end) {
  const Product& product = *stretch.product;
  const PackedWeight& w = packed(product);
  const bool codes = takes_codes(w.type());
  const auto multiply = (codes ? kernels_.linear : kernels_.linear_f32)[static_cast<size_t>(w.type())];
  LinearCall call{};
  call.panel_stride = panel_bytes(w.type(), w.cols());
  call.cols = w.cols();
  call.rows = stretch.rows;
  if (codes) {
    call.x = codes_[static_cast<size_t>(format_of(w.type()))].rows(rows_);
    call.first_row = stretch.first_row;
  } else {
    call.x_data = plain_.row(stretch.first_row);
    call.x_stride = plain_.stride;
  }
  call.y_stride = product.y.stride;
  call.ahead_of_one_row = ahead_of_one_row(kernels_.isa, w.type());
  // Rows that meet a panel one after another find it in the cache; a single one has no use for that.
  const int64_t together = stretch.rows == 1 ? end - begin : 1;
  for (int64_t item = begin; item < end; item += together) {
    const int64_t panel = item * kLinearPanels;
    const int64_t output = panel * kPanelRows;
    call.panels = w.panel(panel);
    call.outputs = std::min(together * kLinearPanels * kPanelRows, w.rows() - output);
    call.bias = product.bias.empty() ? nullptr : product.bias.data() + output;
    call.y = product.y.row(stretch.first_row_y) + output;
    multiply(call);
  }
}

}  // namespace tidemill::tensor
