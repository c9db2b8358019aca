// A conversation with a model in this process, which may call tools before it answers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/interrupt.hpp"
#include "cli/local_engine.hpp"
#include "cli/mcp_client.hpp"
#include "serve/generation.hpp"
#include "wire/request.hpp"

namespace tidemill::cli {

struct ConversationOptions {
  engine::Request request;  // what each answer is asked for with, but for its prompt
  std::string system;
  std::vector<wire::Tool> tools;
  std::optional<int64_t> reasoning_tokens;  // the most for each answer
  bool must_call = false;                   // each message begins with a call
  bool as_json = false;                     // one object for each answer, in place of its text
};

class Conversation {
 public:
  // `server` has the tools; null: there are none.
  Conversation(LocalEngine& local, ConversationOptions options, McpClient* server);

  void clear();

  // Sends one message and prints the answer as it comes. A message that failed is not part of the conversation. The
  // interrupt ends the answer, or the call that it waits for.
  base::Result<engine::FinishReason> say(const std::string& message, Interrupt& interrupt);

 private:
  struct Call {
    std::string id;
    std::string name;
    std::string arguments;  // JSON, but for a call that was cut off
  };
  struct Said {
    std::string reasoning;
    std::string text;
    std::vector<Call> calls;
    int64_t tokens = 0;  // of it and all that is before it
  };
  enum class Part : uint8_t { none, reasoning, text };

  static bool is_whole(const Call& call);
  static base::json::object message_of(const Said& said);
  base::Result<engine::FinishReason> say_on(Interrupt& interrupt);
  base::Result<engine::FinishReason> respond(Said& said, Interrupt& interrupt, int round);
  base::Result<serve::EngineWork> work_of(int round);
  wire::ToolChoice::Kind choice_in(int round) const;
  base::Result<std::string> result_of(const Call& call, int64_t room, const Interrupt& interrupt) const;
  std::string run(const Call& call) const;
  int64_t room_for_result(const Said& said) const;
  void show(const Said& said, engine::FinishReason reason) const;
  bool print(const wire::Event& piece);
  bool print(Part part, std::string_view text);
  void end_line();

  LocalEngine& local_;
  const ConversationOptions options_;
  McpClient* server_;
  base::json::array messages_;
  Part printed_ = Part::none;  // last, of the present answer
  char last_ = '\n';           // of what was printed
};

}  // namespace tidemill::cli
