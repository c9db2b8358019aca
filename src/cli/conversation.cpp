#include "cli/conversation.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "base/utf8.hpp"
#include "cli/chat_tools.hpp"
#include "cli/command.hpp"
#include "cli/output.hpp"

namespace tidemill::cli {

using base::Error;
using base::ErrorCode;
using base::Result;
using engine::FinishReason;
namespace json = base::json;

namespace {

constexpr int max_rounds = 8;  // of calls before one answer
// Tokens that the template writes around a result, and that say that it was cut.
constexpr int64_t around_result = 96;

}  // namespace

Conversation::Conversation(LocalEngine& local, ConversationOptions options, McpClient* server)
    : local_(local), options_(std::move(options)), server_(server) {
  clear();
}

void Conversation::clear() {
  messages_.clear();
  if (!options_.system.empty()) messages_.push_back({{"role", "system"}, {"content", options_.system}});
}

Result<FinishReason> Conversation::say(const std::string& message, Interrupt& interrupt) {
  const size_t before = messages_.size();
  messages_.push_back({{"role", "user"}, {"content", message}});
  auto reason = say_on(interrupt);
  if (!reason) messages_.resize(before);
  return reason;
}

Result<FinishReason> Conversation::say_on(Interrupt& interrupt) {
  for (int round = 0;; ++round) {
    Said said;
    auto reason = respond(said, interrupt, round);
    if (!options_.as_json) end_line();
    if (!reason && round > 0 && reason.error().code() == ErrorCode::too_large) {
      // Not the user's input: what the tools gave.
      return Error(ErrorCode::exhausted, "the calls of tools and their results have filled the context")
          .caused_by(std::move(reason).error());
    }
    if (!reason) return reason;
    show(said, *reason);
    // A call that was cut off is not made, and the model is not told of it.
    if (*reason == FinishReason::cancelled) said.calls.clear();
    if (*reason == FinishReason::length && !said.calls.empty() && !is_whole(said.calls.back())) said.calls.pop_back();
    messages_.push_back(message_of(said));
    if (said.calls.empty()) return reason;
    const int64_t room = room_for_result(said);
    for (const Call& call : said.calls) {
      TM_TRY(const std::string result, result_of(call, room, interrupt));
      messages_.push_back({{"role", "tool"}, {"tool_call_id", call.id}, {"content", result}});
    }
    if (interrupt.raised()) return FinishReason::cancelled;
  }
}

bool Conversation::is_whole(const Call& call) {
  const auto arguments = base::parse_json(call.arguments);
  return arguments && arguments->is_object();
}

json::object Conversation::message_of(const Said& said) {
  json::object message{{"role", "assistant"}, {"content", said.text}};
  if (!said.reasoning.empty()) message["reasoning_content"] = said.reasoning;
  if (said.calls.empty()) return message;
  json::array& calls = message["tool_calls"].emplace_array();
  for (const Call& call : said.calls) {
    // As templates read them.
    auto arguments = base::parse_json(call.arguments);
    calls.push_back(
        {{"id", call.id},
         {"type", "function"},
         {"function",
          {{"name", call.name}, {"arguments", arguments ? *arguments : json::value(json::string(call.arguments))}}}});
  }
  return message;
}

// In OpenAI's words, where arguments are text.
void Conversation::show(const Said& said, FinishReason reason) const {
  if (!options_.as_json) return;
  json::object shown = message_of(said);
  for (size_t i = 0; i < said.calls.size(); ++i)
    shown["tool_calls"].at(i).at("function").as_object()["arguments"] = said.calls[i].arguments;
  const bool whole = reason != FinishReason::length && reason != FinishReason::cancelled;
  shown["finish_reason"] = whole && !said.calls.empty() ? "tool_calls" : engine::to_string(reason);
  print_now(json::serialize(shown) + "\n");
}

// Tokens for the result of each of its calls, so that there is room for an answer behind them.
int64_t Conversation::room_for_result(const Said& said) const {
  const int64_t context = local_.engine().max_context();
  const int64_t answer = std::min<int64_t>(options_.request.max_tokens, context / 4);
  return (context - said.tokens - answer) / std::ssize(said.calls) - around_result;
}

Result<std::string> Conversation::result_of(const Call& call, int64_t room, const Interrupt& interrupt) const {
  if (interrupt.raised()) return std::string("The user has cancelled this call.");
  return cut_to_tokens(local_.model().tokenizer(), run(call), room);
}

// What the tool gave; what went wrong is said to the model.
std::string Conversation::run(const Call& call) const {
  if (!options_.as_json)
    fmt::print(stderr, "[{} {}]\n", base::utf8::printable(call.name), base::utf8::printable(call.arguments));
  const auto arguments = base::parse_json(call.arguments);
  if (!arguments || !arguments->is_object()) return "The arguments are no JSON object.";
  auto result = server_->call(call.name, arguments->get_object());
  if (result) return *result;
  if (result.error().code() == ErrorCode::cancelled) return "The user has cancelled this call.";
  report(result.error());
  return result.error().to_string();
}

wire::ToolChoice::Kind Conversation::choice_in(int round) const {
  if (options_.tools.empty() || round >= max_rounds) return wire::ToolChoice::Kind::none;
  return options_.must_call && round == 0 ? wire::ToolChoice::Kind::required : wire::ToolChoice::Kind::automatic;
}

// Arguments follow their schemas, unless those say, all together, what no grammar can hold the model to.
Result<serve::EngineWork> Conversation::work_of(int round) {
  wire::GenerateRequest asked;
  asked.messages = messages_;
  asked.tools = options_.tools;
  asked.tool_choice.kind = choice_in(round);
  asked.reasoning_tokens = options_.reasoning_tokens;
  auto work = serve::complete_work(local_.model(), local_.engine().max_context(), asked, "chat");
  if (work || work.error().code() != ErrorCode::unsupported) return work;
  for (wire::Tool& tool : asked.tools)
    tool.strict = false;
  return serve::complete_work(local_.model(), local_.engine().max_context(), asked, "chat");
}

Result<FinishReason> Conversation::respond(Said& said, Interrupt& interrupt, int round) {
  TM_TRY(serve::EngineWork work, work_of(round));
  engine::Request request = options_.request;
  request.prompt = std::move(work.requests.front().prompt);
  request.grammar = std::move(work.requests.front().grammar);
  request.reasoning = std::move(work.requests.front().reasoning);
  request.special_text = work.requests.front().special_text;
  said.tokens = std::ssize(request.prompt);
  const int64_t room = local_.engine().max_context() - said.tokens;
  if (room > 0 && room < request.max_tokens) request.max_tokens = static_cast<int>(room);
  serve::OutputReader reader(work.reading ? &*work.reading : nullptr, base::random_id("chat-"), 0);
  return local_.run(request, interrupt, [&](const engine::Event& event) {
    bool goes_on = true;
    said.tokens += std::ssize(event.tokens);
    for (const wire::Event& piece : reader.read(event)) {
      said.reasoning += piece.reasoning;
      said.text += piece.text;
      for (const wire::ToolCallDelta& delta : piece.tool_calls) {
        if (!delta.id.empty()) said.calls.push_back({delta.id, delta.name, ""});
        if (!said.calls.empty()) said.calls.back().arguments += delta.arguments;
      }
      goes_on = goes_on && (options_.as_json || print(piece));
    }
    return goes_on;
  });
}

bool Conversation::print(const wire::Event& piece) {
  return print(Part::reasoning, piece.reasoning) && print(Part::text, piece.text);
}

// A blank line stands between reasoning and the answer.
bool Conversation::print(Part part, std::string_view text) {
  if (text.empty()) return true;
  if (printed_ != Part::none && printed_ != part && !print_now(last_ == '\n' ? "\n" : "\n\n")) return false;
  printed_ = part;
  last_ = text.back();
  return print_now(text);
}

void Conversation::end_line() {
  if (last_ != '\n') print_now("\n");
  printed_ = Part::none;
  last_ = '\n';
}

}  // namespace tidemill::cli
