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
  while (entries_.size() > kept || key_bytes_ > kept_key_bytes) {
    key_bytes_ -= entries_.back().key.size();
    by_key_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

Result<GrammarCache::Grammar> GrammarCache::compile(const Build& build) {
  std::call_once(indexed_, [this] { index_ = std::make_shared<const grammar::TokenIndex>(tokenizer_); });
  grammar::GrammarBuilder builder;
  TM_TRY(const grammar::Expression root, build(builder));
  TM_TRY(const std::shared_ptr<const grammar::Grammar> compiled, std::move(builder).build(root));
  return grammar::TokenGrammar::create(compiled, index_);
}

Result<GrammarCache::Grammar> GrammarCache::find_or_compile(const std::string& key, const Build& build) {
  if (auto found = find(key)) return *found;
  Result<Grammar> outcome = compile(build);
  keep(key, outcome);
  return outcome;
}

}  // namespace tidemill::serve
