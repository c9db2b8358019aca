// How a model server, or a gateway, says that it takes no requests for now, so that whoever stands before it need not
// guess from a 503: in this header, on every 503 of an endpoint in that time, /ready's among them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "wire/http_message.hpp"

namespace tidemill::wire {

inline constexpr std::string_view unready_header = "x-tidemill-unready";
// Its values.
inline constexpr std::string_view unready_loading = "loading";
inline constexpr std::string_view unready_draining = "draining";

// Says it in `response` if that is a 503. `why` is one of these values; nullopt: requests are taken.
inline void say_unready(HttpResponse& response, std::optional<std::string_view> why) {
  if (why && response.status == 503) response.headers.set(unready_header, std::string(*why));
}

}  // namespace tidemill::wire
