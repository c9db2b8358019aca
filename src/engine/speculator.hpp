// Decides how many proposed tokens each decoding sequence has verified in a step.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "engine/proposer.hpp"
#include "engine/scheduler.hpp"
#include "engine/speculation.hpp"
#include "engine/step_cost.hpp"

namespace tidemill::engine {

// A proposed token is a further row of its sequence's slice: right, it saves the sequence a step; wrong, it was in
// vain; and either way it makes the step longer for all that take part. So rows are added while the step is expected to
// yield more tokens for its time. What to expect is learned: each sequence's share of right tokens, apart for proposals
// with little and with much support, and what rows cost (StepCost).
//
// Expectations can fail, so there is a bound as well. Each sequence has an allowance, in steps: a quarter of one to
// begin with, and a hundredth for each step that it takes part in. What further rows lengthen a step by is taken from
// the allowance of every sequence in it, whoever proposed them, and each right token gives its sequence one step. Rows
// that somebody's allowance does not cover are not added. So, as far as StepCost is true, no sequence of N tokens loses
// more than (0.25 + 0.01 N) steps to speculation, its neighbours' included.
//
// Only steps that decode and nothing else are extended. Timing decides what is tried and never what comes out of it.
// Used by the engine's thread alone.
class Speculator {
 public:
  explicit Speculator(const SpeculationOptions& options);

  // What to try with each slice of the plan, at most `most[i]` tokens of slice i; valid until the next call. Empty
  // lists for a plan in which anything but decoding goes on.
  std::span<const std::span<const Token>> choose(std::span<const Slice> plan, std::span<const int64_t> most);

  // The plan that was last chosen for was carried out in `time` with the tokens that are in its slices now, of which
  // `accepted[i]` of slice i were right.
  void observe(std::span<const Slice> plan, std::span<const int64_t> accepted, base::Duration time);

  void forget(const Sequence& sequence) { streams_.erase(&sequence); }
  int64_t streams() const { return std::ssize(streams_); }

 private:
  static constexpr size_t kSupports = 4;

  // How often proposals of one kind were right of late, of one sequence.
  struct Record {
    double right = 0;
    double tried = 0;
  };
  struct Stream {
    std::unique_ptr<Proposer> proposer;
    std::array<Record, kSupports> records;
    size_t support = 0;  // of the present proposal
    double allowance;    // steps
  };
  // One further row.
  struct Row {
    double probability;  // that its token, and all those before it, are right
    size_t slice;
  };

  Stream& stream(const Sequence& sequence);
  void propose(std::span<const Slice> plan, std::span<const int64_t> most);
  double least_allowance(std::span<const Slice> plan);
  void limit(std::span<const Slice> plan);
  size_t best_rows(int64_t plain, int64_t context, double allowance) const;

  SpeculationOptions options_;
  StepCost cost_;
  std::unordered_map<const Sequence*, Stream> streams_;
  std::vector<std::span<const Token>> chosen_;  // by slice
  std::vector<Row> rows_;
  std::vector<size_t> counts_;  // by slice: rows of the best ones
  bool decodes_ = false;        // the present plan, and nothing else
  int64_t since_plain_ = 0;     // steps
};

}  // namespace tidemill::engine
