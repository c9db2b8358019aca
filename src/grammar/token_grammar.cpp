#include "grammar/token_grammar.hpp"

#include <mutex>

#include <fmt/format.h>

#include "grammar/state_store.hpp"

namespace tidemill::grammar {

using base::Error;
using base::ErrorCode;
using text::Token;

struct TokenGrammar::Current {
  std::mutex mutex;
  std::shared_ptr<StateStore> store;
};

TokenGrammar::TokenGrammar(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenIndex> index)
    : grammar_(std::move(grammar)), index_(std::move(index)), current_(std::make_unique<Current>()) {}

TokenGrammar::~TokenGrammar() = default;

namespace {

// A byte that the grammar needs and the vocabulary lacks.
std::string missing_byte(const Expressions& expressions, const ByteSet& known) {
  ByteSet needed;
  for (const char c : expressions.text())
    needed.set(static_cast<uint8_t>(c));
  for (const ByteSet& set : expressions.sets())
    if ((set & known).none()) needed |= set;
  needed &= ~known;
  return needed.any() ? fmt::format("byte 0x{:02X}", needed._Find_first()) : std::string("what the grammar needs");
}

Error too_ambiguous(std::string_view where, const MatchLimits& limits) {
  return {ErrorCode::too_large,
          fmt::format("the grammar is too ambiguous {}: its next tokens take more than {} states, states of more than "
                      "{} parts together, or one of more than {}; give fewer alternatives, with what they have in "
                      "common in front of them",
                      where, limits.max_mask_states, limits.max_mask_work, limits.max_state_weight)};
}

}  // namespace

base::Result<std::shared_ptr<const TokenGrammar>> TokenGrammar::create(std::shared_ptr<const Grammar> grammar,
                                                                       std::shared_ptr<const TokenIndex> index,
                                                                       MatchLimits limits) {
  if (index->end_tokens().empty())
    return Error(ErrorCode::unsupported, "the vocabulary has no token that ends a generation, so no output can end");
  const ByteSet& known = index->single_bytes();
  const Grammar::Restriction restriction{known, [&](Expressions& arena, const std::string& name) {
                                           if (index->control_token(name)) return arena.special(name);
                                           if (index->is_ending(name)) return Expressions::empty;
                                           for (const char c : name)
                                             if (!known[static_cast<uint8_t>(c)]) return Expressions::nothing;
                                           return arena.literal(name);
                                         }};
  auto restricted = grammar->restricted_to(restriction);
  if (!restricted) {
    if (known.all() || restricted.error().code() != ErrorCode::invalid_argument) return restricted.error();
    return Error(ErrorCode::unsupported,
                 fmt::format("the vocabulary has no token for {}, so it cannot spell the grammar",
                             missing_byte(grammar->expressions(), known)));
  }
  if (grammar->limits().stop.stop_requested()) return stopped();
  std::shared_ptr<TokenGrammar> made(new TokenGrammar(*std::move(restricted), std::move(index)));
  auto store = std::make_shared<StateStore>(made->grammar_, made->index_, limits);
  store->look_ahead();
  const StateStore::Tokens& first = store->tokens(store->start());
  if (first.too_large || first.are_short) return too_ambiguous("at its start", limits);
  made->current_->store = std::make_shared<StateStore>(*store);
  made->first_ = std::move(store);
  return std::shared_ptr<const TokenGrammar>(std::move(made));
}

std::shared_ptr<StateStore> TokenGrammar::fresh(const std::shared_ptr<StateStore>& full) const {
  const std::lock_guard lock(current_->mutex);
  if (current_->store == full || full == nullptr) {
    if (full != nullptr) current_->store = std::make_shared<StateStore>(*first_);
  }
  return current_->store;
}

size_t TokenGrammar::memory() const {
  const std::shared_ptr<StateStore> current = fresh(nullptr);
  const std::lock_guard lock(current->mutex());
  const Expressions& expressions = grammar_->expressions();
  return expressions.memory() + expressions.automata_memory() + first_->memory() + current->memory();
}

Matcher TokenGrammar::start() const {
  std::shared_ptr<StateStore> store = fresh(nullptr);
  uint32_t state = 0;
  {
    const std::lock_guard lock(store->mutex());
    state = store->start();
  }
  return {shared_from_this(), std::move(store), state};
}

Matcher::Matcher(std::shared_ptr<const TokenGrammar> grammar, std::shared_ptr<StateStore> store, uint32_t state)
    : grammar_(std::move(grammar)), store_(std::move(store)), state_(state) {}

// The store's mutex held, for as long as the guard lives, on a store that has room.
std::unique_lock<std::mutex> Matcher::use_store() const {
  std::unique_lock lock(store_->mutex());
  if (!store_->is_full()) return lock;
  std::shared_ptr<StateStore> next = grammar_->fresh(store_);
  if (next == store_) return lock;
  std::unique_lock next_lock(next->mutex(), std::defer_lock);
  lock.unlock();
  std::lock(lock, next_lock);
  state_ = next->import(*store_, state_);
  lock.unlock();
  store_ = std::move(next);
  return next_lock;
}

base::Result<const TokenMask*> Matcher::allowed() {
  const auto lock = use_store();
  const StateStore::Tokens& tokens = store_->tokens(state_);
  mask_.reset();
  if (tokens.too_large) return too_ambiguous("at this point of the output", store_->limits());
  if (tokens.more.empty() && tokens.base != nullptr) {
    mask_ = tokens.base;
    return mask_.get();
  }
  if (own_mask_.use_count() != 1) own_mask_ = std::make_shared<TokenMask>();
  if (tokens.base != nullptr)
    *own_mask_ = *tokens.base;
  else
    own_mask_->clear(grammar_->index_->vocabulary_size());
  for (const Token token : tokens.more)
    own_mask_->set(token);
  mask_ = own_mask_;
  return mask_.get();
}

bool Matcher::accept(Token token) {
  const auto lock = use_store();
  const uint32_t next = store_->after(state_, token);
  if (next == StateStore::dead) return false;
  state_ = next;
  return true;
}

bool Matcher::can_end() const {
  const auto lock = use_store();
  return store_->can_end(state_);
}

bool Matcher::must_end() const {
  const auto lock = use_store();
  return store_->must_end(state_);
}

std::vector<Token> Matcher::forced(size_t most) const {
  const auto lock = use_store();
  return store_->forced(state_, most);
}

}  // namespace tidemill::grammar
