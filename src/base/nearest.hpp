// "Did you mean ...": which known word an unknown one comes closest to.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill::base {

// Single-character insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string
// alignment). Only the first 128 bytes of each count, so hostile input stays cheap.
size_t edit_distance(std::string_view a, std::string_view b);

// The word of `known` with the least distance to `word`, the earlier one of equals; empty if `known` is.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace tidemill::base
