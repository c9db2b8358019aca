// Errors as clients expect them. OpenAI's: {"error": {"message", "type", "param", "code"}}. Anthropic's:
// {"type": "error", "error": {"type", "message"}, "request_id"}.
#pragma once

#include <cstdint>
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
//                                                                              server)
//                     400     invalid_request_error   chat_template_limit_exceeded  if param is template_param
//   not_found         404     invalid_request_error   model_not_found if param is "model", else not_found
//   exhausted         429     rate_limit_error        rate_limit_exceeded      (with Retry-After)
//                     400     invalid_request_error   conversation_locked      if param is "conversation", as OpenAI
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

// Says of `too_large` that the model's chat template went over its limits: it is no length of a prompt.
inline constexpr std::string_view template_param = "chat_template";

// The object itself, also the `data:` of an error in mid-stream. `param` is null where empty.
base::json::object error_body(const base::Error& error);
base::json::object error_body(std::string_view message, std::string_view type, std::string_view param,
                              std::string_view code);

// Whose words an error is told in. Anthropic's have the types invalid_request_error, authentication_error,
// not_found_error, request_too_large, rate_limit_error (429), overloaded_error (503; their own 529 is no registered
// status, and proxies do not know it), timeout_error (408, 504) and api_error.
enum class ErrorStyle : uint8_t { openai, anthropic };
// That of a request's path, decoded: Anthropic's for /v1/messages and what is below it.
ErrorStyle error_style(std::string_view path);

// Names the message that a thread of Anthropic's goes on from. `not_found` with it has the detail by which their
// clients begin the thread anew: "details": {"error_code": "thread_not_found"}.
inline constexpr std::string_view thread_param = "thread.previous_message_id";

// Anthropic's object. `request_id` is left out where empty.
base::json::object anthropic_error_body(int status, std::string_view message, std::string_view request_id);
base::json::object anthropic_error_body(const base::Error& error, std::string_view request_id);

// What a request and its answer are called in logs and errors: the caller's x-request-id where it is fit to be
// repeated (up to 128 visible characters), else a new one.
std::string request_id(const HttpRequest& request);
// X-Request-Id, and Request-Id where Anthropic's clients look for it.
void set_request_id(Headers& headers, std::string_view id, ErrorStyle style);

// The whole response. `retry_after_s` is said only where the face has it. `request_id` is for Anthropic's body alone.
HttpResponse error_response(const base::Error& error, int retry_after_s = 1, ErrorStyle style = ErrorStyle::openai,
                            std::string_view request_id = {});
// What has a status of its own: `type` and `code` are OpenAI's.
HttpResponse error_response(int status, std::string_view message, std::string_view type, std::string_view code,
                            ErrorStyle style, std::string_view request_id = {});

}  // namespace tidemill::wire
