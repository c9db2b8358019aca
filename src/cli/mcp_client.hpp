// A server of the Model Context Protocol as a child process, spoken to over its standard input and output.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/interrupt.hpp"
#include "wire/json_rpc.hpp"
#include "wire/mcp.hpp"

namespace tidemill::cli {

struct McpLimits {
  std::chrono::milliseconds greeting = std::chrono::seconds(30);  // until all of its tools are known
  std::chrono::milliseconds call = std::chrono::seconds(120);
  std::chrono::milliseconds ending = std::chrono::seconds(2);  // by itself; then again until it is killed
};

// Used by one thread. Its destructor closes the server's input, and ends it with all that it has started if it does not
// end by itself.
class McpClient {
 public:
  // Starts `command` by the shell and asks for its tools. What the server writes to standard error goes to ours.
  // The interrupt, which must outlive the client, ends every wait with an error of code `cancelled`. Other errors say
  // what the server did: ended, answered what is no answer, speaks a version that is not known, or was too slow.
  static base::Result<std::unique_ptr<McpClient>> start(const std::string& command, Interrupt& interrupt,
                                                        McpLimits limits = {});
  ~McpClient();
  McpClient(const McpClient&) = delete;
  McpClient& operator=(const McpClient&) = delete;

  const std::vector<wire::mcp::Tool>& tools() const { return tools_; }
  // Why tools that the server has are not among these: a sentence each.
  const std::vector<std::string>& left_out() const { return left_out_; }
  // What a tool gave, as text; a tool that failed gives its words. The server is told of a call that is given up,
  // because of the interrupt or the limit.
  base::Result<std::string> call(std::string_view tool, base::json::object arguments);

 private:
  McpClient(std::string command, Interrupt& interrupt, McpLimits limits)
      : command_(std::move(command)), interrupt_(interrupt), limits_(limits) {}

  base::Result<void> spawn();
  base::Result<void> greet();
  base::Result<void> list_tools(int64_t deadline_ms);
  base::Result<base::json::value> ask(std::string_view method, base::json::object params, int64_t deadline_ms);
  void give_up(int64_t id, std::string_view why);
  base::Result<void> send(const std::string& message, int64_t deadline_ms);
  base::Result<std::string> read_line(int64_t deadline_ms);
  base::Result<void> check(int64_t deadline_ms) const;
  base::Result<void> wait_for(int descriptor, short events, int64_t deadline_ms);
  bool ends_by_itself() const;
  base::Error failure(std::string what) const;

  std::string command_;
  Interrupt& interrupt_;
  const McpLimits limits_;
  pid_t child_ = -1;  // and its process group
  int to_child_ = -1;
  int from_child_ = -1;
  int64_t next_id_ = 1;
  std::string received_;  // and not yet read as a line
  bool deaf_ = false;     // has read only a part of a message
  std::vector<wire::mcp::Tool> tools_;
  std::vector<std::string> left_out_;
};

}  // namespace tidemill::cli
