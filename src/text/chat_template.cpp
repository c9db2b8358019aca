#include "text/chat_template.hpp"

#include <algorithm>
#include <new>

#include "base/utf8.hpp"
#include "text/jinja_eval.hpp"
#include "text/jinja_lexer.hpp"
#include "text/jinja_parser.hpp"

namespace tidemill::text {
namespace {

constexpr size_t max_source = size_t{4} << 20U;  // bytes; real templates have some thousands

// `at`: the line being run when the fault itself did not know it. A line of -1 marks the template's own words.
base::Error to_error(const jinja::Fault& fault, int at) {
  if (fault.line < 0) return {fault.code, fault.message};
  const int line = fault.line > 0 ? fault.line : at;
  if (line <= 0) return {fault.code, fault.message};
  return {fault.code, "line " + std::to_string(line) + ": " + fault.message};
}

base::json::object message(std::string_view role, std::string_view content) {
  return {{"role", role}, {"content", content}};
}

// Conversations for `probe`, recognisable in what is rendered.
constexpr std::string_view system_mark = "tidemill-system-mark";
constexpr std::string_view tool_mark = "tidemill_tool_mark";
constexpr std::string_view argument_mark = "tidemill_argument_mark";
constexpr std::string_view reasoning_mark = "tidemill-reasoning-mark";

base::json::object conversation(base::json::array messages) {
  return {
      {"messages", std::move(messages)}, {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"add_generation_prompt", true}};
}

base::json::object tool_conversation(base::json::value arguments, bool with_tools) {
  const base::json::object function = {
      {"name", tool_mark},
      {"description", "A tool."},
      {"parameters",
       {{"type", "object"},
        {"properties", {{std::string(argument_mark), {{"type", "string"}, {"description", "A word."}}}}},
        {"required", {argument_mark}}}}};
  base::json::array messages = {message("user", "Hi")};
  if (!arguments.is_null()) {
    const base::json::object call = {{"id", "call00001"},
                                     {"type", "function"},
                                     {"function", {{"name", tool_mark}, {"arguments", std::move(arguments)}}}};
    messages.push_back(base::json::object{
        {"role", "assistant"}, {"content", ""}, {"tool_calls", base::json::array(1, base::json::value(call))}});
    base::json::object answer = message("tool", "42");
    answer["tool_call_id"] = "call00001";
    answer["name"] = tool_mark;
    messages.push_back(std::move(answer));
  }
  base::json::object context = conversation(std::move(messages));
  if (with_tools) {
    const base::json::object tool = {{"type", "function"}, {"function", function}};
    context["tools"] = base::json::array(1, base::json::value(tool));
  }
  return context;
}

}  // namespace

base::Result<ChatTemplate> ChatTemplate::compile(std::string_view source, Options options) {
  if (source.size() > max_source) {
    return base::Error(base::ErrorCode::too_large, "the chat template has " + std::to_string(source.size()) +
                                                       " bytes; at most " + std::to_string(max_source) +
                                                       " are accepted");
  }
  if (!base::utf8::is_valid(source)) {
    return base::Error(base::ErrorCode::invalid_argument, "the chat template is not valid UTF-8");
  }
  try {
    auto tokens = jinja::tokenize(source, options.trim_blocks, options.lstrip_blocks);
    return ChatTemplate(std::make_shared<const jinja::Program>(jinja::parse(std::move(tokens))), options.rules);
  } catch (const jinja::Fault& fault) {
    return to_error(fault, 0);
  } catch (const std::bad_alloc&) {
    return base::Error(base::ErrorCode::exhausted, "out of memory while compiling the chat template");
  }
}

base::Result<ChatTemplate> ChatTemplate::compile_as_meant(std::string_view source, StepAllowance* allowance) {
  auto by_reference = compile(source);
  if (!by_reference || by_reference->probe(allowance).tool_calls) return by_reference;
  ChatTemplate lenient(by_reference->program_, TemplateRules::lenient);
  if (lenient.probe(allowance).tool_calls) return lenient;
  return by_reference;
}

base::Result<std::string> ChatTemplate::render(const base::json::object& context, base::WallTime now,
                                               const TemplateLimits& limits) const {
  StepAllowance* const allowance = limits.allowance;
  const uint64_t steps = allowance == nullptr ? limits.max_steps : std::min(limits.max_steps, allowance->left_);
  jinja::Budget budget(steps, limits.max_memory);
  auto rendered = render(context, now, limits, budget);
  if (allowance != nullptr) {
    // A single charge that is more than what is left uses that up.
    allowance->left_ -= budget.overrun() ? steps : steps - budget.steps_left();
    if (budget.overrun() && steps < limits.max_steps) allowance->exceeded_ = true;
  }
  return rendered;
}

base::Result<std::string> ChatTemplate::render(const base::json::object& context, base::WallTime now,
                                               const TemplateLimits& limits, jinja::Budget& budget) const {
  int line = 0;
  try {
    jinja::Interpreter interpreter(*program_, budget, context,
                                   {.now = now,
                                    .max_output = limits.max_output,
                                    .max_depth = limits.max_depth,
                                    .lenient = rules_ == TemplateRules::lenient});
    try {
      return interpreter.render();
    } catch (...) {
      line = interpreter.line();
      throw;
    }
  } catch (const jinja::Fault& fault) {
    return to_error(fault, line);
  } catch (const std::bad_alloc&) {
    return base::Error(base::ErrorCode::exhausted, "out of memory while rendering the chat template");
  }
}

bool ChatTemplate::mentions(std::string_view variable) const {
  return std::find(program_->names.begin(), program_->names.end(), variable) != program_->names.end();
}

TemplateTraits ChatTemplate::probe(StepAllowance* allowance) const {
  const base::WallTime now{};
  const TemplateLimits limits{
      .max_output = size_t{1} << 20U, .max_memory = size_t{32} << 20U, .max_steps = 1'000'000, .allowance = allowance};
  const auto rendered = [&](const base::json::object& context) {
    base::Result<std::string> text = render(context, now, limits);
    return text ? std::move(*text) : std::string();
  };
  const auto contains = [](const std::string& text, std::string_view mark) {
    return text.find(mark) != std::string::npos;
  };

  TemplateTraits traits;
  traits.system =
      contains(rendered(conversation({message("system", system_mark), message("user", "Hi")})), system_mark);
  traits.tools = contains(rendered(tool_conversation(nullptr, true)), tool_mark);

  const base::json::object arguments = {{std::string(argument_mark), "x"}};
  const bool as_object = contains(rendered(tool_conversation(arguments, false)), argument_mark);
  const bool as_text =
      contains(rendered(tool_conversation(base::json::value(base::json::serialize(arguments)), false)), argument_mark);
  traits.tool_calls = as_object || as_text;
  traits.arguments_as_text = as_text && !as_object;

  base::json::object thinks = message("assistant", "4");
  thinks["reasoning_content"] = reasoning_mark;
  traits.reasoning_content = contains(rendered(conversation({message("user", "2+2?"), thinks})), reasoning_mark);

  base::json::object on = conversation({message("user", "Hi")});
  base::json::object off = on;
  on["enable_thinking"] = true;
  off["enable_thinking"] = false;
  const bool differ = rendered(on) != rendered(off);
  traits.thinking_switch = differ && (allowance == nullptr || !allowance->exceeded());
  return traits;
}

}  // namespace tidemill::text
