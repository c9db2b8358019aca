#include "quantize/widen.hpp"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/limits.hpp"

namespace tidemill::quantize {

using base::Result;
using model::Checkpoint;
using model::GgufTensor;
using tensor::DType;

namespace {

constexpr int64_t kNarrowBlock = 32;  // elements of the blocks that most types have

// Where zeros go in a tensor: behind each of `runs` equal stretches of its elements.
struct Zeros {
  int dimension = 0;  // of the shape, which grows
  int64_t runs = 1;
};

// The tensors that have the inner width, which is `inner`, by their names.
class InnerTensors {
 public:
  InnerTensors(const Checkpoint& source, int64_t inner) : source_(source), inner_(inner) {}

  // False where a layer is not as it is expected to be.
  bool add_layer(const std::string& prefix, const model::TensorNames& names) {
    const std::string gate = fmt::format("{}{}", prefix, names.gate);
    if (source_.find_tensor(gate + ".weight") == nullptr) {
      if (!add_rows(fmt::format("{}{}", prefix, names.gate_and_up), 2)) return false;
    } else if (!add_rows(gate, 1) || !add_rows(fmt::format("{}{}", prefix, names.up), 1)) {
      return false;
    }
    const GgufTensor* down = source_.find_tensor(fmt::format("{}{}.weight", prefix, names.down));
    if (down == nullptr || down->rank != 2 || down->cols() != inner_) return false;
    found_[down->name] = {0, down->rows()};
    return true;
  }

  const Zeros* find(std::string_view name) const {
    const auto found = found_.find(name);
    return found == found_.end() ? nullptr : &found->second;
  }

 private:
  // A projection to `parts` times the inner width.
  bool add_rows(const std::string& name, int64_t parts) {
    const GgufTensor* weight = source_.find_tensor(name + ".weight");
    if (weight == nullptr || weight->rank != 2 || weight->rows() != parts * inner_) return false;
    found_[weight->name] = {1, parts};
    const GgufTensor* bias = source_.find_tensor(name + ".bias");
    if (bias == nullptr) return true;
    found_[bias->name] = {0, parts};
    return bias->rank == 1 && bias->cols() == parts * inner_;
  }

  const Checkpoint& source_;
  int64_t inner_;
  std::map<std::string_view, Zeros> found_;
};

// The runs that lie together at the beginning of `bytes` come to lie `wide` bytes apart, with zeros between: the last
// one first, so that none is written over before it has moved.
void spread(std::span<std::byte> bytes, size_t run, size_t wide) {
  for (size_t i = bytes.size() / wide; i > 0; --i) {
    std::byte* to = bytes.data() + (i - 1) * wide;
    std::memmove(to, bytes.data() + (i - 1) * run, run);
    std::memset(to + run, 0, wide - run);
  }
}

// Zero bytes are zeros in every type: blocks of a scale of 0, and MXFP4's codes of 0.
GgufTensor wider(const GgufTensor& tensor, Zeros zeros, int64_t from, int64_t to) {
  const size_t narrow_bytes = tensor.bytes();
  GgufTensor wide = tensor;
  int64_t& extent = wide.shape[static_cast<size_t>(zeros.dimension)];
  extent = extent / from * to;
  const size_t run = narrow_bytes / static_cast<size_t>(zeros.runs);
  const auto wide_run =
      static_cast<size_t>(wide.rows() * tensor::row_bytes(wide.type, wide.cols())) / static_cast<size_t>(zeros.runs);
  wide.make = [tensor, narrow_bytes, run, wide_run](std::span<std::byte> out) {
    if (tensor.make) {
      tensor.make(out.first(narrow_bytes));
    } else {
      std::memcpy(out.data(), tensor.data.data(), narrow_bytes);
    }
    spread(out, run, wide_run);
  };
  return wide;
}

// Of matrices, in the types that they will have.
Result<int64_t> planned_bytes(const Checkpoint& source, DType type, std::span<const TensorRule> rules) {
  TM_TRY(const std::vector<DType> types, plan_types(source, type, rules));
  int64_t bytes = 0;
  for (size_t i = 0; i < types.size(); ++i) {
    const GgufTensor& tensor = source.tensors()[i];
    if (is_matrix(tensor)) bytes += tensor.rows() * tensor::row_bytes(types[i], tensor.cols());
  }
  return bytes;
}

std::optional<Checkpoint> with_inner_width(const Checkpoint& source, const InnerTensors& inner, std::string_view key,
                                           int64_t from, int64_t to) {
  auto width = std::make_shared<const uint32_t>(static_cast<uint32_t>(to));
  model::Metadata metadata(source.path());
  metadata.reserve_entries(source.metadata().size());
  for (model::GgufEntry entry : source.metadata()) {
    if (entry.key == key) {
      entry.value = {.type = model::GgufType::u32,
                     .element = model::GgufType::u32,
                     .count = 1,
                     .payload = std::as_bytes(std::span(width.get(), 1))};
    }
    metadata.add(entry);
  }
  std::vector<GgufTensor> tensors;
  for (const GgufTensor& tensor : source.tensors()) {
    const Zeros* zeros = inner.find(tensor.name);
    tensors.push_back(zeros == nullptr ? tensor : wider(tensor, *zeros, from, to));
  }
  auto made = Checkpoint::assemble(std::move(metadata), std::move(tensors),
                                   {source.files().begin(), source.files().end()}, std::move(width), source.version());
  if (!made) return std::nullopt;
  return std::move(*made);
}

}  // namespace

std::optional<Widened> widen(const Checkpoint& source, DType type, std::span<const TensorRule> rules) {
  if (source.packed() != nullptr) return std::nullopt;
  const auto architecture = model::find_architecture(source);
  if (!architecture) return std::nullopt;
  const auto hyper = (*architecture)->read_hyper_parameters(source);
  if (!hyper || hyper->experts.count > 0) return std::nullopt;
  const int64_t from = hyper->feed_forward;
  const int64_t to = (from + kNarrowBlock - 1) / kNarrowBlock * kNarrowBlock;
  if (from == to || to > model::kMaxFeedForward) return std::nullopt;
  InnerTensors inner(source, from);
  for (int64_t i = 0; i < hyper->layers; ++i) {
    if (!inner.add_layer(fmt::format("blk.{}.", i), (*architecture)->names)) return std::nullopt;
  }
  const std::string key = fmt::format("{}.feed_forward_length", (*architecture)->name);
  std::optional<Checkpoint> made = with_inner_width(source, inner, key, from, to);
  if (!made) return std::nullopt;
  const auto bytes = planned_bytes(*made, type, rules);
  if (!bytes) return std::nullopt;  // no more than the source has what rules ask for
  // Where they ask for what only the wider ones fit, the source has no plan.
  if (const auto before = planned_bytes(source, type, rules); before && *before <= *bytes) return std::nullopt;
  int64_t zeros = 0;
  for (size_t i = 0; i < source.tensors().size(); ++i) {
    if (is_matrix(source.tensors()[i])) zeros += made->tensors()[i].elements() - source.tensors()[i].elements();
  }
  return Widened{std::move(*made), from, to, zeros};
}

}  // namespace tidemill::quantize
