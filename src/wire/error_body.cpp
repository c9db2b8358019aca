#include "wire/error_body.hpp"

#include <algorithm>
#include <string>

#include "base/ids.hpp"
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
      if (error.param() == template_param) return {400, "invalid_request_error", "chat_template_limit_exceeded", false};
      return {400, "invalid_request_error", "context_length_exceeded", false};
    case ErrorCode::not_found:
      return {404, "invalid_request_error", error.param() == "model" ? "model_not_found" : "not_found", false};
    case ErrorCode::exhausted:
      if (error.param() == "conversation") return {400, "invalid_request_error", "conversation_locked", false};
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

ErrorStyle error_style(std::string_view path) {
  constexpr std::string_view messages = "/v1/messages";
  const bool under = path.starts_with(messages) && (path.size() == messages.size() || path[messages.size()] == '/');
  return under ? ErrorStyle::anthropic : ErrorStyle::openai;
}

namespace {

std::string_view anthropic_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    case 408:
    case 504:
      return "timeout_error";
    default:
      return status >= 400 && status < 499 ? "invalid_request_error" : "api_error";
  }
}

}  // namespace

base::json::object anthropic_error_body(int status, std::string_view message, std::string_view request_id) {
  base::json::object body{{"type", "error"},
                          {"error", {{"type", anthropic_type(status)}, {"message", base::utf8::sanitize(message)}}}};
  if (!request_id.empty()) body["request_id"] = request_id;
  return body;
}

base::json::object anthropic_error_body(const base::Error& error, std::string_view request_id) {
  std::string message = error.to_string();
  // There is no member for it.
  if (message.find(error.param()) == std::string::npos) message = error.param() + ": " + message;
  base::json::object body = anthropic_error_body(error_face(error).status, message, request_id);
  if (error.code() == base::ErrorCode::not_found && error.param() == thread_param) {
    body.at("error").get_object()["details"] = base::json::object{{"error_code", "thread_not_found"}};
  }
  return body;
}

std::string request_id(const HttpRequest& request) {
  constexpr size_t longest = 128;
  const auto given = request.headers.find("x-request-id");
  const auto plain = [](char c) { return c > ' ' && c < 0x7F; };
  if (given && !given->empty() && given->size() <= longest && std::all_of(given->begin(), given->end(), plain)) {
    return std::string(*given);
  }
  return "req-" + base::random_hex(12);
}

void set_request_id(Headers& headers, std::string_view id, ErrorStyle style) {
  headers.set("X-Request-Id", std::string(id));
  if (style == ErrorStyle::anthropic) headers.set("Request-Id", std::string(id));
}

HttpResponse error_response(const base::Error& error, int retry_after_s, ErrorStyle style,
                            std::string_view request_id) {
  const ErrorFace face = error_face(error);
  const base::json::object body =
      style == ErrorStyle::anthropic ? anthropic_error_body(error, request_id) : error_body(error);
  HttpResponse response = HttpResponse::json(face.status, base::json::serialize(body));
  if (face.retry_after) response.headers.set("Retry-After", std::to_string(retry_after_s));
  return response;
}

HttpResponse error_response(int status, std::string_view message, std::string_view type, std::string_view code,
                            ErrorStyle style, std::string_view request_id) {
  const base::json::object body = style == ErrorStyle::anthropic ? anthropic_error_body(status, message, request_id)
                                                                 : error_body(message, type, "", code);
  return HttpResponse::json(status, base::json::serialize(body));
}

}  // namespace tidemill::wire
