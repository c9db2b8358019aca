// Spans, metrics, request ids.
#include <atomic>
#include <string>
#include <string_view>
#include <tuple>

#include <gtest/gtest.h>

#include "base/log.hpp"
#include "live_server.hpp"
#include "wire/http_server.hpp"

namespace tidemill {
namespace {

using test::parse_object;
using test::json::object;

constexpr std::string_view trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr std::string_view caller_span = "00f067aa0ba902b7";

const object* span_named(const test::json::value& traces, std::string_view name) {
  for (const auto& trace : traces.as_array()) {
    for (const auto& span : trace.at("spans").as_array()) {
      if (std::string_view(span.at("name").as_string()).starts_with(name)) return &span.as_object();
    }
  }
  return nullptr;
}

TEST(Traces, FollowTheCallersTraceparent) {
  test::LiveServer live;
  test::Client client = live.client();
  const wire::Headers headers{{"traceparent", "00-" + std::string(trace_id) + "-" + std::string(caller_span) + "-01"},
                              {"X-Request-Id", "ask-7"}};
  const auto response =
      client.post("/v1/chat/completions",
                  R"({"messages":[{"role":"user","content":"x = "}],"max_tokens":4,"ignore_eos":true})", headers);
  ASSERT_EQ(response.status, 200);
  EXPECT_EQ(response.headers.find("x-request-id"), "ask-7");
  // The last spans end after the client has its answer.
  test::json::value traces;
  test::wait_until(
      [&] {
        traces = *base::parse_json(client.get("/debug/traces?trace_id=" + std::string(trace_id)).body);
        return span_named(traces, "POST ") != nullptr;
      },
      "the server's span");
  ASSERT_EQ(traces.as_array().size(), 1U);
  const object& server = *span_named(traces, "POST ");
  EXPECT_EQ(server.at("name"), "POST /v1/chat/completions");
  EXPECT_EQ(server.at("kind"), "server");
  EXPECT_EQ(server.at("parent_span_id").as_string(), caller_span);
  const object& attributes = server.at("attributes").as_object();
  EXPECT_EQ(attributes.at("http.response.status_code"), 200);
  EXPECT_EQ(attributes.at("gen_ai.operation.name"), "chat");
  EXPECT_EQ(attributes.at("gen_ai.response.model"), "nano-coder");
  EXPECT_EQ(attributes.at("gen_ai.usage.output_tokens"), 4);
  for (const std::string_view child : {"receive", "queue", "prefill", "decode"})
    EXPECT_NE(span_named(traces, child), nullptr) << child;
  EXPECT_EQ(span_named(traces, "receive")->at("parent_span_id"), server.at("span_id"));
  EXPECT_EQ(parse_object("{\"a\":" + client.get("/debug/traces?limit=1").body + "}").at("a").as_array().size(), 1U);
  EXPECT_EQ(client.get("/debug/traces?limit=0").status, 400);
}

// Gateways ask for it every second: it would drown what else there is to see.
TEST(Traces, AListOfModelsIsNotMadeMuchOf) {
  testing::internal::CaptureStderr();
  {
    test::LiveServer live;
    base::log::set_level(base::log::Level::info);
    test::Client client = live.client();
    for (int i = 0; i < 3; ++i)
      ASSERT_EQ(client.get("/v1/models").status, 200);
    ASSERT_EQ(client.get("/v1/models/nano-coder").status, 200);
    test::json::value traces;
    test::wait_until(
        [&] {
          traces = *base::parse_json(client.get("/debug/traces").body);
          return span_named(traces, "GET /v1/models/*") != nullptr;
        },
        "the span of the one model");
    for (const auto& trace : traces.as_array()) {
      for (const auto& span : trace.at("spans").as_array())
        EXPECT_NE(span.at("name"), "GET /v1/models");
    }
  }
  base::log::set_level(base::log::Level::warn);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("GET /v1/models/nano-coder 200 "), std::string::npos) << log;
  EXPECT_EQ(log.find("GET /v1/models 200 "), std::string::npos) << log;
}

TEST(Traces, NameWhatIsDoneWithTexts) {
  test::LiveServer live;
  test::Client client = live.client();
  for (const auto& [path, body, operation] :
       {std::tuple{"/v1/embeddings", R"({"input":"x"})", "embeddings"},
        std::tuple{"/v1/rerank", R"({"query":"x","documents":["y"]})", "rerank"}}) {
    ASSERT_EQ(client.post(path, body).status, 200);
    const std::string name = std::string("POST ") + path;
    test::json::value traces;
    const object* span = nullptr;
    test::wait_until(
        [&traces, &span, &client, &name] {
          traces = *base::parse_json(client.get("/debug/traces").body);
          span = span_named(traces, name);
          return span != nullptr;
        },
        "the server's span");
    EXPECT_EQ(span->at("attributes").at("gen_ai.operation.name").as_string(), std::string_view(operation));
  }
}

TEST(Metrics, HaveTidemillsAndVllmsNames) {
  test::LiveServer live;
  test::Client client = live.client();
  ASSERT_EQ(client.post("/v1/completions", R"({"prompt":"x","max_tokens":2,"ignore_eos":true})").status, 200);
  ASSERT_EQ(client.get("/nowhere/in/particular").status, 404);
  std::string text;
  // An exchange is counted after its answer has been sent.
  test::wait_until(
      [&] {
        text = client.get("/metrics").body;
        return text.find("tidemill_http_requests_total{route=\"/v1/completions\",status=\"200\"} 1") !=
                   std::string::npos &&
               text.find("tidemill_http_requests_total{route=\"other\",status=\"404\"} 1") != std::string::npos;
      },
      "the requests to be counted");
  for (const std::string_view name : {"tidemill_build_info",
                                      "process_resident_memory_bytes",
                                      "process_cpu_seconds_total",
                                      "process_start_time_seconds",
                                      "tidemill_http_connections",
                                      "tidemill_http_request_duration_seconds_bucket",
                                      "tidemill_requests_waiting",
                                      "vllm:num_requests_waiting",
                                      "vllm:num_requests_running",
                                      "vllm:kv_cache_usage_perc",
                                      "vllm:cache_config_info",
                                      "vllm:lora_requests_info{max_lora=\"0\",running_lora_adapters=\"\",",
                                      "vllm:time_to_first_token_seconds_bucket",
                                      "vllm:e2e_request_latency_seconds_bucket",
                                      "vllm:prompt_tokens_total",
                                      "vllm:generation_tokens_total",
                                      "vllm:prefix_cache_queries_total",
                                      "vllm:prefix_cache_hits_total",
                                      "vllm:num_preemptions_total",
                                      "tidemill_speculation_proposals_total",
                                      "vllm:spec_decode_num_draft_tokens_total",
                                      "vllm:spec_decode_num_accepted_tokens_total"}) {
    EXPECT_NE(text.find("\n" + std::string(name)), std::string::npos) << name;
  }
  EXPECT_EQ(text.find("nowhere"), std::string::npos) << "paths that do not exist must not become labels";
}

TEST(RequestIds, AreMadeUpWhereTheCallersIsUnfit) {
  test::LiveServer live;
  test::Client client = live.client();
  const std::string body = R"({"prompt":"x","max_tokens":1})";
  const auto made_up = client.post("/v1/completions", body);
  ASSERT_TRUE(made_up.headers.has("x-request-id"));
  EXPECT_TRUE(made_up.headers.find("x-request-id")->starts_with("req-"));
  const auto unfit = client.post("/v1/completions", body, {{"X-Request-Id", std::string(300, 'a')}});
  EXPECT_TRUE(unfit.headers.find("x-request-id")->starts_with("req-"));
  const auto failed = client.post("/v1/completions", "{", {{"X-Request-Id", "mine"}});
  EXPECT_EQ(failed.headers.find("x-request-id"), "mine");
}

TEST(SpanExport, PostsToTheCollector) {
  std::atomic<int> posts{0};
  std::atomic<bool> named{false};
  wire::Router router;
  router.add("POST", "/v1/traces", [&](wire::Exchange& exchange) -> wire::asio::awaitable<void> {
    if (exchange.request().body.find("POST /v1/completions") != std::string::npos) named = true;
    ++posts;
    wire::HttpResponse response = wire::HttpResponse::json(200, "{}");
    (void)co_await exchange.respond(std::move(response));
  });
  auto collector = wire::HttpServer::start({}, std::move(router));
  ASSERT_TRUE(collector) << collector.error().to_string();
  auto options = test::small_options();
  options.otlp_endpoint = (*collector)->url() + "/";
  {
    test::LiveServer live(options);
    ASSERT_EQ(live.client().post("/v1/completions", R"({"prompt":"x","max_tokens":1})").status, 200);
  }
  EXPECT_GE(posts, 1);
  EXPECT_TRUE(named);
}

}  // namespace
}  // namespace tidemill
