#include "observe/traces_json.hpp"

#include <cmath>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "observe/hex.hpp"

namespace tidemill::observe {
namespace {

namespace json = base::json;
using std::chrono::microseconds;
using std::chrono::milliseconds;

json::array parsed(const std::string& text) {
  return base::parse_json(text).value().as_array();
}

TEST(TracesJson, ShowsATrace) {
  base::ManualClock clock(base::WallTime(milliseconds(1'700'000'000'250)));
  Tracer tracer(clock);
  const auto caller = SpanContext::parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  Span request = tracer.start("llm_request", *caller, SpanKind::server);
  Span queue = tracer.start("queue", request.context());
  clock.advance(microseconds(1500));
  queue.end();
  Span decode = tracer.start("decode", request.context());
  decode.set("tokens", int64_t{3});
  decode.set("rate", 0.5);
  decode.set("nan", std::nan(""));
  decode.set("last", true);
  decode.set("reasons", std::vector<std::string>{"stop"});
  decode.set("text", std::string("a\xff"));
  clock.advance(milliseconds(8));
  decode.event("first token");
  decode.fail("cancelled");
  const std::string ids[] = {to_hex(request.context().span_id), to_hex(queue.context().span_id),
                             to_hex(decode.context().span_id)};
  decode.end();
  request.end();

  json::value expected = json::parse(R"([{
    "trace_id":"0af7651916cd43dd8448eb211c80319c","start":"2023-11-14T22:13:20.250Z","duration_ms":9.5,"spans":[
      {"span_id":"","parent_span_id":"b7ad6b7169203331","name":"llm_request","kind":"server",
       "start_ms":0.0,"duration_ms":9.5,"attributes":{},"events":[],"error":null},
      {"span_id":"","parent_span_id":"","name":"queue","kind":"internal",
       "start_ms":0.0,"duration_ms":1.5,"attributes":{},"events":[],"error":null},
      {"span_id":"","parent_span_id":"","name":"decode","kind":"internal","start_ms":1.5,"duration_ms":8.0,
       "attributes":{"tokens":3,"rate":0.5,"nan":null,"last":true,"reasons":["stop"],"text":"a\ufffd"},
       "events":[{"name":"first token","at_ms":9.5}],"error":"cancelled"}]}])");
  json::array& spans = expected.at_pointer("/0/spans").as_array();
  for (size_t i = 0; i < 3; ++i)
    spans[i].as_object()["span_id"] = ids[i];
  for (size_t i = 1; i < 3; ++i)
    spans[i].as_object()["parent_span_id"] = ids[0];
  EXPECT_EQ(json::value(parsed(traces_json(tracer))), expected) << traces_json(tracer);
}

TEST(TracesJson, ParentsComeFirstEvenWhenNoTimePasses) {
  base::ManualClock clock;
  Tracer tracer(clock);
  {
    Span outer = tracer.start("outer", {});
    Span inner = tracer.start("inner", outer.context());
  }
  const json::array traces = parsed(traces_json(tracer));
  EXPECT_EQ(traces.at(0).at_pointer("/spans/0/name").as_string(), "outer");
  EXPECT_TRUE(traces.at(0).at_pointer("/spans/0/parent_span_id").is_null());
  EXPECT_EQ(traces.at(0).at_pointer("/spans/1/name").as_string(), "inner");
}

TEST(TracesJson, LatestTracesFirstUpToTheLimit) {
  base::ManualClock clock;
  Tracer tracer(clock);
  EXPECT_EQ(traces_json(tracer), "[]");
  Span first = tracer.start("0", {});
  const SpanContext context = first.context();
  first.end();
  for (int i = 1; i < 5; ++i)
    tracer.start(std::to_string(i), {}).end();
  tracer.start("late child", context).end();

  const json::array traces = parsed(traces_json(tracer, {}, 3));
  ASSERT_EQ(traces.size(), 3u);
  EXPECT_EQ(traces[0].at("spans").as_array().size(), 2u);
  EXPECT_EQ(traces[1].at_pointer("/spans/0/name").as_string(), "4");
  EXPECT_EQ(traces[2].at_pointer("/spans/0/name").as_string(), "3");
  EXPECT_EQ(traces_json(tracer, {}, 0), "[]");

  EXPECT_EQ(parsed(traces_json(tracer, to_hex(context.trace_id))).size(), 1u);
  EXPECT_EQ(traces_json(tracer, "not a trace id"), "[]");
}

TEST(TracesJson, ShowsSeveralRingsAsOne) {
  base::ManualClock clock;
  Tracer outer(clock);
  Tracer inner(clock);
  Span request = outer.start("gateway", {});
  clock.advance(milliseconds(1));
  Span below = inner.start("server", request.context());
  clock.advance(milliseconds(1));
  below.end();
  clock.advance(milliseconds(1));
  request.end();
  clock.advance(milliseconds(1));
  inner.start("alone", {}).end();
  const json::array traces = parsed(traces_json({&outer, nullptr, &inner}));
  ASSERT_EQ(traces.size(), 2U);
  EXPECT_EQ(traces[0].at("spans").at(0).at("name"), "alone");
  const json::array& spans = traces[1].at("spans").as_array();
  ASSERT_EQ(spans.size(), 2U);
  EXPECT_EQ(spans[0].at("name"), "gateway");
  EXPECT_EQ(spans[1].at("name"), "server");
  EXPECT_EQ(spans[1].at("parent_span_id"), spans[0].at("span_id"));
  EXPECT_EQ(parsed(traces_json({&outer, &inner}, {}, 1)).size(), 1U);
}

}  // namespace
}  // namespace tidemill::observe
