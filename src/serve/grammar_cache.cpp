#include "serve/grammar_cache.hpp"

#include <iterator>
#include <optional>
#include <unordered_set>
#include <utility>
#include <vector>

namespace tidemill::serve {

using base::Result;

std::optional<Result<GrammarCache::Grammar>> GrammarCache::find(std::string_view key) {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, found->second);
  return found->second->outcome;
}

// Of two keys with one hash, the second only has less haste.
bool GrammarCache::is_large(std::string_view key) {
  const std::lock_guard lock(mutex_);
  return large_.contains(std::hash<std::string_view>()(key));
}

void GrammarCache::note_large(std::string_view key) {
  constexpr size_t remembered = 1024;
  const std::lock_guard lock(mutex_);
  if (large_.size() >= remembered) large_.clear();
  large_.insert(std::hash<std::string_view>()(key));
}

void GrammarCache::drop(Entries::iterator entry, Entries& dropped) {
  key_bytes_ -= entry->key.size();
  by_key_.erase(entry->key);
  dropped.splice(dropped.end(), entries_, entry);
}

void GrammarCache::keep(const std::string& key, const Result<Grammar>& outcome) {
  if (key.size() > kept_key_bytes) return;
  Entries dropped;  // and freed when nobody waits for the mutex
  std::vector<Grammar> latest;
  {
    const std::lock_guard lock(mutex_);
    if (by_key_.contains(key)) return;
    entries_.push_front({key, outcome});
    by_key_.emplace(entries_.front().key, entries_.begin());
    key_bytes_ += key.size();
    while (entries_.size() > kept || key_bytes_ > kept_key_bytes)
      drop(std::prev(entries_.end()), dropped);
    for (const Entry& entry : entries_)
      if (entry.outcome) latest.push_back(*entry.outcome);
  }
  // Without the mutex, since a grammar that is being used may have its own for as long as a mask takes. Grammars grow
  // by what is computed while they are used.
  size_t bytes = 0;
  std::unordered_set<const grammar::TokenGrammar*> over;
  for (const Grammar& one : latest) {
    bytes += one->memory();
    if (bytes > max_bytes_ && one != latest.front()) over.insert(one.get());
  }
  if (over.empty()) return;
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto here = entry++;
    if (here->outcome && over.contains(here->outcome->get())) drop(here, dropped);
  }
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

Result<GrammarCache::Grammar> GrammarCache::compile(const Build& build, Effort effort, const std::stop_token& stop) {
  std::call_once(indexed_, [this] { index_ = std::make_shared<const grammar::TokenIndex>(tokenizer_); });
  grammar::GrammarLimits bounds = limits(effort);
  bounds.stop = stop;
  grammar::GrammarBuilder builder(std::move(bounds));
  TM_TRY(const grammar::Expression root, build(builder));
  TM_TRY(const std::shared_ptr<const grammar::Grammar> compiled, std::move(builder).build(root));
  return grammar::TokenGrammar::create(compiled, index_);
}

Result<GrammarCache::Grammar> GrammarCache::find_or_compile(const std::string& key, const Build& build, Effort effort,
                                                            const std::stop_token& stop) {
  if (auto found = find(key)) return *found;
  if (effort == Effort::slight && is_large(key)) {
    return base::Error(base::ErrorCode::too_large, "the grammar takes more than slight effort");
  }
  Result<Grammar> outcome = compile(build, effort, stop);
  if (!outcome && outcome.error().code() == base::ErrorCode::cancelled) return outcome;
  const bool put_off = effort == Effort::slight && !outcome && outcome.error().code() == base::ErrorCode::too_large;
  if (put_off) {
    note_large(key);
  } else {
    keep(key, outcome);
  }
  return outcome;
}

}  // namespace tidemill::serve
