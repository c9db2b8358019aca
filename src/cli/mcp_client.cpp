#include "cli/mcp_client.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>

#include "base/version.hpp"

namespace tidemill::cli {

using base::Error;
using base::ErrorCode;
using base::Result;
using wire::RpcMessage;
namespace json = base::json;
namespace mcp = wire::mcp;

namespace {

constexpr int greeting_timeout_s = 30;
constexpr int call_timeout_s = 120;
constexpr int ending_timeout_ms = 2000;
constexpr size_t max_line = size_t{16} << 20;
constexpr size_t max_tools = 1024;

int64_t now_ms() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

// Whether the process ended within `ms`.
bool ends_within(pid_t process, int ms) {
  const int64_t deadline = now_ms() + ms;
  while (waitpid(process, nullptr, WNOHANG) == 0) {
    if (now_ms() >= deadline) return false;
    poll(nullptr, 0, 10);
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<McpClient>> McpClient::start(const std::string& command) {
  std::unique_ptr<McpClient> client(new McpClient(command));
  TM_CHECK(client->spawn());
  TM_CHECK(client->greet());
  return client;
}

McpClient::~McpClient() {
  if (to_child_ >= 0) close(to_child_);
  if (from_child_ >= 0) close(from_child_);
  if (child_ <= 0 || ends_within(child_, ending_timeout_ms)) return;
  kill(-child_, SIGTERM);
  if (ends_within(child_, ending_timeout_ms)) return;
  kill(-child_, SIGKILL);
  waitpid(child_, nullptr, 0);
}

Error McpClient::failure(std::string what) const {
  return Error(ErrorCode::unavailable, fmt::format("the MCP server '{}' {}", command_, what));
}

// A socket as its input, since writing to one whose reader has gone is an error rather than a signal.
Result<void> McpClient::spawn() {
  int input[2];
  int output[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, input) != 0) {
    return Error(ErrorCode::io, fmt::format("socketpair: {}", std::strerror(errno)));
  }
  to_child_ = input[0];
  if (pipe2(output, O_CLOEXEC) != 0) {
    close(input[1]);
    return Error(ErrorCode::io, fmt::format("pipe: {}", std::strerror(errno)));
  }
  from_child_ = output[0];
  child_ = fork();
  if (child_ == 0) {
    setpgid(0, 0);  // a Ctrl-C is for the chat
    std::signal(SIGPIPE, SIG_DFL);
    dup2(input[1], STDIN_FILENO);
    dup2(output[1], STDOUT_FILENO);
    execl("/bin/sh", "sh", "-c", command_.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  close(input[1]);
  close(output[1]);
  if (child_ < 0) return Error(ErrorCode::io, fmt::format("fork: {}", std::strerror(errno)));
  setpgid(child_, child_);  // whoever is first
  return {};
}

Result<void> McpClient::greet() {
  TM_TRY(const json::value greeted, ask("initialize", mcp::initialize_params(base::version()), greeting_timeout_s));
  (void)greeted;
  TM_CHECK(send(wire::rpc_notification("notifications/initialized")));
  std::string cursor;
  do {
    json::object params;
    if (!cursor.empty()) params["cursor"] = cursor;
    TM_TRY(const json::value listed, ask("tools/list", std::move(params), greeting_timeout_s));
    auto page = mcp::parse_tools(listed);
    if (!page)
      return failure(fmt::format("lists its tools in a way that is not understood: {}", page.error().to_string()));
    for (mcp::Tool& tool : page->tools)
      tools_.push_back(std::move(tool));
    cursor = std::move(page->cursor);
    if (tools_.size() > max_tools) return failure(fmt::format("has more than {} tools", max_tools));
  } while (!cursor.empty());
  return {};
}

Result<std::string> McpClient::call(std::string_view tool, json::object arguments) {
  TM_TRY(const json::value result,
         ask("tools/call", {{"name", tool}, {"arguments", std::move(arguments)}}, call_timeout_s));
  auto text = mcp::parse_call_result(result);
  if (!text) return failure(fmt::format("answered a call with what is no answer: {}", text.error().to_string()));
  return text;
}

// Sends a request and reads until its answer, answering what the server asks meanwhile.
Result<json::value> McpClient::ask(std::string_view method, json::object params, int timeout_s) {
  const int64_t id = next_id_++;
  TM_CHECK(send(wire::rpc_request(id, method, std::move(params))));
  const int64_t deadline = now_ms() + int64_t{timeout_s} * 1000;
  while (true) {
    TM_TRY(const std::string line, read_line(deadline));
    if (line.empty()) continue;
    auto message = wire::parse_rpc(line);
    if (!message) return failure(fmt::format("wrote a line that is no message: {}", message.error().to_string()));
    if (message->kind == RpcMessage::Kind::request) {
      const bool ping = message->method == "ping";
      TM_CHECK(send(ping ? wire::rpc_result(message->id, json::object())
                         : wire::rpc_error(message->id, wire::RpcCode::method_not_found, "not supported")));
      continue;
    }
    const bool mine = message->kind == RpcMessage::Kind::response && message->id.is_number() &&
                      message->id.to_number<double>() == static_cast<double>(id);
    if (!mine) continue;
    if (message->error) return failure(fmt::format("refused {}: {}", method, *message->error));
    return std::move(message->result);
  }
}

Result<void> McpClient::send(const std::string& message) {
  const std::string line = message + "\n";
  size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t count = ::send(to_child_, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failure("has closed its input");
    sent += static_cast<size_t>(count);
  }
  return {};
}

Result<std::string> McpClient::read_line(int64_t deadline_ms) {
  size_t searched = 0;
  while (true) {
    const size_t end = received_.find('\n', searched);
    if (end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return line;
    }
    searched = received_.size();
    if (searched > max_line) return failure(fmt::format("wrote a line of more than {} bytes", max_line));
    const int64_t left = deadline_ms - now_ms();
    if (left <= 0) return failure("did not answer in time");
    pollfd ready{from_child_, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(left)) < 0 && errno != EINTR) return failure(std::strerror(errno));
    if (ready.revents == 0) continue;
    char buffer[65536];
    const ssize_t count = read(from_child_, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return failure("has ended");
    received_.append(buffer, static_cast<size_t>(count));
  }
}

}  // namespace tidemill::cli
