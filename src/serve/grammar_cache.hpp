// Compiled grammars by what they were compiled from, so that the tools and schemas that agents send with every request
// are compiled once.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/result.hpp"
#include "grammar/builder.hpp"
#include "grammar/token_grammar.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::serve {

// Thread-safe. The tokenizer must outlive it.
class GrammarCache {
 public:
  using Grammar = std::shared_ptr<const grammar::TokenGrammar>;
  using Build = std::function<base::Result<grammar::Expression>(grammar::GrammarBuilder&)>;

  static constexpr size_t kept = 64;  // grammars, the latest used

  explicit GrammarCache(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The grammar that `build` makes, which is called only if there is none under `key`. Two callers with the same key at
  // the same time may both compile it. Errors: those of `build` and of the grammar room.
  base::Result<Grammar> find_or_compile(const std::string& key, const Build& build);

 private:
  using Entries = std::list<std::pair<std::string, Grammar>>;

  Grammar find(const std::string& key);
  void keep(const std::string& key, const Grammar& grammar);

  const text::Tokenizer& tokenizer_;
  std::once_flag indexed_;
  std::shared_ptr<const grammar::TokenIndex> index_;  // made with the first grammar
  std::mutex mutex_;                                  // guards what follows
  Entries entries_;                                   // the latest used first
  std::unordered_map<std::string, Entries::iterator> by_key_;
};

}  // namespace tidemill::serve
