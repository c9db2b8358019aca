// Which Tidemill this is.
#pragma once

#include <string_view>

namespace tidemill::base {

// "0.1.0", as in the project() line of CMakeLists.txt.
std::string_view version();

}  // namespace tidemill::base
