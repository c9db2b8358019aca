#include "tensor/linear_runner.hpp"

#include <algorithm>
#include <cassert>

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

// How far ahead of the multiplication of one row its weights are asked for (CpuFeatures::reads_far_ahead).
constexpr int64_t kFarAhead = 6144;
constexpr int64_t kShortlyAhead = 1024;

template <typename T>
void grow(std::vector<T>& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) buffer.resize(static_cast<size_t>(size));
}

const PackedWeight& packed(const Product& product) {
  return static_cast<const PackedWeight&>(*product.weight);
}

// The list of products: for each block of rows, for each matrix, kLinearPanels panels at a time.
int64_t columns(const Product& product) {
  return (packed(product).panels() + kLinearPanels - 1) / kLinearPanels;
}

ConstMatrix shape_of(const LinearInput& input) {
  if (const auto* x = std::get_if<ConstMatrix>(&input)) return *x;
  if (const auto* norm = std::get_if<RmsNormed>(&input)) return norm->x;
  return std::get<Gated>(input).gate;
}

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
  make_ready(products, input);
  multiply(products, shape.rows, shape.cols);
}

void LinearRunner::choose_formats(std::span<const Product> products, const LinearInput& input) {
  const ConstMatrix shape = shape_of(input);
  formats_.clear();
  plain_ = {};
  for (const Product& product : products) {
    const Weight& w = *product.weight;
    assert(w.cols() == shape.cols && product.y.cols == w.rows() && product.y.rows == shape.rows);
    assert(product.bias.empty() || static_cast<int64_t>(product.bias.size()) == w.rows());
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

void LinearRunner::make_ready(std::span<const Product> products, const LinearInput& input) {
  choose_formats(products, input);
  const ConstMatrix shape = shape_of(input);
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

// Chunks of a list of `items`: chunk i is cuts_[i] .. cuts_[i + 1] - 1.
void LinearRunner::cut(int64_t items, int64_t item_cost) {
  const int64_t last = items * item_cost / (team_.size() * kLastFraction);
  const int64_t least = std::clamp(last, kLeastCost, kLastChunk * kLeastCost) / item_cost + 1;
  const int64_t most = std::max(least, kMostCost / item_cost);
  cuts_.assign(1, 0);
  while (cuts_.back() < items) {
    const int64_t left = items - cuts_.back();
    const int64_t size = std::clamp(left / (team_.size() * kShareFraction), least, most);
    cuts_.push_back(cuts_.back() + std::min(size, left));
  }
}

void LinearRunner::multiply(std::span<const Product> products, int64_t rows, int64_t cols) {
  int64_t row_cost = plain_.data == nullptr ? 1 : cols * static_cast<int64_t>(sizeof(float));
  for (const DType format : formats_)
    row_cost = std::max(row_cost, cols * code_bytes(format));
  const int64_t row_block =
      std::clamp(kRowBlockBytes / row_cost / kRowBlockMultiple * kRowBlockMultiple, kRowBlockMultiple, kMostLinearRows);
  const int64_t row_blocks = (rows + row_block - 1) / row_block;
  int64_t all_columns = 0;
  for (const Product& product : products)
    all_columns += columns(product);
  cut(row_blocks * all_columns,
      std::max<int64_t>(1, kLinearPanels * kPanelRows * cols * std::min(rows, row_block) / 8));
  team_.parallel_for(static_cast<int64_t>(cuts_.size()) - 1, 1, [&](int64_t chunk, int64_t /*end*/, int /*member*/) {
    for (int64_t item = cuts_[static_cast<size_t>(chunk)]; item < cuts_[static_cast<size_t>(chunk) + 1]; ++item) {
      const int64_t first_row = item / all_columns * row_block;
      int64_t column = item % all_columns;
      const Product* product = products.data();
      for (; column >= columns(*product); ++product)
        column -= columns(*product);
      multiply_item(*product, column, first_row, std::min(row_block, rows - first_row), rows);
    }
  });
}

void LinearRunner::multiply_item(const Product& product, int64_t column, int64_t first_row, int64_t rows,
                                 int64_t all_rows) {
  const PackedWeight& w = packed(product);
  const int64_t panel = column * kLinearPanels;
  LinearCall call{};
  call.panels = w.panel(panel);
  call.panel_stride = panel_bytes(w.type(), w.cols());
  call.cols = w.cols();
  call.outputs = std::min(kLinearPanels * kPanelRows, w.rows() - panel * kPanelRows);
  call.bias = product.bias.empty() ? nullptr : product.bias.data() + panel * kPanelRows;
  call.rows = rows;
  const bool codes = takes_codes(w.type());
  if (codes) {
    call.x = codes_[static_cast<size_t>(format_of(w.type()))].rows(all_rows);
    call.first_row = first_row;
  } else {
    call.x_data = plain_.row(first_row);
    call.x_stride = plain_.stride;
  }
  call.y = product.y.row(first_row) + panel * kPanelRows;
  call.y_stride = product.y.stride;
  call.ahead_of_one_row = cpu_features().reads_far_ahead ? kFarAhead : kShortlyAhead;
  (codes ? kernels_.linear : kernels_.linear_f32)[static_cast<size_t>(w.type())](call);
}

}  // namespace tidemill::tensor
