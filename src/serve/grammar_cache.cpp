#include "serve/grammar_cache.hpp"

#include <optional>
#include <utility>

namespace tidemill::serve {

using base::Result;

std::optional<Result<GrammarCache::Grammar>> GrammarCache::find(std::string_view key) {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->outcome;
}

void GrammarCache::keep(const std::string& key, const Result<Grammar>& outcome) {
  if (key.size() > kept_key_bytes) return;
  const std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return;
  entries_.push_front({key, outcome});
  by_key_.emplace(entries_.front().key, entries_.begin());
  key_bytes_ += key.size();
  // Grammars grow by what is computed while they are used.
  const auto over = [this] {
    return entries_.size() > kept || key_bytes_ > kept_key_bytes ||
           (entries_.size() > 1 && grammar_bytes() > max_bytes_);
  };
  while (over()) {
    key_bytes_ -= entries_.back().key.size();
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

size_t GrammarCache::grammar_bytes() const {
  size_t bytes = 0;
  for (const Entry& entry : entries_)
    bytes += entry.outcome ? (*entry.outcome)->memory() : 0;
  return bytes;
}

grammar::GrammarLimits GrammarCache::limits(Effort effort) {
  grammar::GrammarLimits limits;
  if (effort == Effort::full) return limits;
  constexpr size_t share = 20;
  limits.max_nodes /= share;
  limits.max_alternatives /= share;
  limits.max_states /= share;
  limits.max_source_bytes /= share;
  limits.max_text_bytes /= share;
  return limits;
}

Result<GrammarCache::Grammar> GrammarCache::compile(const Build& build, Effort effort) {
  std::call_once(indexed_, [this] { index_ = std::make_shared<const grammar::TokenIndex>(tokenizer_); });
  grammar::GrammarBuilder builder(limits(effort));
  TM_TRY(const grammar::Expression root, build(builder));
  TM_TRY(const std::shared_ptr<const grammar::Grammar> compiled, std::move(builder).build(root));
  return grammar::TokenGrammar::create(compiled, index_);
}

Result<GrammarCache::Grammar> GrammarCache::find_or_compile(const std::string& key, const Build& build, Effort effort) {
  if (auto found = find(key)) return *found;
  Result<Grammar> outcome = compile(build, effort);
  const bool put_off = effort == Effort::slight && !outcome && outcome.error().code() == base::ErrorCode::too_large;
  if (!put_off) keep(key, outcome);
  return outcome;
}

}  // namespace tidemill::serve
