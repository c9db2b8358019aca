#include "chat/format.hpp"

#include <array>
#include <utility>

#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

using Shape = CallSyntax::Shape;

CallSyntax json_syntax(std::string_view open, std::string_view close) {
  CallSyntax syntax;
  syntax.shape = Shape::json_object;
  syntax.open = open;
  syntax.close = close;
  syntax.between = "\n";
  return syntax;
}

CallSyntax json_list(std::string_view open, std::string_view close) {
  CallSyntax syntax = json_syntax(open, close);
  syntax.list = true;
  syntax.between = ", ";
  return syntax;
}

CallSyntax named_json(std::string_view open, std::string_view name_end, std::string_view close) {
  CallSyntax syntax;
  syntax.shape = Shape::named_json;
  syntax.open = open;
  syntax.name_end = name_end;
  syntax.close = close;
  return syntax;
}

CallSyntax llama3() {
  CallSyntax syntax = json_syntax("<|python_tag|>", "");
  syntax.arguments_key = "parameters";
  syntax.between = "; ";
  syntax.bare = true;
  syntax.known_only = true;
  return syntax;
}

CallSyntax mistral() {
  CallSyntax syntax = json_list("[TOOL_CALLS]", "");
  syntax.short_ids = true;
  syntax.control = true;
  return syntax;
}

CallSyntax mistral_args(std::string_view id_open) {
  CallSyntax syntax = named_json("[TOOL_CALLS]", "[ARGS]", "");
  syntax.id_open = id_open;
  syntax.short_ids = true;
  syntax.control = true;
  return syntax;
}

CallSyntax deepseek(std::string_view open, std::string_view name_end, std::string_view close) {
  CallSyntax syntax = named_json(open, name_end, close);
  syntax.section_open = "<｜tool▁calls▁begin｜>";
  syntax.section_close = "<｜tool▁calls▁end｜>";
  syntax.control = true;
  return syntax;
}

CallSyntax deepseek_v3_2() {
  CallSyntax syntax;
  syntax.shape = Shape::parameters;
  syntax.section_open = "<｜DSML｜function_calls>\n";
  syntax.section_close = "\n</｜DSML｜function_calls>";
  syntax.open = "<｜DSML｜invoke name=\"";
  syntax.name_end = "\">\n";
  syntax.parameter_open = "<｜DSML｜parameter name=\"";
  syntax.key_end = "\" string=\"false\">";
  syntax.text_key_end = "\" string=\"true\">";
  syntax.value_close = "</｜DSML｜parameter>\n";
  syntax.close = "</｜DSML｜invoke>";
  syntax.between = "\n";
  return syntax;
}

CallSyntax qwen3_coder() {
  CallSyntax syntax;
  syntax.shape = Shape::parameters;
  syntax.section_open = "<tool_call>\n";
  syntax.section_close = "\n</tool_call>";
  syntax.section_each = true;
  syntax.open = "<function=";
  syntax.name_end = ">\n";
  syntax.parameter_open = "<parameter=";
  syntax.key_end = ">\n";
  syntax.value_close = "\n</parameter>\n";
  syntax.values_on_lines = true;
  syntax.close = "</function>";
  syntax.between = "\n";
  return syntax;
}

CallSyntax glm() {
  CallSyntax syntax;
  syntax.shape = Shape::parameters;
  syntax.open = "<tool_call>";
  syntax.name_end = "\n";
  syntax.parameter_open = "<arg_key>";
  syntax.key_end = "</arg_key>\n";
  syntax.value_open = "<arg_value>";
  syntax.value_close = "</arg_value>\n";
  syntax.close = "</tool_call>";
  syntax.between = "\n";
  return syntax;
}

CallSyntax kimi_k2() {
  CallSyntax syntax = named_json("<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>");
  syntax.section_open = "<|tool_calls_section_begin|>";
  syntax.section_close = "<|tool_calls_section_end|>";
  syntax.name_prefix = "functions.";
  syntax.counted_ids = true;
  syntax.control = true;
  return syntax;
}

CallSyntax gemma(std::string_view open, std::string_view close, std::string_view quote) {
  CallSyntax syntax;
  syntax.shape = Shape::gemma;
  syntax.open = open;
  syntax.close = close;
  syntax.quote = quote;
  syntax.control = true;
  return syntax;
}

CallSyntax functionary(std::string_view open, std::string_view name_end, std::string_view close) {
  CallSyntax syntax = named_json(open, name_end, close);
  syntax.known_only = true;
  return syntax;
}

CallSyntax functionary_v3_2() {
  CallSyntax syntax = functionary(">>>", "\n", "");
  syntax.recipient = "all";
  return syntax;
}

CallSyntax apertus() {
  CallSyntax syntax = json_list("<|tools_prefix|>", "<|tools_suffix|>");
  syntax.shape = Shape::name_as_key;
  syntax.control = true;
  return syntax;
}

CallSyntax controlled(CallSyntax syntax) {
  syntax.control = true;
  return syntax;
}

CallSyntax functools() {
  CallSyntax syntax = json_list("functools", "");
  syntax.known_only = true;
  return syntax;
}

CallSyntax lfm2() {
  CallSyntax syntax;
  syntax.shape = Shape::python;
  syntax.open = "<|tool_call_start|>";
  syntax.close = "<|tool_call_end|>";
  syntax.list = true;
  syntax.between = ", ";
  syntax.control = true;
  return syntax;
}

CallSyntax mcp() {
  CallSyntax syntax = named_json("<server_name>", "</tool_name>\n<arguments>\n", "\n</arguments>");
  syntax.section_open = "<use_mcp_tool>\n";
  syntax.section_close = "\n</use_mcp_tool>";
  syntax.preface_end = "</server_name>\n<tool_name>";
  syntax.between = "\n";
  return syntax;
}

CallSyntax harmony() {
  CallSyntax syntax;
  syntax.shape = Shape::harmony;
  return syntax;
}

constexpr std::array<std::pair<ToolFormat, std::string_view>, 26> names = {{
    {ToolFormat::none, "none"},
    {ToolFormat::hermes, "hermes"},
    {ToolFormat::llama3_json, "llama3_json"},
    {ToolFormat::mistral, "mistral"},
    {ToolFormat::mistral_args, "mistral_args"},
    {ToolFormat::mistral_ids, "mistral_ids"},
    {ToolFormat::deepseek_v3, "deepseek_v3"},
    {ToolFormat::deepseek_v3_1, "deepseek_v3_1"},
    {ToolFormat::deepseek_v3_2, "deepseek_v3_2"},
    {ToolFormat::qwen3_coder, "qwen3_coder"},
    {ToolFormat::glm, "glm"},
    {ToolFormat::kimi_k2, "kimi_k2"},
    {ToolFormat::harmony, "harmony"},
    {ToolFormat::gemma, "gemma"},
    {ToolFormat::functiongemma, "functiongemma"},
    {ToolFormat::functionary, "functionary"},
    {ToolFormat::functionary_v3_2, "functionary_v3_2"},
    {ToolFormat::apertus, "apertus"},
    {ToolFormat::apriel, "apriel"},
    {ToolFormat::gigachat, "gigachat"},
    {ToolFormat::gigachat_role, "gigachat_role"},
    {ToolFormat::functools, "functools"},
    {ToolFormat::granite, "granite"},
    {ToolFormat::lfm2, "lfm2"},
    {ToolFormat::mcp, "mcp"},
    {ToolFormat::json_in_tags, "json_in_tags"},
}};

CallSyntax syntax_of(ToolFormat format) {
  switch (format) {
    case ToolFormat::none:
    case ToolFormat::json_in_tags:
      return {};
    case ToolFormat::hermes:
      return json_syntax("<tool_call>\n", "\n</tool_call>");
    case ToolFormat::llama3_json:
      return llama3();
    case ToolFormat::mistral:
      return mistral();
    case ToolFormat::mistral_args:
      return mistral_args("");
    case ToolFormat::mistral_ids:
      return mistral_args("[CALL_ID]");
    case ToolFormat::deepseek_v3: {
      CallSyntax syntax =
          deepseek("<｜tool▁call▁begin｜>function<｜tool▁sep｜>", "\n```json\n", "\n```<｜tool▁call▁end｜>");
      syntax.between = "\n";
      return syntax;
    }
    case ToolFormat::deepseek_v3_1:
      return deepseek("<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>");
    case ToolFormat::deepseek_v3_2:
      return deepseek_v3_2();
    case ToolFormat::qwen3_coder:
      return qwen3_coder();
    case ToolFormat::glm:
      return glm();
    case ToolFormat::kimi_k2:
      return kimi_k2();
    case ToolFormat::harmony:
      return harmony();
    case ToolFormat::gemma:
      return gemma("<|tool_call>call:", "<tool_call|>", "<|\"|>");
    case ToolFormat::functiongemma:
      return gemma("<start_function_call>call:", "<end_function_call>", "<escape>");
    case ToolFormat::functionary:
      return functionary("<function=", ">", "</function>");
    case ToolFormat::functionary_v3_2:
      return functionary_v3_2();
    case ToolFormat::apertus:
      return apertus();
    case ToolFormat::apriel:
      return json_list("<tool_calls>", "</tool_calls>");
    case ToolFormat::gigachat:
      return controlled(json_syntax("<|function_call|>", ""));
    case ToolFormat::gigachat_role:
      return controlled(json_syntax("<|message_sep|>\n\nfunction call<|role_sep|>\n", ""));
    case ToolFormat::functools:
      return functools();
    case ToolFormat::granite:
      return controlled(json_list("<|tool_call|>", ""));
    case ToolFormat::lfm2:
      return lfm2();
    case ToolFormat::mcp:
      return mcp();
  }
  return {};
}

struct ReasoningTags {
  std::string_view name;
  std::string_view open;
  std::string_view close;
};

constexpr std::array<ReasoningTags, 7> reasoning_tags = {{
    {"think", "<think>", "</think>"},
    {"bracket_think", "[THINK]", "[/THINK]"},
    {"gemma", "<|channel>thought\n", "<channel|>"},
    {"apertus", "<|inner_prefix|>", "<|inner_suffix|>"},
    {"apriel", "Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"},
    {"seed", "<seed:think>", "</seed:think>"},
    {"none", "", ""},
}};

}  // namespace

std::string_view to_string(ToolFormat format) {
  for (const auto& [known, name] : names) {
    if (known == format) return name;
  }
  return "none";
}

base::Result<Format> format_by_name(std::string_view name) {
  std::string all;
  for (const auto& [known, its_name] : names) {
    if (known == ToolFormat::json_in_tags) continue;
    if (its_name == name) {
      Format format;
      format.tools = known;
      format.syntax = syntax_of(known);
      return format;
    }
    all.append(all.empty() ? "" : ", ").append(its_name);
  }
  return base::Error(base::ErrorCode::invalid_argument,
                     "no tool format is named '" + std::string(name) + "'; there are " + all);
}

base::Result<void> set_reasoning(Format& format, std::string_view name) {
  std::string all;
  for (const ReasoningTags& tags : reasoning_tags) {
    if (tags.name == name) {
      format.reasoning_open = tags.open;
      format.reasoning_close = tags.close;
      return {};
    }
    all.append(all.empty() ? "" : ", ").append(tags.name);
  }
  return base::Error(base::ErrorCode::invalid_argument,
                     "no reasoning tags are named '" + std::string(name) + "'; there are " + all);
}

std::vector<std::string_view> reasoning_names() {
  std::vector<std::string_view> all;
  all.reserve(std::size(reasoning_tags));
  for (const ReasoningTags& tags : reasoning_tags)
    all.push_back(tags.name);
  return all;
}

bool opens_reasoning(const Format& format, std::string_view rendered_prompt) {
  if (format.reasoning_close.empty() || format.reasoning_open.empty()) return false;
  // Only what stands at the end counts: a prompt may speak of the tags anywhere.
  return trimmed(rendered_prompt).ends_with(trimmed(format.reasoning_open));
}

std::vector<std::string> call_triggers(const CallSyntax& syntax) {
  std::vector<std::string> triggers;
  for (const std::string* text : {&syntax.section_open, &syntax.open}) {
    if (const std::string_view trigger = trimmed(*text); !trigger.empty()) triggers.emplace_back(trigger);
  }
  return triggers;
}

}  // namespace tidemill::chat
