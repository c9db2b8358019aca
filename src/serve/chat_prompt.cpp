#include "serve/chat_prompt.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "base/units.hpp"
#include "base/utf8.hpp"
#include "chat/spelling.hpp"
#include "grammar/json_string.hpp"
#include "grammar/notation.hpp"
#include "wire/error_body.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

// What all of the small conversations together may take by which a template is got to know: most of a second, where
// the heaviest templates of released models that were tried take a tenth of one.
constexpr uint64_t probe_steps = 20'000'000;

// The noncharacters U+FDD0 to U+FDEF: valid in UTF-8, and assigned to nothing for good.
constexpr char32_t first_mark = 0xFDD0;
constexpr char32_t last_mark = 0xFDEF;

std::string to_utf8(char32_t code_point) {
  std::string text;
  base::utf8::append(text, code_point);
  return text;
}

// Calls `visit` with every string in `value`, keys included, and stores what it returns.
template <typename Visit>
json::value map_strings(const json::value& value, const Visit& visit) {
  if (const auto* text = value.if_string()) return json::string(visit(std::string_view(*text)));
  if (const auto* array = value.if_array()) {
    json::array mapped;
    mapped.reserve(array->size());
    for (const json::value& item : *array)
      mapped.push_back(map_strings(item, visit));
    return mapped;
  }
  if (const auto* object = value.if_object()) {
    json::object mapped;
    mapped.reserve(object->size());
    for (const auto& [key, item] : *object)
      mapped[visit(std::string_view(key))] = map_strings(item, visit);
    return mapped;
  }
  return value;
}

// `text` with `mark` inside every name of a special token, after the name's first character.
std::string mark_names(const text::Tokenizer& tokenizer, std::string_view text, std::string_view mark) {
  std::string marked;
  size_t copied = 0;
  for (size_t at = tokenizer.find_special_name(text); at != std::string_view::npos;
       at = tokenizer.find_special_name(text, at + 1)) {
    const size_t inside = at + base::utf8::decode(text.substr(at)).length;
    marked.append(text.substr(copied, inside - copied)).append(mark);
    copied = inside;
  }
  marked.append(text.substr(copied));
  return marked;
}

// The first noncharacter that no string holds, in UTF-8.
std::optional<std::string> choose_mark(const json::value& messages, const json::value& variables) {
  std::string all;
  const auto collect = [&all](std::string_view text) {
    // Every noncharacter of the block begins with these two bytes.
    if (text.find("\xEF\xB7") != std::string_view::npos) all += text;
    return std::string();
  };
  map_strings(messages, collect);
  map_strings(variables, collect);
  for (char32_t mark = first_mark; mark <= last_mark; ++mark) {
    std::string text = to_utf8(mark);
    if (all.find(text) == std::string::npos) return text;
  }
  return std::nullopt;
}

// Takes the marks out. A mark stands after the first character of a name, and its offset in the result is that of the
// character that followed it; a name of one character is covered by the offset before the mark.
RenderedPrompt take_marks_out(std::string_view rendered, std::string_view mark) {
  RenderedPrompt prompt;
  prompt.text.reserve(rendered.size());
  size_t at = 0;
  while (true) {
    const size_t found = rendered.find(mark, at);
    prompt.text.append(rendered.substr(at, found == std::string_view::npos ? found : found - at));
    if (found == std::string_view::npos) return prompt;
    if (!prompt.text.empty()) prompt.literal.push_back(prompt.text.size() - 1);
    at = found + mark.size();
  }
}

void rename_developer(json::array& messages) {
  for (json::value& message : messages) {
    json::value* role = message.is_object() ? message.get_object().if_contains("role") : nullptr;
    if (role != nullptr && *role == "developer") *role = "system";
  }
}

// Beside calls clients say null, which many templates take for the word "None" or for a fault.
void empty_absent_content(json::array& messages) {
  for (json::value& message : messages) {
    json::value* content = message.is_object() ? message.get_object().if_contains("content") : nullptr;
    if (content != nullptr && content->is_null()) *content = json::string();
  }
}

// name(key=value, ...), or nothing for what is no call.
std::string python_call(const json::value& call) {
  const json::object* one = call.if_object();
  const json::value* member = one == nullptr ? nullptr : one->if_contains("function");
  const json::object* function = member == nullptr ? nullptr : member->if_object();
  const json::value* name = function == nullptr ? nullptr : function->if_contains("name");
  if (name == nullptr || !name->is_string()) return {};
  std::string arguments;
  const json::value* given = function->if_contains("arguments");
  if (given != nullptr && given->is_object()) {
    for (const auto& [key, value] : given->get_object())
      arguments +=
          fmt::format("{}{}={}", arguments.empty() ? "" : ", ", std::string_view(key), grammar::python_literal(value));
  }
  return fmt::format("{}({})", std::string_view(name->get_string()), arguments);
}

// Puts calls into the content of their messages, as the model has written them. The tags are the protocol's: what the
// messages say is marked before.
void write_calls_as_python(json::array& messages, const chat::CallSyntax& syntax) {
  for (json::value& message : messages) {
    json::object& object = message.get_object();
    const json::value* calls = object.if_contains("tool_calls");
    if (calls == nullptr || !calls->is_array() || calls->get_array().empty()) continue;
    std::string written;
    for (const json::value& call : calls->get_array()) {
      const std::string one = python_call(call);
      if (!one.empty()) written.append(written.empty() ? "" : syntax.between).append(one);
    }
    const json::value* content = object.if_contains("content");
    const bool speaks = content != nullptr && content->is_string();
    std::string text = speaks ? std::string(content->get_string()) : std::string();
    text.append(syntax.open).append("[").append(written).append("]").append(syntax.close);
    object["content"] = json::string(text);
    object.erase("tool_calls");
  }
}

// Puts the type "null", and what is no type of JSON Schema, into other words, wherever a schema has it; false if none
// does. Some templates (Hermes 2 and 3) go through the letters of a type that they do not know, for ever.
bool spell_types_out(json::value& value) {
  bool changed = false;
  if (json::array* array = value.if_array()) {
    for (json::value& item : *array)
      changed = spell_types_out(item) || changed;
    return changed;
  }
  json::object* object = value.if_object();
  if (object == nullptr) return false;
  for (auto& [key, member] : *object)
    changed = spell_types_out(member) || changed;
  json::value* type = object->if_contains("type");
  if (type == nullptr) return changed;
  if (*type == "null") {
    object->erase("type");
    (*object)["enum"] = json::array(1, json::value(nullptr));
    return true;
  }
  constexpr std::array<std::string_view, 7> known = {"string", "number", "integer", "boolean",
                                                     "array",  "object", "function"};
  if (type->is_string() && std::ranges::find(known, std::string_view(type->get_string())) == known.end()) {
    json::value unknown = std::move(*type);  // a new member moves the others
    object->erase("type");
    (*object)["x-type"] = std::move(unknown);
    return true;
  }
  json::array* types = type->if_array();
  if (types == nullptr || std::ranges::find(*types, json::value("null")) == types->end()) return changed;
  json::array others;
  std::ranges::copy_if(*types, std::back_inserter(others), [](const json::value& one) { return one != "null"; });
  *type = others.size() == 1 ? others.front() : json::value(others);
  (*object)["nullable"] = true;
  return true;
}

void write_arguments_as_text(json::array& messages) {
  for (json::value& message : messages) {
    json::value* calls = message.is_object() ? message.get_object().if_contains("tool_calls") : nullptr;
    if (calls == nullptr || !calls->is_array()) continue;
    for (json::value& call : calls->get_array()) {
      json::value* function = call.is_object() ? call.get_object().if_contains("function") : nullptr;
      if (function == nullptr || !function->is_object()) continue;
      json::value* arguments = function->get_object().if_contains("arguments");
      if (arguments != nullptr && arguments->is_object()) *arguments = json::string(grammar::compact_json(*arguments));
    }
  }
}

// Whether a conversation with so many calls in one message, and their results, is rendered.
bool renders_calls(const ChatPrompt& prompt, int count, text::StepAllowance& allowance) {
  json::array calls;
  json::array messages{json::object{{"role", "user"}, {"content", "a"}}};
  json::array results;
  for (int i = 0; i < count; ++i) {
    const std::string id = fmt::format("callnumb{}", i);  // of a length that every template takes
    const std::string name = fmt::format("function_number_{}", i);
    calls.push_back(
        json::object{{"id", id}, {"type", "function"}, {"function", {{"name", name}, {"arguments", json::object()}}}});
    results.push_back(json::object{
        {"role", "tool"}, {"name", name}, {"tool_call_id", id}, {"content", fmt::format("result_number_{}", i)}});
  }
  messages.push_back(json::object{{"role", "assistant"}, {"content", ""}, {"tool_calls", std::move(calls)}});
  messages.insert(messages.end(), results.begin(), results.end());
  const auto rendered = prompt.render(messages, {}, true, std::nullopt, &allowance);
  for (int i = 0; rendered && i < count; ++i) {
    if (rendered->text.find(fmt::format("function_number_{}", i)) == std::string::npos) return false;
  }
  return rendered.has_value();
}

// Whether words of the user's may follow a call's result; `answered`: behind an answer that says nothing.
bool renders_words_behind_result(const ChatPrompt& prompt, bool answered, text::StepAllowance& allowance) {
  const json::object call{
      {"id", "callnumb0"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", json::object()}}}};
  json::array messages{json::object{{"role", "user"}, {"content", "a"}},
                       json::object{{"role", "assistant"}, {"content", ""}, {"tool_calls", json::array{call}}},
                       json::object{{"role", "tool"}, {"name", "f"}, {"tool_call_id", "callnumb0"}, {"content", "1"}}};
  if (answered) messages.push_back(json::object{{"role", "assistant"}, {"content", ChatPrompt::no_answer}});
  messages.push_back(json::object{{"role", "user"}, {"content", "b"}});
  return prompt.render(messages, {}, true, std::nullopt, &allowance).has_value();
}

// Whether words of the user's may follow others; with `answer`, with that between them.
bool renders_words_behind_words(const ChatPrompt& prompt, std::optional<std::string_view> answer,
                                text::StepAllowance& allowance) {
  json::array messages{json::object{{"role", "user"}, {"content", "a"}}};
  if (answer) messages.push_back(json::object{{"role", "assistant"}, {"content", *answer}});
  messages.push_back(json::object{{"role", "user"}, {"content", "b"}});
  return prompt.render(messages, {}, true, std::nullopt, &allowance).has_value();
}

constexpr std::string_view reasoning_probe = "probe of reasoning";

// Whether the reasoning of an answer of the past, which makes a call, is rendered if it stands under `key`.
bool renders_reasoning(const ChatPrompt& prompt, std::string_view key, std::string_view content,
                       text::StepAllowance& allowance) {
  const json::object call{
      {"id", "callnumb1"}, {"type", "function"}, {"function", {{"name", "f"}, {"arguments", json::object()}}}};
  json::object answer{{"role", "assistant"}, {"content", content}, {"tool_calls", json::array{call}}};
  answer[key] = reasoning_probe;
  const json::object result{{"role", "tool"}, {"name", "f"}, {"tool_call_id", "callnumb1"}, {"content", "1"}};
  const auto rendered = prompt.render({json::object{{"role", "user"}, {"content", "a"}}, std::move(answer), result}, {},
                                      true, std::nullopt, &allowance);
  return rendered && rendered->text.find(reasoning_probe) != std::string::npos;
}

// Gives reasoning the name that a template knows it by; `joined`: with the content behind it, beside calls.
void name_reasoning(json::array& messages, std::string_view key, bool joined) {
  for (json::value& message : messages) {
    json::object* object = message.if_object();
    const json::value* reasoning = object == nullptr ? nullptr : object->if_contains("reasoning_content");
    if (reasoning == nullptr || !reasoning->is_string() || object->contains(key)) continue;
    json::string text = reasoning->get_string();
    object->erase("reasoning_content");
    json::value* content = object->if_contains("content");
    if (joined && object->contains("tool_calls") && content != nullptr && content->is_string() &&
        !content->get_string().empty()) {
      text.append("\n\n").append(content->get_string());
      *content = "";
    }
    (*object)[key] = std::move(text);
  }
}

std::string piece_of(const text::Tokenizer& tokenizer, std::optional<text::Token> token) {
  return token ? std::string(tokenizer.piece_bytes(*token)) : std::string();
}

}  // namespace

ChatPrompt::ChatPrompt(const text::Tokenizer& tokenizer, const std::string& source, const base::Clock& clock,
                       std::string name)
    : tokenizer_(tokenizer), clock_(clock), name_(std::move(name)) {
  if (source.empty()) {
    fault_ = (Error(ErrorCode::invalid_argument,
                    "this model has no chat template; use /v1/completions, or serve it with --chat-template FILE")
                  .with_param("messages"));
    return;
  }
  text::StepAllowance allowance(probe_steps);
  auto compiled = text::ChatTemplate::compile_as_meant(source, &allowance);
  if (!compiled) {
    const bool is_over = compiled.error().code() == ErrorCode::too_large;
    fault_ =
        (Error(std::move(compiled).error())
             .wrap("this model's chat template cannot be read; use /v1/completions, or serve it with --chat-template "
                   "FILE")
             .with_param(std::string(is_over ? wire::template_param : "messages")));
    return;
  }
  template_ = std::move(*compiled);
  probe(source, allowance);
  probed_in_part_ = allowance.exceeded();
}

void ChatPrompt::probe(const std::string& source, text::StepAllowance& allowance) {
  traits_ = template_->probe(&allowance);
  format_ = chat::recognise(*template_, source, &allowance);
  takes_parallel_calls_ = renders_calls(*this, 2, allowance) || !renders_calls(*this, 1, allowance);
  answers_results_ =
      !renders_words_behind_result(*this, false, allowance) && renders_words_behind_result(*this, true, allowance);
  const bool takes_no_answer = renders_words_behind_words(*this, no_answer, allowance);
  fills_answers_ = takes_no_answer && !renders_words_behind_words(*this, "", allowance) && !allowance.exceeded();
  takes_turns_ =
      takes_no_answer && !renders_words_behind_words(*this, std::nullopt, allowance) && !allowance.exceeded();
  // As a word of the template's own, not as a part of one, such as a token's name.
  knows_developer_ =
      source.find("'developer'") != std::string::npos || source.find("\"developer\"") != std::string::npos;
  if (renders_reasoning(*this, reasoning_key_, "", allowance)) return;
  for (const std::string_view key : {"thinking", "reasoning"}) {
    if (!renders_reasoning(*this, key, "", allowance)) continue;
    joins_reasoning_ = !renders_reasoning(*this, key, "b", allowance) && !allowance.exceeded();
    reasoning_key_ = key;
    return;
  }
}

ChatPrompt::~ChatPrompt() = default;

Result<RenderedPrompt> ChatPrompt::render(const json::array& messages, const json::object& variables,
                                          bool add_generation_prompt, std::optional<base::WallTime> now,
                                          text::StepAllowance* allowance) const {
  if (fault_) return *fault_;
  const auto exceeded = [allowance] { return allowance != nullptr && allowance->exceeded(); };
  const auto too_slow = [this] {
    return Error(ErrorCode::too_large, fmt::format("{} takes more steps than are allowed here", name_))
        .with_param(std::string(wire::template_param));
  };
  if (exceeded()) return too_slow();
  const auto mark = choose_mark(messages, variables);
  if (!mark) {
    return Error(ErrorCode::invalid_argument, "the messages hold every one of the noncharacters U+FDD0 to U+FDEF")
        .with_param("messages");
  }
  const auto marked = [&](std::string_view text) { return mark_names(tokenizer_, text, *mark); };
  json::object input = map_strings(variables, marked).get_object();
  json::array marked_messages = map_strings(messages, marked).get_array();
  empty_absent_content(marked_messages);
  if (!knows_developer_) rename_developer(marked_messages);
  if (reasoning_key_ != "reasoning_content") name_reasoning(marked_messages, reasoning_key_, joins_reasoning_);
  if (traits_.arguments_as_text) write_arguments_as_text(marked_messages);
  const bool leaves_calls_out = traits_.tools && !traits_.tool_calls;
  if (leaves_calls_out && format_.syntax.shape == chat::CallSyntax::Shape::python) {
    write_calls_as_python(marked_messages, format_.syntax);
  }
  input["messages"] = std::move(marked_messages);
  input["add_generation_prompt"] = add_generation_prompt;
  input["bos_token"] = piece_of(tokenizer_, tokenizer_.vocabulary().bos);
  input["eos_token"] = piece_of(tokenizer_, tokenizer_.vocabulary().eos);

  const base::WallTime time = now.value_or(clock_.wall_now());
  const text::TemplateLimits limits{.allowance = allowance};
  auto rendered = template_->render(input, time, limits);
  if (exceeded()) return too_slow();
  if (json::value* tools = input.if_contains("tools"); !rendered && tools != nullptr && spell_types_out(*tools)) {
    rendered = template_->render(input, time, limits);
  }
  if (!rendered && rendered.error().code() == ErrorCode::too_large) {
    return std::move(rendered)
        .error()
        .wrap(fmt::format("{} goes over the limits of rendering these messages, {} steps, {} of memory and {} of text",
                          name_, limits.max_steps, base::human_bytes(static_cast<double>(limits.max_memory)),
                          base::human_bytes(static_cast<double>(limits.max_output))))
        .with_param(std::string(wire::template_param));
  }
  if (!rendered) {
    Error error = std::move(rendered).error().wrap("the model's chat template refuses the messages");
    return std::move(error).with_param("messages");
  }
  return take_marks_out(*rendered, *mark);
}

// Text of the client's, which forges nothing.
bool ChatPrompt::append_text(RenderedPrompt& prompt, std::string_view text) const {
  const auto mark = choose_mark(json::string(text), nullptr);
  if (!mark) return false;
  const RenderedPrompt added = take_marks_out(mark_names(tokenizer_, text, *mark), *mark);
  for (const size_t place : added.literal)
    prompt.literal.push_back(prompt.text.size() + place);
  prompt.text += added.text;
  return true;
}

// Through the tag that closes it, if the prompt has opened it or there is any.
bool ChatPrompt::append_reasoning(RenderedPrompt& prompt, std::string_view reasoning) const {
  if (format_.tools == chat::ToolFormat::harmony) {
    if (reasoning.empty()) return true;
    prompt.text += "<|channel|>analysis<|message|>";
    if (!append_text(prompt, reasoning)) return false;
    prompt.text += "<|end|><|start|>assistant";
    return true;
  }
  const bool opened = chat::opens_reasoning(format_, prompt.text);
  const std::string_view close = chat::trimmed(format_.reasoning_close);
  if (!opened) {
    const bool closed = chat::trimmed(prompt.text).ends_with(close);  // also where there are no tags
    if (reasoning.empty() || closed || format_.reasoning_open.empty()) return true;
    prompt.text += chat::trimmed(format_.reasoning_open);
    prompt.text += '\n';
  }
  if (!append_text(prompt, reasoning)) return false;
  if (!reasoning.empty()) prompt.text += '\n';
  prompt.text.append(close).append("\n\n");
  return true;
}

bool ChatPrompt::begin_answer(RenderedPrompt& prompt, std::string_view beginning, std::string_view reasoning) const {
  if (!append_reasoning(prompt, reasoning)) return false;
  if (!format_.syntax.recipient.empty()) {
    prompt.text += format_.syntax.recipient + "\n";
  } else if (format_.tools == chat::ToolFormat::harmony) {
    prompt.text += "<|channel|>final<|message|>";
  }
  return append_text(prompt, beginning);
}

Result<std::vector<text::Token>> ChatPrompt::encode(const RenderedPrompt& prompt) const {
  TM_TRY(auto tokens,
         tokenizer_.encode(prompt.text, {.add_special = false, .parse_special = true, .literal = prompt.literal}));
  const text::Vocabulary& vocabulary = tokenizer_.vocabulary();
  if (vocabulary.add_bos && vocabulary.bos && (tokens.empty() || tokens.front() != *vocabulary.bos)) {
    tokens.insert(tokens.begin(), *vocabulary.bos);
  }
  return tokens;
}

}  // namespace tidemill::serve
