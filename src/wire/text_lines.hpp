// Text that comes in parts, as most dialects let it.
#pragma once

#include <string>
#include <string_view>

namespace tidemill::wire {

// Adds a part to what came before, on a line of its own.
inline void add_line(std::string& text, std::string_view more) {
  if (!text.empty()) text += '\n';
  text += more;
}

}  // namespace tidemill::wire
