#include "engine/scheduler.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace tidemill::engine {
namespace {

// Rows whose logits are wanted one and all are planned in smaller chunks: each costs a row of the vocabulary's size.
constexpr int64_t kMaxLogitRows = 64;

}  // namespace

Scheduler::Scheduler(KvBlocks& blocks, SchedulerLimits limits) : blocks_(blocks), limits_(limits) {
  assert(limits.step_tokens > 0 && limits.max_running > 0 && limits.max_running <= limits.step_tokens);
}

void Scheduler::add(Sequence& sequence) {
  assert(sequence.state() == Sequence::State::waiting);
  waiting_.insert(&sequence);
}

void Scheduler::remove(Sequence& sequence) {
  if (sequence.state() == Sequence::State::finished) return;
  waiting_.erase(&sequence);
  resting_.erase(&sequence);
  std::erase(running_, &sequence);
  release_blocks(sequence);
  sequence.state_ = Sequence::State::finished;
}

void Scheduler::rest(Sequence& sequence) {
  using State = Sequence::State;
  if (sequence.state() != State::waiting && sequence.state() != State::running) return;
  waiting_.erase(&sequence);
  std::erase(running_, &sequence);
  sequence.state_ = State::resting;
  resting_.insert(&sequence);
}

void Scheduler::wake(Sequence& sequence) {
  if (sequence.state() != Sequence::State::resting) return;
  resting_.erase(&sequence);
  sequence.state_ = Sequence::State::waiting;
  waiting_.insert(&sequence);
}

std::vector<Slice> Scheduler::plan() {
  budget_ = limits_.step_tokens;
  plan_.clear();
  admit_woken();
  // Indices, because whoever is scheduled may throw others off the end.
  for (size_t i = 0; i < running_.size(); ++i) {
    if (running_[i]->pending() == 1) schedule(*running_[i], 1);
  }
  for (size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
    if (running_[i]->pending() > 1) schedule(*running_[i], running_[i]->pending());
  }
  admit_waiting();
  assert(!plan_.empty() || (running_.empty() && waiting_.empty()));
  return std::exchange(plan_, {});
}

// Plans up to `count` tokens of a running sequence, as far as budget and blocks go; false if that is none.
bool Scheduler::schedule(Sequence& sequence, int64_t count) {
  count = std::min(count, budget_);
  if (sequence.harvest() == Harvest::logits) count = std::min(count, kMaxLogitRows);
  count = secure_blocks(sequence, count);
  if (count <= 0) return false;
  plan_.push_back({&sequence, sequence.computed(), count});
  budget_ -= count;
  return true;
}

// Gets the blocks for `count` more tokens, from sequences that do not run and then from those that rank behind; how
// many tokens there is room for.
int64_t Scheduler::secure_blocks(Sequence& sequence, int64_t count) {
  const int64_t wanted = blocks_.blocks_for(sequence.computed() + count);
  while (std::ssize(sequence.blocks_) < wanted) {
    if (const std::optional<Block> block = blocks_.allocate()) {
      sequence.blocks_.push_back(*block);
    } else if (!reclaim()) {
      if (running_.back() == &sequence) break;
      preempt(*running_.back());
    }
  }
  return std::min(count, std::ssize(sequence.blocks_) * blocks_.block_tokens() - sequence.computed());
}

// The keys and values of proposed tokens are written behind those that count as computed, in blocks that no one shares:
// a sequence shares only whole blocks of computed tokens. Wrong ones are overwritten by the tokens that come instead.
// Every running sequence is left a block to grow into.
int64_t Scheduler::extend(const Slice& slice, int64_t rows) {
  Sequence& sequence = *slice.sequence;
  assert(sequence.state() == Sequence::State::running && slice.begin + slice.count == sequence.size());
  rows = std::min(rows, budget_);
  if (rows <= 0) return 0;
  const int64_t wanted = blocks_.blocks_for(sequence.size() + rows);
  while (std::ssize(sequence.blocks_) < wanted && blocks_.available() > running()) {
    sequence.blocks_.push_back(*blocks_.allocate());
  }
  rows = std::min(rows, std::ssize(sequence.blocks_) * blocks_.block_tokens() - sequence.size());
  budget_ -= rows;
  return rows;
}

// Those that come next and have their blocks: they decode in this step, before prefill takes what is left of it.
void Scheduler::admit_woken() {
  const auto next = [&] { return std::ranges::find_if(waiting_, [](const Sequence* s) { return !s->must_follow(); }); };
  for (auto first = next(); first != waiting_.end(); first = next()) {
    if ((*first)->blocks_.empty() || !admit(**first)) return;
    waiting_.erase(first);
  }
}

void Scheduler::admit_waiting() {
  for (auto next = waiting_.begin(); next != waiting_.end() && budget_ > 0;) {
    Sequence& sequence = **next;
    if (sequence.must_follow()) {
      ++next;
      continue;
    }
    if (!admit(sequence)) return;
    // Admission may have sent others back to wait, behind this one.
    next = waiting_.upper_bound(&sequence);
    waiting_.erase(&sequence);
    schedule(sequence, sequence.pending());
  }
}

bool Scheduler::admit(Sequence& sequence) {
  const bool woke = !sequence.blocks_.empty();
  std::vector<Block> reused;
  if (!woke) reused = reusable_blocks(sequence);
  const int64_t held = std::ssize(woke ? sequence.blocks_ : reused);
  if (!make_room(sequence, std::max<int64_t>(0, blocks_.blocks_for(sequence.size()) - held))) {
    while (!reused.empty()) {
      blocks_.release(reused.back());
      reused.pop_back();
    }
    return false;
  }
  if (!woke) {
    sequence.blocks_ = std::move(reused);
    sequence.computed_ = std::ssize(sequence.blocks_) * blocks_.block_tokens();
    sequence.published_ = std::ssize(sequence.blocks_);
  }
  sequence.state_ = Sequence::State::running;
  if (!sequence.ever_ran_) sequence.cached_at_start_ = sequence.computed_;
  sequence.ever_ran_ = true;
  running_.insert(std::ranges::upper_bound(running_, &sequence, ByRank{}), &sequence);
  return true;
}

// Whether the sequence may run: a place among the running, and the blocks it needs beside those promised to others. The
// running ones are each left one block to grow into, lest the newcomer be thrown out at once. What does not run gives
// up what is lacking, and nothing where that is more than it has.
bool Scheduler::make_room(const Sequence& sequence, int64_t blocks_needed) {
  const auto lacking = [&] { return blocks_needed + promised_blocks(running_) + running() - blocks_.available(); };
  const auto fits = [&] {
    if (running() >= limits_.max_running) return false;
    if (running_.empty() || lacking() <= 0) return true;
    if (lacking() > blocks_.freed_by(idle_blocks(sequence))) return false;
    while (lacking() > 0) {
      if (!reclaim(&sequence)) return false;
    }
    return true;
  };
  const auto yields = [&](const Sequence& other) {
    return other.priority() > sequence.priority() && other.rank() > sequence.rank();
  };
  if (fits()) return true;
  // Nobody is displaced in vain: when those at the end have yielded, it must fit beside the others.
  std::span<Sequence* const> stay = running_;
  std::vector<Block> given = idle_blocks(sequence);
  for (; !stay.empty() && yields(*stay.back()); stay = stay.first(stay.size() - 1))
    given.insert(given.end(), stay.back()->blocks_.begin(), stay.back()->blocks_.end());
  if (stay.size() == running_.size()) return false;
  const int64_t wanted = blocks_needed + promised_blocks(stay) + std::ssize(stay);
  if (wanted > blocks_.available() + blocks_.freed_by(given)) return false;
  while (!running_.empty() && yields(*running_.back())) {
    preempt(*running_.back());
    if (fits()) return true;
  }
  return false;
}

// Blocks that hold the beginning of the sequence already, now held by it too: from the prefix cache or from its leader.
std::vector<Block> Scheduler::reusable_blocks(const Sequence& sequence) {
  const int64_t limit = sequence.reusable() / blocks_.block_tokens();
  std::vector<Block> found = blocks_.match(sequence.tenant(), sequence.tokens(), limit);
  const Sequence* leader = sequence.leader();
  if (leader == nullptr || leader->state() != Sequence::State::running) return found;
  const int64_t computed = std::min(leader->computed(), sequence.prompt_size());
  const int64_t shared = std::min(limit, computed / blocks_.block_tokens());
  for (int64_t i = std::ssize(found); i < shared; ++i) {
    const Block block = leader->blocks()[static_cast<size_t>(i)];
    blocks_.retain(block);
    found.push_back(block);
  }
  return found;
}

// Blocks that these lack for the tokens they have.
int64_t Scheduler::promised_blocks(std::span<Sequence* const> to) const {
  int64_t promised = 0;
  for (const Sequence* other : to) {
    promised += std::max<int64_t>(0, blocks_.blocks_for(other->size()) - std::ssize(other->blocks_));
  }
  return promised;
}

// What all hold that do not run, `but` aside.
std::vector<Block> Scheduler::idle_blocks(const Sequence& but) const {
  std::vector<Block> held;
  for (const auto* idle : {&resting_, &waiting_}) {
    for (const Sequence* other : *idle) {
      if (other != &but) held.insert(held.end(), other->blocks_.begin(), other->blocks_.end());
    }
  }
  return held;
}

void Scheduler::preempt(Sequence& sequence) {
  const auto planned = std::ranges::find(plan_, &sequence, &Slice::sequence);
  if (planned != plan_.end()) {
    budget_ += planned->count;
    plan_.erase(planned);
  }
  std::erase(running_, &sequence);
  release_blocks(sequence);
  sequence.state_ = Sequence::State::waiting;
  waiting_.insert(&sequence);
  ++preemptions_;
}

// Takes what the last in rank holds of those that rest, or else of those that woke, `but` aside; false: none of them
// holds anything.
bool Scheduler::reclaim(const Sequence* but) {
  const auto gives = [&](const Sequence* sequence) { return sequence != but && !sequence->blocks_.empty(); };
  for (const auto* idle : {&resting_, &waiting_}) {
    const auto last = std::find_if(idle->rbegin(), idle->rend(), gives);
    if (last == idle->rend()) continue;
    release_blocks(**last);
    ++preemptions_;
    return true;
  }
  return false;
}

void Scheduler::release_blocks(Sequence& sequence) {
  while (!sequence.blocks_.empty()) {
    blocks_.release(sequence.blocks_.back());
    sequence.blocks_.pop_back();
  }
  sequence.computed_ = 0;
  sequence.published_ = 0;
}

std::optional<Sequence::FullyComputed> Scheduler::computed(const Slice& slice) {
  Sequence& sequence = *slice.sequence;
  const auto proof = sequence.advance(slice.count);
  if (sequence.harvest() == Harvest::hidden) return proof;  // nobody asks for the continuation of an embedded text
  const int64_t width = blocks_.block_tokens();
  for (; (sequence.published_ + 1) * width <= sequence.computed(); ++sequence.published_) {
    const auto at = static_cast<size_t>(sequence.published_);
    const auto previous = at == 0 ? std::nullopt : std::optional(sequence.blocks_[at - 1]);
    const auto tokens = sequence.tokens().subspan(at * static_cast<size_t>(width), static_cast<size_t>(width));
    sequence.blocks_[at] = blocks_.publish(sequence.tenant(), previous, tokens, sequence.blocks_[at]);
  }
  return proof;
}

base::Result<void> Scheduler::audit(std::span<const Block> also_owned) const {
  std::vector<Block> owned(also_owned.begin(), also_owned.end());
  std::vector<const Sequence*> all(running_.begin(), running_.end());
  all.insert(all.end(), resting_.begin(), resting_.end());
  all.insert(all.end(), waiting_.begin(), waiting_.end());
  for (const Sequence* sequence : all) {
    owned.insert(owned.end(), sequence->blocks_.begin(), sequence->blocks_.end());
    if (blocks_.blocks_for(sequence->computed()) > std::ssize(sequence->blocks_)) {
      return base::Error(base::ErrorCode::internal, "tokens of a sequence count as computed that no KV block holds");
    }
  }
  return blocks_.audit(owned);
}

}  // namespace tidemill::engine
