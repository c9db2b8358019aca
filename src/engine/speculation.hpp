// Whether and how the engine guesses ahead.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "engine/proposer.hpp"

namespace tidemill::engine {

enum class Speculation : uint8_t { off, prompt_lookup };
// "off", "prompt-lookup"; nullopt for another word.
constexpr std::optional<Speculation> parse_speculation(std::string_view word) {
  if (word == "off") return Speculation::off;
  if (word == "prompt-lookup") return Speculation::prompt_lookup;
  return std::nullopt;
}

struct SpeculationOptions {
  Speculation mode = Speculation::prompt_lookup;
  int max_proposal = 7;  // tokens proposed for one sequence in one step; 1 to 31
  // Propose only what is expected to gain, and risk of no stream's time more than a little. Without, everything that is
  // proposed is tried: for tests, and to measure what adapting is worth.
  bool adaptive = true;
  MakeProposer make_proposer = {};  // a proposer other than the mode's, for each sequence; empty: the mode's
};

}  // namespace tidemill::engine
