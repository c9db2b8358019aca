#include <cstdio>
#include <iostream>
#include <string>
#include <unistd.h>

#include <fmt/core.h>

#include "base/json.hpp"
#include "cli/command.hpp"
#include "cli/local_engine.hpp"
#include "cli/output.hpp"

namespace tidemill::cli {

namespace json = base::json;

namespace {

struct ChatFlags {
  LocalOptions local;
  engine::Request request;
  std::string system;
  std::string message;
  bool as_json = false;
};

constexpr std::string_view commands = "/clear starts over, /exit leaves (Ctrl-D too), Ctrl-C stops an answer";

class Conversation {
 public:
  Conversation(LocalEngine& local, const ChatFlags& flags) : local_(local), flags_(flags) { clear(); }

  void clear() {
    messages_.clear();
    if (!flags_.system.empty()) messages_.push_back({{"role", "system"}, {"content", flags_.system}});
  }

  // Sends one message and prints the answer as it comes. A message that failed is not part of the conversation.
  base::Result<engine::FinishReason> say(const std::string& message, Interrupt& interrupt) {
    messages_.push_back({{"role", "user"}, {"content", message}});
    std::string answer;
    auto reason = respond(answer, interrupt);
    if (!reason) {
      messages_.pop_back();
      return reason;
    }
    messages_.push_back({{"role", "assistant"}, {"content", answer}});
    if (flags_.as_json) {
      fmt::print("{}\n",
                 json::serialize(json::object{
                     {"role", "assistant"}, {"content", answer}, {"finish_reason", engine::to_string(*reason)}}));
      std::fflush(stdout);
    }
    return reason;
  }

 private:
  base::Result<engine::FinishReason> respond(std::string& answer, Interrupt& interrupt) {
    engine::Request request = flags_.request;
    TM_TRY(const auto rendered, local_.model().chat().render(messages_));
    TM_TRY(request.prompt, local_.model().chat().encode(rendered));
    const int64_t room = local_.engine().max_context() - static_cast<int64_t>(request.prompt.size());
    if (room > 0 && room < request.max_tokens) request.max_tokens = static_cast<int>(room);
    return local_.run(request, interrupt, [&](const engine::Event& event) {
      answer += event.text;
      return flags_.as_json || print_now(event.text);
    });
  }

  LocalEngine& local_;
  const ChatFlags& flags_;
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
  Conversation conversation(*local, flags);
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
  command->add_flag("--json", flags->as_json, "Print one JSON object per answer");
  add_sampling_flags(*command, flags->request.sampling, flags->request.sampling.seed);
  command->footer("At the prompt: " + std::string(commands) + ".");
  command->callback([=, &chosen] { chosen.body = [flags] { return chat(*flags); }; });
}

}  // namespace tidemill::cli
