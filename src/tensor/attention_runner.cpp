#include "tensor/attention_runner.hpp"

#include <algorithm>
#include <cassert>
#include <limits>

#include "tensor/attention_order.hpp"
#include "tensor/exp_constants.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::tensor {
namespace {

// Rows of a tile: their queries' sums stay in L1 or L2 beside a segment, which is read from further away once a tile.
constexpr int64_t kTileRows = 16;
// And fewer, where many heads share the keys.
constexpr int64_t kTileQueries = 256;
// With fewer items for each thread than this, segments are spread.
constexpr int64_t kItemsPerThread = 4;
// Multiply-accumulates below which an item is not worth handing out alone.
constexpr int64_t kWorthHandingOut = 64 * 1024;
// For attention without a window: more than any position, and far from overflowing.
constexpr int64_t kNoWindow = int64_t{1} << 60;
// Most that the parts of spread segments take; what does not fit is done in several waves.
constexpr int64_t kPartFloats = 1024 * 1024;

int64_t state_floats(int64_t queries, int64_t padded) {
  return queries * (padded + 2);
}

// `from` holds state_floats() floats.
AttentionState state_at(float* from, int64_t queries, int64_t padded) {
  return {from + queries * padded, from + queries * (padded + 1), from, padded};
}

AttentionState state_from(const AttentionState& state, int64_t query) {
  return {state.most + query, state.weight + query, state.sums + query * state.sum_stride, state.sum_stride};
}

void clear(const AttentionState& state, int64_t queries) {
  std::fill_n(state.most, queries, -std::numeric_limits<float>::infinity());
  std::fill_n(state.weight, queries, 0.0F);
  std::fill_n(state.sums, queries * state.sum_stride, 0.0F);
}

// Floats that AttentionCall::value_space takes, so that it begins with a cache line: none where values are apart.
int64_t value_floats(const KvShape& shape) {
  if (shape.latent == 0) return 0;
  const int64_t all = kAttentionSegment * shape.latent;
  constexpr int64_t kLine = kLineBytes / sizeof(float);
  if (shape.type == KvType::int8) return all / 4 + kAttentionSegment + kLine;  // codes and exponents
  return (shape.type == KvType::f32 ? all : all / 2) + kLine;
}

std::byte* next_line(float* from) {
  auto* bytes = reinterpret_cast<std::byte*>(from);
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(from) % kLineBytes);
  return past == 0 ? bytes : bytes + (kLineBytes - past);
}

// Floats that AttentionCall::scratch takes, behind that: a row, and for each query its codes (two bytes at most), and a
// factor and a start for each of two parts.
int64_t query_floats(const KvShape& shape, int64_t queries) {
  const int64_t padded = round_up(shape.head_dim, 16);
  return padded + queries * (padded / 2 + 4);
}

void grow(std::vector<float>& buffer, int64_t size) {
  if (static_cast<int64_t>(buffer.size()) < size) buffer.resize(static_cast<size_t>(size));
}

}  // namespace

void AttentionRunner::cut_into_tiles(const Operation& op) {
  tiles_.clear();
  const auto& rows = op.rows;
  const int64_t most_rows = std::clamp<int64_t>(kTileQueries / op.group, 1, kTileRows);
  for (int64_t r = 0; r < op.q.rows; ++r) {
    const bool starts = r == 0 || rows.sequences[r] != rows.sequences[r - 1] || tiles_.back().rows == most_rows;
    if (starts) tiles_.push_back({r, 0, std::numeric_limits<int64_t>::max(), 0});
    Tile& tile = tiles_.back();
    ++tile.rows;
    const int64_t begin = std::max<int64_t>(0, rows.positions[r] + int64_t{1} - op.window);
    tile.first_segment = std::min(tile.first_segment, begin / kAttentionSegment);
    tile.end_segment = std::max(tile.end_segment, rows.positions[r] / kAttentionSegment + 1);
  }
}

int64_t AttentionRunner::tile_queries(const Operation& op) const {
  int64_t most = 0;
  for (const Tile& tile : tiles_)
    most = std::max(most, tile.rows);
  return most * op.group;
}

AttentionState AttentionRunner::sinks_of(const AttentionRule& rule, KvType type, int64_t padded) {
  if (rule.sinks.empty()) return {};
  const size_t heads = rule.sinks.size();
  sinks_.assign(2 * heads + static_cast<size_t>(padded), 0.0F);
  for (size_t h = 0; h < heads; ++h) {
    sinks_[h] = rule.sinks[h] * kLog2E;
    // The int8 segments' weights are relative to 1 / 255 of the largest.
    sinks_[heads + h] = type == KvType::int8 ? 255.0F : 1.0F;
  }
  return {sinks_.data(), sinks_.data() + heads, sinks_.data() + 2 * heads, 0};
}

AttentionCall AttentionRunner::call_for(const Operation& op, const Tile& tile, int64_t head, float* scratch) const {
  const KvShape& shape = op.cache.shape();
  const int64_t dim = shape.head_dim;
  AttentionCall call{};
  call.keys = op.cache.keys(op.layer, head);
  call.values = op.cache.values(op.layer, head);
  call.block_stride = op.cache.block_stride();
  call.block_table = op.rows.block_tables[op.rows.sequences[tile.first]].data();
  call.head_dim = dim;
  call.value_dim = shape.value_dim();
  call.group = op.group;
  call.rows = tile.rows;
  call.positions = op.rows.positions.data() + tile.first;
  call.window = op.window;
  call.scale = op.rule.scale;
  call.soft_cap = op.rule.soft_cap;
  call.q = op.q.row(tile.first) + head * op.group * dim;
  call.q_stride = op.q.stride;
  call.first_segment = tile.first_segment;
  call.end_segment = tile.end_segment;
  call.value_space = next_line(scratch);
  call.scratch = reinterpret_cast<std::byte*>(scratch + value_floats(shape));
  return call;
}

void AttentionRunner::finish(const Operation& op, const Tile& tile, int64_t head, const AttentionState& state) const {
  const int64_t dim = op.cache.shape().value_dim();
  for (int64_t r = 0; r < tile.rows; ++r) {
    const AttentionState own = state_from(state, r * op.group);
    if (!op.rule.sinks.empty()) {
      kernels_.merge_attention(own, state_from(op.sinks, head * op.group), op.group, dim);
    }
    kernels_.finish_attention(own, op.group, dim, op.cache.shape().type == KvType::int8,
                              op.out.row(tile.first + r) + head * op.group * dim);
  }
}

void AttentionRunner::run(const CpuKvCache& cache, int64_t layer, const KvRows& rows, const AttentionRule& rule,
                          ConstMatrix q, Matrix out) {
  const KvShape& shape = cache.shape();
  const int64_t group = q.cols / (shape.head_dim * shape.kv_heads);
  assert(group * shape.head_dim * shape.kv_heads == q.cols && out.rows == q.rows);
  assert(out.cols == group * shape.value_dim() * shape.kv_heads);
  if (q.rows == 0) return;
  assert(rule.sinks.empty() || static_cast<int64_t>(rule.sinks.size()) == shape.kv_heads * group);
  const int64_t window = rule.window > 0 ? rule.window : kNoWindow;
  const int64_t padded = round_up(shape.value_dim(), 16);
  Operation op = {cache, layer, rows, rule, q, out, group, padded, window, 0, sinks_of(rule, shape.type, padded)};
  cut_into_tiles(op);
  op.call_floats = value_floats(shape) + query_floats(shape, tile_queries(op));
  int64_t segments = 0;
  for (const Tile& tile : tiles_)
    segments += tile.segments();
  const auto tiles = static_cast<int64_t>(tiles_.size());
  const bool few = tiles * shape.kv_heads < kItemsPerThread * team_.size();
  scratch_.resize(static_cast<size_t>(team_.size()));
  if (team_.size() > 1 && few && segments > tiles) {
    run_segments(op);
  } else {
    run_items(op);
  }
}

void AttentionRunner::run_items(const Operation& op) {
  const KvShape& shape = op.cache.shape();
  const int64_t most_queries = tile_queries(op);
  const int64_t state_size = round_up(state_floats(most_queries, op.padded), 16);
  for (auto& scratch : scratch_)
    grow(scratch, state_size + op.call_floats);
  const auto items = static_cast<int64_t>(tiles_.size()) * shape.kv_heads;
  int64_t work = 0;
  for (const Tile& tile : tiles_)
    work += tile.rows * tile.segments() * kAttentionSegment;
  const int64_t item_work =
      work / static_cast<int64_t>(tiles_.size()) * op.group * (shape.head_dim + shape.value_dim());
  const int64_t chunk = kWorthHandingOut / std::max<int64_t>(1, item_work) + 1;
  const auto kernel = kernels_.attention[static_cast<size_t>(shape.type)];
  team_.parallel_for(items, chunk, [&](int64_t begin, int64_t end, int member) {
    float* scratch = scratch_[static_cast<size_t>(member)].data();
    for (int64_t item = begin; item < end; ++item) {
      // The longest tiles are a prompt's last ones: first come, they are not what the others wait for.
      const Tile& tile = tiles_[tiles_.size() - 1 - static_cast<size_t>(item / shape.kv_heads)];
      const int64_t head = item % shape.kv_heads;
      const int64_t queries = tile.rows * op.group;
      const AttentionState state = state_at(scratch, queries, op.padded);
      clear(state, queries);
      AttentionCall call = call_for(op, tile, head, scratch + state_size);
      call.state = state;
      kernel(call);
      finish(op, tile, head, state);
    }
  });
}

void AttentionRunner::merge_part(const Operation& op, const Tile& tile, int64_t segment, const AttentionState& state,
                                 const AttentionState& part) const {
  for (int64_t r = 0; r < tile.rows; ++r) {
    const int64_t end = op.rows.positions[tile.first + r] + int64_t{1};
    if (end <= segment * kAttentionSegment || end - op.window >= (segment + 1) * kAttentionSegment) continue;
    kernels_.merge_attention(state_from(state, r * op.group), state_from(part, r * op.group), op.group,
                             op.cache.shape().value_dim());
  }
}

void AttentionRunner::run_segments(const Operation& op) {
  const KvShape& shape = op.cache.shape();
  const auto tiles = static_cast<int64_t>(tiles_.size());
  const int64_t most_queries = tile_queries(op);
  const int64_t items = tiles * shape.kv_heads;
  const int64_t state_size = round_up(state_floats(most_queries, op.padded), 16);
  for (auto& scratch : scratch_)
    grow(scratch, op.call_floats);
  int64_t most_segments = 0;
  for (const Tile& tile : tiles_)
    most_segments = std::max(most_segments, tile.segments());
  const int64_t wave =
      std::clamp<int64_t>(kPartFloats / (items * state_size), 1, most_segments);  // segments of every item
  // The items' states, then the parts of one wave: [item][segment of the wave].
  grow(states_, items * state_size * (1 + wave));
  float* parts = states_.data() + items * state_size;
  const auto state_of = [&](int64_t item) {
    return state_at(states_.data() + item * state_size,
                    tiles_[static_cast<size_t>(item / shape.kv_heads)].rows * op.group, op.padded);
  };
  const auto part_of = [&](int64_t item, int64_t segment) {
    return state_at(parts + (item * wave + segment) * state_size,
                    tiles_[static_cast<size_t>(item / shape.kv_heads)].rows * op.group, op.padded);
  };
  const auto kernel = kernels_.attention[static_cast<size_t>(shape.type)];
  for (int64_t first = 0; first < most_segments; first += wave) {
    const int64_t count = std::min(wave, most_segments - first);
    const int64_t chunk = std::clamp<int64_t>(items * count / (team_.size() * int64_t{8}), 1, 8);
    team_.parallel_for(items * count, chunk, [&](int64_t begin, int64_t end, int member) {
      float* scratch = scratch_[static_cast<size_t>(member)].data();
      for (int64_t i = begin; i < end; ++i) {
        const int64_t item = i / count;
        const Tile& tile = tiles_[static_cast<size_t>(item / shape.kv_heads)];
        const int64_t segment = tile.first_segment + first + i % count;
        if (segment >= tile.end_segment) continue;
        AttentionCall call = call_for(op, tile, item % shape.kv_heads, scratch);
        call.state = part_of(item, i % count);
        clear(call.state, tile.rows * op.group);
        call.first_segment = segment;
        call.end_segment = segment + 1;
        kernel(call);
      }
    });
    team_.parallel_for(items, 1, [&](int64_t begin, int64_t end, int /*member*/) {
      for (int64_t item = begin; item < end; ++item) {
        const Tile& tile = tiles_[static_cast<size_t>(item / shape.kv_heads)];
        const AttentionState state = state_of(item);
        if (first == 0) clear(state, tile.rows * op.group);
        for (int64_t s = 0; s < count && first + s < tile.segments(); ++s)
          merge_part(op, tile, tile.first_segment + first + s, state, part_of(item, s));
        if (first + count >= most_segments) finish(op, tile, item % shape.kv_heads, state);
      }
    });
  }
}

}  // namespace tidemill::tensor
