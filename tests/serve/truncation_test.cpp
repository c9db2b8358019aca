// "truncation": "auto" with templates that do not take every part of a conversation that they take.
#include <string>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "live_server.hpp"
#include "temporary_folder.hpp"

namespace tidemill {
namespace {

using test::json::array;
using test::json::object;

std::string words(int count) {
  std::string text;
  for (int i = 0; i < count; ++i)
    text += "x1 ";
  return text;
}

// A response to these items by a server with this template and a context of 256 tokens.
object response_to(std::string_view chat_template, const array& items) {
  const test::TemporaryFolder folder;
  serve::ServeOptions options = test::small_options();
  options.chat_template = folder.put("picky.jinja", chat_template).string();
  options.max_context = 256;
  test::LiveServer live(options);
  const object body{{"input", items}, {"max_output_tokens", 1}, {"truncation", "auto"}, {"store", false}};
  const auto response = live.client().post("/v1/responses", test::json::serialize(body));
  EXPECT_EQ(response.status, 200) << response.body;
  return response.status == 200 ? test::parse_object(response) : object();
}

object message(std::string_view role, std::string_view text) {
  return {{"role", role}, {"content", text}};
}

// What was said beside calls that are gone is no turn of its own.
TEST(Truncation, KeepsTurnsWhereCallsAreGone) {
  array items = {message("user", "x")};
  for (const auto& [id, length] : {std::pair<std::string_view, int>{"a", 300}, {"b", 300}, {"c", 3}}) {
    items.push_back(message("assistant", "y"));
    items.push_back(object{{"type", "function_call"}, {"call_id", id}, {"name", "f"}, {"arguments", "{}"}});
    items.push_back(object{{"type", "function_call_output"}, {"call_id", id}, {"output", words(length)}});
  }
  const object response = response_to(
      "{% set ns = namespace(last='') %}{% for m in messages %}"
      "{% if m.role == 'assistant' and not m.tool_calls %}"
      "{% if ns.last == 'assistant' %}{{ raise_exception('roles must alternate') }}{% endif %}"
      "{% set ns.last = 'assistant' %}{% else %}{% set ns.last = 'other' %}{% endif %}"
      "{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{% endfor %}",
      items);
  ASSERT_TRUE(response.contains("dropped_calls"));
  EXPECT_EQ(response.at("dropped_calls"), 2);
  EXPECT_EQ(response.at("dropped_turns"), 0);
}

// What the template refuses is no end of the search: more goes then.
TEST(Truncation, DropsMoreWhereTheTemplateRefusesWhatIsLeft) {
  const array items = {message("user", words(300)), message("assistant", "y"), message("user", "refused at first"),
                       message("assistant", "y"), message("user", "x")};
  const object response = response_to(
      "{% if 'refused at first' in (messages[0].content or '') %}{{ raise_exception('not so') }}{% endif %}"
      "{% for m in messages %}{{ m.content }}{% endfor %}",
      items);
  ASSERT_TRUE(response.contains("dropped_turns"));
  EXPECT_EQ(response.at("dropped_turns"), 2);
}

}  // namespace
}  // namespace tidemill
