#include "observe/trace.hpp"

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "observe/hex.hpp"

namespace tidemill::observe {
namespace {

using std::chrono::milliseconds;

const std::string trace_hex = "0af7651916cd43dd8448eb211c80319c";
const std::string span_hex = "b7ad6b7169203331";
const std::string example = "00-" + trace_hex + "-" + span_hex + "-01";  // from the W3C recommendation

TEST(Traceparent, ParsesTheRecommendationsExample) {
  const auto context = SpanContext::parse_traceparent(example, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
  ASSERT_TRUE(context);
  EXPECT_EQ(to_hex(context->trace_id), trace_hex);
  EXPECT_EQ(to_hex(context->span_id), span_hex);
  EXPECT_TRUE(context->sampled);
  EXPECT_EQ(context->trace_state, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
  EXPECT_EQ(context->to_traceparent(), example);
}

TEST(Traceparent, ReadsOnlyTheSampledBitOfTheFlags) {
  const std::string ids = "00-" + trace_hex + "-" + span_hex + "-";
  EXPECT_FALSE(SpanContext::parse_traceparent(ids + "00")->sampled);
  EXPECT_FALSE(SpanContext::parse_traceparent(ids + "fe")->sampled);
  EXPECT_TRUE(SpanContext::parse_traceparent(ids + "ff")->sampled);
  EXPECT_TRUE(SpanContext::parse_traceparent(ids + "03")->sampled);
  EXPECT_EQ(SpanContext::parse_traceparent(ids + "ff")->to_traceparent(), ids + "01");
  EXPECT_EQ(SpanContext::parse_traceparent(ids + "00")->to_traceparent(), ids + "00");
}

TEST(Traceparent, TakesThePrefixOfLaterVersions) {
  const std::string rest = example.substr(2);
  EXPECT_TRUE(SpanContext::parse_traceparent("01" + rest));
  EXPECT_TRUE(SpanContext::parse_traceparent("cc" + rest + "-what-the-future-brings"));
  EXPECT_TRUE(SpanContext::parse_traceparent("fe" + rest + "-"));
  EXPECT_FALSE(SpanContext::parse_traceparent("cc" + rest + ".x"));
  EXPECT_FALSE(SpanContext::parse_traceparent("cc" + rest + "0"));
}

TEST(Traceparent, RefusesEverythingElse) {
  const std::string rest = example.substr(2);
  const std::string malformed[] = {
      "",
      "00",
      "ff" + rest,
      "0x" + rest,
      " 00" + rest,
      example + " ",
      example + "-",
      example + "-extra",
      example.substr(0, 54),
      example.substr(0, 53),
      "00-00000000000000000000000000000000-" + span_hex + "-01",
      "00-" + trace_hex + "-0000000000000000-01",
      "00-0AF7651916CD43DD8448EB211C80319C-" + span_hex + "-01",
      "00-" + trace_hex + "-B7AD6B7169203331-01",
      "00-" + trace_hex + "-" + span_hex + "-0G",
      "00-" + trace_hex + "-" + span_hex + "-1",
      "00-" + trace_hex + "_" + span_hex + "-01",
      "00_" + trace_hex + "-" + span_hex + "-01",
      "00-" + trace_hex + "-" + span_hex + "_01",
      "00-" + trace_hex.substr(1) + "--" + span_hex + "-01",
      "00-" + trace_hex + "-" + span_hex.substr(0, 15) + "g-01",
      std::string(55, '0'),
      std::string(55, '-'),
      std::string(55, '\0'),
      std::string(100'000, 'a'),
  };
  for (const std::string& header : malformed)
    EXPECT_FALSE(SpanContext::parse_traceparent(header)) << header;
}

TEST(Traceparent, LeavesOutATracestateThatNoHeaderMayHave) {
  EXPECT_EQ(SpanContext::parse_traceparent(example, "a=b\r\nx-injected: 1")->trace_state, "");
  EXPECT_EQ(SpanContext::parse_traceparent(example, "a=\xc3\xa9")->trace_state, "");
  const std::string longest(max_trace_state_bytes, 'a');
  EXPECT_EQ(SpanContext::parse_traceparent(example, longest)->trace_state, longest);
  EXPECT_EQ(SpanContext::parse_traceparent(example, longest + "a")->trace_state, "");
}

TEST(Traceparent, AnInvalidContextHasNone) {
  EXPECT_EQ(SpanContext().to_traceparent(), "");
}

TEST(Span, RecordsWhatHappened) {
  base::ManualClock clock;
  const base::WallTime begin = clock.wall_now();
  Tracer tracer(clock);
  const auto parent = SpanContext::parse_traceparent(example, "k=v");
  {
    Span span = tracer.start("prefill", *parent, SpanKind::server);
    EXPECT_TRUE(span.recording());
    span.set("tokens", int64_t{7});
    span.set("tokens", int64_t{8});
    clock.advance(milliseconds(5));
    span.event("first chunk");
    span.fail("out of blocks");
    clock.advance(milliseconds(5));
  }
  const auto records = tracer.recent();
  ASSERT_EQ(records.size(), 1u);
  const SpanRecord& record = records[0];
  EXPECT_EQ(record.name, "prefill");
  EXPECT_EQ(record.kind, SpanKind::server);
  EXPECT_EQ(to_hex(record.context.trace_id), trace_hex);
  EXPECT_EQ(to_hex(record.parent_span_id), span_hex);
  EXPECT_NE(record.context.span_id, parent->span_id);
  EXPECT_EQ(record.context.trace_state, "k=v");
  EXPECT_EQ(record.start, begin);
  EXPECT_EQ(record.end, begin + milliseconds(10));
  ASSERT_EQ(record.attributes.size(), 1u);
  EXPECT_EQ(std::get<int64_t>(record.attributes[0].second), 8);
  ASSERT_EQ(record.events.size(), 1u);
  EXPECT_EQ(record.events[0].time, begin + milliseconds(5));
  EXPECT_EQ(record.error, "out of blocks");
}

TEST(Span, ARootBeginsANewTrace) {
  base::ManualClock clock;
  Tracer tracer(clock);
  std::set<std::string> traces;
  for (int i = 0; i < 100; ++i) {
    Span root = tracer.start("root", {});
    EXPECT_TRUE(root.context().valid());
    EXPECT_TRUE(root.context().sampled);
    traces.insert(to_hex(root.context().trace_id));
    Span child = tracer.start("child", root.context());
    EXPECT_EQ(child.context().trace_id, root.context().trace_id);
    EXPECT_NE(child.context().span_id, root.context().span_id);
  }
  EXPECT_EQ(traces.size(), 100u);
  for (const SpanRecord& record : tracer.recent()) {
    if (record.name == "root") {
      EXPECT_EQ(to_hex(record.parent_span_id), "0000000000000000");
    }
  }
}

TEST(Span, AnUnsampledTraceIsForTheRingAlone) {
  base::ManualClock clock;
  Tracer tracer(clock);
  std::vector<std::string> exported;
  tracer.set_sink([&](const auto& record) { exported.push_back(record->name); });
  const std::string header = example.substr(0, 53) + "00";
  Span span = tracer.start("decode", *SpanContext::parse_traceparent(header, "k=v"));
  EXPECT_TRUE(span.recording());
  EXPECT_EQ(to_hex(span.context().trace_id), example.substr(3, 32));
  EXPECT_FALSE(span.context().sampled);
  EXPECT_TRUE(span.context().to_traceparent().ends_with("-00"));
  EXPECT_EQ(span.context().trace_state, "k=v");
  Span child = tracer.start("sample", span.context());
  EXPECT_FALSE(child.context().sampled);
  child.end();
  span.end();
  tracer.start("root", {}).end();
  tracer.set_sink({});
  const auto records = tracer.recent(example.substr(3, 32));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].name, "sample");
  EXPECT_EQ(records[0].parent_span_id, records[1].context.span_id);
  EXPECT_EQ(to_hex(records[1].parent_span_id), example.substr(36, 16));
  EXPECT_EQ(exported, std::vector<std::string>{"root"});
}

TEST(Span, StartsInThePastAndNeverEndsBeforeItsStart) {
  base::ManualClock clock;
  Tracer tracer(clock);
  clock.advance(milliseconds(30));
  tracer.start_at("queue", {}, clock.wall_now() - milliseconds(20)).end();
  tracer.start_at("clock set back", {}, clock.wall_now() + milliseconds(20)).end();
  const auto records = tracer.recent();
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].end - records[0].start, milliseconds(20));
  EXPECT_EQ(records[1].end, records[1].start);
}

TEST(Span, MovesAndEndsOnce) {
  base::ManualClock clock;
  Tracer tracer(clock);
  Span nothing;
  nothing.set("a", 1.0);
  nothing.end();
  EXPECT_FALSE(nothing.context().valid());

  Span first = tracer.start("first", {});
  const SpanContext context = first.context();
  Span second = std::move(first);
  EXPECT_EQ(second.context().span_id, context.span_id);
  second = tracer.start("second", {});  // ends "first"
  ASSERT_EQ(tracer.recent().size(), 1u);
  second.end();
  second.end();
  EXPECT_TRUE(second.context().valid());  // children may come later
  EXPECT_EQ(tracer.recent().size(), 2u);
}

TEST(Span, IsBounded) {
  std::vector<std::string> keys;
  for (int i = 0; i < 1000; ++i)
    keys.push_back("key" + std::to_string(i));
  base::ManualClock clock;
  Tracer tracer(clock);
  {
    // A two-byte character lies across the limit.
    const std::string text = std::string(max_attribute_bytes - 1, 'x') + "\xc3\xa9" + std::string(5000, 'y');
    Span span = tracer.start(text, {});
    span.set("text", text);
    span.set("list", std::vector<std::string>(1000, text));
    for (size_t i = 0; i < keys.size(); ++i)
      span.set(AttributeKey::that_lasts(keys[i]), static_cast<int64_t>(i));
    for (int i = 0; i < 1000; ++i)
      span.event(text);
    span.fail(text);
  }
  const SpanRecord record = tracer.recent().at(0);
  const std::string cut(max_attribute_bytes - 1, 'x');
  EXPECT_EQ(record.name, cut);
  EXPECT_EQ(record.error, cut);
  EXPECT_EQ(record.attributes.size(), max_attributes);
  EXPECT_EQ(std::get<std::string>(record.attributes[0].second), cut);
  EXPECT_EQ(std::get<std::vector<std::string>>(record.attributes[1].second).size(), max_attributes);
  EXPECT_EQ(std::get<std::vector<std::string>>(record.attributes[1].second)[0], cut);
  EXPECT_EQ(record.events.size(), max_events);
}

TEST(Tracer, KeepsTheLatestInOrder) {
  base::ManualClock clock;
  for (const size_t capacity : {1u, 3u, 4u}) {
    Tracer tracer(clock, capacity);
    for (size_t ended = 0; ended < 11; ++ended) {
      const auto records = tracer.recent();
      ASSERT_EQ(records.size(), std::min(ended, capacity));
      for (size_t i = 0; i < records.size(); ++i) {
        EXPECT_EQ(records[i].name, std::to_string(ended - records.size() + i));
      }
      tracer.start(std::to_string(ended), {}).end();
    }
  }
}

TEST(Tracer, ARecordThatIsFilledAnewSaysNothingOfTheSpanBefore) {
  base::ManualClock clock;
  Tracer tracer(clock, 1);
  {
    const std::string unsampled = example.substr(0, 53) + "00";
    Span full = tracer.start("full", *SpanContext::parse_traceparent(unsampled, "k=v"), SpanKind::server);
    full.set("text", std::string("of the first"));
    full.event("of the first");
    full.fail("of the first");
  }
  for (int i = 0; i < 3; ++i) {
    tracer.start("plain", {}).end();
    const SpanRecord record = tracer.recent().at(0);
    EXPECT_EQ(record.name, "plain");
    EXPECT_EQ(record.kind, SpanKind::internal);
    EXPECT_NE(record.context.to_traceparent().substr(3, 32), trace_hex);
    EXPECT_TRUE(record.context.sampled);
    EXPECT_EQ(record.context.trace_state, "");
    EXPECT_EQ(record.parent_span_id, (std::array<uint8_t, 8>{}));
    EXPECT_TRUE(record.attributes.empty());
    EXPECT_TRUE(record.events.empty());
    EXPECT_EQ(record.error, "");
    // Not lent, so that the next span takes it.
    tracer.start("between", {}).end();
  }
}

TEST(Tracer, FindsOneTrace) {
  base::ManualClock clock;
  Tracer tracer(clock);
  const auto parent = SpanContext::parse_traceparent(example);
  tracer.start("a", *parent).end();
  tracer.start("other", {}).end();
  tracer.start("b", *parent).end();
  const auto records = tracer.recent(trace_hex);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].name, "a");
  EXPECT_EQ(records[1].name, "b");
  EXPECT_TRUE(tracer.recent("0af7").empty());
  EXPECT_TRUE(tracer.recent(std::string(32, 'z')).empty());
  EXPECT_TRUE(tracer.recent(std::string(32, '1')).empty());
}

TEST(Tracer, HandsEndedSpansToTheSink) {
  base::ManualClock clock;
  Tracer tracer(clock);
  std::vector<std::string> seen;
  tracer.set_sink([&](const auto& record) { seen.push_back(record->name); });
  tracer.start("a", {}).end();
  tracer.set_sink({});
  tracer.start("b", {}).end();
  EXPECT_EQ(seen, std::vector<std::string>{"a"});
}

TEST(Tracer, ManyThreads) {
  base::ManualClock clock;
  Tracer tracer(clock, 64);
  std::atomic<int> seen{0};
  std::vector<std::thread> threads;
  threads.reserve(5);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) {
        Span span = tracer.start("work", {});
        span.set("i", int64_t{i});
      }
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < 50; ++i) {
      for (const SpanRecord& record : tracer.recent())
        EXPECT_EQ(record.name, "work");
      // What a sink refers to may go as soon as it is replaced.
      auto count = std::make_unique<std::atomic<int>>(0);
      tracer.set_sink([&, counter = count.get()](const auto&) {
        ++*counter;
        ++seen;
      });
      tracer.start("work", {}).end();
      tracer.set_sink({});
      EXPECT_GE(count->load(), 1);
    }
  });
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(tracer.recent().size(), 64u);
  EXPECT_GE(seen.load(), 50);
}

}  // namespace
}  // namespace tidemill::observe
