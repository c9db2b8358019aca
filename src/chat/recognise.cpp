// Finds a template's format by rendering: small conversations in, and the calls that parsers read back out of what it
// wrote.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/format.hpp"
#include "chat/json_stream.hpp"
#include "chat/output_parser.hpp"
#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace json = base::json;
namespace {

// Recognisable in what is rendered.
constexpr std::string_view question_mark = "tidemill-question-mark";
constexpr std::string_view answer_mark = "tidemill-answer-mark";
constexpr std::string_view result_mark = "tidemill-result-mark";
constexpr std::string_view reasoning_mark = "tidemill-reasoning-mark";
constexpr std::array<std::string_view, 2> functions = {"tidemill_alpha", "tidemill_beta"};

// How a conversation is put: templates differ in what they take.
struct Manner {
  size_t calls = 2;
  bool text_arguments = false;  // as JSON text instead of as an object
  bool null_content = false;    // instead of an empty string
};

json::object message_of(std::string_view role, json::value content) {
  return {{"role", role}, {"content", std::move(content)}};
}

json::object message(std::string_view role, std::string_view text) {
  return message_of(role, json::string(text));
}

json::object arguments_of(size_t call) {
  return {{"word", "value" + std::to_string(call)},
          {"count", static_cast<int64_t>(12 + call)},
          {"flag", call == 0},
          {"deep", json::object{{"inner", json::array{1, "two"}}}}};
}

json::array tool_definitions() {
  json::array tools;
  for (const std::string_view name : functions) {
    const auto type = [](std::string_view type_name) {
      return json::object{{"type", type_name}, {"description", "A value."}};
    };
    const json::object parameters = {
        {"type", "object"},
        {"properties",
         {{"word", type("string")}, {"count", type("integer")}, {"flag", type("boolean")}, {"deep", type("object")}}},
        {"required", {"word"}}};
    tools.push_back(json::object{
        {"type", "function"}, {"function", {{"name", name}, {"description", "A tool."}, {"parameters", parameters}}}});
  }
  return tools;
}

json::object context(json::array messages, bool add_generation_prompt) {
  const json::array tools = tool_definitions();
  return {{"messages", std::move(messages)},
          {"tools", tools},
          {"functions", json::serialize(tools)},
          {"datetime", "2026-01-01"},
          {"bos_token", "<s>"},
          {"eos_token", "</s>"},
          {"add_generation_prompt", add_generation_prompt}};
}

json::object call_message(const Manner& manner) {
  json::object assistant = message_of("assistant", manner.null_content ? json::value(nullptr) : json::value(""));
  json::array calls;
  for (size_t i = 0; i < manner.calls; ++i) {
    json::value arguments = arguments_of(i);
    if (manner.text_arguments) arguments = json::string(json::serialize(arguments));
    calls.push_back(json::object{{"id", "call0000" + std::to_string(i)},
                                 {"type", "function"},
                                 {"function", {{"name", functions[i]}, {"arguments", std::move(arguments)}}}});
  }
  assistant["tool_calls"] = std::move(calls);
  return assistant;
}

class Renderer {
 public:
  Renderer(const text::ChatTemplate& chat_template, text::StepAllowance* allowance)
      : template_(chat_template), allowance_(allowance) {}

  // What the template writes behind the question; nothing where it refuses.
  std::optional<std::string> behind_question(json::array messages, bool add_generation_prompt) const {
    const auto whole = render(std::move(messages), add_generation_prompt);
    const size_t at = whole ? whole->rfind(question_mark) : std::string::npos;
    if (at == std::string::npos) return std::nullopt;
    return whole->substr(at + question_mark.size());
  }

  std::optional<std::string> render(json::array messages, bool add_generation_prompt) const {
    return render(context(std::move(messages), add_generation_prompt));
  }

  // What stands before an answer, with the switches for thinking in all their positions.
  std::vector<std::string> generation_prompts() const {
    std::vector<std::string> prompts;
    const json::object plain = context({message("user", question_mark)}, true);
    if (auto prompt = render(plain)) prompts.push_back(std::move(*prompt));
    for (const std::string_view name : {"enable_thinking", "thinking"}) {
      for (const bool on : {true, false}) {
        json::object switched = plain;
        switched[name] = on;
        if (auto prompt = render(switched)) prompts.push_back(std::move(*prompt));
      }
    }
    return prompts;
  }

 private:
  std::optional<std::string> render(const json::object& context) const {
    const text::TemplateLimits limits{.max_output = size_t{1} << 20U,
                                      .max_memory = size_t{32} << 20U,
                                      .max_steps = 1'000'000,
                                      .allowance = allowance_};
    auto rendered = template_.render(context, base::WallTime{}, limits);
    if (!rendered) {
      // Some templates refuse every list of tools.
      json::object without_tools = context;
      without_tools.erase("tools");
      rendered = template_.render(without_tools, base::WallTime{}, limits);
    }
    if (!rendered) return std::nullopt;
    return std::move(*rendered);
  }

  const text::ChatTemplate& template_;
  text::StepAllowance* allowance_;
};

// An assistant's turn as a model would have written it.
struct Turn {
  std::string prompt;  // what stands before it, from the question on
  std::string text;    // from there to the result of the call, the template's own closing included
};

Turn turn_behind_prompt(const std::string& rendered, const std::string& generation_prompt) {
  const auto [own, prompted] =
      std::mismatch(rendered.begin(), rendered.end(), generation_prompt.begin(), generation_prompt.end());
  auto length = static_cast<size_t>(own - rendered.begin());
  // Two tags may begin alike; a tag is never cut.
  const std::string_view common = std::string_view(rendered).substr(0, length);
  const size_t tag = common.rfind('<');
  if (prompted != generation_prompt.end() && tag != std::string_view::npos &&
      common.find('>', tag) == std::string_view::npos) {
    length = tag;
  }
  return {rendered.substr(0, length), rendered.substr(length)};
}

std::optional<Turn> turn_with_calls(const Renderer& renderer, const Manner& manner) {
  json::array messages = {message("user", question_mark)};
  const auto generation_prompt = renderer.behind_question(messages, true);
  messages.push_back(call_message(manner));
  for (size_t i = 0; i < manner.calls; ++i) {
    json::object result = message("tool", result_mark);
    result["tool_call_id"] = "call0000" + std::to_string(i);
    result["name"] = functions[i];
    messages.push_back(std::move(result));
  }
  auto rendered = renderer.behind_question(std::move(messages), true);
  if (!rendered) return std::nullopt;
  rendered->resize(std::min(rendered->find(result_mark), rendered->size()));
  return turn_behind_prompt(*rendered, generation_prompt.value_or(""));
}

// Whether a parser of this format finds the very calls in the turn.
bool reads_back(const Format& format, const Turn& turn, size_t expected_calls) {
  std::vector<Tool> tools;
  const json::array definitions = tool_definitions();
  for (const json::value& tool : definitions)
    tools.push_back(
        {std::string(tool.at("function").at("name").as_string()), tool.at("function").at("parameters"), false});
  OutputParser parser(format, tools, opens_reasoning(format, turn.prompt) ? Start::reasoning : Start::answer);
  Delta delta;
  parser.feed(turn.text, delta);
  parser.finish(delta);
  if (delta.calls.size() != expected_calls || !parser.complete()) return false;
  for (size_t i = 0; i < expected_calls; ++i) {
    const auto arguments = base::parse_json(delta.calls[i].arguments);
    if (delta.calls[i].name != functions[i] || !arguments || *arguments != json::value(arguments_of(i))) return false;
  }
  return true;
}

// Known formats, the particular before the general.
std::optional<Format> known_format(const Turn& turn, size_t calls, const Format& reasoning) {
  for (int i = 0; i < static_cast<int>(ToolFormat::json_in_tags); ++i) {
    auto format = format_by_name(to_string(static_cast<ToolFormat>(i)));
    if (!format || format->tools == ToolFormat::none) continue;
    format->reasoning_open = reasoning.reasoning_open;
    format->reasoning_close = reasoning.reasoning_close;
    if (reads_back(*format, turn, calls)) return std::move(*format);
  }
  return std::nullopt;
}

// The JSON object around the first function's name: where it begins and how long it is.
std::optional<std::pair<size_t, size_t>> object_around_name(const std::string& text) {
  const size_t name = text.find(functions[0]);
  if (name == std::string::npos) return std::nullopt;
  const size_t begin = text.rfind('{', name);
  if (begin == std::string::npos) return std::nullopt;
  JsonScanner scanner;
  std::string ignored;
  for (size_t at = begin; at < text.size(); ++at) {
    const Took took = scanner.take(text[at], ignored);
    if (took == Took::done) return std::pair(begin, at + 1 - begin);
    if (took != Took::more) break;
  }
  return std::nullopt;
}

// A tag at the beginning of `text`: "</call>", "<|call_end|>", "[/CALL]".
std::string_view leading_tag(std::string_view text) {
  const bool angular = text.starts_with('<');
  if (!angular && !text.starts_with('[')) return {};
  const size_t end = text.find(angular ? '>' : ']');
  return end == std::string_view::npos ? std::string_view() : text.substr(0, end + 1);
}

// A format that is not known: JSON with a name and arguments between texts of the template's own. `turn_end` is what
// the template writes behind an answer.
std::optional<Format> json_between_tags(const Turn& turn, size_t calls, std::string_view turn_end,
                                        const Format& reasoning) {
  const auto place = object_around_name(turn.text);
  if (!place) return std::nullopt;
  const auto object = base::parse_json(std::string_view(turn.text).substr(place->first, place->second));
  if (!object || !object->is_object()) return std::nullopt;

  Format format = reasoning;
  format.tools = ToolFormat::json_in_tags;
  CallSyntax& syntax = format.syntax;
  syntax.shape = CallSyntax::Shape::json_object;
  for (const auto& [key, value] : object->get_object()) {
    if (value.is_string() && value.get_string() == functions[0]) syntax.name_key = key;
    if (value == json::value(arguments_of(0))) syntax.arguments_key = key;
  }
  std::string_view before = trimmed(std::string_view(turn.text).substr(0, place->first));
  if (const size_t tag = before.rfind(trimmed(format.reasoning_close));
      !format.reasoning_close.empty() && tag != std::string_view::npos) {
    before = trimmed(before.substr(tag + trimmed(format.reasoning_close).size()));
  }
  syntax.list = before.ends_with('[');
  if (syntax.list) before = trimmed(before.substr(0, before.size() - 1));
  syntax.open = before;
  syntax.bare = before.empty();
  syntax.known_only = before.empty();
  const size_t last = turn.text.find(functions[calls - 1]);
  if (last == std::string::npos) return std::nullopt;  // a template that writes the first call alone
  const std::string_view behind = std::string_view(turn.text).substr(last);
  // The closing text is a tag behind the last bracket that is not the end of every turn.
  const std::string_view rest = trimmed(behind.substr(
      behind.find_last_of("]}") == std::string_view::npos ? behind.size() : behind.find_last_of("]}") + 1));
  const std::string_view tag = leading_tag(rest);
  if (!tag.empty() && !trimmed(turn_end).starts_with(tag)) syntax.close = tag;
  syntax.between = syntax.list ? ", " : "\n";
  if (!reads_back(format, turn, calls)) return std::nullopt;
  return format;
}

void take_tags_around(const std::string& text, Format& format) {
  const size_t at = text.find(reasoning_mark);
  if (at == std::string::npos) return;
  const std::string_view before = trimmed(std::string_view(text).substr(0, at));
  const std::string_view behind = trimmed(std::string_view(text).substr(at + reasoning_mark.size()));
  for (const std::string_view name : reasoning_names()) {
    Format tagged;
    if (!set_reasoning(tagged, name) || tagged.reasoning_close.empty()) continue;
    if (before.ends_with(trimmed(tagged.reasoning_open)) && behind.starts_with(trimmed(tagged.reasoning_close))) {
      format.reasoning_open = tagged.reasoning_open;
      format.reasoning_close = tagged.reasoning_close;
      return;
    }
  }
}

// Messages whose assistant has reasoned, put in the ways that templates take.
std::vector<json::array> conversations_with_reasoning() {
  std::vector<json::array> conversations;
  const json::object question = message("user", question_mark);
  for (const std::string_view key : {"reasoning_content", "thinking", "reasoning"}) {
    json::object answer = message("assistant", answer_mark);
    answer[key] = reasoning_mark;
    conversations.push_back({question, answer});
    json::object call = call_message({.calls = 1, .text_arguments = false, .null_content = false});
    call[key] = reasoning_mark;
    conversations.push_back({question, std::move(call)});
  }
  json::array blocks = {json::object{{"type", "thinking"}, {"thinking", reasoning_mark}},
                        json::object{{"type", "text"}, {"text", answer_mark}}};
  conversations.push_back({question, message_of("assistant", std::move(blocks))});
  blocks = {json::object{{"type", "thoughts"}, {"text", reasoning_mark}},
            json::object{{"type", "response"}, {"text", answer_mark}}};
  conversations.push_back({question, message_of("assistant", json::object{{"blocks", std::move(blocks)}})});
  return conversations;
}

// Whether the template takes reasoning between these tags out of an answer of the past.
bool strips(const Renderer& renderer, const Format& tagged) {
  const std::string written = std::string(trimmed(tagged.reasoning_open)) + std::string(reasoning_mark) +
                              std::string(trimmed(tagged.reasoning_close)) + std::string(answer_mark);
  const json::object user = message("user", question_mark);
  const auto text =
      renderer.render({user, message("assistant", written), user, message("assistant", "Hi"), user}, true);
  return text && text->find(answer_mark) != std::string::npos && text->find(reasoning_mark) == std::string::npos;
}

Format recognise_reasoning(const Renderer& renderer) {
  Format format;
  for (json::array& messages : conversations_with_reasoning()) {
    const auto text = renderer.behind_question(std::move(messages), false);
    if (text) take_tags_around(*text, format);
    if (format.reasons()) return format;
  }
  const json::object user = message("user", question_mark);
  const auto answered = renderer.behind_question({user, message("assistant", answer_mark)}, false);
  std::vector<std::string> prompts = renderer.generation_prompts();
  if (answered) prompts.push_back(answered->substr(0, answered->find(answer_mark)));
  for (const std::string_view name : reasoning_names()) {
    Format tagged;
    if (!set_reasoning(tagged, name) || tagged.reasoning_close.empty()) continue;
    const std::string_view open = trimmed(tagged.reasoning_open);
    const std::string_view close = trimmed(tagged.reasoning_close);
    for (const std::string& prompt : prompts) {
      std::string_view end = trimmed(prompt);
      if (end.ends_with(close)) end = trimmed(end.substr(0, end.size() - close.size()));
      if (end.ends_with(open)) return tagged;
    }
    if (strips(renderer, tagged)) return tagged;
  }
  return format;
}

bool holds_all(std::string_view text, const CallSyntax& syntax) {
  const std::vector<std::string> triggers = call_triggers(syntax);
  if (syntax.bare || triggers.empty()) return false;
  const std::array<std::string_view, 3> others = {trimmed(syntax.name_end), trimmed(syntax.close),
                                                  trimmed(syntax.parameter_open)};
  const auto inside = [&](std::string_view part) { return text.find(part) != std::string_view::npos; };
  return std::all_of(triggers.begin(), triggers.end(), inside) && std::all_of(others.begin(), others.end(), inside);
}

// The control tokens of a format that is only spoken of.
std::optional<Format> spoken_of(std::string_view text, const Format& reasoning) {
  for (const ToolFormat known : {ToolFormat::kimi_k2, ToolFormat::deepseek_v3, ToolFormat::deepseek_v3_1,
                                 ToolFormat::functiongemma, ToolFormat::gemma, ToolFormat::granite}) {
    auto format = format_by_name(to_string(known));
    if (!format || !holds_all(text, format->syntax)) continue;
    format->reasoning_open = reasoning.reasoning_open;
    format->reasoning_close = reasoning.reasoning_close;
    return std::move(*format);
  }
  return std::nullopt;
}

// LFM2 is told nothing of how to call, nor do its templates write calls; they are known by how they begin the list.
std::optional<Format> of_liquid(std::string_view with_tools, const Format& reasoning) {
  const bool lists = with_tools.find("List of tools: [") != std::string_view::npos ||
                     with_tools.find("List of tools: <|tool_list_start|>[") != std::string_view::npos;
  auto format = format_by_name(to_string(ToolFormat::lfm2));
  if (!lists || !format) return std::nullopt;
  format->reasoning_open = reasoning.reasoning_open;
  format->reasoning_close = reasoning.reasoning_close;
  return std::move(*format);
}

}  // namespace

Format recognise(const text::ChatTemplate& chat_template, std::string_view source, text::StepAllowance* allowance) {
  const Renderer renderer(chat_template, allowance);
  Format reasoning = recognise_reasoning(renderer);
  const json::object user = message("user", question_mark);
  const auto answered = renderer.behind_question({user, message("assistant", answer_mark)}, false);
  std::string_view turn_end = answered ? std::string_view(*answered) : std::string_view();
  turn_end.remove_prefix(std::min(turn_end.find(answer_mark), turn_end.size()));
  turn_end.remove_prefix(std::min(answer_mark.size(), turn_end.size()));

  std::vector<std::pair<Turn, size_t>> turns;
  bool writes_calls = false;
  for (const size_t calls : {size_t{2}, size_t{1}}) {
    for (const bool text_arguments : {false, true}) {
      for (const bool null_content : {false, true}) {
        auto turn = turn_with_calls(renderer, {calls, text_arguments, null_content});
        if (!turn || turn->text.find(functions[0]) == std::string::npos) continue;
        writes_calls = true;
        if (auto format = known_format(*turn, calls, reasoning)) return std::move(*format);
        turns.emplace_back(std::move(*turn), calls);
      }
    }
  }
  for (const auto& [turn, calls] : turns) {
    if (auto format = json_between_tags(turn, calls, turn_end, reasoning)) return std::move(*format);
  }
  if (writes_calls) return reasoning;
  // The template writes no call. It may tell the model how to, or refuse calls while it is fine with tools.
  const auto with_tools = renderer.render({user}, true);
  if (!with_tools) return reasoning;
  if (auto format = spoken_of(*with_tools, reasoning)) return std::move(*format);
  if (auto format = of_liquid(*with_tools, reasoning)) return std::move(*format);
  if (auto format = spoken_of(source, reasoning)) return std::move(*format);
  return reasoning;
}

}  // namespace tidemill::chat
