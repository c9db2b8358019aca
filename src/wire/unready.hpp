// How a model server says that it takes no requests for now, so that whoever stands before it need not guess from a
// 503: in this header, on every 503 of an endpoint in that time, /ready's among them.
#pragma once

#include <string_view>

namespace tidemill::wire {

inline constexpr std::string_view unready_header = "x-tidemill-unready";
// Its values.
inline constexpr std::string_view unready_loading = "loading";
inline constexpr std::string_view unready_draining = "draining";

}  // namespace tidemill::wire
