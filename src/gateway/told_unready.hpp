// Backends that say themselves that they take no requests for now.
#pragma once

#include <optional>
#include <string_view>

#include "route/health.hpp"
#include "wire/http_message.hpp"

namespace tidemill::gateway {

// Why the backend that has answered with `head` and `body`, on whatever path, takes no requests; nullopt: it does not
// say so, and a 503 may only mean that it is busy. Tidemill's servers and gateways say it in a header
// (wire/unready.hpp), llama.cpp's with the error "Loading model".
std::optional<route::Unready> told_unready(const wire::HttpResponse& head, std::string_view body);

}  // namespace tidemill::gateway
