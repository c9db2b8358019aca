// Attention of many queries to int8 keys and values on AMX tiles: what Int8Kv does, sixteen queries at a time. The two
// products are sums of integers, which tiles make as exactly as vectors do; everything else is done by the vectors'
// own functions in the order of attention_order.hpp, so that the bits are those of every other instruction set.
//
// Queries are rows of a tile. A block's keys are lines of another as they lie in the cache (kv_layout.hpp). Its values
// are a quarter of one: those of a segment are first laid out so that four blocks follow each other, which serves all
// queries of the call. Internal linkage, as in vector_linear.hpp.
#pragma once

#include "tensor/amx_tiles.hpp"
#include "tensor/vector_attention_kv.hpp"

namespace tidemill::tensor {
namespace {

constexpr int64_t kTileBlocks = 4;           // whose weights fill a row of a tile
constexpr int64_t kMostTileValue = 512;      // elements of values that are laid out
constexpr int64_t kBlockLines = kBlock / 4;  // of sixteen elements of a block's values
constexpr int64_t kSegmentLines = kAttentionSegment / 4;

using QueryTile = int32_t[kTileRows][kLanes];

// The elements of a head are multiplied in pieces of equal size, each a tile's row at most.
struct HeadPieces {
  int64_t count;
  int64_t latent;  // so many are those of a latent; none where keys are of one part
  int64_t quads;   // of each
};

// Whether heads of this size are for tiles, and in which pieces. Those of latents fill half of a row or more.
[[gnu::always_inline]] inline bool cut_head(const AttentionCall& call, HeadPieces& pieces) {
  const int64_t quads = (call.head_dim + 3) / 4;
  pieces.latent = 0;
  if (call.values != nullptr) {
    pieces.count = (quads + 15) / 16;
    pieces.quads = quads / pieces.count;
    return call.value_dim <= kMostTileValue && quads % pieces.count == 0;
  }
  const int64_t latent = call.value_dim / 4;
  pieces.quads = 16;
  while (latent % pieces.quads != 0 || quads % pieces.quads != 0)
    --pieces.quads;
  pieces.count = quads / pieces.quads;
  pieces.latent = latent / pieces.quads;
  return call.value_dim <= kMostTileValue && pieces.quads >= 8;
}

// Sums in tiles 0 and 1, a piece of queries in 2 or 3 and of keys in 4 or 5, weights in 6, values in 7.
inline TileShapes shapes_of_attention(const HeadPieces& pieces) {
  TileShapes shapes = full_tiles();
  for (const int queries : {2, 3})
    shapes.row_bytes[queries] = static_cast<uint16_t>(4 * pieces.quads);
  for (const int keys : {4, 5})
    shapes.rows[keys] = static_cast<uint8_t>(pieces.quads);
  return shapes;
}

template <class S>
class TiledAttention {
  using F = typename S::F;
  using I = typename S::I;
  using Kv = Int8Kv<S, QueryOrder::rows>;

 public:
  TiledAttention(const AttentionCall& call, const Kv& kv, const HeadPieces& pieces)
      : call_(call), kv_(kv), pieces_(pieces) {}

  // The values of a segment, as tiles take them.
  void enter(const Segment& segment) {
    for (int64_t b = segment.first; b < segment.blocks; ++b) {
      for (int64_t line = 0; line < kv_.vectors * kBlockLines; ++line) {
        const int64_t to = line / kBlockLines * kSegmentLines + b * kBlockLines + line % kBlockLines;
        __builtin_memcpy(values_ + to * kLineBytes, segment.values[b] + line * kLineBytes, kLineBytes);
      }
    }
  }

  // Queries first .. first + 15 pass over the segment.
  void pass(const Segment& segment, int64_t first) {
    first_ = first;
    fetch_ = first == 0;
    earliest_ = kAttentionSegment;
    longest_ = 0;
    together_ = true;
    for (int64_t r = 0; r < kTileRows; ++r) {
      sights_[r] = sight_of(call_, segment, first + r);
      together_ = together_ && sights_[r] == sights_[0];
      if (sights_[r].visible == 0) continue;
      earliest_ = sights_[r].hidden < earliest_ ? sights_[r].hidden : earliest_;
      longest_ = sights_[r].visible > longest_ ? sights_[r].visible : longest_;
    }
    if (longest_ == 0) return;
    score(segment);
    weigh(segment);
    sum(segment);
  }

 private:
  // The products of the queries with the keys of block b, into products_[parity], and those with latents before into
  // latent_products_[parity]. Nothing where there is no block.
  template <int parity>
  [[gnu::always_inline]] void multiply_keys(const Segment& segment, int64_t b) {
    if (b >= blocks_of(longest_)) return;
    if (fetch_) prefetch_lines(segment.next_keys[b], (kv_.quads + kv_.parts) * kLineBytes);
    const std::byte* queries = kv_.query_codes + first_ * kv_.query_bytes;
    const std::byte* keys = segment.keys[b];
    zero_tile<parity>();
    for (int64_t p = 0; p < pieces_.count; ++p) {
      if (p > 0 && p == pieces_.latent) {
        store_tile<parity>(latent_products_[parity], sizeof latent_products_[parity][0]);
        zero_tile<parity>();
      }
      load_tile<2 + parity>(queries + p * pieces_.quads * 4, kv_.query_bytes);
      load_tile<4 + parity>(keys + p * pieces_.quads * kLineBytes, kLineBytes);
      multiply_tiles_signed_unsigned<parity, 2 + parity, 4 + parity>();
    }
    store_tile<parity>(products_[parity], sizeof products_[parity][0]);
  }

  // The exponents of block b from its products.
  template <int parity>
  [[gnu::always_inline]] void scale_scores(const Segment& segment, int64_t b) {
    if (b >= blocks_of(longest_)) return;
    if (kv_.parts > 1) scale_part(segment, b, 0, latent_products_[parity]);
    scale_part(segment, b, kv_.parts - 1, products_[parity]);
  }
  [[gnu::always_inline]] void scale_part(const Segment& segment, int64_t b, int64_t part, const QueryTile& tile) {
    const F scale = S::load(kv_.part_scales(segment, part, b));
    const F exponent = kv_.added_exponents(segment.values[b]);
    const float* factors = kv_.query_factors + part * kv_.queries + first_;
    const int32_t* starts = kv_.query_starts + part * kv_.queries + first_;
#pragma GCC unroll 16
    for (int64_t r = 0; r < kTileRows; ++r) {
      float* scores = scores_ + r * kAttentionSegment + b * kBlock;
      const F before = part == 0 ? exponent : S::load(scores);
      const I products = S::add_i(S::load_i(tile[r]), S::set1_i(starts[r]));
      S::store(scores, S::fma(S::mul(S::to_float(products), scale), S::set1(factors[r]), before));
    }
  }

  // The tiles work on the next block while the vectors work on this one.
  void score(const Segment& segment) {
    const int64_t from = earliest_ / kBlock;
    multiply_keys<0>(segment, from);
    for (int64_t b = from; b < blocks_of(longest_); b += 2) {
      multiply_keys<1>(segment, b + 1);
      scale_scores<0>(segment, b);
      multiply_keys<0>(segment, b + 2);
      scale_scores<1>(segment, b + 1);
    }
  }

  // The weights of queries r .. r + R - 1, which see the same.
  template <int R>
  [[gnu::noinline]] void weigh_queries(const Segment& segment, int64_t r) {
    Pass pass;
    pass.hidden = sights_[r].hidden;
    pass.visible = sights_[r].visible;
    pass.scores = scores_ + r * kAttentionSegment;
    pass.codes = codes_ + r * kAttentionSegment;
    float most[R];
    float weights[R];
    if (kv_.capped) kv_.template cap<R>(call_, segment, pass);
    largest_scores<S, R>(pass, most);
    kv_.template weigh<false, R>(segment, pass, most, weights);
    for (int i = 0; i < R; ++i) {
      most_[r + i] = most[i];
      weights_[r + i] = weights[i];
    }
  }

  void weigh(const Segment& segment) {
    const int64_t end = round_up(longest_, kTileBlocks * kBlock);
    for (int64_t r = 0; r < kTileRows; r += 4) {
      if (together_) {
        weigh_queries<4>(segment, r);
        continue;
      }
      for (int64_t i = r; i < r + 4; ++i) {
        if (sights_[i].visible > 0) weigh_queries<1>(segment, i);
      }
    }
    // What a query does not see has a weight of zero.
    for (int64_t r = 0; r < kTileRows; ++r) {
      for (int64_t t = first_tile(); t < sights_[r].hidden / kBlock * kBlock; ++t)
        codes_[r * kAttentionSegment + t] = 0;
      for (int64_t t = blocks_of(sights_[r].visible) * kBlock; t < end; ++t)
        codes_[r * kAttentionSegment + t] = 0;
    }
    float* most = call_.state.most + first_;
    float* weight = call_.state.weight + first_;
    if (together_) return take_weights<S>(most_, weights_, kTileRows, most, weight, take_, keep_);
    for (int64_t r = 0; r < kTileRows; ++r) {
      alignas(64) float take[kLanes];
      alignas(64) float keep[kLanes];
      if (sights_[r].visible == 0) continue;
      take_weights<S>(most_ + r, weights_ + r, 1, most + r, weight + r, take, keep);
      take_[r] = take[0];
      keep_[r] = keep[0];
    }
  }

  // The token from which on values are summed, at the beginning of a tile of them.
  int64_t first_tile() const {
    return earliest_ / (kTileBlocks * kBlock) * (kTileBlocks * kBlock);
  }

  // The sums over tokens of elements 16 v .. 16 v + 15, into products_[parity].
  template <int parity>
  [[gnu::always_inline]] void multiply_values(const Segment& segment, int64_t v) {
    if (v >= kv_.vectors) return;
    if (fetch_) {
      for (int64_t b = v * kSegmentBlocks / kv_.vectors; b < (v + 1) * kSegmentBlocks / kv_.vectors; ++b)
        prefetch_lines(segment.next_values[b], (kv_.vectors * kBlockLines + 1) * kLineBytes);
    }
    const std::byte* lines = values_ + v * kSegmentLines * kLineBytes;
    zero_tile<parity>();
    for (int64_t t = first_tile(); t < longest_; t += kTileBlocks * kBlock) {
      load_tile<6>(codes_ + t, kAttentionSegment);
      load_tile<7>(lines + t / 4 * kLineBytes, kLineBytes);
      multiply_tiles_unsigned_signed<parity, 6, 7>();
    }
    store_tile<parity>(products_[parity], sizeof products_[parity][0]);
  }

  // Takes them into the state.
  template <int parity>
  [[gnu::always_inline]] void take_sums(int64_t v) {
    if (v >= kv_.vectors) return;
    float* sums = call_.state.sums + first_ * call_.state.sum_stride + v * kLanes;
    for (int64_t r = 0; r < kTileRows; ++r, sums += call_.state.sum_stride) {
      if (sights_[r].visible == 0) continue;
      const F kept = S::mul(S::load(sums), S::set1(keep_[r]));
      S::store(sums, S::fma(S::to_float(S::load_i(products_[parity][r])), S::set1(take_[r]), kept));
    }
  }

  void sum(const Segment& segment) {
    multiply_values<0>(segment, 0);
    for (int64_t v = 0; v < kv_.vectors; v += 2) {
      multiply_values<1>(segment, v + 1);
      take_sums<0>(v);
      multiply_values<0>(segment, v + 2);
      take_sums<1>(v + 1);
    }
  }

  const AttentionCall& call_;
  const Kv& kv_;
  HeadPieces pieces_;
  // Of the queries that pass:
  int64_t first_ = 0;
  bool fetch_ = false;            // whether they ask for the next segment
  bool together_ = false;         // whether they see the same
  int64_t earliest_ = 0;          // the first token of the segment that any of them sees
  int64_t longest_ = 0;           // the end of what any of them sees
  Sight sights_[kTileRows] = {};  // what each sees
  alignas(64) QueryTile products_[2];
  alignas(64) QueryTile latent_products_[2];
  alignas(64) float scores_[kTileRows * kAttentionSegment];
  alignas(64) uint8_t codes_[kTileRows * kAttentionSegment];
  alignas(64) float most_[kLanes];
  alignas(64) float weights_[kLanes];
  alignas(64) float take_[kLanes];
  alignas(64) float keep_[kLanes];
  // [value_dim / 16][tokens / 4][16 elements][4 tokens]
  alignas(64) std::byte values_[kMostTileValue / kLanes * kSegmentLines * kLineBytes];
};

template <class S>
void attention_int8_amx(const AttentionCall& call) {
  const int64_t queries = call.rows * call.group;
  HeadPieces pieces;
  if (queries < kTileRows || !cut_head(call, pieces)) return attention<S, Int8Kv<S>>(call);
  const Range seen = range_of(call);
  const TileShapes shapes = shapes_of_attention(pieces);
  load_tile_shapes(shapes);
  using Kv = Int8Kv<S, QueryOrder::rows>;
  Kv kv(call);
  TiledAttention<S> tiled(call, kv, pieces);
  for (int64_t s = call.first_segment; s < call.end_segment; ++s) {
    Segment segment = segment_at<Kv>(call, s, seen);
    if (segment.blocks == 0) break;
    enter(call, kv, segment);
    tiled.enter(segment);
    int64_t i = 0;
    for (; i + kTileRows <= queries; i += kTileRows)
      tiled.pass(segment, i);
    pass_all<S>(call, kv, segment, i);
  }
  release_tiles();
}

}  // namespace
}  // namespace tidemill::tensor
