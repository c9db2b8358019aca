// Flags that are numbers and whose words for a wrong value must be better than the library's.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include <CLI/App.hpp>

namespace tidemill::cli {

// Adds --seed. Takes every number of 64 bits, with a sign or without, as the API does: -1 and 18446744073709551615 are
// one seed. `take` gets it while the command line is parsed.
CLI::Option* add_seed_flag(CLI::App& command, std::function<void(uint64_t)> take, const std::string& help);

// A check for a flag: a whole number of 0 or more.
CLI::Validator at_least_zero();

// A check for a flag: a number of `least` to `most`, which NaN is not.
CLI::Validator number_between(double least, double most);

}  // namespace tidemill::cli
