#include "gateway/readiness.hpp"

namespace tidemill::gateway {

namespace {

constexpr std::string_view usual_ready_path = "/ready";
constexpr std::string_view without_ready_path = "none";

}  // namespace

std::string_view look_path(const std::string& ready_path) {
  if (ready_path.empty()) return usual_ready_path;
  return ready_path == without_ready_path ? models_path : std::string_view(ready_path);
}

Readiness readiness_of(const std::string& ready_path, int status) {
  const bool well = status >= 200 && status < 300;
  if (ready_path == without_ready_path) return status < 500 ? Readiness::ready : Readiness::failing;
  if (well) return Readiness::ready;
  if (status == 503) return Readiness::unready;
  if (!ready_path.empty() || status == 502 || status == 504) return Readiness::failing;
  const bool no_such_path = status == 401 || status == 404 || status == 405;
  return no_such_path ? Readiness::ready : Readiness::untold;
}

}  // namespace tidemill::gateway
