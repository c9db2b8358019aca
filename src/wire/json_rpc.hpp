// JSON-RPC 2.0 messages, as the Model Context Protocol uses them: one message at a time, no batches.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::wire {

// The codes of the specification's table.
enum class RpcCode : int {
  parse_error = -32700,
  invalid_request = -32600,
  method_not_found = -32601,
  invalid_params = -32602,
  internal_error = -32603,
};

struct RpcMessage {
  enum class Kind : uint8_t { request, notification, response };
  Kind kind = Kind::request;
  base::json::value id;              // a string or a number; null for a notification
  std::string method;                // of a request or notification
  base::json::object params;         // of those; empty if absent
  base::json::value result;          // of a response that is no error
  std::optional<std::string> error;  // of one that is: its message
};

// Errors: `corrupt` for what is no JSON, `invalid_argument` for JSON that is no such message.
base::Result<RpcMessage> parse_rpc(std::string_view text);

// Messages as JSON texts on one line.
std::string rpc_request(int64_t id, std::string_view method, base::json::object params);
std::string rpc_notification(std::string_view method, base::json::object params = {});
std::string rpc_result(const base::json::value& id, base::json::value result);
std::string rpc_error(const base::json::value& id, RpcCode code, std::string_view message);

}  // namespace tidemill::wire
