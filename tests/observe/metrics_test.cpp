#include "observe/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

#include <gtest/gtest.h>

#include "observe/semantic_conventions.hpp"

namespace tidemill::observe {
namespace {

TEST(Metrics, RendersTheTextFormat) {
  Metrics metrics;
  metrics.counter({"t_requests_total", "vllm:requests_total"}, "Requests", {{"route", "/v1"}, {"code", "200"}}).add();
  metrics.counter({"t_requests_total", "vllm:requests_total"}, "Requests", {{"code", "429"}, {"route", "/v1"}}).add(2);
  metrics.gauge({"t_depth"}, "Depth\nof \\ the queue").set(-1.5);
  auto& histogram =
      metrics.histogram({"t_seconds", "vllm:seconds"}, "Time", std::vector<double>{0.1, 1, 2.5}, {{"m", "x"}});
  for (const double value : {0.05, 0.1, 0.100001, 1.0, 2.0, 99.0, -1.0})
    histogram.observe(value);
  EXPECT_EQ(metrics.render(), R"(# HELP t_depth Depth\nof \\ the queue
# TYPE t_depth gauge
t_depth -1.5
# HELP t_requests_total Requests
# TYPE t_requests_total counter
t_requests_total{code="200",route="/v1"} 1
t_requests_total{code="429",route="/v1"} 2
# HELP t_seconds Time
# TYPE t_seconds histogram
t_seconds_bucket{m="x",le="0.1"} 3
t_seconds_bucket{m="x",le="1"} 5
t_seconds_bucket{m="x",le="2.5"} 6
t_seconds_bucket{m="x",le="+Inf"} 7
t_seconds_sum{m="x"} 101.250001
t_seconds_count{m="x"} 7
# HELP vllm:requests_total Requests
# TYPE vllm:requests_total counter
vllm:requests_total{code="200",route="/v1"} 1
vllm:requests_total{code="429",route="/v1"} 2
# HELP vllm:seconds Time
# TYPE vllm:seconds histogram
vllm:seconds_bucket{m="x",le="0.1"} 3
vllm:seconds_bucket{m="x",le="1"} 5
vllm:seconds_bucket{m="x",le="2.5"} 6
vllm:seconds_bucket{m="x",le="+Inf"} 7
vllm:seconds_sum{m="x"} 101.250001
vllm:seconds_count{m="x"} 7
)");
}

TEST(Metrics, RendersNothingWhenEmpty) {
  EXPECT_EQ(Metrics().render(), "");
}

TEST(Metrics, EscapesLabelValues) {
  Metrics metrics;
  metrics.gauge({"g"}, "h", {{"v", "a\"b\\c\nd\xff"}}).set(1);
  EXPECT_NE(metrics.render().find("g{v=\"a\\\"b\\\\c\\nd\xef\xbf\xbd\"} 1\n"), std::string::npos) << metrics.render();
}

TEST(Metrics, WritesNumbersThatComeBackTheSame) {
  Metrics metrics;
  auto& gauge = metrics.gauge({"g"}, "h");
  const auto shown = [&](double value) {
    gauge.set(value);
    const std::string text = metrics.render();
    const size_t begin = text.rfind("g ") + 2;
    return text.substr(begin, text.size() - begin - 1);
  };
  EXPECT_EQ(shown(0), "0");
  EXPECT_EQ(shown(1e6), "1000000");
  EXPECT_EQ(shown(0.1), "0.1");
  EXPECT_EQ(shown(1e300), "1e+300");
  EXPECT_EQ(shown(std::numeric_limits<double>::infinity()), "+Inf");
  EXPECT_EQ(shown(-std::numeric_limits<double>::infinity()), "-Inf");
  EXPECT_EQ(shown(std::nan("")), "NaN");
  for (const double value : {1.0 / 3, -2.5e-9, 123456.789, 9007199254740993.0}) {
    EXPECT_EQ(std::stod(shown(value)), value);
  }
}

TEST(Metrics, GivesTheSameInstrumentForTheSameNameAndLabels) {
  Metrics metrics;
  Counter& a = metrics.counter({"c_total"}, "h", {{"x", "1"}, {"y", "2"}});
  EXPECT_EQ(&a, &metrics.counter({"c_total"}, "h", {{"y", "2"}, {"x", "1"}}));
  EXPECT_NE(&a, &metrics.counter({"c_total"}, "h", {{"x", "1"}}));
  a.add(-1);
  a.add(std::nan(""));
  EXPECT_EQ(a.value(), 0);
  a.add(0.5);
  EXPECT_EQ(a.value(), 0.5);
}

TEST(Metrics, AHistogramIgnoresNaN) {
  Metrics metrics;
  metrics.histogram({"h"}, "h", std::vector<double>{1}).observe(std::nan(""));
  EXPECT_NE(metrics.render().find("h_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n"), std::string::npos);
}

TEST(Metrics, NeverShowsWhatTheFormatForbids) {
  Metrics metrics;
  metrics.gauge({"ok"}, "h").set(1);
  const std::string before = metrics.render();
  metrics.gauge({""}, "h").set(1);
  metrics.gauge({}, "h").set(1);
  metrics.gauge({"a-b"}, "h").set(1);
  metrics.gauge({"1a"}, "h").set(1);
  metrics.counter({"ok"}, "another kind").add();
  metrics.gauge({"other", "ok"}, "an alias that is taken").set(1);
  metrics.gauge({"ok"}, "h", {{"a:b", "1"}}).set(1);
  metrics.gauge({"ok"}, "h", {{"a", "1"}, {"a", "2"}}).set(1);
  metrics.gauge({"ok"}, "h", {{"le", "1"}}).set(1);
  EXPECT_EQ(metrics.render(), before);
}

TEST(Metrics, BoundsTheSeriesOfAMetric) {
  Metrics metrics;
  for (int i = 0; i < 1500; ++i)
    metrics.gauge({"g"}, "h", {{"model", std::to_string(i)}}).set(1);
  const std::string text = metrics.render();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1002);
}

TEST(Metrics, CollectsBeforeRenderingWhileTheHookLives) {
  auto metrics = std::make_unique<Metrics>();
  int calls = 0;
  CollectHook hook = metrics->on_collect([&] { metrics->gauge({"calls"}, "h").set(++calls); });
  EXPECT_NE(metrics->render().find("calls 1\n"), std::string::npos);
  CollectHook moved = std::move(hook);
  EXPECT_NE(metrics->render().find("calls 2\n"), std::string::npos);
  moved = CollectHook();
  EXPECT_NE(metrics->render().find("calls 2\n"), std::string::npos);
  moved = metrics->on_collect([&] { ++calls; });
  metrics.reset();  // the hook may outlive the registry
}

TEST(Metrics, ManyThreads) {
  Metrics metrics;
  std::vector<std::thread> threads;
  threads.reserve(5);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      auto& counter = metrics.counter({"c_total"}, "h");
      auto& histogram = metrics.histogram({"h"}, "h", std::vector<double>{1, 2});
      for (int i = 0; i < 1000; ++i) {
        counter.add();
        histogram.observe(i % 3);
        if (i % 200 == 0) metrics.render();
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(metrics.counter({"c_total"}, "h").value(), 4000);
  EXPECT_NE(metrics.render().find("h_sum 3996\nh_count 4000\n"), std::string::npos) << metrics.render();
}

TEST(SemanticConventions, AllMetricsRegisterUnderTheirAliases) {
  namespace m = semconv::metric;
  Metrics metrics;
  for (const auto& gauge : {m::requests_waiting, m::requests_running, m::kv_usage, m::kv_config, m::lora_requests}) {
    metrics.gauge(gauge.names(), gauge.help).set(3);
  }
  for (const auto& counter : {m::prompt_tokens, m::generated_tokens, m::prefix_queries, m::prefix_hits, m::preemptions,
                              m::requests_finished, m::engine_steps, m::proposals, m::proposed_tokens,
                              m::accepted_tokens, m::http_requests, m::spans_exported, m::spans_dropped}) {
    metrics.counter(counter.names(), counter.help).add(3);
  }
  for (const auto& histogram :
       {m::request_duration, m::time_to_first_token, m::inter_token_latency, m::time_per_output_token, m::queue_time}) {
    metrics.histogram(histogram.names(), histogram.help, semconv::bounds::time_to_first_token).observe(3);
  }
  const std::string text = metrics.render();
  for (const char* sample :
       {"vllm:num_requests_waiting 3", "vllm:num_requests_running 3", "vllm:kv_cache_usage_perc 3",
        "vllm:cache_config_info 3", "vllm:lora_requests_info 3", "vllm:prompt_tokens_total 3",
        "vllm:generation_tokens_total 3", "vllm:prefix_cache_queries_total 3", "vllm:prefix_cache_hits_total 3",
        "vllm:num_preemptions_total 3", "vllm:spec_decode_num_drafts_total 3",
        "vllm:spec_decode_num_draft_tokens_total 3", "vllm:spec_decode_num_accepted_tokens_total 3",
        "vllm:time_to_first_token_seconds_sum 3", "vllm:inter_token_latency_seconds_sum 3",
        "vllm:e2e_request_latency_seconds_sum 3", "gen_ai_server_request_duration_seconds_sum 3",
        "gen_ai_server_time_to_first_token_seconds_sum 3", "gen_ai_server_time_per_output_token_seconds_sum 3"}) {
    EXPECT_NE(text.find("\n" + std::string(sample) + "\n"), std::string::npos) << sample;
  }
}

TEST(Metrics, AnotherRegistrysAreRenderedAmongThem) {
  Metrics own;
  Metrics other;
  own.counter({"b_total"}, "own").add(1);
  own.gauge({"z"}, "own").set(2);
  other.gauge({"a"}, "other").set(3);
  other.counter({"b_total"}, "other").add(4);
  int collected = 0;
  const auto hook = other.on_collect([&] { ++collected; });
  EXPECT_EQ(own.render_with(&other),
            "# HELP a other\n# TYPE a gauge\na 3\n"
            "# HELP b_total own\n# TYPE b_total counter\nb_total 1\n"
            "# HELP z own\n# TYPE z gauge\nz 2\n");
  EXPECT_EQ(collected, 1);
  EXPECT_EQ(own.render_with(nullptr), own.render());
}

}  // namespace
}  // namespace tidemill::observe
