#include "wire/json_rpc.hpp"

#include <utility>

#include "base/utf8.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::wire {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

Error no_message(std::string_view why) {
  return Error(ErrorCode::invalid_argument, "this is no JSON-RPC 2.0 message: " + std::string(why));
}

json::object envelope() {
  return {{"jsonrpc", "2.0"}};
}

}  // namespace

Result<RpcMessage> parse_rpc(std::string_view text) {
  auto parsed = base::parse_json(text, max_body_depth);
  if (!parsed) return Error(ErrorCode::corrupt, parsed.error().to_string());
  const json::object* object = parsed->if_object();
  if (object == nullptr) return no_message("it must be an object; batches are not supported");
  const JsonFields fields(*object);
  TM_TRY(const auto version, fields.string("jsonrpc"));
  if (version != "2.0") return no_message("'jsonrpc' must be \"2.0\"");
  RpcMessage message;
  if (const json::value* id = fields.find("id")) {
    if (!id->is_string() && !id->is_number()) return fields.mismatch("id", "a string or a number", *id);
    message.id = *id;
  }
  TM_TRY(const auto method, fields.string("method"));
  if (method) {
    // Neither a request, which could not be answered, nor a notification, which has no id.
    if (message.id.is_null() && object->contains("id"))
      return no_message("'id' must be a string or a number, not null");
    message.kind = message.id.is_null() ? RpcMessage::Kind::notification : RpcMessage::Kind::request;
    message.method = *method;
    TM_TRY(const json::object* params, fields.object("params"));
    if (params != nullptr) message.params = *params;
    return message;
  }
  message.kind = RpcMessage::Kind::response;
  TM_TRY(const json::object* error, fields.object("error"));
  if (error != nullptr) {
    TM_TRY(const auto words, JsonFields(*error, "error").string("message"));
    message.error = words.value_or("no message");
    return message;
  }
  const json::value* result = object->if_contains("result");
  if (result == nullptr) return no_message("it has no 'method', 'result' or 'error'");
  message.result = *result;
  return message;
}

std::string rpc_request(int64_t id, std::string_view method, json::object params) {
  json::object message = envelope();
  message["id"] = id;
  message["method"] = method;
  message["params"] = std::move(params);
  return json::serialize(message);
}

std::string rpc_notification(std::string_view method, json::object params) {
  json::object message = envelope();
  message["method"] = method;
  if (!params.empty()) message["params"] = std::move(params);
  return json::serialize(message);
}

std::string rpc_result(const json::value& id, json::value result) {
  json::object message = envelope();
  message["id"] = id;
  message["result"] = std::move(result);
  return json::serialize(message);
}

std::string rpc_error(const json::value& id, RpcCode code, std::string_view words) {
  json::object message = envelope();
  message["id"] = id;
  message["error"] = json::object{{"code", static_cast<int>(code)}, {"message", base::utf8::sanitize(words)}};
  return json::serialize(message);
}

}  // namespace tidemill::wire
