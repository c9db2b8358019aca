// What of a tool's schema a grammar can be held to where it cannot be held to all of it: for calls that need not follow
// their schema to the letter, but should follow it as far as they can.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "base/json.hpp"

namespace tidemill::chat {

enum class Held : uint8_t {
  yes,
  no,
  too_large,  // what telling may take does not suffice
};

struct Answer {
  Answer(Held is_held, double of_limits) : held(is_held), spent(of_limits) {}
  Answer(Held is_held) : Answer(is_held, is_held == Held::too_large ? 1 : 0) {}

  Held held;
  double spent;  // what telling has taken, as a share of what it may
};

// Whether a grammar can be held to parameters, the schema of an object.
using HoldsParameters = std::function<Answer(const base::json::value& parameters)>;

// Parameters that `all` says yes to, made of `parameters` by leaving out keywords: the objects that satisfy
// `parameters` satisfy them as well. Of every property stays what `one` says yes to when it stands alone: its schema
// without the keywords that cannot be held to, there or in what is nested in it, or its types; one that cannot be
// written at all is left out, and others may come then. What is required stays so, also where nothing else is said of
// it. None if `all` says no to whatever is left.
//
// All that `one` is asked takes about four times its limits at most, in two hundred questions at most; what is left
// then has its types. `all` is asked four times at most, and only once more when it has spent its limits.
std::optional<base::json::value> kept_parameters(const base::json::value& parameters, const HoldsParameters& one,
                                                 const HoldsParameters& all);

}  // namespace tidemill::chat
