#include "base/version.hpp"

namespace tidemill::base {

std::string_view version() {
  return TIDEMILL_VERSION;
}

}  // namespace tidemill::base
