// How a model writes reasoning and tool calls: a description that the parser, the constraint and recognition share.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "text/chat_template.hpp"

namespace tidemill::chat {

// Named after the models that brought them; each is one row of a table in format.cpp.
enum class ToolFormat : uint8_t {
  none,
  hermes,            // <tool_call>{"name": ..., "arguments": {...}}</tool_call>: Hermes, Qwen 2.5 and 3
  llama3_json,       // {"name": ..., "parameters": {...}}, perhaps after <|python_tag|>
  mistral,           // [TOOL_CALLS][{"name": ..., "arguments": {...}}, ...]
  mistral_args,      // [TOOL_CALLS]name[ARGS]{...}
  mistral_ids,       // [TOOL_CALLS]name[CALL_ID]id[ARGS]{...}
  deepseek_v3,       // fullwidth-bar tags, the arguments in a Markdown fence: V3 and R1
  deepseek_v3_1,     // fullwidth-bar tags around bare arguments
  deepseek_v3_2,     // <｜DSML｜invoke name="..."> with a tag for each parameter
  qwen3_coder,       // <function=...><parameter=...>
  glm,               // <tool_call>name<arg_key>...</arg_key><arg_value>...</arg_value></tool_call>: GLM-4.5 to 4.7
  kimi_k2,           // <|tool_call_begin|>functions.name:0<|tool_call_argument_begin|>{...}<|tool_call_end|>
  harmony,           // gpt-oss: channels analysis, commentary, final
  gemma,             // <|tool_call>call:name{key:<|"|>text<|"|>}<tool_call|>: Gemma 4
  functiongemma,     // <start_function_call>call:name{key:<escape>text<escape>}<end_function_call>
  functionary,       // <function=name>{...}</function>: functionary 3.1
  functionary_v3_2,  // >>>name\n{...}
  apertus,           // <|tools_prefix|>[{"name": {...}}, ...]<|tools_suffix|>
  apriel,            // <tool_calls>[{"name": ..., "arguments": {...}}, ...]</tool_calls>
  gigachat,          // <|function_call|>{"name": ..., "arguments": {...}}: GigaChat 3.1
  gigachat_role,     // the same as a message of the role "function call": GigaChat 3
  functools,         // functools[{"name": ..., "arguments": {...}}, ...]: firefunction
  granite,           // <|tool_call|>[{"name": ..., "arguments": {...}}, ...]
  lfm2,              // <|tool_call_start|>[name(key="text", other=1)]<|tool_call_end|>: LFM2
  mcp,               // <use_mcp_tool> with a server's name, a tool's and <arguments>{...}</arguments>: MiroThinker
  json_in_tags,      // JSON with a name and arguments between tags that recognition found
};

std::string_view to_string(ToolFormat format);

// The texts that a call is made of. White space at the ends of each is what the model's template writes; the parser
// takes any amount of it, none included, and does without closing texts.
struct CallSyntax {
  enum class Shape : uint8_t {
    none,
    json_object,  // open {name_key: name, arguments_key: {...}} close
    name_as_key,  // open {name: {...}} close
    named_json,   // open name name_end {...} close
    parameters,   // open name name_end (parameter_open key key_end value_open value value_close)* close
    gemma,        // open name {key:value,...} close
    python,       // open [name(key=value, ...), ...] close
    harmony,
  };
  Shape shape = Shape::none;
  std::string section_open;   // before the first call, where that differs from `open`
  std::string section_close;  // after the last
  bool section_each = false;  // every call has a section of its own
  std::string open;
  std::string close;
  std::string between;  // two calls
  bool list = false;    // calls are the elements of one JSON array, within `open` and `close`

  std::string name_key = "name";
  std::string arguments_key = "arguments";

  std::string preface_end;  // between `open` and the name stands any text that this ends
  std::string name_prefix;  // before a name, and no part of it ("functions.")
  std::string name_end;
  std::string id_open;       // between a name and the call's id, which `name_end` then follows; empty: no ids
  bool counted_ids = false;  // the name is followed by ":" and a number, and all of that is the id
  bool short_ids = false;    // ids that are made up have 9 letters and digits

  std::string parameter_open;
  std::string key_end;
  std::string value_open;
  std::string value_close;
  std::string text_key_end;      // instead of key_end where the value is text; empty: the schema says what is text
  bool values_on_lines = false;  // one line break after a value's opening and one before its end are no part of it

  std::string quote;      // around texts (gemma)
  std::string recipient;  // of plain content (functionary); the output begins behind an `open`

  bool bare = false;        // a call needs no `open` where the output begins with one
  bool known_only = false;  // only names of tools offered are calls, since other text may look like one
  bool control = false;     // `open` is a control token, which ends reasoning too
  bool first_only = false;  // no call stands behind content: whatever that holds is text (under a form of the content)
};

struct Format {
  ToolFormat tools = ToolFormat::none;
  CallSyntax syntax;
  // Tags around reasoning; both empty: the model writes none that is known of. An empty `reasoning_open` alone: the
  // prompt opens it always. Harmony has channels instead.
  std::string reasoning_open;
  std::string reasoning_close;

  bool reasons() const { return !reasoning_close.empty() || tools == ToolFormat::harmony; }
};

// Where an output begins.
enum class Start : uint8_t {
  answer,     // nothing of it has been written
  reasoning,  // the prompt has opened reasoning
  content,    // the prompt has begun the answer's content, which goes on
};

// Renders small conversations with calls and with reasoning, and takes the format whose parser reads those very calls
// back; where none of the known formats does, JSON between tags of the template's own (json_in_tags). Where the
// template writes no call, the format is the one whose control tokens it speaks of in what it renders for a list of
// tools, or in its `source`; else `none`. What the allowance does not last for counts as refused by the template.
Format recognise(const text::ChatTemplate& chat_template, std::string_view source = {},
                 text::StepAllowance* allowance = nullptr);

// The format by the name that to_string gives; "none" is one. Reasoning tags are left empty. The error lists the names.
base::Result<Format> format_by_name(std::string_view name);

// Reasoning tags by name: "think", "bracket_think", "gemma", "apertus", "apriel", "seed" or "none".
base::Result<void> set_reasoning(Format& format, std::string_view name);
std::vector<std::string_view> reasoning_names();

// Whether a rendered prompt ends inside of reasoning ("<think>\n" at its end), so that the output begins there.
bool opens_reasoning(const Format& format, std::string_view rendered_prompt);

// The texts that end plain content and begin a call, wherever they stand.
std::vector<std::string> call_triggers(const CallSyntax& syntax);

}  // namespace tidemill::chat
