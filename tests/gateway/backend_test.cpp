#include "gateway/backend.hpp"

#include <gtest/gtest.h>

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
  listing.set_models({{.id = "a"}, {.id = "b"}});
  EXPECT_TRUE(listing.serves("b"));
  // Another process may serve other models.
  listing.note_ready({.started_at = 5});
  EXPECT_FALSE(listing.models_known());
}

}  // namespace
}  // namespace tidemill::gateway
