// Chat templates against what Python's jinja2 3.1 renders, and against hostile input.
#include "text/chat_template.hpp"

#include <fstream>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "data.hpp"

namespace tidemill::text {
namespace {

namespace json = base::json;
using base::ErrorCode;

// 2026-01-15 12:30:00, as in the golden files.
const base::WallTime golden_now{std::chrono::seconds(1768480200)};

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

base::Result<std::string> render(std::string_view source, const json::object& context = {},
                                 const TemplateLimits& limits = {}) {
  auto compiled = ChatTemplate::compile(source);
  if (!compiled) return compiled.error();
  return compiled->render(context, golden_now, limits);
}

TEST(ChatTemplateGolden, EveryTemplateRendersEveryConversation) {
  const auto folder = test::data_root() / "templates";
  TM_SKIP_WITHOUT(folder);
  const auto conversations = base::parse_json(read(folder / "conversations.json"));
  ASSERT_TRUE(conversations) << conversations.error().message();
  int cases = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    const std::string stem = entry.path().stem();
    const auto golden = base::parse_json(read(folder / (stem + ".golden.json")));
    ASSERT_TRUE(golden) << stem;
    const auto compiled = ChatTemplate::compile(read(entry.path()));
    for (const auto& expected : golden->as_object()) {
      SCOPED_TRACE(stem + " / " + std::string(expected.key()));
      ++cases;
      json::object context = conversations->as_object().at(expected.key()).as_object();
      context.emplace("bos_token", "<s>");
      context.emplace("eos_token", "</s>");
      context.emplace("add_generation_prompt", true);
      const auto text = compiled ? compiled->render(context, golden_now) : compiled.error();
      if (const auto* wanted = expected.value().as_object().if_contains("text")) {
        ASSERT_TRUE(text) << text.error().message();
        EXPECT_EQ(*text, std::string(wanted->as_string()));
      } else {
        EXPECT_FALSE(text) << "the reference gives " << expected.value();
      }
    }
  }
  EXPECT_GT(cases, 0);
}

TEST(ChatTemplateLanguage, RendersWhatPythonRenders) {
  const auto cases = base::parse_json(read("tests/text/jinja_cases.json"));
  ASSERT_TRUE(cases) << cases.error().message();
  for (const auto& entry : cases->as_array()) {
    const auto& object = entry.as_object();
    const std::string source(object.at("template").as_string());
    SCOPED_TRACE(source);
    static const json::object no_context;
    const auto* context = object.if_contains("context");
    const auto text = render(source, context != nullptr ? context->as_object() : no_context);
    if (const auto* wanted = object.if_contains("expected")) {
      if (!text) {
        ADD_FAILURE() << text.error().message();
        continue;
      }
      EXPECT_EQ(*text, std::string(wanted->as_string()));
    } else {
      EXPECT_FALSE(text) << "rendered '" << *text << "', but the reference gives " << object.at("error");
    }
  }
}

std::string repeated(std::string_view piece, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i)
    out += piece;
  return out;
}

// Limits small enough that running into them is quick in every build.
const TemplateLimits tight{.max_output = size_t{1} << 20U, .max_memory = size_t{16} << 20U, .max_steps = 1'000'000};

TEST(ChatTemplateHostile, WorkMemoryAndOutputAreBounded) {
  for (const std::string_view source : {
           "{% for i in range(10**9) %}x{% endfor %}",
           "{{ range(10**18) }}",
           "{{ 'a' * 10**12 }}",
           "{{ 'a' * 10**30 }}",
           "{{ [1] * 10**12 }}",
           "{{ 2 ** 100000 }}",
           "{{ 10 ** 10 ** 10 }}",
           "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
           "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
           "{% set ns = namespace(s='aaaaaaaaaa') %}{% for i in range(200) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
           "{% set ns = namespace(s='aa') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('a', ns.s) %}{% endfor "
           "%}",
           "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
           "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
           "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}"
           "{{ ns.s | tojson }}",
           "{% set ns = namespace(s=1) %}{% for i in range(9999) %}{% set ns.s = [ns.s] %}{% endfor %}",
           "{% set ns = namespace(s=[1]) %}{% for i in range(9999) %}{% set ns.s = ns.s | map('string') %}{% endfor %}",
           "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
           "{% set ns = namespace() %}{% set ns.me = [ns] %}{{ ns.me }}",
           "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
           "{% macro m(n) %}{{ m(n + 1) ~ m(n + 1) }}{% endmacro %}{{ m(0) }}",
           "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
           "{% for i in [[]] recursive %}{{ loop([i]) }}{% endfor %}",
           "{{ range(99999) | join('x' * 10000) }}",
           "{{ ('a\n' * 10000) | indent(100000) }}",
           "{{ 'a' | indent(10**15) }}|{{ 'a' | indent(10**15, true) }}",
           "{{ [1] | batch(10**12, 'x') | list }}",
           "{{ 'a' | center(10**12) }}",
           "{{ 'a'.ljust(10**15) }}",
           "{{ 'a'.zfill(10**30) }}",
           "{{ 'a\tb'.expandtabs(10**12) }}",
           "{{ '%1000000000000d' % 1 }}",
           "{{ '%.1000000000f' % 1 }}",
           "{{ '{:1000000000000}'.format(1) }}",
           "{{ '{:.999999999}'.format(1.0) }}",
           "{{ [1, [2]] | tojson(indent=10**12) }}",
           "{{ range(3) | slice(10**12) | list }}",
           "{% set ns = namespace(s='%s') %}{% for i in range(99) %}{% set ns.s = ns.s % (ns.s ~ ns.s) %}{% endfor %}",
           "{{ ('a' * 100000).split('a') | map('string') | list | string | length }}"
           "{% for i in range(9999) %}{{ ('a' * 100000).split('') }}{% endfor %}",
           "{% for i in range(99999) %}{% set x = ('a' * 100000).count('a' * 50000 ~ 'b') %}{% endfor %}",
           "{% for i in range(99999) %}{% set x = ('a' * 100000).rsplit('b' ~ 'a' * 50000) %}{% endfor %}",
           "{{ range(90000) | map('string') | map('upper') | unique | sort | groupby('0') | list | length }}"
           "{{ range(90000) | list | sort | reverse | list | string | length }}",
       }) {
    SCOPED_TRACE(source);
    const auto text = render(source, {}, tight);
    EXPECT_FALSE(text) << "rendered " << text->size() << " bytes";
  }
}

TEST(ChatTemplateHostile, NestedSyntaxIsRefusedWhateverItIs) {
  constexpr size_t deep = 100000;
  for (const std::string_view piece : {"(", "[", "{1:", "not ", "-", "-(", "[1,", "a[", "a(", "1 if ", "x|f(", "a.b(",
                                       "(1 if ", "{'a':[", "a is b("}) {
    SCOPED_TRACE(piece);
    EXPECT_FALSE(render("{{ " + repeated(piece, deep)));
    EXPECT_FALSE(render("{{ " + repeated(piece, deep) + "1 }}"));
  }
  for (const std::string_view piece : {"{% if 1 %}", "{% for a in b %}", "{% set x %}", "{% macro m() %}", "{% with %}",
                                       "{% filter upper %}", "{% call m() %}", "{% raw %}", "{#", "{{", "{%"}) {
    SCOPED_TRACE(piece);
    EXPECT_FALSE(render(repeated(piece, deep)));
  }
  EXPECT_FALSE(render("{{ a" + repeated(".b", deep) + " }}"));
  EXPECT_FALSE(render("{{ a" + repeated("[0]", deep) + " }}"));
  EXPECT_FALSE(render("{{ 1" + repeated("|string", deep) + " }}"));
  EXPECT_FALSE(render("{{ 1" + repeated(" if 1 else 1", deep) + " }}"));
  EXPECT_FALSE(render("{{ " + repeated("(", deep) + "1" + repeated(")", deep) + " }}"));
  EXPECT_FALSE(render("{% set " + repeated("(", deep) + "a = 1 %}"));
}

TEST(ChatTemplateHostile, LongChainsOfOneLevelAreFine) {
  constexpr size_t many = 20000;
  EXPECT_EQ(*render("{{ 0" + repeated(" + 1", many) + " }}"), "20000");
  EXPECT_EQ(*render("{{ 0" + repeated(" or 0", many) + " }}"), "0");
  EXPECT_EQ(render("{{ 'a'" + repeated(" ~ 'a'", many) + " }}")->size(), many + 1);
  EXPECT_EQ(*render("{% if 0 %}" + repeated("{% elif 0 %}", many) + "{% else %}x{% endif %}"), "x");
}

TEST(ChatTemplateHostile, DeepContextIsRefused) {
  json::value value = 1;
  for (int i = 0; i < 1000; ++i)
    value = json::array(1, std::move(value));
  EXPECT_FALSE(render("{{ deep }}", {{"deep", std::move(value)}}));
}

TEST(ChatTemplateHostile, BrokenBytesAreRefused) {
  EXPECT_FALSE(render("a\xff{{ 1 }}"));
  EXPECT_FALSE(render("{{ '\xc3' }}"));
  EXPECT_TRUE(render(""));
}

TEST(ChatTemplateLimits, SayWhichLimitWasMet) {
  const auto message = [](std::string_view source) { return render(source, {}, tight).error().message(); };
  EXPECT_NE(message("{% for i in range(99999) %}{{ 'x' * 100 }}{% endfor %}").find("bytes"), std::string::npos);
  EXPECT_NE(message("{{ 'a' * 10**12 }}").find("memory"), std::string::npos);
  EXPECT_EQ(render("{{ 'a' * 10**12 }}").error().code(), ErrorCode::too_large);
  EXPECT_NE(message("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}").find("recurses"), std::string::npos);
}

TEST(ChatTemplateLimits, AnAllowanceOfStepsIsSharedByRenderings) {
  const auto compiled = ChatTemplate::compile("{% for i in range(n) %}{% endfor %}");
  ASSERT_TRUE(compiled);
  const auto renders = [&](int n, TemplateLimits limits) {
    return compiled->render({{"n", n}}, golden_now, limits).has_value();
  };
  StepAllowance allowance(1000);
  EXPECT_TRUE(renders(10, {.allowance = &allowance}));
  EXPECT_LT(allowance.left(), 1000U);
  EXPECT_GT(allowance.left(), 0U);
  EXPECT_FALSE(allowance.exceeded());
  EXPECT_FALSE(renders(50'000, {.allowance = &allowance}));
  EXPECT_TRUE(allowance.exceeded());
  EXPECT_EQ(allowance.left(), 0U);
  EXPECT_FALSE(renders(10, {.allowance = &allowance})) << "nothing is left";

  // What goes over its own limit says something of the template.
  StepAllowance plenty(10'000);
  EXPECT_FALSE(renders(50'000, {.max_steps = 100, .allowance = &plenty}));
  EXPECT_FALSE(plenty.exceeded());
  EXPECT_EQ(plenty.left(), 9'900U);
}

// However many conversations are tried on a template that never ends.
TEST(ChatTemplateLimits, ProbingKeepsToItsAllowance) {
  StepAllowance allowance(3'000'000);
  const auto compiled = ChatTemplate::compile_as_meant(
      "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", &allowance);
  ASSERT_TRUE(compiled);
  EXPECT_TRUE(allowance.exceeded());
  EXPECT_FALSE(compiled->probe(&allowance).system);
  EXPECT_EQ(allowance.left(), 0U);
}

TEST(ChatTemplateErrors, NameTheLineAndTheFault) {
  const auto message = [](std::string_view source) { return render(source).error().message(); };
  EXPECT_EQ(message("a\n\n{{ x.y }}"), "line 3: 'x' is undefined");
  EXPECT_EQ(message("{{ 1 }}\n{{ 1 | nosuch }}"), "line 2: no filter named 'nosuch'");
  EXPECT_EQ(message("\n{% include 'x' %}"), "line 2: {% include %} is not supported: a chat template stands alone");
  EXPECT_EQ(message("{% if 1 %}\n"),
            "line 1: the template ends, but {% elif %} or {% else %} or {% endif %} is still to come");
  EXPECT_NE(message("x\n{{ 'a' + 1 }}").find("line 2: can only concatenate str"), std::string::npos);
  const auto raised = render("\n{{ raise_exception('roles must alternate') }}");
  EXPECT_EQ(raised.error().message(), "roles must alternate");
  EXPECT_EQ(raised.error().code(), ErrorCode::invalid_argument);
}

TEST(ChatTemplateTime, IsBrokenDownLikePython) {
  EXPECT_EQ(*render("{{ strftime_now('%d %b %Y, %H:%M:%S, %A, %j, %-d/%-m, %U %W %V %G, %I %p, %y') }}"),
            "15 Jan 2026, 12:30:00, Thursday, 015, 15/1, 02 02 03 2026, 12 PM, 26");
}

TEST(ChatTemplate, IsSharedByThreads) {
  const auto compiled =
      ChatTemplate::compile("{% for m in messages %}{{ m.role ~ ': ' ~ m.content | trim }}\n{% endfor %}");
  ASSERT_TRUE(compiled);
  const json::object context = {{"messages", {{{"role", "user"}, {"content", " hi "}}}}};
  std::vector<std::thread> threads;
  std::vector<int> right(4, 0);
  for (int& count : right) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i)
        count += *compiled->render(context, golden_now) == "user: hi\n" ? 1 : 0;
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(right, std::vector<int>(4, 200));
}

TEST(ChatTemplate, TellsWhatItUses) {
  const auto plain = ChatTemplate::compile("{% for m in messages %}{{ m.content }}{% endfor %}");
  const TemplateTraits none = plain->probe();
  EXPECT_TRUE(none.system);
  EXPECT_FALSE(none.tools || none.tool_calls || none.thinking_switch || none.reasoning_content);
  EXPECT_FALSE(plain->mentions("tools"));

  const auto path = test::data_root() / "templates" / "Qwen-Qwen2.5-7B-Instruct.jinja";
  TM_SKIP_WITHOUT(path);
  const auto qwen = ChatTemplate::compile(read(path));
  ASSERT_TRUE(qwen);
  EXPECT_TRUE(qwen->mentions("tools"));
  const TemplateTraits traits = qwen->probe();
  EXPECT_TRUE(traits.tools && traits.system && traits.tool_calls);
  EXPECT_FALSE(traits.arguments_as_text || traits.thinking_switch);
}

base::Result<std::string> leniently(std::string_view source, const json::object& context = {}) {
  ChatTemplate::Options options;
  options.rules = TemplateRules::lenient;
  auto compiled = ChatTemplate::compile(source, options);
  if (!compiled) return compiled.error();
  return compiled->render(context, golden_now, tight);
}

TEST(LenientTemplates, ChangeListsAndDicts) {
  const auto text = [](std::string_view source) {
    const auto rendered = leniently(source, {{"m", {{"role", "user"}}}});
    return rendered ? *rendered : "! " + rendered.error().message();
  };
  EXPECT_EQ(text("{% set l = [1] %}{% set _ = l.append('a') %}{% set _ = l.insert(0, 2) %}{{ l }}"), "[2, 1, 'a']");
  EXPECT_EQ(text("{% set n = namespace(l=[1, 2, 3]) %}{{ n.l.pop(0) }}{{ n.l.pop() }}{{ n.l }}"), "13[2]");
  EXPECT_EQ(text("{% set l = [1, 2] %}{% for i in [3] %}{% set _ = l.extend([i, 1]) %}{% endfor %}"
                 "{% set _ = l.remove(1) %}{% set _ = l.reverse() %}{{ l }}"),
            "[1, 3, 2]");
  EXPECT_EQ(text("{% set m.content = 'x' %}{% set _ = m.update({'role': 'r', 'n': 1}) %}{{ m }}"),
            "{'role': 'r', 'content': 'x', 'n': 1}");
  EXPECT_EQ(text("{% set d = {'a': 1} %}{{ d.pop('a') }}{{ d.pop('b', 7) }}{{ d.setdefault('c', []) }}{{ d }}"),
            "17[]{'c': []}");
  EXPECT_EQ(text("{% set l = [] %}{{ l.pop() }}"), "! line 1: pop from empty list");
  EXPECT_EQ(text("{% macro f() %}{{ x }}{% endmacro %}{% for x in [1, 2] %}{{ f() }}{% endfor %}{{ f() }}"), "12");
  EXPECT_EQ(text("{{ nothing.at.all is defined }}{{ nothing['a'] }}"), "False");
  EXPECT_EQ(text("{% set l = [1] %}{% set k = l.copy() %}{% set _ = k.append(2) %}{{ l }}{{ k }}"), "[1][1, 2]");
}

// No value holds itself, however it is tried, and none nests without bound.
TEST(LenientTemplates, StayBounded) {
  EXPECT_EQ(*leniently("{% set l = [] %}{% set _ = l.append(l) %}{% set _ = l.append(l) %}{{ l }}"), "[[], [[]]]");
  EXPECT_EQ(*leniently("{% set d = {} %}{% set d.d = d %}{{ d }}"), "{'d': {}}");
  for (const char* source :
       {"{% set d = {} %}{% for i in range(5000) %}{% set d.d = d %}{% endfor %}{{ d }}",
        "{% set l = [] %}{% for i in range(5000) %}{% set _ = l.append(l) %}{% endfor %}{{ l }}",
        "{% set l = [] %}{% set _ = l.append(l.append) %}",
        "{% set l = [[]] %}{% set _ = l.append(l) %}"
        "{% set _ = l[1][0].append(1) %}{{ l }}",
        "{% set l = [] %}{% for i in l.append(1) or [0] %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}"
        "{% endfor %}"}) {
    EXPECT_FALSE(leniently(source)) << source;
  }
  // The compiled template and the caller's values stay as they are.
  ChatTemplate::Options options;
  options.rules = TemplateRules::lenient;
  const auto compiled = ChatTemplate::compile(
      "{% set l = [1] %}{% set _ = l.append(2) %}{% set _ = m.append(3) %}"
      "{{ l }}{{ m }}",
      options);
  ASSERT_TRUE(compiled);
  const json::object context{{"m", json::array()}};
  for (int i = 0; i < 2; ++i)
    EXPECT_EQ(*compiled->render(context, golden_now), "[1, 2][3]");
}

// Templates that the reference refuses, with a round of tool calls as it was meant.
TEST(LenientTemplates, AreThoseThatNeedIt) {
  const auto folder = test::data_root() / "templates";
  TM_SKIP_WITHOUT(folder);
  const auto conversations = base::parse_json(read(folder / "conversations.json"));
  ASSERT_TRUE(conversations);
  const std::vector<std::pair<std::string, std::vector<std::string>>> meant = {
      {"Kimi-K2-Thinking",
       {"<|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>",
        "## Return of functions.get_weather:0"}},
      {"MiroThinker", {"### Tool name: get_weather", "<tool_name>get_weather</tool_name>\n<arguments>\n{"}},
      {"fireworks-ai-llama-3-firefunction-v2",
       {"\"name\": \"get_weather\",", "Today is 2026-01-15 12:30:00 GMT.",
        " functools[{\"name\": \"get_weather\", \"arguments\": {"}}};
  for (const auto& [stem, parts] : meant) {
    const auto compiled = ChatTemplate::compile_as_meant(read(folder / (stem + ".jinja")));
    ASSERT_TRUE(compiled) << stem;
    json::object context = conversations->as_object().at("tool_round").as_object();
    context.emplace("bos_token", "<s>");
    context.emplace("eos_token", "</s>");
    context.emplace("add_generation_prompt", true);
    const auto text = compiled->render(context, golden_now);
    ASSERT_TRUE(text) << stem << ": " << text.error().message();
    for (const std::string& part : parts)
      EXPECT_NE(text->find(part), std::string::npos) << part << " in\n" << *text;
  }
  // The others keep to the reference.
  const auto qwen = ChatTemplate::compile_as_meant(read(folder / "Qwen-Qwen2.5-7B-Instruct.jinja"));
  ASSERT_TRUE(qwen);
  EXPECT_FALSE(ChatTemplate::compile_as_meant("{% set l = [] %}{% set _ = l.append(1) %}")->render({}, golden_now));
}

}  // namespace
}  // namespace tidemill::text
