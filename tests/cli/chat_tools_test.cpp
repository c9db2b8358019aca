// Which tools of a server a chat's model is told of.
#include "cli/chat_tools.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "chat/format.hpp"
#include "serve/generation.hpp"
#include "temporary_folder.hpp"

namespace tidemill {
namespace {

namespace json = base::json;

// A template in whose format a name stands in a tag, and so cannot hold what ends one.
constexpr std::string_view in_tags =
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>\n"
    "<function={{ c.function.name }}>\n{% for k, v in c.function.arguments | items %}<parameter={{ k }}>\n"
    "{{ v if v is string else v | tojson }}\n</parameter>\n{% endfor %}</function>\n</tool_call>{% endfor %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

wire::mcp::Tool tool(std::string name, std::string_view schema = R"({"type":"object","properties":{}})") {
  return {.name = std::move(name), .description = "", .input_schema = base::parse_json(schema)->as_object()};
}

class ChatTools : public testing::Test {
 protected:
  ChatTools() {
    cli::LocalOptions options;
    options.chat_template = folder_.put("tags.jinja", in_tags).string();
    options.threads = 1;
    options.show_progress = false;
    auto local = cli::LocalEngine::load(options);
    EXPECT_TRUE(local) << local.error().to_string();
    local_ = std::move(*local);
    EXPECT_TRUE(local_->start(0));
  }

  std::vector<wire::Tool> usable(const std::vector<wire::mcp::Tool>& offered) {
    warnings_.clear();
    return cli::usable_tools(*local_, offered, [this](const std::string& why) { warnings_.push_back(why); });
  }
  // Whether a call of one of them can be asked for.
  bool callable(const std::vector<wire::Tool>& tools) {
    wire::GenerateRequest asked;
    asked.messages.push_back({{"role", "user"}, {"content", "x"}});
    asked.tools = tools;
    asked.tool_choice.kind = wire::ToolChoice::Kind::required;
    return serve::complete_work(local_->model(), local_->engine().max_context(), asked, "chat").has_value();
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<cli::LocalEngine> local_;
  std::vector<std::string> warnings_;
};

std::vector<std::string> names_of(const std::vector<wire::Tool>& tools) {
  std::vector<std::string> names(tools.size());
  std::ranges::transform(tools, names.begin(), [](const wire::Tool& one) { return one.name; });
  return names;
}

TEST_F(ChatTools, LeaveOutWhatTheFormatCannotWrite) {
  ASSERT_EQ(local_->model().chat().format().tools, chat::ToolFormat::qwen3_coder);
  const auto tools = usable({tool("paint"), tool("a<b"), tool("dry")});
  EXPECT_EQ(names_of(tools), (std::vector<std::string>{"paint", "dry"}));
  ASSERT_EQ(warnings_.size(), 1u);
  EXPECT_NE(warnings_[0].find("'a<b' is left out"), std::string::npos) << warnings_[0];
  EXPECT_NE(warnings_[0].find("is no name that this model's tool format can write"), std::string::npos) << warnings_[0];
  EXPECT_TRUE(callable(tools));
  EXPECT_TRUE(usable({tool("a<b")}).empty());
}

TEST_F(ChatTools, AreLessStrictWhereThatHelps) {
  const auto tools =
      usable({tool("paint"), tool("several", R"({"type":"object","properties":{"a":{"type":"array","items":{},
                                             "uniqueItems":true}},"required":["a"]})")});
  EXPECT_EQ(names_of(tools), (std::vector<std::string>{"paint", "several"}));
  EXPECT_TRUE(warnings_.empty());
  EXPECT_TRUE(tools[0].strict);
  EXPECT_FALSE(tools[1].strict);
  EXPECT_TRUE(callable(tools));
}

}  // namespace
}  // namespace tidemill
