#include "gateway/stream_error.hpp"

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "wire/error_body.hpp"
#include "wire/sse.hpp"

namespace tidemill::gateway {

namespace json = base::json;

std::string error_event(Dialect dialect, const base::Error& error, int64_t sequence_number) {
  if (dialect == Dialect::messages) {
    return wire::sse_event(json::serialize(wire::anthropic_error_body(error, "")), "error");
  }
  if (dialect == Dialect::responses) {
    const json::object body{{"type", "error"},
                            {"code", "server_error"},
                            {"message", base::utf8::sanitize(error.to_string())},
                            {"param", nullptr},
                            {"sequence_number", sequence_number}};
    return wire::sse_event(json::serialize(body), "error");
  }
  return wire::sse_event(json::serialize(wire::error_body(error)));
}

namespace {

// Lines that only the last event of a stream has, or an error's.
bool ends(Dialect dialect, std::string_view line) {
  switch (dialect) {
    case Dialect::chat:
    case Dialect::completions:
      return line.starts_with("data: [DONE]") || line.starts_with("data:[DONE]") ||
             line.starts_with("data: {\"error\"");
    case Dialect::messages:
      return line.starts_with("event: message_stop") || line.starts_with("event: error");
    case Dialect::responses:
      return line.starts_with("event: response.completed") || line.starts_with("event: response.incomplete") ||
             line.starts_with("event: response.failed") || line.starts_with("event: error");
    case Dialect::other:
      break;
  }
  return false;
}

}  // namespace

void StreamEnd::take(std::string_view events) {
  while (!events.empty()) {
    const size_t end = events.find('\n');
    const std::string_view line = events.substr(0, end);
    if (line.starts_with("data:")) ++events_;
    seen_ = seen_ || ends(dialect_, line);
    if (end == std::string_view::npos) break;
    events.remove_prefix(end + 1);
  }
}

}  // namespace tidemill::gateway
