// Compiled grammars by what they were compiled from, so that the tools and schemas that agents send with every request
// are compiled once. What cannot be compiled is kept as well: refusing it again costs nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

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

  static constexpr size_t kept = 64;                          // grammars and refusals, the latest used
  static constexpr size_t kept_key_bytes = size_t{64} << 20;  // of their keys together
  static constexpr size_t kept_bytes = size_t{256} << 20;     // of the grammars together, looked at when one comes

  // How much compiling may take.
  enum class Effort : uint8_t {
    slight,  // a twentieth of the limits, which usual forms are far below: mostly a tenth of a second, at worst
    full,    // some seconds, at worst
  };
  static grammar::GrammarLimits limits(Effort effort);

  explicit GrammarCache(const text::Tokenizer& tokenizer, size_t bytes = kept_bytes)
      : tokenizer_(tokenizer), max_bytes_(bytes) {}

  // What find_or_compile() made of `key`, if it is kept.
  std::optional<base::Result<Grammar>> find(std::string_view key);

  // The grammar that `build` makes, or why it makes none; `build` is called only if neither is there under `key`, on
  // which and the effort alone what it does may depend. Two callers with the same key at the same time may both compile
  // it. Errors: those of `build` and of the grammar room; `too_large` with slight effort is not kept, but tried once
  // alone, and `cancelled`, after a stop was asked for, is nothing to keep.
  base::Result<Grammar> find_or_compile(const std::string& key, const Build& build, Effort effort = Effort::full,
                                        const std::stop_token& stop = {});

 private:
  struct Entry {
    std::string key;
    base::Result<Grammar> outcome;
  };
  using Entries = std::list<Entry>;

  bool is_large(std::string_view key);
  void note_large(std::string_view key);
  void keep(const std::string& key, const base::Result<Grammar>& outcome);
  void drop(Entries::iterator entry, Entries& dropped);  // the mutex is held
  base::Result<Grammar> compile(const Build& build, Effort effort, const std::stop_token& stop);

  const text::Tokenizer& tokenizer_;
  const size_t max_bytes_;
  std::once_flag indexed_;
  std::shared_ptr<const grammar::TokenIndex> index_;  // made with the first grammar
  std::mutex mutex_;                                  // guards what follows
  Entries entries_;                                   // the latest used first
  std::unordered_map<std::string_view, Entries::iterator> by_key_;
  size_t key_bytes_ = 0;
  std::unordered_set<size_t> large_;  // hashes of the keys that slight effort does not suffice for
};

}  // namespace tidemill::serve
