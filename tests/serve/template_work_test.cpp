// Where chat templates are rendered: those that take long, for whatever reason, on no connection's thread.
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "live_server.hpp"
#include "serve/service.hpp"
#include "temporary_folder.hpp"
#include "text/chat_template.hpp"

namespace tidemill {
namespace {

struct Try {
  bool limited;
  bool here;  // on the coroutine's thread
};

// The tries that rendering so many steps takes, beside a text of so many bytes.
std::vector<Try> tries_of(serve::Service& service, int loops, size_t text_bytes) {
  const auto compiled =
      text::ChatTemplate::compile("{% for i in range(n) %}{% for j in range(1000) %}{% endfor %}{% endfor %}");
  EXPECT_TRUE(compiled);
  const std::thread::id here = std::this_thread::get_id();
  std::vector<Try> tries;
  bool rendered = false;
  const auto ask = [&]() -> boost::asio::awaitable<void> {
    auto work = [&](text::StepAllowance* allowance) -> base::Result<std::string> {
      tries.push_back({allowance != nullptr, std::this_thread::get_id() == here});
      return compiled->render({{"n", loops}}, base::WallTime{}, {.allowance = allowance});
    };
    const auto text = co_await service.run_template_work(text_bytes, nullptr, work);
    rendered = text.has_value();
  };
  boost::asio::io_context io;
  boost::asio::co_spawn(io, ask, boost::asio::detached);
  io.run();
  EXPECT_TRUE(rendered);
  return tries;
}

TEST(TemplateWork, GoesToThePoolWhereItTakesManySteps) {
  serve::Service service(test::small_options(), base::SystemClock::instance());
  const std::vector<Try> quick = tries_of(service, 1, 100);
  ASSERT_EQ(quick.size(), 1U);
  EXPECT_TRUE(quick[0].limited && quick[0].here);

  const std::vector<Try> slow = tries_of(service, 1000, 100);
  ASSERT_EQ(slow.size(), 2U);
  EXPECT_TRUE(slow[0].limited && slow[0].here);
  EXPECT_FALSE(slow[1].limited || slow[1].here);

  const std::vector<Try> large = tries_of(service, 1, serve::Service::pooled_text_bytes);
  ASSERT_EQ(large.size(), 1U);
  EXPECT_FALSE(large[0].limited || large[0].here);
}

// A template that is slow for some conversations answers them like others, whatever asks for the prompt.
TEST(TemplateWork, TheOutcomeIsTheSame) {
  const test::TemporaryFolder folder;
  serve::ServeOptions options = test::small_options();
  options.chat_template =
      folder
          .put("slow.jinja",
               "{% for m in messages %}{% if 'slow' in m.content %}{% for i in range(500) %}{% for j in range(1000) %}"
               "{% endfor %}{% endfor %}{% endif %}"
               "{% if m.content == 'slow no' %}{{ raise_exception('not this') }}{% endif %}"
               "def {{ m.content }}{% endfor %}")
          .string();
  test::LiveServer live(options);
  test::Client client = live.client();
  const auto body = [](std::string_view content) {
    return test::json::serialize(
        test::json::object{{"messages", test::json::array{test::json::object{{"role", "user"}, {"content", content}}}},
                           {"max_tokens", 1}});
  };
  const auto tokens = [&](std::string_view path, std::string_view field, std::string_view content) {
    const wire::HttpResponse response = client.post(path, body(content));
    EXPECT_EQ(response.status, 200) << response.body;
    return test::parse_object(response).at(field).to_number<int64_t>();
  };
  const int64_t count = tokens("/tokenize", "count", "slow");
  EXPECT_GT(count, 1);
  EXPECT_EQ(tokens("/v1/messages/count_tokens", "input_tokens", "slow"), count);
  const wire::HttpResponse chat = client.post("/v1/chat/completions", body("slow"));
  ASSERT_EQ(chat.status, 200) << chat.body;
  EXPECT_EQ(test::parse_object(chat).at("usage").at("prompt_tokens"), count);
  const auto refused = test::error_of(client.post("/v1/chat/completions", body("slow no")));
  EXPECT_NE(refused.message.find("not this"), std::string::npos) << refused.message;
}

// It is no length of the prompt, and shortening the conversation is not what is asked for.
TEST(TemplateWork, ALimitOfRenderingIsSaidToBeOne) {
  const test::TemporaryFolder folder;
  serve::ServeOptions options = test::small_options();
  options.chat_template = folder
                              .put("loops.jinja",
                                   "{% for m in messages %}{% if m.content == 'steps' %}{% for i in range(99999) %}"
                                   "{% for j in range(1000) %}{% endfor %}{% endfor %}{% endif %}"
                                   "{% if m.content == 'memory' %}{{ 'x' * 999999999 }}{% endif %}def {% endfor %}")
                              .string();
  test::LiveServer live(options);
  test::Client client = live.client();
  for (const auto& [content, said] : {std::pair("steps", "too many steps"), std::pair("memory", "too much memory")}) {
    const auto body = test::json::serialize(
        test::json::object{{"messages", test::json::array{test::json::object{{"role", "user"}, {"content", content}}}},
                           {"max_tokens", 1}});
    const wire::HttpResponse response = client.post("/v1/chat/completions", body);
    EXPECT_EQ(response.status, 400);
    const auto error = test::error_of(response);
    EXPECT_EQ(error.code, "chat_template_limit_exceeded");
    EXPECT_EQ(error.param, "chat_template");
    EXPECT_NE(error.message.find("the chat template 'loops.jinja' goes over the limits of rendering these messages, "
                                 "50000000 steps, 256 MiB of memory and 16.0 MiB of text"),
              std::string::npos)
        << error.message;
    EXPECT_NE(error.message.find(said), std::string::npos) << error.message;
    const wire::HttpResponse counted = client.post("/v1/messages/count_tokens", body);
    EXPECT_EQ(counted.status, 400);
    EXPECT_NE(counted.body.find("invalid_request_error"), std::string::npos) << counted.body;
  }
}

}  // namespace
}  // namespace tidemill
