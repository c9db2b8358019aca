// Grammars of calls, put together for tests.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "chat/constraint.hpp"
#include "chat/format.hpp"
#include "chat/tools.hpp"
#include "grammar/builder.hpp"
#include "grammar/grammar.hpp"

namespace tidemill::chat::test {

inline base::json::value parsed(std::string_view text) {
  const auto value = base::parse_json(text);
  EXPECT_TRUE(value) << text;
  return value ? *value : base::json::value();
}

inline std::vector<Tool> some_tools(bool strict) {
  return {{"get_weather", parsed(R"({"type": "object", "additionalProperties": false, "required": ["city", "days"],
             "properties": {"city": {"type": "string"}, "days": {"type": "integer"},
               "unit": {"type": "string", "enum": ["celsius", "</parameter", "k\"elvin"]},
               "where": {"type": "object", "additionalProperties": false, "required": ["lat"],
                         "properties": {"lat": {"type": "number"}, "exact": {"type": "boolean"}}},
               "tags": {"type": "array", "items": {"type": "string"}}}})"),
           strict},
          {"get", parsed(R"({"type": "object", "additionalProperties": false, "properties": {}, "required": []})"),
           strict}};
}

inline Format format_of(std::string_view name, bool reasons) {
  Format format = *format_by_name(name);
  if (reasons && name != "harmony") {
    EXPECT_TRUE(set_reasoning(format, "think"));
  }
  return format;
}

inline std::shared_ptr<const grammar::Grammar> grammar_of(const Format& format, std::span<const Tool> tools,
                                                          const ToolRules& rules) {
  grammar::GrammarBuilder builder;
  const auto output = tool_grammar(builder, format, tools, rules);
  EXPECT_TRUE(output) << output.error().to_string();
  if (!output || !*output) return nullptr;
  auto built = std::move(builder).build(**output);
  EXPECT_TRUE(built) << built.error().to_string();
  return built ? *built : nullptr;
}

// With the names of control tokens as text.
inline std::shared_ptr<const grammar::Grammar> spelled_out(const std::shared_ptr<const grammar::Grammar>& grammar) {
  grammar::ByteSet all;
  all.set();
  const auto spelled = grammar->restricted_to(
      {all, [](grammar::Expressions& nodes, const std::string& name) { return nodes.literal(name); }});
  EXPECT_TRUE(spelled);
  return *spelled;
}

}  // namespace tidemill::chat::test
