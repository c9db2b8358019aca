// A server of the Model Context Protocol as a child process, spoken to over its standard input and output.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "wire/json_rpc.hpp"
#include "wire/mcp.hpp"

namespace tidemill::cli {

// Used by one thread. Its destructor closes the server's input, and ends it if it does not end by itself.
class McpClient {
 public:
  // Starts `command` by the shell and asks for its tools. What the server writes to standard error goes to ours.
  // Errors say what the server did: ended, answered what is no answer, or nothing within 30 seconds.
  static base::Result<std::unique_ptr<McpClient>> start(const std::string& command);
  ~McpClient();
  McpClient(const McpClient&) = delete;
  McpClient& operator=(const McpClient&) = delete;

  const std::vector<wire::mcp::Tool>& tools() const { return tools_; }
  // What a tool gave, as text; a tool that failed gives its words. Waits for 120 seconds at most.
  base::Result<std::string> call(std::string_view tool, base::json::object arguments);

 private:
  explicit McpClient(std::string command) : command_(std::move(command)) {}

  base::Result<void> spawn();
  base::Result<void> greet();
  base::Result<base::json::value> ask(std::string_view method, base::json::object params, int timeout_s);
  base::Result<void> send(const std::string& message);
  base::Result<std::string> read_line(int64_t deadline_ms);
  base::Error failure(std::string what) const;

  std::string command_;
  pid_t child_ = -1;
  int to_child_ = -1;
  int from_child_ = -1;
  int64_t next_id_ = 1;
  std::string received_;  // and not yet read as a line
  std::vector<wire::mcp::Tool> tools_;
};

}  // namespace tidemill::cli
