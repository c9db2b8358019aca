// What a backend's answer to a look says of whether it takes requests.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tidemill::gateway {

inline constexpr std::string_view models_path = "/v1/models";

// Where a look asks how a backend is, by its `ready_path`: that path; /ready if it is empty; models_path if it is
// "none".
std::string_view look_path(const std::string& ready_path);

enum class Readiness : uint8_t {
  ready,
  unready,  // it asks for no requests
  failing,
  untold,  // it has no such path, as it seems: models_path decides
};

// By the status of the answer there. A path that is configured means what it says: 2xx is ready, and 503 unready. With
// /ready it must be guessed what it means to a server of another kind, whose API it does not belong to: 503, 502 and
// 504 say the same everywhere, and 401, 404 and 405 that there is no such path for us. All others, as redirects to a
// login, 403, 429 and 500 for what no handler takes, say nothing of requests. models_path does not answer well where a
// server fails (5xx); a refusal there (4xx) is that of a server that is up.
Readiness readiness_of(const std::string& ready_path, int status);

}  // namespace tidemill::gateway
