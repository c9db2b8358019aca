// One choice of one request on its way through the engine: its tokens and the KV blocks that hold what was computed of
// them.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/block_pool.hpp"
#include "engine/sampling.hpp"

namespace tidemill::engine {

// Who goes first. `due` is the arrival in nanoseconds, later by a fixed time for each step of priority: within that
// time priorities rule, and beyond it nobody waits for those who came after. Smaller is sooner.
struct Rank {
  int64_t due = 0;
  uint64_t arrival = 0;  // of the request, counted
  int choice = 0;
  auto operator<=>(const Rank&) const = default;
};

// What is wanted of the rows of the tokens that a sequence begins with, besides the token that follows the last one.
enum class Harvest : uint8_t {
  nothing,
  logits,  // of every row that has a next token among them: its probability is asked for
  hidden,  // of every row: they are pooled into an embedding
};

struct SequenceSpec {
  std::vector<Token> prompt;   // not empty
  std::vector<Token> resumed;  // that count as generated, and are computed as the prompt is
  std::string tenant;
  Rank rank;
  int priority = 0;
  Harvest harvest = Harvest::nothing;
  int64_t harvest_from = 0;  // the first row that is wanted
  bool samples = true;       // whether a token follows
};

// One counter, computed(), serves prefill, decode and recomputing after a preemption alike: a step computes some of
// pending(). Only when nothing is pending can tokens be appended, and the type system holds us to it: append() wants a
// FullyComputed, which only advance() makes.
//
// Used by the engine's thread alone. The scheduler changes state and blocks; everyone else reads.
class Sequence {
 public:
  // `leader` is the request's first choice, if this is another one: it computes the prompt that all share.
  explicit Sequence(SequenceSpec spec, const Sequence* leader = nullptr);

  enum class State : uint8_t {
    waiting,
    running,
    resting,  // computed no further until it is woken
    finished,
  };

  // The right to append the one token that follows a sequence of which all tokens are computed.
  class FullyComputed {
    friend class Sequence;
    FullyComputed() = default;
  };

  State state() const { return state_; }
  const Rank& rank() const { return spec_.rank; }
  int priority() const { return spec_.priority; }
  int choice() const { return spec_.rank.choice; }
  const std::string& tenant() const { return spec_.tenant; }
  Harvest harvest() const { return spec_.harvest; }

  // Prompt and output.
  std::span<const Token> tokens() const { return tokens_; }
  std::span<const Token> prompt() const { return std::span(tokens_).first(prompt_size_); }
  int64_t size() const { return std::ssize(tokens_); }
  int64_t prompt_size() const { return static_cast<int64_t>(prompt_size_); }
  // Of the tokens that it began with: the prompt and what was resumed.
  int64_t given_size() const { return static_cast<int64_t>(given_size_); }
  int64_t generated() const { return size() - prompt_size(); }

  // Tokens whose keys and values lie in blocks(); the others are pending.
  int64_t computed() const { return computed_; }
  int64_t pending() const { return size() - computed_; }
  std::span<const Block> blocks() const { return blocks_; }
  // Tokens that were found in the prefix cache when the sequence first ran; after a prompt perhaps some that it
  // resumes.
  int64_t cached_at_start() const { return cached_at_start_; }
  bool ever_ran() const { return ever_ran_; }

  // Whether the row at `position` gives something that is wanted and was not taken before.
  bool wants_logits(int64_t position) const;
  bool wants_hidden(int64_t position) const;
  // How many tokens at most may come from blocks that were computed before: the rows after them are wanted. At least
  // the last token is computed anew, for its logits.
  int64_t reusable() const;

  // Whether this choice must let its leader compute the prompt first.
  bool must_follow() const;
  const Sequence* leader() const { return leader_; }

  // The token that follows, and perhaps others that follow it whatever the model would say.
  void append(FullyComputed proof, std::span<const Token> tokens);

 private:
  friend class Scheduler;

  // Counts `count` more tokens as computed (and their rows' outputs as taken); the right to append when that was all.
  std::optional<FullyComputed> advance(int64_t count);

  SequenceSpec spec_;  // without prompt and resumed, which moved to tokens_
  const Sequence* leader_;
  size_t prompt_size_;
  size_t given_size_;
  std::vector<Token> tokens_;
  State state_ = State::waiting;
  int64_t computed_ = 0;
  int64_t harvested_;         // rows whose outputs were taken or are not wanted; survives a preemption
  bool prompt_done_ = false;  // the whole prompt has been computed once
  bool ever_ran_ = false;
  int64_t cached_at_start_ = 0;
  std::vector<Block> blocks_;
  int64_t published_ = 0;  // of blocks_, how many are in the prefix tree
};

}  // namespace tidemill::engine
