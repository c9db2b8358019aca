// The grammar that holds an output to its form, as it is asked for: what to compile, apart from the request, so that it
// can wait for a thread that has time to.
#pragma once

#include <optional>
#include <stop_token>
#include <string>

#include "base/result.hpp"
#include "serve/grammar_cache.hpp"
#include "serve/reading_rules.hpp"
#include "wire/request.hpp"

namespace tidemill::serve {

class LoadedModel;

struct GrammarOrder {
  wire::OutputFormat output;
  std::optional<ReadingRules> reading;  // the tools that may be called, and how calls are written
  wire::ToolChoice tool_choice;
  bool parallel_calls = true;
  bool may_reason = true;
  bool reasons_once = false;
  bool constrains_calls = false;
  std::string key;  // key_of() it
};

// Equal for orders of the same grammar of one model.
std::string key_of(const GrammarOrder& order);

// What was compiled for such an order before; null: nothing, or it is not kept any more.
GrammarCache::Grammar find_grammar(const LoadedModel& model, const GrammarOrder& order);

// The same, compiled where it is not there. nullopt: it takes more than the effort. Errors name the parameter:
// `unsupported` also for what is over the limits of grammars. `cancelled` soon after a stop is asked for.
std::optional<base::Result<GrammarCache::Grammar>> compile_grammar(const LoadedModel& model, const GrammarOrder& order,
                                                                   GrammarCache::Effort effort,
                                                                   const std::stop_token& stop = {});

}  // namespace tidemill::serve
