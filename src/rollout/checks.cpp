#include "rollout/checks.hpp"

namespace tidemill::rollout {

std::string_view to_string(Check check) {
  switch (check) {
    case Check::failures:
      return "error_rate";
    case Check::ttft:
      return "ttft";
    case Check::itl:
      return "itl";
    case Check::longer:
      return "longer_output";
    case Check::shorter:
      return "shorter_output";
  }
  return "";
}

const Limits& CheckLimits::of(Check check) const {
  switch (check) {
    case Check::failures:
      return failures;
    case Check::ttft:
      return ttft;
    case Check::itl:
      return itl;
    case Check::longer:
    case Check::shorter:
      break;
  }
  return length;
}

}  // namespace tidemill::rollout
