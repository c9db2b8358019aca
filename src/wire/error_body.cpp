#include "wire/error_body.hpp"

#include <string>

#include "base/utf8.hpp"

namespace tidemill::wire {

namespace {

base::json::value text_or_null(std::string_view text) {
  if (text.empty()) return nullptr;
  return base::json::string(text);
}

}  // namespace

ErrorFace error_face(const base::Error& error) {
  using base::ErrorCode;
  switch (error.code()) {
    case ErrorCode::invalid_argument:
      return {400, "invalid_request_error", "", false};
    case ErrorCode::unsupported:
      return {400, "invalid_request_error", "unsupported", false};
    case ErrorCode::too_large:
      return {400, "invalid_request_error", "context_length_exceeded", false};
    case ErrorCode::not_found:
      return {404, "invalid_request_error", error.param() == "model" ? "model_not_found" : "not_found", false};
    case ErrorCode::exhausted:
      return {429, "rate_limit_error", "rate_limit_exceeded", true};
    case ErrorCode::cancelled:
      return {499, "cancelled_error", "cancelled", false};
    case ErrorCode::unavailable:
      return {503, "server_error", "unavailable", true};
    case ErrorCode::timeout:
      return {504, "timeout_error", "timeout", false};
    case ErrorCode::corrupt:
    case ErrorCode::io:
    case ErrorCode::internal:
      break;
  }
  return {500, "server_error", "internal_error", false};
}

base::json::object error_body(std::string_view message, std::string_view type, std::string_view param,
                              std::string_view code) {
  // A message may quote what is no UTF-8 (a file's name, a model's metadata); JSON must be.
  return {{"error",
           {{"message", base::utf8::sanitize(message)},
            {"type", type},
            {"param", text_or_null(param)},
            {"code", text_or_null(code)}}}};
}

base::json::object error_body(const base::Error& error) {
  const ErrorFace face = error_face(error);
  return error_body(error.to_string(), face.type, error.param(), face.code);
}

HttpResponse error_response(const base::Error& error, int retry_after_s) {
  const ErrorFace face = error_face(error);
  HttpResponse response = HttpResponse::json(face.status, base::json::serialize(error_body(error)));
  if (face.retry_after) response.headers.set("Retry-After", std::to_string(retry_after_s));
  return response;
}

}  // namespace tidemill::wire
