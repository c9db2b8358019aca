#include "gateway/backend.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "expect_says.hpp"

namespace tidemill::gateway {
namespace {

TEST(BackendReport, ReadsVllmsNames) {
  const route::BackendReport report = parse_report(R"(# HELP vllm:num_requests_waiting x
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a } b"} 3.0
vllm:num_requests_waiting{engine="1",model_name="a"} 4.0
vllm:num_requests_running{model_name="a"} 2
vllm:num_requests_running_of_another_kind 99
vllm:kv_cache_usage_perc{model_name="a"} 0.25
vllm:cache_config_info{block_size="16",cache_dtype="auto",num_gpu_blocks="1000"} 1.0
process_start_time_seconds 1.7e9
)");
  EXPECT_EQ(report.waiting, 7);
  EXPECT_EQ(report.running, 2);
  EXPECT_EQ(report.kv_usage, 0.25);
  EXPECT_EQ(report.kv_capacity_tokens, 16'000);
  EXPECT_EQ(report.started_at, 1.7e9);
}

TEST(BackendReport, WhatIsAbsentStaysEmpty) {
  const route::BackendReport report = parse_report("something_else 1\nvllm:num_requests_waiting\n");
  EXPECT_FALSE(report.waiting || report.running || report.kv_usage || report.kv_capacity_tokens || report.started_at);
  EXPECT_FALSE(parse_report("").waiting);
}

TEST(Backend, ModelsAreThoseConfiguredOrListed) {
  observe::Metrics metrics;
  Backend configured({.url = "http://h", .name = "c", .models = {"a"}}, metrics);
  EXPECT_TRUE(configured.models_known());
  EXPECT_TRUE(configured.serves("a"));
  EXPECT_TRUE(configured.serves(""));
  EXPECT_FALSE(configured.serves("b"));
  Backend listing({.url = "http://h", .name = "l"}, metrics);
  EXPECT_FALSE(listing.models_known());
  EXPECT_FALSE(listing.serves("a"));
  listing.note_list(200, R"({"data":[{"id":"b"},{"id":"a"}]})");
  EXPECT_TRUE(listing.serves("b"));
  // Another process may serve other models.
  listing.note_ready({.started_at = 5});
  EXPECT_FALSE(listing.models_known());
}

// What is no list says nothing of the models.
TEST(Backend, OnlyAListChangesTheModels) {
  observe::Metrics metrics;
  Backend backend({.url = "http://h", .name = "b"}, metrics);
  const auto trouble = [&](int status, const std::string& body) {
    testing::internal::CaptureStderr();
    backend.note_list(status, body);
    backend.note_list(status, body);
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_SAYS(trouble(200, "<html>hello</html>"), "name its models");
  EXPECT_FALSE(backend.models_known());
  const std::string list = R"({"data":[{"id":"m"}]})";
  const std::string longer = R"({"data":[)" + std::string(max_list_bytes, ' ') + R"({"id":"x"}]})";
  for (const auto& [status, body] :
       {std::pair(200, std::string("<html>hello</html>")), std::pair(200, std::string()),
        std::pair(200, std::string(R"({"data":null})")), std::pair(200, std::string(R"([{"id":"x"}])")),
        std::pair(200, std::string(R"({"data":[{"name":"x"},7]})")), std::pair(500, std::string("x")),
        std::pair(302, list), std::pair(200, longer)}) {
    EXPECT_EQ(trouble(200, list), "") << "the same list, read or not";
    const std::string said = trouble(status, body);
    EXPECT_SAYS(said, "keeps the models");
    EXPECT_EQ(said.find("keeps"), said.rfind("keeps")) << "once: " << said;
    EXPECT_EQ(backend.models(), std::vector<std::string>{"m"}) << body.substr(0, 100);
  }
  EXPECT_EQ(trouble(200, R"({"data":[{"id":"n"},{"id":"k"},{"id":"n"},{"id":5},{}]})"), "");
  EXPECT_EQ(backend.models(), (std::vector<std::string>{"k", "n"})) << "each once";
  EXPECT_FALSE(backend.serves("m"));
  EXPECT_EQ(trouble(200, R"({"data":[]})"), "") << "that is a list";
  EXPECT_TRUE(backend.models_known());
  EXPECT_TRUE(backend.models().empty());
}

TEST(Backend, WhoseModelsAreConfiguredNeedListNone) {
  observe::Metrics metrics;
  Backend backend({.url = "http://h", .name = "b", .models = {"m"}}, metrics);
  testing::internal::CaptureStderr();
  backend.note_list(404, "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_TRUE(backend.serves("m"));
}

// While it is busy it may not tell since when it runs; that makes it no other process, whose models are not known.
TEST(Backend, WithoutItsMetricsItIsTheSame) {
  observe::Metrics metrics;
  Backend backend({.url = "http://h", .name = "b"}, metrics);
  backend.note_ready({.started_at = 5});
  backend.note_list(200, R"({"data":[{"id":"m"}]})");
  backend.note_ready({});
  EXPECT_TRUE(backend.serves("m"));
  backend.note_ready({.started_at = 5});
  EXPECT_TRUE(backend.serves("m"));
  backend.note_ready({.started_at = 6});
  EXPECT_FALSE(backend.models_known());
}

TEST(Backend, AKeyThatIsNotGoodIsSaidOnceAndCounted) {
  observe::Metrics metrics;
  const auto count = [&](const std::string& name) {
    const std::string text = metrics.render();
    const std::string series = "tidemill_gateway_backend_unauthorized_total{backend=\"" + name + "\"} ";
    const size_t at = text.find(series);
    return at == std::string::npos ? -1 : std::stoi(text.substr(at + series.size()));
  };
  Backend keyed({.url = "http://h", .name = "k", .models = {"m"}, .api_key = "sk-wrong"}, metrics);
  testing::internal::CaptureStderr();
  keyed.note_unauthorized();
  keyed.note_unauthorized();
  keyed.note_list(401, "");
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_SAYS(said, "backend k answers 401");
  EXPECT_EQ(said.find("401"), said.rfind("401")) << said;
  EXPECT_EQ(said.find("sk-wrong"), std::string::npos) << "it is secret";
  EXPECT_EQ(count("k"), 3);
  // Without one of its own, the key was the client's.
  Backend plain({.url = "http://h", .name = "p", .models = {"m"}}, metrics);
  testing::internal::CaptureStderr();
  plain.note_unauthorized();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(count("p"), 0);
}

}  // namespace
}  // namespace tidemill::gateway
