// What the fuzz targets of grammars have in common: how a refusal looks, and bounds that keep one input short.
#pragma once

#include "base/result.hpp"
#include "base/utf8.hpp"
#include "fuzz/invariant.hpp"
#include "grammar/token_grammar.hpp"

namespace tidemill::test {

inline void require_presentable(const base::Error& error) {
  require(!error.message().empty() && base::utf8::is_valid(error.message()), "a refusal says why, in UTF-8");
}

inline grammar::MatchLimits small_match_limits() {
  grammar::MatchLimits limits;
  limits.max_mask_work = 20'000;
  limits.max_mask_states = 2'000;
  limits.max_state_weight = 2'000;
  limits.states_ahead = 10;
  return limits;
}

}  // namespace tidemill::test
