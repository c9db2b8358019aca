#include "cli/mcp_client.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <iterator>
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

constexpr size_t max_line = size_t{16} << 20;
constexpr size_t max_tools = 1024;
constexpr int max_pages = 128;

int64_t now_ms() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

}  // namespace

Result<std::unique_ptr<McpClient>> McpClient::start(const std::string& command, Interrupt& interrupt,
                                                    McpLimits limits) {
  std::unique_ptr<McpClient> client(new McpClient(command, interrupt, limits));
  TM_CHECK(client->spawn());
  TM_CHECK(client->greet());
  return client;
}

// The shell may have started others, which are of its group. Until it has been waited for, the group's number is no
// other's.
McpClient::~McpClient() {
  if (to_child_ >= 0) close(to_child_);
  if (from_child_ >= 0) close(from_child_);
  if (child_ <= 0) return;
  if (!ends_by_itself()) {
    kill(-child_, SIGTERM);
    (void)ends_by_itself();
  }
  kill(-child_, SIGKILL);  // what is left
  while (waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
  interrupt_.ends_also(0);
}

// Whether it ends within the limit; it stays to be waited for.
bool McpClient::ends_by_itself() const {
  const int64_t deadline = now_ms() + limits_.ending.count();
  siginfo_t ended{};
  while (waitid(P_PID, static_cast<id_t>(child_), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == 0) {
    if (now_ms() >= deadline) return false;
    poll(nullptr, 0, 10);
  }
  return true;
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
    std::signal(SIGXFSZ, SIG_DFL);
    dup2(input[1], STDIN_FILENO);
    dup2(output[1], STDOUT_FILENO);
    execl("/bin/sh", "sh", "-c", command_.c_str(), static_cast<char*>(nullptr));
    _exit(127);
  }
  close(input[1]);
  close(output[1]);
  if (child_ < 0) return Error(ErrorCode::io, fmt::format("fork: {}", std::strerror(errno)));
  setpgid(child_, child_);  // whoever is first
  interrupt_.ends_also(child_);
  return {};
}

Result<void> McpClient::greet() {
  const int64_t deadline = now_ms() + limits_.greeting.count();
  TM_TRY(const json::value greeted, ask("initialize", mcp::initialize_params(base::version()), deadline));
  const auto version = mcp::parse_version(greeted);
  if (!version) return failure(fmt::format("cannot be talked with: {}", version.error().to_string()));
  TM_CHECK(send(wire::rpc_notification("notifications/initialized"), deadline));
  return list_tools(deadline);
}

Result<void> McpClient::list_tools(int64_t deadline_ms) {
  std::string cursor;
  for (int pages = 0; pages == 0 || !cursor.empty(); ++pages) {
    if (pages == max_pages) return failure(fmt::format("lists its tools on more than {} pages", max_pages));
    json::object params;
    if (!cursor.empty()) params["cursor"] = cursor;
    TM_TRY(const json::value listed, ask("tools/list", std::move(params), deadline_ms));
    auto page = mcp::parse_tools(listed);
    if (!page) {
      return failure(fmt::format("lists its tools in a way that is not understood: {}", page.error().to_string()));
    }
    std::ranges::move(page->tools, std::back_inserter(tools_));
    std::ranges::move(page->left_out, std::back_inserter(left_out_));
    cursor = std::move(page->cursor);
    if (tools_.size() + left_out_.size() > max_tools) return failure(fmt::format("has more than {} tools", max_tools));
  }
  return {};
}

Result<std::string> McpClient::call(std::string_view tool, json::object arguments) {
  const int64_t id = next_id_;
  auto result =
      ask("tools/call", {{"name", tool}, {"arguments", std::move(arguments)}}, now_ms() + limits_.call.count());
  if (!result) {
    const ErrorCode code = result.error().code();
    if (code == ErrorCode::cancelled) give_up(id, "the user has interrupted it");
    if (code == ErrorCode::timeout) give_up(id, "it took too long");
    return std::move(result).error();
  }
  auto text = mcp::parse_call_result(*result);
  if (!text) return failure(fmt::format("answered a call with what is no answer: {}", text.error().to_string()));
  return text;
}

// Sends a request and reads until its answer, answering what the server asks meanwhile.
Result<json::value> McpClient::ask(std::string_view method, json::object params, int64_t deadline_ms) {
  const int64_t id = next_id_++;
  TM_CHECK(send(wire::rpc_request(id, method, std::move(params)), deadline_ms));
  while (true) {
    TM_TRY(const std::string line, read_line(deadline_ms));
    if (line.empty()) continue;
    auto message = wire::parse_rpc(line);
    if (!message) return failure(fmt::format("wrote a line that is no message: {}", message.error().to_string()));
    if (message->kind == RpcMessage::Kind::request) {
      const bool ping = message->method == "ping";
      TM_CHECK(send(ping ? wire::rpc_result(message->id, json::object())
                         : wire::rpc_error(message->id, wire::RpcCode::method_not_found, "not supported"),
                    deadline_ms));
      continue;
    }
    const bool mine = message->kind == RpcMessage::Kind::response && message->id.is_number() &&
                      message->id.to_number<double>() == static_cast<double>(id);
    if (!mine) continue;
    if (message->error) return failure(fmt::format("refused {}: {}", method, *message->error));
    return std::move(message->result);
  }
}

// Says so if the server can be told at once.
void McpClient::give_up(int64_t id, std::string_view why) {
  if (deaf_) return;
  const std::string line =
      wire::rpc_notification("notifications/cancelled", {{"requestId", id}, {"reason", why}}) + "\n";
  const ssize_t sent = ::send(to_child_, line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  deaf_ = sent > 0 && static_cast<size_t>(sent) < line.size();
}

Result<void> McpClient::send(const std::string& message, int64_t deadline_ms) {
  if (deaf_) return failure("has stopped reading in the middle of a message");
  const std::string line = message + "\n";
  size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t count = ::send(to_child_, line.data() + sent, line.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      sent += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      auto waited = wait_for(to_child_, POLLOUT, deadline_ms);
      if (!waited) {
        deaf_ = sent > 0;
        return waited;
      }
    } else if (errno != EINTR) {
      return failure("has closed its input");
    }
  }
  return {};
}

Result<std::string> McpClient::read_line(int64_t deadline_ms) {
  size_t searched = 0;
  while (true) {
    TM_CHECK(check(deadline_ms));  // a server that never stops writing must not hold this up
    const size_t end = received_.find('\n', searched);
    if (end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return line;
    }
    searched = received_.size();
    if (searched > max_line) return failure(fmt::format("wrote a line of more than {} bytes", max_line));
    TM_CHECK(wait_for(from_child_, POLLIN, deadline_ms));
    char buffer[65536];
    const ssize_t count = read(from_child_, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return failure("has ended");
    received_.append(buffer, static_cast<size_t>(count));
  }
}

Result<void> McpClient::check(int64_t deadline_ms) const {
  if (interrupt_.raised()) {
    return Error(ErrorCode::cancelled, fmt::format("interrupted while the MCP server '{}' was asked", command_));
  }
  if (now_ms() < deadline_ms) return {};
  return Error(ErrorCode::timeout, fmt::format("the MCP server '{}' did not answer in time", command_));
}

// Returns when the descriptor is ready, or with what `check` says.
Result<void> McpClient::wait_for(int descriptor, short events, int64_t deadline_ms) {
  while (true) {
    TM_CHECK(check(deadline_ms));
    pollfd ready[2] = {{descriptor, events, 0}, {interrupt_.descriptor(), POLLIN, 0}};
    const int64_t left = std::max<int64_t>(deadline_ms - now_ms(), 0);
    if (poll(ready, 2, static_cast<int>(left)) < 0) {
      if (errno != EINTR) return failure(std::strerror(errno));
      continue;
    }
    if (ready[1].revents != 0) interrupt_.wait();
    if (ready[0].revents != 0) return {};
  }
}

}  // namespace tidemill::cli
