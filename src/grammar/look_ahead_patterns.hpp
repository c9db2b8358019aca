// Patterns that look ahead, as zod writes them beside formats, and what they come to without: no automaton here looks
// ahead, and these can do without.
#pragma once

#include <string>
#include <string_view>

namespace tidemill::grammar {

// Each text that `pattern` matches is matched by the pattern replaced. `format` is the one whose form `pattern` is, if
// any: it has simpler ones for bounded lengths (format_pattern_within).
struct PlainPattern {
  std::string pattern;
  std::string format;
};

// Null for what is no such pattern. Equal to the pattern replaced, but for names of hosts, which have no more labels
// than the format's, and emoji, which are whole ones.
const PlainPattern* without_look_ahead(std::string_view pattern);

}  // namespace tidemill::grammar
