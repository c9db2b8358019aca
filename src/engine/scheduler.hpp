// Decides what each step computes, and which sequences hold KV blocks meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "engine/kv_blocks.hpp"
#include "engine/sequence.hpp"

namespace tidemill::engine {

// Tokens [begin, begin + count) of a sequence, to be computed in one step; and perhaps, where these are its last,
// tokens that are proposed to follow them, each with its logits.
struct Slice {
  Sequence* sequence = nullptr;
  int64_t begin = 0;
  int64_t count = 0;
  std::span<const Token> proposed = {};
};

struct SchedulerLimits {
  int64_t step_tokens = 512;  // of one step, over all sequences
  int64_t max_running = 64;   // sequences; at most step_tokens
};

// Each plan is one pass with one token budget, everyone in the order of rank: first those with a single pending token
// (decode), then the rest of the running ones (chunked prefill), then the waiting ones are let in.
//
// A sequence that needs a block when none is left takes it from the running sequence of the highest rank value: that
// one loses its blocks, waits, and later computes again what the prefix cache has not kept. The sequence of the highest
// rank value itself pauses instead. A waiting sequence displaces running ones of lower priority only; else it waits
// until its whole prompt fits beside what the others still need, and nobody overtakes it. So the first in rank always
// makes progress, and by the definition of Rank everybody is first at some time.
//
// Sequences that rest take part in none of this. They keep the blocks that they have as long as nobody else needs them,
// and give them up before any other does; but not in vain: a waiting sequence takes them only if they let it in. One
// that is woken waits in its rank, with its blocks: it gives them up after those that rest and before any that runs,
// and when its turn comes it goes on where it stands, ahead of prefill.
//
// Not thread-safe: the engine's thread owns it.
class Scheduler {
 public:
  // Every sequence's tokens must fit into `blocks` when it is alone.
  Scheduler(KvBlocks& blocks, SchedulerLimits limits);

  // A new sequence waits. It must outlive its stay.
  void add(Sequence& sequence);
  // A sequence in any state is finished and its blocks are given up. Idempotent.
  void remove(Sequence& sequence);

  // Between two steps: a waiting or running sequence rests until wake(). Others: nothing happens.
  void rest(Sequence& sequence);
  // A resting sequence waits, with the blocks that it has still; the next plan may let it in. Others: nothing happens.
  void wake(Sequence& sequence);

  // Whether anything is here that does not rest.
  bool has_work() const { return !running_.empty() || !waiting_.empty(); }
  // The next step: no two slices of one sequence. Empty only without work.
  std::vector<Slice> plan();
  // Room for up to `rows` proposed tokens after a slice of the plan just made: how many rows that is. They get what the
  // step's budget has left and blocks that nobody is waiting for, and nobody is set back for them.
  int64_t extend(const Slice& slice, int64_t rows);
  // The slice has been computed (but for its proposed tokens: each of those that turned out right is a slice of its
  // own, when it has been appended). Its full blocks become findable; where others hold the same content already, the
  // sequence takes theirs. The right to append a token if the sequence has no more pending.
  std::optional<Sequence::FullyComputed> computed(const Slice& slice);

  int64_t running() const { return std::ssize(running_); }
  int64_t waiting() const { return std::ssize(waiting_); }
  uint64_t preemptions() const { return preemptions_; }

  // Checks that every block is free, cached, or held by the sequences that say so.
  base::Result<void> audit(std::span<const Block> also_owned = {}) const;

 private:
  struct ByRank {
    bool operator()(const Sequence* a, const Sequence* b) const { return a->rank() < b->rank(); }
  };

  bool schedule(Sequence& sequence, int64_t count);
  int64_t secure_blocks(Sequence& sequence, int64_t count);
  void admit_woken();
  void admit_waiting();
  bool admit(Sequence& sequence);
  bool make_room(const Sequence& sequence, int64_t blocks_needed);
  std::vector<Block> reusable_blocks(const Sequence& sequence);
  int64_t promised_blocks(std::span<Sequence* const> to) const;
  std::vector<Block> idle_blocks(const Sequence& but) const;
  void preempt(Sequence& sequence);
  bool reclaim(const Sequence* but = nullptr);
  void release_blocks(Sequence& sequence);

  KvBlocks& blocks_;
  SchedulerLimits limits_;
  std::vector<Sequence*> running_;  // in the order of rank
  std::set<Sequence*, ByRank> waiting_;
  std::set<Sequence*, ByRank> resting_;
  std::vector<Slice> plan_;  // while plan() runs
  int64_t budget_ = 0;       // what is left of the step's
  uint64_t preemptions_ = 0;
};

}  // namespace tidemill::engine
