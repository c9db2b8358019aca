// The client against servers that are shell scripts: those that do as they should, and those that do not.
#include "cli/mcp_client.hpp"

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <unistd.h>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "temporary_folder.hpp"

namespace tidemill {
namespace {

using cli::Interrupt;
using cli::McpClient;
using std::chrono::milliseconds;

const std::string greeting =
    R"(read l; echo '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}'; read l; )";
const std::string one_tool =
    R"(read l; echo '{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"a","inputSchema":{"type":"object"}}]}}'; )";
const std::string flood = R"(yes '{"jsonrpc":"2.0","method":"notifications/progress"}')";

std::string begins_with(const std::string& result) {
  return R"(read l; echo '{"jsonrpc":"2.0","id":1,"result":)" + result + R"(}'; cat > /dev/null)";
}

std::string error_of(const std::string& command, cli::McpLimits limits = {}) {
  Interrupt interrupt;
  const auto client = McpClient::start(command, interrupt, limits);
  return client ? "it started" : client.error().to_string();
}

// Whether it runs: neither gone nor waiting to be waited for.
bool runs(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string stat((std::istreambuf_iterator<char>(file)), {});
  const size_t name_ends = stat.rfind(')');
  return name_ends != std::string::npos && stat.substr(name_ends + 2, 1) != "Z";
}

TEST(McpClient, CallsATool) {
  Interrupt interrupt;
  const auto client = McpClient::start(
      greeting + one_tool +
          R"(read l; echo '{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"done"}]}}'; cat)",
      interrupt);
  ASSERT_TRUE(client) << client.error().to_string();
  ASSERT_EQ((*client)->tools().size(), 1U);
  const auto result = (*client)->call("a", {});
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ(*result, "done");
}

TEST(McpClient, RefusesAServerOfAnotherVersion) {
  const std::string old = error_of(begins_with(R"({"protocolVersion":"1990-01-01"})"));
  EXPECT_NE(old.find("1990-01-01"), std::string::npos) << old;
  EXPECT_NE(old.find("2025-11-25"), std::string::npos) << old;
  const std::string none = error_of(begins_with("{}"));
  EXPECT_NE(none.find("protocolVersion"), std::string::npos) << none;
  EXPECT_NE(error_of(begins_with("7")).find("no object"), std::string::npos);
}

TEST(McpClient, DoesNotTurnPagesForEver) {
  const std::string error = error_of(
      greeting + R"(n=1; while read l; do n=$((n+1)); )"
                 R"(echo "{\"jsonrpc\":\"2.0\",\"id\":$n,\"result\":{\"tools\":[],\"nextCursor\":\"x\"}}"; done)");
  EXPECT_NE(error.find("pages"), std::string::npos) << error;
}

TEST(McpClient, LeavesOutWhatIsNoTool) {
  Interrupt interrupt;
  const auto client = McpClient::start(
      greeting +
          R"(read l; echo '{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"a","inputSchema":"x"},)"
          R"({"name":"b","inputSchema":{"type":"object"}},{"inputSchema":{}},7,{"name":"","inputSchema":{}}]}}'; cat)",
      interrupt);
  ASSERT_TRUE(client) << client.error().to_string();
  ASSERT_EQ((*client)->tools().size(), 1U);
  EXPECT_EQ((*client)->tools()[0].name, "b");
  ASSERT_EQ((*client)->left_out().size(), 4U);
  EXPECT_NE((*client)->left_out()[0].find("inputSchema"), std::string::npos);
  EXPECT_NE((*client)->left_out()[3].find("'result.tools[4].name' is empty"), std::string::npos);
}

// However much it writes, and however fast.
TEST(McpClient, KeepsItsLimitsWhileNotificationsFlood) {
  const cli::McpLimits brief{.greeting = milliseconds(50), .call = milliseconds(50), .ending = milliseconds(500)};
  EXPECT_NE(error_of(flood, brief).find("in time"), std::string::npos);

  Interrupt interrupt;
  const auto client = McpClient::start(greeting + one_tool + "read l; " + flood, interrupt,
                                       {.call = milliseconds(50), .ending = milliseconds(500)});
  ASSERT_TRUE(client) << client.error().to_string();
  const auto result = (*client)->call("a", {});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::ErrorCode::timeout);
}

TEST(McpClient, AServerThatReadsNothingHoldsNobodyUp) {
  Interrupt interrupt;
  const auto client = McpClient::start(greeting + one_tool + "sleep 600", interrupt,
                                       {.call = milliseconds(200), .ending = milliseconds(50)});
  ASSERT_TRUE(client) << client.error().to_string();
  const auto result = (*client)->call("a", {{"text", std::string(size_t{4} << 20, 'x')}});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::ErrorCode::timeout);
  const auto again = (*client)->call("a", {});
  ASSERT_FALSE(again);
  EXPECT_NE(again.error().to_string().find("middle of a message"), std::string::npos) << again.error().to_string();
}

TEST(McpClient, AnInterruptEndsACallAndTheServerIsTold) {
  const test::TemporaryFolder folder;
  const std::string called = (folder.path() / "called").string();
  const std::string told = (folder.path() / "told").string();
  Interrupt interrupt;
  base::Result<std::unique_ptr<McpClient>> client = McpClient::start(
      greeting + one_tool + "read l; touch '" + called + "'; read l; echo \"$l\" > '" + told + "'; cat", interrupt);
  ASSERT_TRUE(client) << client.error().to_string();
  std::thread user([&] {
    while (!std::filesystem::exists(called))
      std::this_thread::yield();
    kill(getpid(), SIGINT);
  });
  const auto result = (*client)->call("a", {});
  user.join();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), base::ErrorCode::cancelled);
  interrupt.clear();
  client->reset();  // waits for the server's end
  std::ifstream file(told);
  std::string line((std::istreambuf_iterator<char>(file)), {});
  EXPECT_NE(line.find("notifications/cancelled"), std::string::npos) << line;
  EXPECT_NE(line.find("\"requestId\":3"), std::string::npos) << line;
}

TEST(McpClient, NothingOfTheServerStaysBehind) {
  const test::TemporaryFolder folder;
  const std::string file = (folder.path() / "pid").string();
  for (const std::string begins : {"", "trap '' TERM; "}) {
    for (const std::string ends : {"wait", "exit 0"}) {
      const std::string command = fmt::format("{}sleep 600 & echo $! > '{}'; echo garbage; {}", begins, file, ends);
      const std::string error = error_of(command, {.ending = milliseconds(20)});
      EXPECT_NE(error.find("no message"), std::string::npos) << error;
      pid_t left = 0;
      std::ifstream(file) >> left;
      ASSERT_GT(left, 0) << command;
      // It has been sent the signal, and acts on it when it next runs.
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
      while (runs(left) && std::chrono::steady_clock::now() < deadline)
        std::this_thread::yield();
      EXPECT_FALSE(runs(left)) << command;
    }
  }
}

}  // namespace
}  // namespace tidemill
