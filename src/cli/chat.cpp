#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "base/json.hpp"
#include "cli/command.hpp"
#include "cli/local_engine.hpp"
#include "cli/mcp_client.hpp"
#include "cli/output.hpp"
#include "serve/generation.hpp"
#include "wire/request.hpp"

namespace tidemill::cli {

namespace json = base::json;

namespace {

struct ChatFlags {
  LocalOptions local;
  engine::Request request;
  std::string system;
  std::string message;
  std::string mcp;  // the command of a server of tools
  std::string tool_choice = "auto";
  bool as_json = false;
};

constexpr int max_rounds = 8;  // of calls before one answer

constexpr std::string_view commands = "/clear starts over, /exit leaves (Ctrl-D too), Ctrl-C stops an answer";

class Conversation {
 public:
  // `server` has the tools; null: there are none.
  Conversation(LocalEngine& local, const ChatFlags& flags, McpClient* server)
      : local_(local), flags_(flags), server_(server) {
    clear();
    if (server_ == nullptr) return;
    for (const wire::mcp::Tool& tool : server_->tools())
      tools_.push_back({tool.name, tool.description, tool.input_schema, true});
  }

  void clear() {
    messages_.clear();
    if (!flags_.system.empty()) messages_.push_back({{"role", "system"}, {"content", flags_.system}});
  }

  // Sends one message and prints the answer as it comes. A message that failed is not part of the conversation.
  base::Result<engine::FinishReason> say(const std::string& message, Interrupt& interrupt) {
    const size_t before = messages_.size();
    messages_.push_back({{"role", "user"}, {"content", message}});
    for (int round = 0;; ++round) {
      Said said;
      auto reason = respond(said, interrupt, round);
      if (!reason) {
        messages_.resize(before);
        return reason;
      }
      messages_.push_back(message_of(said));
      show(said, *reason);
      if (said.calls.empty() || *reason == engine::FinishReason::cancelled) return reason;
      for (const Call& call : said.calls)
        messages_.push_back({{"role", "tool"}, {"tool_call_id", call.id}, {"content", run(call)}});
    }
  }

 private:
  struct Call {
    std::string id;
    std::string name;
    std::string arguments;
  };
  struct Said {
    std::string text;
    std::vector<Call> calls;
  };

  static json::object message_of(const Said& said) {
    json::object message{{"role", "assistant"}, {"content", said.text}};
    if (said.calls.empty()) return message;
    json::array& calls = message["tool_calls"].emplace_array();
    for (const Call& call : said.calls) {
      auto arguments = base::parse_json(call.arguments);
      calls.push_back(
          {{"id", call.id},
           {"type", "function"},
           {"function",
            {{"name", call.name}, {"arguments", arguments ? *arguments : json::value(json::string(call.arguments))}}}});
    }
    return message;
  }

  void show(const Said& said, engine::FinishReason reason) const {
    if (!flags_.as_json) return;
    json::object shown = message_of(said);
    shown["finish_reason"] = said.calls.empty() ? engine::to_string(reason) : "tool_calls";
    fmt::print("{}\n", json::serialize(shown));
    std::fflush(stdout);
  }

  // What the tool gave; what went wrong is said to the model.
  std::string run(const Call& call) const {
    if (!flags_.as_json) fmt::print(stderr, "[{} {}]\n", call.name, call.arguments);
    const auto arguments = base::parse_json(call.arguments);
    if (!arguments || !arguments->is_object()) return "The arguments are no JSON object.";
    auto result = server_->call(call.name, arguments->get_object());
    if (result) return *result;
    report(result.error());
    return result.error().to_string();
  }

  wire::ToolChoice::Kind choice_in(int round) const {
    if (tools_.empty() || round >= max_rounds) return wire::ToolChoice::Kind::none;
    const bool must = flags_.tool_choice == "required" && round == 0;
    return must ? wire::ToolChoice::Kind::required : wire::ToolChoice::Kind::automatic;
  }

  // Arguments follow their schemas, unless one of those says what no grammar can hold the model to.
  base::Result<serve::EngineWork> work_of(int round) {
    wire::GenerateRequest asked;
    asked.messages = messages_;
    asked.tools = tools_;
    asked.tool_choice.kind = choice_in(round);
    auto work = serve::engine_work(local_.model(), local_.engine().max_context(), asked, "chat");
    if (work || work.error().code() != base::ErrorCode::unsupported) return work;
    for (wire::Tool& tool : asked.tools)
      tool.strict = false;
    return serve::engine_work(local_.model(), local_.engine().max_context(), asked, "chat");
  }

  base::Result<engine::FinishReason> respond(Said& said, Interrupt& interrupt, int round) {
    TM_TRY(serve::EngineWork work, work_of(round));
    engine::Request request = flags_.request;
    request.prompt = std::move(work.requests.front().prompt);
    request.grammar = std::move(work.requests.front().grammar);
    request.special_text = work.requests.front().special_text;
    const int64_t room = local_.engine().max_context() - static_cast<int64_t>(request.prompt.size());
    if (room > 0 && room < request.max_tokens) request.max_tokens = static_cast<int>(room);
    serve::OutputReader reader(work.reading ? &*work.reading : nullptr, base::random_id("chat-"), 0);
    return local_.run(request, interrupt, [&](const engine::Event& event) {
      bool goes_on = true;
      for (const wire::Event& piece : reader.read(event)) {
        said.text += piece.text;
        for (const wire::ToolCallDelta& delta : piece.tool_calls) {
          if (!delta.id.empty()) said.calls.push_back({delta.id, delta.name, ""});
          if (!said.calls.empty()) said.calls.back().arguments += delta.arguments;
        }
        goes_on = goes_on && (flags_.as_json || (print_now(piece.reasoning) && print_now(piece.text)));
      }
      return goes_on;
    });
  }

  LocalEngine& local_;
  const ChatFlags& flags_;
  McpClient* server_;
  std::vector<wire::Tool> tools_;
  json::array messages_;
};

// Reads messages from standard input, a line each, until its end.
base::Result<int> converse(Conversation& conversation, bool interactive) {
  std::string line;
  while (true) {
    if (interactive) {
      fmt::print(stderr, "\n> ");
      std::fflush(stderr);
    }
    if (!std::getline(std::cin, line)) break;
    if (line == "/exit" || line == "/quit") break;
    if (line.empty()) continue;
    if (line == "/clear") {
      conversation.clear();
      continue;
    }
    Interrupt interrupt;
    const auto reason = conversation.say(line, interrupt);
    if (std::ferror(stdout) != 0) return exit_success;  // what became of it is for the caller to say
    if (!reason) {
      if (!interactive) return reason.error();
      report(reason.error());
    } else if (*reason == engine::FinishReason::cancelled && !interactive) {
      return exit_interrupted;
    }
  }
  return exit_success;
}

base::Result<int> chat(ChatFlags flags) {
  flags.local.show_progress = !flags.as_json;
  TM_TRY(const auto local, LocalEngine::load(flags.local));
  if (!local->model().chat().available()) return local->model().chat().fault();
  TM_CHECK(local->start(0));
  std::unique_ptr<McpClient> server;
  if (!flags.mcp.empty()) {
    TM_TRY(server, McpClient::start(flags.mcp));
    if (!flags.as_json) fmt::print(stderr, "{} tools from '{}'\n", server->tools().size(), flags.mcp);
  }
  Conversation conversation(*local, flags, server.get());
  if (!flags.message.empty()) {
    Interrupt interrupt;
    TM_TRY(const auto reason, conversation.say(flags.message, interrupt));
    const bool interrupted = reason == engine::FinishReason::cancelled && interrupt.raised();
    return interrupted ? exit_interrupted : exit_success;
  }
  const bool interactive = isatty(STDIN_FILENO) != 0 && !flags.as_json;
  if (interactive) fmt::print(stderr, "{}: {}\n", local->model().name(), commands);
  return converse(conversation, interactive);
}

}  // namespace

void add_chat(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("chat", "Talk with a model in the terminal");
  auto flags = std::make_shared<ChatFlags>();
  flags->request.max_tokens = 512;
  flags->local.max_context = 0;
  add_local_flags(*command, flags->local, true);
  command->add_option("--message", flags->message, "Say this one message, print the answer and leave");
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
  command->add_option("--mcp", flags->mcp, "Let the model call the tools of this MCP server, started by the shell")
      ->type_name("COMMAND");
  command->add_option("--tool-choice", flags->tool_choice, "Whether each message begins with a call of a tool")
      ->check(CLI::IsMember({"auto", "required"}))
      ->capture_default_str();
  command->add_flag("--json", flags->as_json, "Print one JSON object per answer");
  add_sampling_flags(*command, flags->request.sampling, flags->request.sampling.seed);
  command->footer("At the prompt: " + std::string(commands) + ".");
  command->callback([=, &chosen] { chosen.body = [flags] { return chat(*flags); }; });
}

}  // namespace tidemill::cli
