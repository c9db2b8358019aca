// Errors as OpenAI's clients expect them: {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "wire/http_message.hpp"

namespace tidemill::wire {

// The HTTP face of an error.
//
//   code              status  type                    code
//   invalid_argument  400     invalid_request_error   null
//   unsupported       400     invalid_request_error   unsupported
//   too_large         400     invalid_request_error   context_length_exceeded  (a body over its cap is 413, by the
//   server) not_found         404     invalid_request_error   model_not_found if param is "model", else not_found
//   exhausted         429     rate_limit_error        rate_limit_exceeded      (with Retry-After)
//   cancelled         499     cancelled_error         cancelled                (nobody is there to read it)
//   unavailable       503     server_error            unavailable              (with Retry-After)
//   timeout           504     timeout_error           timeout
//   corrupt, io, internal  500  server_error          internal_error
struct ErrorFace {
  int status;
  std::string_view type;
  std::string_view code;  // empty: null
  bool retry_after;
};
ErrorFace error_face(const base::Error& error);

// The object itself, also the `data:` of an error in mid-stream. `param` is null where empty.
base::json::object error_body(const base::Error& error);
base::json::object error_body(std::string_view message, std::string_view type, std::string_view param,
                              std::string_view code);

// The whole response. `retry_after_s` is said only where the face has it.
HttpResponse error_response(const base::Error& error, int retry_after_s = 1);

}  // namespace tidemill::wire
