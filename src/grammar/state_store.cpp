#include "grammar/state_store.hpp"

#include <algorithm>
#include <deque>

namespace tidemill::grammar {

using text::Token;

StateStore::StateStore(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenIndex> index,
                       const MatchLimits& limits)
    : grammar_(std::move(grammar)),
      index_(std::move(index)),
      limits_(limits),
      classes_(grammar_->expressions()),
      derivatives_(grammar_->expressions()) {
  for (const std::string& name : grammar_->expressions().names())
    special_tokens_.push_back(index_->control_token(name).value_or(-1));
  state_of(Expressions::nothing);
}

StateStore::StateStore(const StateStore& other)
    : grammar_(other.grammar_),
      index_(other.index_),
      limits_(other.limits_),
      classes_(other.classes_),
      derivatives_(other.derivatives_),
      special_tokens_(other.special_tokens_),
      states_(other.states_),
      numbers_(other.numbers_),
      transitions_(other.transitions_),
      charged_(other.charged_),
      tokens_(other.tokens_),
      heads_(other.heads_),
      token_memory_(other.token_memory_),
      walk_(other.walk_) {}

size_t StateStore::memory() const {
  return derivatives_.memory() + states_.capacity() * (sizeof(State) + 48) + transitions_.capacity() * 8 +
         token_memory_;
}

uint32_t StateStore::start() {
  return state_of(grammar_->root());
}

// A node far over the limits is the dead state.
uint32_t StateStore::state_of(NodeIndex node) {
  const Node& expression = derivatives_.expressions().at(node);
  const bool is_new_node = node >= derivatives_.expressions().frozen();
  const uint32_t max_depth = 2 * grammar_->limits().max_left_depth;
  if (is_new_node && (expression.weight / 8 > limits_.max_state_weight || expression.depth / 2 > max_depth))
    return dead;
  const auto [found, is_new] = numbers_.try_emplace(node, static_cast<uint32_t>(states_.size()));
  if (is_new) {
    const bool is_heavy = is_new_node && (expression.weight > limits_.max_state_weight || expression.depth > max_depth);
    states_.push_back({.node = node, .is_heavy = is_heavy});
  }
  return found->second;
}

uint32_t StateStore::step(uint32_t state, uint8_t byte) {
  const uint32_t row = states_[state].row;
  if (row != kUnknown) {
    const uint32_t next = transitions_[row + classes_.class_of[byte]];
    if (next != kUnknown) return next;
  }
  return compute_step(state, byte);
}

uint32_t StateStore::compute_step(uint32_t state, uint8_t byte) {
  if (!first(state)[byte]) return dead;
  const uint32_t next = state_of(derivatives_.by_byte(states_[state].node, byte));
  if (states_[state].row == kUnknown) {
    states_[state].row = static_cast<uint32_t>(transitions_.size());
    transitions_.resize(transitions_.size() + classes_.member.size(), kUnknown);
    charged_.resize(transitions_.size(), 0);
  }
  transitions_[states_[state].row + classes_.class_of[byte]] = next;
  return next;
}

uint32_t StateStore::after_special(uint32_t state, uint32_t name) {
  return expression(state).special_first ? state_of(derivatives_.by_special(states_[state].node, name)) : dead;
}

uint32_t StateStore::after(uint32_t state, Token token) {
  if (token < 0 || static_cast<size_t>(token) >= index_->vocabulary_size()) return dead;
  if (index_->tokenizer().ends_generation(token)) return can_end(state) ? state_of(Expressions::empty) : dead;
  if (!index_->is_text(token)) {
    const auto name = std::find(special_tokens_.begin(), special_tokens_.end(), token);
    return name == special_tokens_.end() ? dead
                                         : after_special(state, static_cast<uint32_t>(name - special_tokens_.begin()));
  }
  uint32_t next = state;
  for (const char c : index_->tokenizer().piece_bytes(token)) {
    next = step(next, static_cast<uint8_t>(c));
    if (next == dead) break;
  }
  return !states_[next].is_heavy || allows(state, token) ? next : dead;
}

bool StateStore::allows(uint32_t state, Token token) {
  const Tokens& all = tokens(state);
  return (all.base != nullptr && all.base->test(token)) ||
         std::find(all.more.begin(), all.more.end(), token) != all.more.end();
}

uint32_t StateStore::import(const StateStore& other, uint32_t state) {
  std::unordered_map<NodeIndex, NodeIndex> memory;
  return state_of(
      derivatives_.expressions().import(other.derivatives_.expressions(), other.states_[state].node, memory));
}

// The state behind the bytes that must come, at most `most`, which is counted down.
uint32_t StateStore::follow_forced(uint32_t state, size_t& most) {
  for (; most > 0 && !can_end(state) && !expression(state).special_first && first(state).count() == 1; --most) {
    const uint32_t next = step(state, static_cast<uint8_t>(first(state)._Find_first()));
    if (next == dead || next == state) break;
    state = next;
  }
  return state;
}

void StateStore::look_ahead() {
  constexpr size_t kWide = 64;  // bytes; states that allow fewer to come next are quickly computed when they are needed
  const size_t max_memory = limits_.max_memory / 4;
  std::deque<uint32_t> queue{start()};
  std::unordered_map<uint32_t, bool> seen;
  const auto enqueue = [&](uint32_t state) {
    if (state != dead && seen.try_emplace(state, true).second) queue.push_back(state);
  };
  tokens(queue.front());
  size_t work = 0;
  size_t forced_bytes = 16 * limits_.states_ahead;
  for (size_t count = 0; count < limits_.states_ahead && !queue.empty(); ++count) {
    const uint32_t state = follow_forced(queue.front(), forced_bytes);
    queue.pop_front();
    seen.try_emplace(state, true);
    if (first(state).count() >= kWide) {
      tokens(state);
      work += walk_work_ + 1000;
    }
    if (work > limits_.max_mask_work || memory() > max_memory) return;
    for (const uint8_t byte : classes_.member) {
      if (!first(state)[byte]) continue;
      const uint32_t next = step(state, byte);
      work += 1 + expression(next).weight + expression(state).weight / 16;
      enqueue(next);
    }
    for (uint32_t name = 0; name < special_tokens_.size() && name < 64; ++name)
      enqueue(after_special(state, name));
  }
}

}  // namespace tidemill::grammar
