#include "serve/grammar_cache.hpp"

namespace tidemill::serve {

GrammarCache::Grammar GrammarCache::find(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->second;
}

void GrammarCache::keep(const std::string& key, const Grammar& grammar) {
  const std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return;
  entries_.emplace_front(key, grammar);
  by_key_.emplace(key, entries_.begin());
  if (entries_.size() <= kept) return;
  by_key_.erase(entries_.back().first);
  entries_.pop_back();
}

base::Result<GrammarCache::Grammar> GrammarCache::find_or_compile(const std::string& key, const Build& build) {
  if (Grammar found = find(key)) return found;
  std::call_once(indexed_, [this] { index_ = std::make_shared<const grammar::TokenIndex>(tokenizer_); });
  grammar::GrammarBuilder builder;
  TM_TRY(const grammar::Expression root, build(builder));
  TM_TRY(const std::shared_ptr<const grammar::Grammar> compiled, std::move(builder).build(root));
  TM_TRY(const Grammar bound, grammar::TokenGrammar::create(compiled, index_));
  keep(key, bound);
  return bound;
}

}  // namespace tidemill::serve
