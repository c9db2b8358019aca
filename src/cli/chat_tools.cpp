#include "cli/chat_tools.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <unordered_set>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "serve/generation.hpp"

namespace tidemill::cli {

using base::Error;
using base::ErrorCode;

namespace {

using Choice = wire::ToolChoice::Kind;

// Why a conversation with these tools cannot be had, if it cannot.
std::optional<Error> fault_of(LocalEngine& local, std::vector<wire::Tool> tools, Choice choice = Choice::automatic) {
  wire::GenerateRequest asked;
  asked.tool_choice.kind = choice;
  asked.messages.push_back({{"role", "user"}, {"content", "x"}});
  asked.tools = std::move(tools);
  auto work = serve::complete_work(local.model(), local.engine().max_context(), asked, "chat");
  if (work) return std::nullopt;
  return std::move(work).error();
}

// Whether strictness may be what is wrong.
bool asks_too_much(const Error& error) {
  return error.code() == ErrorCode::unsupported || error.code() == ErrorCode::too_large;
}

void loosen(std::vector<wire::Tool>& tools) {
  for (wire::Tool& tool : tools)
    tool.strict = false;
}

// As above, for one tool, which is made less strict where that helps. Unless a call must come nothing is asked of a
// tool that is not strict, not even whether the model's format can write its name.
std::optional<Error> settle(LocalEngine& local, wire::Tool& tool) {
  auto fault = fault_of(local, {tool});
  if (!fault || !asks_too_much(*fault)) return fault;
  tool.strict = false;
  return fault_of(local, {tool}, Choice::required);
}

}  // namespace

std::vector<wire::Tool> usable_tools(LocalEngine& local, const std::vector<wire::mcp::Tool>& offered,
                                     const std::function<void(const std::string&)>& warn) {
  std::vector<wire::Tool> tools;
  std::unordered_set<std::string> names;
  for (const wire::mcp::Tool& tool : offered) {
    if (names.insert(tool.name).second) {
      tools.push_back(
          {.name = tool.name, .description = tool.description, .parameters = tool.input_schema, .strict = true});
    } else {
      warn(fmt::format("the server offers two tools '{}': the second is left out", tool.name));
    }
  }
  if (tools.empty() || !fault_of(local, tools)) return tools;
  std::vector<wire::Tool> usable;
  for (wire::Tool& tool : tools) {
    if (const auto fault = settle(local, tool)) {
      warn(fmt::format("the tool '{}' is left out: {}", tool.name, fault->to_string()));
    } else {
      usable.push_back(std::move(tool));
    }
  }
  // Each by itself may be possible, and all of them too much for one grammar.
  if (const auto fault = fault_of(local, usable); fault && asks_too_much(*fault)) loosen(usable);
  return usable;
}

base::Result<std::string> cut_to_tokens(const text::Tokenizer& tokenizer, std::string result, int64_t tokens) {
  TM_TRY(const std::vector<text::Token> all, tokenizer.encode(result, {.add_special = false, .parse_special = false}));
  if (std::ssize(all) <= tokens) return result;
  const auto kept = static_cast<size_t>(std::max<int64_t>(tokens, 0));
  std::string begins = tokenizer.decode(std::span(all).first(kept));
  begins.resize(begins.size() - base::utf8::incomplete_tail(begins));
  return fmt::format("{}\n[cut here: there was no room for the other {} bytes]", begins,
                     result.size() - std::min(begins.size(), result.size()));
}

}  // namespace tidemill::cli
