// Scripted outputs through reader, dialect and marks: reasoning and calls in every format, cut after every mark.
#include "serve/stream_writer.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "base/utf8.hpp"
#include "marked_stream.hpp"
#include "serve/output_reader.hpp"
#include "wire/anthropic_answer.hpp"
#include "wire/openai_answer.hpp"
#include "wire/responses_answer.hpp"

namespace tidemill {
namespace {

using test::MarkedPrefix;
namespace json = base::json;

constexpr int64_t cached = 7;

// An output as the engine tells of it, token by token.
struct Script {
  struct Token {
    std::string text;
    std::vector<engine::TokenInfo> infos;
  };
  std::vector<Token> tokens;
  engine::FinishReason finish = engine::FinishReason::stop;
};

// `text` in pieces of 0 to 9 bytes and whole characters.
Script script_of(std::string_view text, engine::FinishReason finish, bool logprobs, std::mt19937& random) {
  Script script;
  script.finish = finish;
  while (!text.empty()) {
    size_t size = 0;
    for (size_t wanted = random() % 10; size < wanted && size < text.size();)
      size += std::min<size_t>(text.size() - size, base::utf8::decode(text.substr(size)).length);
    Script::Token& token = script.tokens.emplace_back();
    token.text = text.substr(0, size);
    text.remove_prefix(size);
    if (!logprobs) continue;
    engine::TokenInfo info;
    info.chosen.bytes = token.text;
    info.chosen.logprob = -0.5f * static_cast<float>(script.tokens.size());
    token.infos.push_back(std::move(info));
  }
  return script;
}

// Tokens [begin, end) as one event.
engine::Event event_of(const Script& script, size_t begin, size_t end) {
  engine::Event event;
  event.cached_tokens = cached;
  for (size_t i = begin; i < end; ++i) {
    const Script::Token& token = script.tokens[i];
    event.text += token.text;
    event.text_ends.push_back(event.text.size());
    event.tokens.push_back(static_cast<engine::Token>(1000 + i));
    event.logprobs.insert(event.logprobs.end(), token.infos.begin(), token.infos.end());
  }
  if (end == script.tokens.size()) event.finish = script.finish;
  return event;
}

struct Dialect {
  std::string name;
  std::function<std::unique_ptr<wire::Answer>(const wire::AnswerInfo&)> answer;
};

std::vector<Dialect> dialects(bool logprobs) {
  const wire::AnswerForm form{.logprobs = logprobs, .top_logprobs = 0, .include_usage = true};
  return {
      {"chat", [form](const auto& info) { return std::make_unique<wire::ChatAnswer>(form, info); }},
      {"responses",
       [logprobs](const auto& info) {
         return std::make_unique<wire::ResponsesAnswer>(wire::ResponsesForm{.echo = {}, .logprobs = logprobs}, info);
       }},
      {"messages",
       [](const auto& info) {
         return std::make_unique<wire::MessagesAnswer>(wire::MessagesForm{.max_tokens = 500, .thinking = true}, info);
       }},
      {"messages without thinking", [](const auto& info) {
         return std::make_unique<wire::MessagesAnswer>(wire::MessagesForm{.max_tokens = 500, .thinking = false}, info);
       }}};
}

// One stream, from its beginning or from what was marked; the events hold 1 to `most` tokens.
std::string run(const Script& script, const serve::ReadingRules& rules, const Dialect& dialect, std::mt19937& random,
                size_t most, const MarkedPrefix* resumed = nullptr) {
  const wire::StreamOrigin origin{.id = "resp_0123", .created = 5, .seed = 1, .model = "m", .prompt = "p"};
  const std::unique_ptr<wire::Answer> answer = dialect.answer({.id = origin.id, .model = "m", .created = 5});
  serve::StreamWriter::Form form{.marks = origin, .resumed = {}, .part = {}, .choices = 1, .n = 1};
  size_t at = 0;
  wire::Usage usage{.prompt_tokens = 20, .completion_tokens = std::ssize(script.tokens), .cached_tokens = cached};
  if (resumed != nullptr) {
    const json::object body{{"tidemill_resume", resumed->resume()}};
    const auto parsed = wire::parse_resume(json::serialize(body));
    EXPECT_TRUE(parsed && *parsed) << parsed.error().to_string();
    form.resumed = (*parsed)->state;
    at = (*parsed)->tokens[0].size();
    form.part.begun = {at > 0};
    if (form.resumed && at > 0) {
      EXPECT_EQ(form.resumed->cached_tokens, cached);
    }
  }
  serve::StreamWriter writer(*answer, std::move(form));
  serve::OutputReader reader(&rules, origin.id, 0);
  writer.open();
  const auto add = [&](engine::Event event) {
    for (const wire::Event& piece : reader.read(std::move(event)))
      writer.add(piece);
    EXPECT_TRUE(writer.sendable());
  };
  if (at > 0) {
    engine::Event given = event_of(script, 0, at);
    given.resumed = true;
    given.cached_tokens = 0;
    const size_t before = writer.out().size();
    add(std::move(given));
    EXPECT_EQ(writer.out().size(), before) << "what was told is told again";
  }
  while (at < script.tokens.size()) {
    const size_t end = std::min(script.tokens.size(), at + 1 + random() % most);
    add(event_of(script, at, end));
    at = end;
    if (random() % 5 == 0) writer.keep_alive();
  }
  usage.reasoning_tokens = reader.reasoning_tokens();
  writer.finish(usage);
  return writer.out();
}

// Keep-alives come when they come.
std::string without_pings(std::string_view stream) {
  std::string rest;
  while (!stream.empty()) {
    const size_t end = stream.find("\n\n") + 2;
    const std::string_view block = stream.substr(0, end);
    if (!block.starts_with("event: ping") && !block.starts_with(": waiting")) rest += block;
    stream.remove_prefix(end);
  }
  return rest;
}

void expect_seamless(const Script& script, const serve::ReadingRules& rules, const Dialect& dialect,
                     std::mt19937& random) {
  const std::string stream = run(script, rules, dialect, random, 3);
  const auto prefixes = test::prefixes_of(stream, 1);
  const auto whole = test::merged_events(without_pings(test::without_marks(stream)));
  EXPECT_EQ(prefixes.back().tokens[0].size(), script.tokens.size());
  // Token by token, as without speculation.
  const std::string plain = run(script, rules, dialect, random, 1);
  EXPECT_EQ(test::merged_events(without_pings(test::without_marks(plain))), whole);
  for (size_t i = 0; i + 1 < prefixes.size(); ++i) {
    const std::string rest = run(script, rules, dialect, random, 4, &prefixes[i]);
    const auto joined = test::merged_events(without_pings(prefixes[i].bytes + test::without_marks(rest)));
    ASSERT_EQ(joined, whole) << "cut after mark " << i << " of " << prefixes.size() << "\n"
                             << stream << "\n---\n"
                             << rest;
    const auto after = test::prefixes_of(rest, 1);
    EXPECT_EQ(prefixes[i].tokens[0].size() + after.back().tokens[0].size(), script.tokens.size());
  }
}

struct ModelOutput {
  std::string format;
  std::string text;
};

// What models write, with reasoning where the format has it, text, and two calls.
std::vector<ModelOutput> outputs() {
  const std::string thought = "<think>\nHm \u2014 let me see: \u00e9\u00e8, \U0001F600.\n</think>\n\n";
  const std::string arguments = R"({"q": "a \u00fc\n\"b\"", "n": [1, 2.5, {"x": null}]})";
  return {
      {"hermes", thought + "I will look.\n<tool_call>\n{\"name\": \"find\", \"arguments\": " + arguments +
                     "}\n</tool_call>\n<tool_call>\n{\"name\": \"find\", \"arguments\": {}}\n</tool_call>"},
      {"hermes", "Text that <tool_cal begins none, and <think>in between</think> some more."},
      {"hermes", thought + "Nothing but text \u65e5\u672c\u8a9e, and a lot of it, with {braces} and <tags>."},
      {"qwen3_coder", thought + "<tool_call>\n<function=find>\n<parameter=q>\nline one\nline two\n</parameter>\n"
                                "<parameter=n>\n[1, 2]\n</parameter>\n</function>\n</tool_call>"},
      {"mistral", "Well.[TOOL_CALLS][{\"name\": \"find\", \"arguments\": " + arguments +
                      "}, {\"name\": \"find\", \"arguments\": {\"q\": \"\"}}]"},
      {"llama3_json", "{\"name\": \"find\", \"parameters\": " + arguments + "}"},
      {"harmony",
       "<|channel|>analysis<|message|>I think so.<|end|><|start|>assistant<|channel|>commentary "
       "to=functions.find <|constrain|>json<|message|>" +
           arguments + "<|call|>"},
      {"harmony",
       "<|channel|>analysis<|message|>Short.<|end|><|start|>assistant<|channel|>final<|message|>The answer "
       "is \u00bd."},
  };
}

serve::ReadingRules rules_of(const ModelOutput& output) {
  serve::ReadingRules rules;
  auto format = chat::format_by_name(output.format);
  EXPECT_TRUE(format) << format.error().to_string();
  rules.format = std::move(*format);
  if (output.format != "harmony") {
    EXPECT_TRUE(chat::set_reasoning(rules.format, "think"));
  }
  rules.tools.push_back(
      {"find", json::object{{"type", "object"}, {"properties", {{"q", {{"type", "string"}}}}}}, false});
  return rules;
}

TEST(StreamWriter, ResumesReasoningAndCallsAfterEveryMark) {
  std::mt19937 random(1);
  for (const bool logprobs : {false, true}) {
    for (const Dialect& dialect : dialects(logprobs)) {
      for (const ModelOutput& output : outputs()) {
        const serve::ReadingRules rules = rules_of(output);
        for (const engine::FinishReason finish : {engine::FinishReason::stop, engine::FinishReason::length}) {
          SCOPED_TRACE(fmt::format("{}, {}, {}: {}", dialect.name, output.format, logprobs, output.text));
          // What a limit cuts off may be anything.
          const size_t size = finish == engine::FinishReason::stop ? output.text.size() : random() % output.text.size();
          const std::string text = output.text.substr(0, size);
          const std::string whole = text.substr(0, text.size() - base::utf8::incomplete_tail(text));
          expect_seamless(script_of(whole + (whole.empty() ? "x" : ""), finish, logprobs, random), rules, dialect,
                          random);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST(StreamWriter, MarksWhatShowsNothingOnlyNowAndThen) {
  std::mt19937 random(2);
  Script script;
  for (int i = 0; i < 100; ++i)
    script.tokens.push_back({i == 0 ? "<think>" : "a", {}});
  const serve::ReadingRules rules = rules_of({"hermes", ""});
  const std::string stream = run(script, rules, dialects(false)[3], random, 1);
  const auto prefixes = test::prefixes_of(without_pings(stream), 1);
  size_t longest = 0;
  size_t marks = 0;
  for (size_t i = 1; i < prefixes.size(); ++i) {
    const size_t step = prefixes[i].tokens[0].size() - prefixes[i - 1].tokens[0].size();
    longest = std::max(longest, step);
    marks += step > 0 ? 1 : 0;
  }
  EXPECT_LE(longest, 16u);
  EXPECT_LE(marks, 9u) << stream;
}

TEST(StreamWriter, AnErrorEndsAStreamForGoodOnlyIfItIsTheRequests) {
  for (const auto& [code, ends] :
       {std::pair(base::ErrorCode::too_large, true), std::pair(base::ErrorCode::unavailable, false),
        std::pair(base::ErrorCode::internal, false)}) {
    for (const Dialect& dialect : dialects(false)) {
      const auto answer = dialect.answer({.id = "resp_0", .model = "m"});
      serve::StreamWriter writer(*answer, {.marks = wire::StreamOrigin{}, .resumed = {}, .part = {}});
      writer.open();
      writer.fail(base::Error(code, "no"));
      EXPECT_EQ(writer.out().ends_with(": tidemill {\"end\":true}\n\n"), ends) << writer.out();
    }
  }
}

}  // namespace
}  // namespace tidemill
