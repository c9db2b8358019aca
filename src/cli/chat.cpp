#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <unistd.h>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "cli/chat_tools.hpp"
#include "cli/command.hpp"
#include "cli/conversation.hpp"
#include "cli/line_input.hpp"
#include "cli/local_engine.hpp"
#include "cli/mcp_client.hpp"

namespace tidemill::cli {

namespace {

struct ChatFlags {
  LocalOptions local;
  engine::Request request;
  std::optional<int64_t> reasoning_tokens;
  std::string system;
  std::string message;
  bool has_message = false;
  std::string mcp;  // the command of a server of tools
  bool has_mcp = false;
  std::string tool_choice = "auto";
  bool as_json = false;

  bool must_call() const { return tool_choice == "required"; }
};

constexpr std::string_view commands =
    "/clear starts over, /exit leaves (Ctrl-D and Ctrl-C too), Ctrl-C stops an answer or a call of a tool";

// Reads messages from standard input, a line each, until its end.
base::Result<int> converse(Conversation& conversation, Interrupt& interrupt, bool interactive) {
  LineInput input;
  while (true) {
    if (interactive) {
      fmt::print(stderr, "\n> ");
      std::fflush(stderr);
    }
    TM_TRY(const auto line, input.next(interrupt));
    if (interrupt.raised()) {
      if (interactive) fmt::print(stderr, "\n");
      return exit_interrupted;
    }
    if (!line || *line == "/exit" || *line == "/quit") break;
    if (line->empty()) continue;
    if (*line == "/clear") {
      conversation.clear();
      continue;
    }
    const auto reason = conversation.say(*line, interrupt);
    if (std::ferror(stdout) != 0) return exit_success;  // what became of it is for the caller to say
    if (!interactive) {
      if (!reason) return reason.error();
      if (*reason == engine::FinishReason::cancelled) return exit_interrupted;
    } else if (!reason) {
      report(reason.error());
    }
    if (interactive) interrupt.clear();  // it was for that answer
  }
  return exit_success;
}

base::Result<void> check_flags(const ChatFlags& flags) {
  const auto wrong = [](std::string why) { return base::Error(base::ErrorCode::invalid_argument, std::move(why)); };
  if (flags.has_message && flags.message.empty()) return wrong("--message is empty: give it the words to say");
  if (flags.has_mcp && flags.mcp.find_first_not_of(" \t\n") == std::string::npos) {
    return wrong("--mcp is empty: give it the command that starts a server of tools");
  }
  if (flags.must_call() && !flags.has_mcp) {
    return wrong("--tool-choice required needs tools to call: give --mcp COMMAND");
  }
  return {};
}

// The tools of the server, and a warning for each that the model cannot be told of.
base::Result<std::vector<wire::Tool>> tools_of(const McpClient& server, LocalEngine& local, const ChatFlags& flags) {
  // Names and reasons may hold what the server says.
  const auto warn = [](const std::string& why) {
    fmt::print(stderr, "tidemill: warning: {}\n", base::utf8::printable(why));
  };
  for (const std::string& why : server.left_out())
    warn("a tool of the MCP server is left out: " + why);
  std::vector<wire::Tool> tools = usable_tools(local, server.tools(), warn);
  if (!flags.as_json) fmt::print(stderr, "{} tools from '{}'\n", tools.size(), flags.mcp);
  if (tools.empty() && flags.must_call()) {
    return base::Error(base::ErrorCode::unavailable,
                       "--tool-choice required needs tools to call, and the MCP server has none to offer");
  }
  return tools;
}

base::Result<int> chat(ChatFlags flags) {
  TM_CHECK(check_flags(flags));
  flags.local.show_progress = !flags.as_json;
  TM_TRY(const auto local, LocalEngine::load(flags.local));
  if (!local->model().chat().available()) return local->model().chat().fault();
  TM_CHECK(local->start(0));
  Interrupt interrupt;
  std::unique_ptr<McpClient> server;
  ConversationOptions options{.request = flags.request,
                              .system = flags.system,
                              .tools = {},
                              .reasoning_tokens = flags.reasoning_tokens,
                              .must_call = flags.must_call(),
                              .as_json = flags.as_json};
  if (flags.has_mcp) {
    TM_TRY(server, McpClient::start(flags.mcp, interrupt));
    TM_TRY(options.tools, tools_of(*server, *local, flags));
  }
  Conversation conversation(*local, std::move(options), server.get());
  if (flags.has_message) {
    TM_TRY(const auto reason, conversation.say(flags.message, interrupt));
    const bool interrupted = reason == engine::FinishReason::cancelled && interrupt.raised();
    return interrupted ? exit_interrupted : exit_success;
  }
  const bool interactive = isatty(STDIN_FILENO) != 0 && !flags.as_json;
  if (interactive) fmt::print(stderr, "{}: {}\n", local->model().name(), commands);
  return converse(conversation, interrupt, interactive);
}

}  // namespace

void add_chat(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("chat", "Talk with a model in the terminal");
  auto flags = std::make_shared<ChatFlags>();
  flags->request.max_tokens = 512;
  flags->local.max_context = 0;
  add_local_flags(*command, flags->local, true);
  auto* message = command->add_option("--message", flags->message, "Say this one message, print the answer and leave");
  command->add_option("--system", flags->system, "The system message");
  command
      ->add_option("--chat-template", flags->local.chat_template, "Jinja file to use instead of the model's template")
      ->type_name("FILE");
  command
      ->add_option("--context", flags->local.max_context, "Room for the conversation in tokens (default: the model's)")
      ->check(CLI::Range(1, max_count));
  command->add_option("-n,--max-tokens", flags->request.max_tokens, "Most tokens of one answer")
      ->check(CLI::Range(1, max_count))
      ->capture_default_str();
  command
      ->add_option("--thinking-token-budget", flags->reasoning_tokens,
                   "Most of these that go to reasoning; 0: none (default: as many as the model likes)")
      ->check(CLI::Range(0, max_count));
  auto* mcp =
      command->add_option("--mcp", flags->mcp, "Let the model call the tools of this MCP server, started by the shell")
          ->type_name("COMMAND");
  command
      ->add_option("--tool-choice", flags->tool_choice,
                   "Whether each message begins with a call of a tool; required needs --mcp")
      ->check(CLI::IsMember({"auto", "required"}))
      ->capture_default_str();
  command->add_flag("--json", flags->as_json,
                    "Print one JSON object per answer, in the form of OpenAI's chat messages");
  add_sampling_flags(*command, flags->request.sampling, flags->request.sampling.seed);
  command->footer("At the prompt: " + std::string(commands) + ".");
  command->callback([=, &chosen] {
    flags->has_message = message->count() > 0;
    flags->has_mcp = mcp->count() > 0;
    chosen.body = [flags] { return chat(*flags); };
  });
}

}  // namespace tidemill::cli
