// One attention operation of the CPU device, cut into work for its threads.
//
// Rows of one sequence that follow each other in the batch (a piece of a prompt) are taken in tiles, so that loads of
// keys and values serve many queries; a tile and a KV head are one item of work. Where there are too few items for the
// threads (one stream with a long context on many cores), the segments of each item are spread too: every segment then
// gives its own part, and parts are merged in ascending order, which is what one thread alone does.
#pragma once

#include <vector>

#include "base/memory.hpp"
#include "base/thread_team.hpp"
#include "tensor/device.hpp"
#include "tensor/kernels.hpp"
#include "tensor/kv_cache.hpp"

namespace tidemill::tensor {

class AttentionRunner {
 public:
  AttentionRunner(const Kernels& kernels, base::ThreadTeam& team) : kernels_(kernels), team_(team) {}

  // As Device::attention(). Uses scratch that does not grow with the context.
  void run(const CpuKvCache& cache, int64_t layer, const KvRows& rows, const AttentionRule& rule, ConstMatrix q,
           Matrix out);

 private:
  // Rows first .. first + rows - 1 of the batch, of one sequence.
  struct Tile {
    int64_t first;
    int64_t rows;
    int64_t first_segment;  // that any row sees some of
    int64_t end_segment;    // behind the last one

    int64_t segments() const { return end_segment - first_segment; }
  };
  // What the items of one operation have in common.
  struct Operation {
    const CpuKvCache& cache;
    int64_t layer;
    const KvRows& rows;
    const AttentionRule& rule;
    ConstMatrix q;
    Matrix out;
    int64_t group;
    int64_t padded;        // a value's elements, rounded up to 16
    int64_t window;        // tokens; more than any position where the rule has none
    int64_t call_floats;   // scratch of a call of the longest tile
    AttentionState sinks;  // of all heads, where the rule has some
  };

  void cut_into_tiles(const Operation& op);
  int64_t tile_queries(const Operation& op) const;
  // What the rule's sinks are as a segment's results: of each head its exponent and its weight, and sums of zeros which
  // they all share.
  AttentionState sinks_of(const AttentionRule& rule, KvType type, int64_t padded);
  // `scratch` holds op.call_floats.
  AttentionCall call_for(const Operation& op, const Tile& tile, int64_t head, float* scratch) const;
  void finish(const Operation& op, const Tile& tile, int64_t head, const AttentionState& state) const;
  // `part` is what the tile's rows have of `segment`.
  void merge_part(const Operation& op, const Tile& tile, int64_t segment, const AttentionState& state,
                  const AttentionState& part) const;
  void run_items(const Operation& op);
  void run_segments(const Operation& op);

  const Kernels& kernels_;
  base::ThreadTeam& team_;
  std::vector<Tile> tiles_;
  std::vector<std::vector<float>> scratch_;  // of each member of the team
  std::vector<float> states_;                // of items and of segments, where those are spread
  std::vector<float> sinks_;                 // the state that the rule's sinks are
};

}  // namespace tidemill::tensor
