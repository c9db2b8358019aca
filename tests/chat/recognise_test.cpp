// Templates of released models, and what a reader of them finds there.
#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "chat/constraint.hpp"
#include "chat/format.hpp"
#include "chat/reading.hpp"
#include "data.hpp"
#include "grammar/acceptor.hpp"

namespace tidemill::chat::test {
namespace {

namespace json = base::json;

struct Known {
  std::string_view file;
  std::string_view tools;
  std::string_view reasoning;
};

// Those that are "none" write no calls (SmolLM3, Gemma 2, Phi).
constexpr Known table[] = {
    {"Apertus-8B-Instruct.jinja", "apertus", "apertus"},
    {"Apriel-1.6-15b-Thinker-fixed.jinja", "apriel", "apriel"},
    {"GLM-4.6.jinja", "glm", "think"},
    {"GLM-4.7-Flash.jinja", "glm", "think"},
    {"GigaChat3-10B-A1.8B.jinja", "gigachat_role", "none"},
    {"GigaChat3.1-10B-A1.8B.jinja", "gigachat", "none"},
    {"HuggingFaceTB-SmolLM3-3B.jinja", "none", "think"},
    {"Kimi-K2-Thinking.jinja", "kimi_k2", "think"},
    {"LFM2-8B-A1B.jinja", "lfm2", "none"},
    {"LFM2.5-Instruct.jinja", "lfm2", "think"},
    {"MiMo-VL.jinja", "hermes", "none"},
    {"MiroThinker.jinja", "mcp", "think"},
    {"Mistral-Small-3.2-24B-Instruct-2506.jinja", "mistral_ids", "none"},
    {"NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja", "hermes", "none"},
    {"NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja", "hermes", "none"},
    {"Qwen-Qwen2.5-7B-Instruct.jinja", "hermes", "none"},
    {"Reka-Edge.jinja", "hermes", "think"},
    {"StepFun3.5-Flash.jinja", "qwen3_coder", "think"},
    {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja", "deepseek_v3", "think"},
    {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja", "deepseek_v3", "think"},
    {"deepseek-ai-DeepSeek-V3.2.jinja", "deepseek_v3_2", "think"},
    {"fireworks-ai-llama-3-firefunction-v2.jinja", "functools", "none"},
    {"google-gemma-2-2b-it.jinja", "none", "none"},
    {"google-gemma-4-31B-it.jinja", "gemma", "gemma"},
    {"ibm-granite-granite-3.3-2B-Instruct.jinja", "granite", "none"},
    {"llama-cpp-deepseek-r1.jinja", "deepseek_v3", "think"},
    {"meetkai-functionary-medium-v3.1.jinja", "functionary", "none"},
    {"meetkai-functionary-medium-v3.2.jinja", "functionary_v3_2", "none"},
    {"meta-llama-Llama-3.1-8B-Instruct.jinja", "llama3_json", "none"},
    {"meta-llama-Llama-3.2-3B-Instruct.jinja", "llama3_json", "none"},
    {"meta-llama-Llama-3.3-70B-Instruct.jinja", "llama3_json", "none"},
    {"microsoft-Phi-3.5-mini-instruct.jinja", "none", "none"},
    {"mistralai-Ministral-3-14B-Reasoning-2512.jinja", "mistral_args", "bracket_think"},
    {"openai-gpt-oss-120b.jinja", "harmony", "none"},
    {"stepfun-ai-Step-3.5-Flash.jinja", "qwen3_coder", "think"},
    {"unsloth-Apriel-1.5.jinja", "apriel", "none"},
    {"unsloth-mistral-Devstral-Small-2507.jinja", "mistral_args", "none"},
};

text::ChatTemplate compiled(const std::string& source) {
  auto chat_template = text::ChatTemplate::compile_as_meant(source);
  EXPECT_TRUE(chat_template) << chat_template.error().message();
  return *chat_template;
}

Format with_reasoning(std::string_view name) {
  Format format;
  EXPECT_TRUE(set_reasoning(format, name));
  return format;
}

TEST(Recognise, FindsTheFormatOfEveryTemplate) {
  const auto folder = tidemill::test::data_root() / "templates";
  TM_SKIP_WITHOUT(folder);
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".jinja") seen.insert(entry.path().filename().string());
  }
  for (const auto& [file, tools, reasoning] : table) {
    EXPECT_EQ(seen.erase(std::string(file)), 1U) << file;
    const auto source = base::read_file((folder / file).string());
    ASSERT_TRUE(source);
    const Format format = recognise(compiled(*source), *source);
    EXPECT_EQ(to_string(format.tools), tools) << file;
    EXPECT_EQ(format.reasoning_close, with_reasoning(reasoning).reasoning_close) << file;
  }
  EXPECT_TRUE(seen.empty()) << "not in the table: " << *seen.begin();
}

// What an assistant writes, in a template of three roles.
std::string chat_of(const std::string& call) {
  return "{% for m in messages %}<|{{ m.role }}|>{% if m.tool_calls %}" + call +
         "{% else %}{{ m.content }}{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif "
         "%}";
}

constexpr std::string_view each_call = "{% for c in m.tool_calls %}";
constexpr std::string_view end_each = "{% endfor %}";

std::string for_each_call(const std::string& text) {
  return chat_of(std::string(each_call) + text + std::string(end_each));
}

TEST(Recognise, KnowsFormatsThatNoTemplateHereHas) {
  const std::string name = "{{ c.function.name }}";
  const std::string arguments = "{{ c.function.arguments | tojson }}";
  const std::string object = R"({"name": ")" + name + R"(", "arguments": )" + arguments + "}";
  const std::string list = "{% for c in m.tool_calls %}" + object + "{% if not loop.last %}, {% endif %}{% endfor %}";
  const std::vector<std::pair<std::string, ToolFormat>> cases = {
      {chat_of("[TOOL_CALLS] [" + list + "]"), ToolFormat::mistral},
      {chat_of("<｜tool▁calls▁begin｜>{% for c in m.tool_calls %}<｜tool▁call▁begin｜>" + name + "<｜tool▁sep｜>" +
               arguments + "<｜tool▁call▁end｜>{% endfor %}<｜tool▁calls▁end｜>"),
       ToolFormat::deepseek_v3_1},
      {for_each_call(
           "<tool_call>\n<function=" + name +
           ">\n{% for k, v in c.function.arguments | items %}<parameter={{ k }}>\n{{ v if v is string else v | "
           "tojson }}\n</parameter>\n{% endfor %}</function>\n</tool_call>"),
       ToolFormat::qwen3_coder},
      {chat_of("<tool_calls>[" + list + "]</tool_calls>"), ToolFormat::apriel},
      {for_each_call("\n" + object), ToolFormat::llama3_json},
  };
  for (const auto& [source, expected] : cases)
    EXPECT_EQ(to_string(recognise(compiled(source)).tools), to_string(expected)) << source;
}

// Two calls are asked for first.
TEST(Recognise, ReadsATemplateThatWritesTheFirstCallAlone) {
  const Format format = recognise(compiled(chat_of(
      R"(<|act|>{"tool": "{{ m.tool_calls[0].function.name }}", "input": {{ m.tool_calls[0].function.arguments | tojson }}}<|/act|>)")));
  ASSERT_EQ(format.tools, ToolFormat::json_in_tags);
  EXPECT_EQ(format.syntax.open, "<|act|>");
  EXPECT_EQ(format.syntax.name_key, "tool");
}

TEST(Recognise, DescribesJsonBetweenTagsThatItDoesNotKnow) {
  const Format one = recognise(compiled(for_each_call(
      R"(<|act|>{"tool": "{{ c.function.name }}", "input": {{ c.function.arguments | tojson }}}<|/act|>)")));
  ASSERT_EQ(one.tools, ToolFormat::json_in_tags);
  EXPECT_EQ(one.syntax.open, "<|act|>");
  EXPECT_EQ(one.syntax.close, "<|/act|>");
  EXPECT_EQ(one.syntax.name_key, "tool");
  EXPECT_EQ(one.syntax.arguments_key, "input");
  EXPECT_FALSE(one.syntax.list);
  const std::vector<Tool> tools = {{"f", {}, false}};
  const Reading reading = read(one, tools, Start::answer, R"(So: <|act|>{"tool": "f", "input": {"a": 1}}<|/act|>)");
  EXPECT_EQ(reading.content, "So:");
  ASSERT_EQ(reading.calls.size(), 1U);
  EXPECT_EQ(reading.calls[0].arguments, R"({"a": 1})");

  const Format list = recognise(compiled(chat_of(
      R"(Calling: [{% for c in m.tool_calls %}{"name": "{{ c.function.name }}", "args": {{ c.function.arguments | )"
      R"(tojson }}}{% if not loop.last %}, {% endif %}{% endfor %}])")));
  ASSERT_EQ(list.tools, ToolFormat::json_in_tags);
  EXPECT_TRUE(list.syntax.list);
  EXPECT_EQ(list.syntax.open, "Calling:");
  EXPECT_EQ(list.syntax.close, "");
}

TEST(Recognise, FindsNothingInTemplatesWithoutCalls) {
  EXPECT_EQ(recognise(compiled("{% for m in messages %}{{ m.content }}{% endfor %}")).tools, ToolFormat::none);
  EXPECT_EQ(recognise(compiled("")).tools, ToolFormat::none);
  EXPECT_EQ(recognise(compiled("{{ raise_exception('no') }}")).tools, ToolFormat::none);
  // Calls that cannot be read back are none.
  EXPECT_EQ(recognise(compiled(for_each_call("{{ c.function.name }}({{ c.function.arguments.word }})"))).tools,
            ToolFormat::none);
}

// Conversations rendered by the templates themselves.
struct Manner {
  size_t calls;
  bool text_arguments;
  bool null_content;
};

const std::vector<std::pair<std::string, std::string>>& round_trip_calls() {
  static const std::vector<std::pair<std::string, std::string>> calls = {
      {"get_weather", R"({"city": "北京 \"é\" \\ </x> {", "days": 3, "where": {"a": [1, {"b": null}], "c": "d"}})"},
      {"now", R"({"note": "two\nlines\n"})"}};
  return calls;
}

json::object context_of(const Manner& manner, bool answered) {
  const json::value tools = *base::parse_json(R"([
    {"type": "function", "function": {"name": "get_weather", "description": "W.", "parameters": {"type": "object",
      "properties": {"city": {"type": "string", "description": "c"}, "days": {"type": "integer", "description": "d"},
      "where": {"type": "object", "description": "w"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "now", "description": "N.", "parameters": {"type": "object", "properties":
      {"note": {"type": "string", "description": "n"}}, "required": []}}}])");
  json::array messages = {json::object{{"role", "user"}, {"content", "QUESTION"}}};
  if (answered) {
    json::array calls;
    for (size_t i = 0; i < manner.calls; ++i) {
      const auto& [name, arguments] = round_trip_calls()[i];
      const json::value value =
          manner.text_arguments ? json::value(json::string(arguments)) : *base::parse_json(arguments);
      calls.push_back(json::object{{"id", "call0000" + std::to_string(i)},
                                   {"type", "function"},
                                   {"function", json::object{{"name", name}, {"arguments", value}}}});
    }
    messages.push_back(json::object{{"role", "assistant"},
                                    {"content", manner.null_content ? json::value(nullptr) : json::value("")},
                                    {"tool_calls", std::move(calls)}});
    messages.push_back(
        json::object{{"role", "tool"}, {"name", "get_weather"}, {"tool_call_id", "call00000"}, {"content", "RESULT"}});
  }
  return {{"messages", std::move(messages)},
          {"tools", tools},
          {"functions", "[]"},
          {"datetime", "now"},
          {"bos_token", "<s>"},
          {"eos_token", "</s>"},
          {"add_generation_prompt", true}};
}

std::vector<Tool> tools_of(const json::object& context) {
  std::vector<Tool> tools;
  for (const json::value& tool : context.at("tools").as_array()) {
    tools.push_back(
        {std::string(tool.at("function").at("name").as_string()), tool.at("function").at("parameters"), false});
  }
  return tools;
}

// The assistant's turn in the rendering, from the end of the generation prompt to the tool's result.
std::optional<std::string> rendered_turn(const text::ChatTemplate& chat_template, const Manner& manner) {
  const auto prompt = chat_template.render(context_of(manner, false), base::WallTime{});
  const auto whole = chat_template.render(context_of(manner, true), base::WallTime{});
  if (!prompt || !whole) return std::nullopt;
  const size_t question = whole->rfind("QUESTION");
  const size_t asked = prompt->rfind("QUESTION");
  const size_t result = whole->rfind("RESULT");
  if (question == std::string::npos || asked == std::string::npos || result == std::string::npos) return std::nullopt;
  const std::string turn = whole->substr(question, result - question);
  if (turn.find("get_weather") == std::string::npos) return std::nullopt;
  size_t common = 0;
  while (asked + common < prompt->size() && common < turn.size() && (*prompt)[asked + common] == turn[common])
    ++common;
  // Not in the middle of a tag that only begins as another does.
  if (asked + common < prompt->size()) common = std::min(common, turn.rfind('<', common - 1));
  return turn.substr(common);
}

// What the template writes, up to the end of the last call, is what tool_choice "required" lets a model write.
void expect_constraint_allows(const Format& format, std::span<const Tool> tools, size_t calls, std::string_view turn) {
  size_t furthest = 0;
  for (const Start start : {Start::answer, Start::reasoning}) {
    grammar::GrammarBuilder builder;
    ToolRules rules;
    rules.choice.kind = ToolChoice::Kind::required;
    rules.start = start;
    const auto output = tool_grammar(builder, format, tools, rules);
    ASSERT_TRUE(output && *output);
    const auto built = std::move(builder).build(**output);
    ASSERT_TRUE(built);
    grammar::ByteSet all;
    all.set();
    ::tidemill::test::Acceptor accepts(*(*built)->restricted_to(
        {all, [](grammar::Expressions& nodes, const std::string& name) { return nodes.literal(name); }}));
    grammar::NodeIndex state = accepts.grammar().root();
    for (size_t at = 0; at < turn.size() && state != grammar::Expressions::nothing; ++at) {
      state = accepts.derivatives().by_byte(state, static_cast<uint8_t>(turn[at]));
      if (accepts.derivatives().expressions().at(state).nullable) furthest = std::max(furthest, at + 1);
    }
  }
  const size_t last = turn.rfind(calls == 2 ? "lines" : "\"d\"");
  EXPECT_GT(furthest, last) << turn;
}

TEST(RoundTrip, CallsThatATemplateWritesAreReadBack) {
  const auto folder = tidemill::test::data_root() / "templates";
  TM_SKIP_WITHOUT(folder);
  int read_back = 0;
  for (const auto& known : table) {
    // The templates of the last two write no calls.
    if (known.tools == "none" || known.tools == "granite" || known.tools == "lfm2") continue;
    const auto source = base::read_file((folder / known.file).string());
    ASSERT_TRUE(source);
    const text::ChatTemplate chat_template = compiled(*source);
    const Format format = recognise(chat_template, *source);
    bool found = false;
    for (const Manner& manner : {Manner{2, false, false}, Manner{2, false, true}, Manner{1, false, false},
                                 Manner{2, true, false}, Manner{2, true, true}}) {
      const auto turn = rendered_turn(chat_template, manner);
      if (!turn) continue;
      const std::vector<Tool> tools = tools_of(context_of(manner, false));
      const Reading reading = read(format, tools, Start::answer, *turn);
      EXPECT_TRUE(reading.sound);
      const std::vector<size_t> places = cuts(*turn);
      EXPECT_EQ(read(format, tools, Start::answer, cut_at(*turn, places)), reading) << known.file;
      // Some templates write the first call only.
      const size_t written =
          turn->find("\"note") != std::string::npos || turn->find("note") != std::string::npos ? 2 : 1;
      ASSERT_EQ(reading.calls.size(), written) << known.file << "\n" << *turn;
      for (size_t i = 0; i < written; ++i) {
        const auto& [name, arguments] = round_trip_calls()[i];
        EXPECT_EQ(reading.calls[i].name, name) << known.file;
        const auto parsed = base::parse_json(reading.calls[i].arguments);
        ASSERT_TRUE(parsed) << known.file << " " << reading.calls[i].arguments;
        EXPECT_EQ(*parsed, *base::parse_json(arguments)) << known.file << "\n" << *turn;
      }
      // Gemma's template writes null as None, and Apriel's adds the ids that calls were given later.
      if (format.tools != ToolFormat::gemma && format.tools != ToolFormat::apriel)
        expect_constraint_allows(format, tools, written, *turn);
      found = true;
      break;
    }
    EXPECT_TRUE(found || known.file == "llama-cpp-deepseek-r1.jinja") << known.file;
    read_back += found ? 1 : 0;
  }
  EXPECT_GE(read_back, 28);
}

}  // namespace
}  // namespace tidemill::chat::test
