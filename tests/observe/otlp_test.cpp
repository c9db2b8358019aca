#include "observe/otlp.hpp"

#include <future>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "observe/semantic_conventions.hpp"

namespace tidemill::observe {
namespace {

namespace json = base::json;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::shared_ptr<const SpanRecord> named(std::string name) {
  auto record = std::make_shared<SpanRecord>();
  record->context.trace_id.fill(0xab);
  record->context.span_id.fill(0x01);
  record->name = std::move(name);
  return record;
}

std::vector<std::string> names_in(std::string_view body) {
  std::vector<std::string> names;
  const json::value parsed = base::parse_json(body).value();
  for (const json::value& span : parsed.at_pointer("/resourceSpans/0/scopeSpans/0/spans").as_array()) {
    names.emplace_back(span.at("name").as_string());
  }
  return names;
}

using Names = std::vector<std::string>;

// A collector that answers from a script, then with 200.
struct Collector {
  std::mutex mutex;
  std::vector<base::Result<int>> script;
  std::vector<Names> batches;  // of every attempt
  std::vector<std::string> paths;

  OtlpTransport transport() {
    return [this](std::string_view path, const std::string& body) -> base::Result<int> {
      const std::lock_guard lock(mutex);
      paths.emplace_back(path);
      batches.push_back(names_in(body));
      const size_t attempt = batches.size() - 1;
      return attempt < script.size() ? script[attempt] : base::Result<int>(200);
    };
  }
};

// Nothing here waits for time to pass: batches go by flush(), by being full, or at the end.
struct OtlpExporterTest : testing::Test {
  Collector collector;
  Metrics metrics;
  base::ManualClock clock;
  std::vector<base::Duration> pauses;
  OtlpOptions options = [this] {
    OtlpOptions o;
    o.resource = {"1.2.3", "instance-1"};
    o.delay = hours(24);
    o.pause = [this](base::Duration pause) {
      pauses.push_back(pause);
      clock.advance(pause);
    };
    return o;
  }();

  std::unique_ptr<OtlpExporter> start() {
    return std::make_unique<OtlpExporter>(collector.transport(), options, metrics, clock);
  }
  double exported() {
    return metrics.counter(semconv::metric::spans_exported.names(), semconv::metric::spans_exported.help).value();
  }
  double dropped() {
    return metrics.counter(semconv::metric::spans_dropped.names(), semconv::metric::spans_dropped.help).value();
  }
};

TEST(OtlpTracesBody, HasTheProtocolsShape) {
  SpanRecord record;
  record.context = *SpanContext::parse_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "k=v");
  record.parent_span_id = {0, 0, 0, 0, 0, 0, 0, 0x2a};
  record.name = "chat \xff";
  record.kind = SpanKind::server;
  record.start = base::WallTime(base::Duration(1'700'000'000'123'456'789));
  record.end = base::WallTime(base::Duration(1'700'000'001'000'000'001));
  record.attributes = {{AttributeKey("s"), std::string("x\"y")},
                       {AttributeKey("i"), int64_t{9007199254740993}},
                       {AttributeKey("d"), 0.25},
                       {AttributeKey("n"), std::numeric_limits<double>::infinity()},
                       {AttributeKey("b"), true},
                       {AttributeKey("l"), std::vector<std::string>{"stop", "length"}}};
  record.events = {{base::WallTime(base::Duration(1'700'000'000'500'000'000)), "first token"}};
  record.error = "gone";
  const std::vector<std::shared_ptr<const SpanRecord>> records{std::make_shared<SpanRecord>(record)};

  const json::value expected = json::parse(R"({"resourceSpans":[{
    "resource":{"attributes":[
      {"key":"service.name","value":{"stringValue":"tidemill"}},
      {"key":"service.version","value":{"stringValue":"1.2.3"}},
      {"key":"service.instance.id","value":{"stringValue":"pod-7"}}]},
    "scopeSpans":[{
      "scope":{"name":"tidemill.observe","version":"1.2.3"},
      "spans":[{
        "traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","traceState":"k=v",
        "parentSpanId":"000000000000002a","flags":1,"name":"chat \ufffd","kind":2,
        "startTimeUnixNano":"1700000000123456789","endTimeUnixNano":"1700000001000000001",
        "attributes":[
          {"key":"s","value":{"stringValue":"x\"y"}},
          {"key":"i","value":{"intValue":"9007199254740993"}},
          {"key":"d","value":{"doubleValue":0.25}},
          {"key":"n","value":{"doubleValue":"Infinity"}},
          {"key":"b","value":{"boolValue":true}},
          {"key":"l","value":{"arrayValue":{"values":[{"stringValue":"stop"},{"stringValue":"length"}]}}}],
        "events":[{"timeUnixNano":"1700000000500000000","name":"first token"}],
        "status":{"message":"gone","code":2}}]}]}]})");
  const json::value actual = base::parse_json(otlp_traces_body(records, {"1.2.3", "pod-7"})).value();
  EXPECT_EQ(actual, expected) << json::serialize(actual);
}

TEST(OtlpTracesBody, LeavesOutWhatIsNotThere) {
  const std::vector<std::shared_ptr<const SpanRecord>> records{named("root")};
  const json::value body = base::parse_json(otlp_traces_body(records, {})).value();
  const json::object& span = body.at_pointer("/resourceSpans/0/scopeSpans/0/spans/0").as_object();
  EXPECT_FALSE(span.contains("parentSpanId"));
  EXPECT_FALSE(span.contains("traceState"));
  EXPECT_TRUE(span.at("status").as_object().empty());
}

TEST_F(OtlpExporterTest, SendsWhatTheTracerEnds) {
  auto exporter = start();
  Tracer tracer(clock);
  tracer.set_sink([&](const auto& record) { exporter->add(record); });
  tracer.start("a", {}).end();
  tracer.start("b", {}).end();
  exporter->flush();
  EXPECT_EQ(collector.batches, (std::vector<Names>{{"a", "b"}}));
  EXPECT_EQ(collector.paths, std::vector<std::string>{"/v1/traces"});
  EXPECT_EQ(exported(), 2);
  tracer.set_sink({});
}

TEST_F(OtlpExporterTest, FlushWithNothingQueuedReturns) {
  auto exporter = start();
  exporter->flush();
  EXPECT_TRUE(collector.batches.empty());
}

TEST_F(OtlpExporterTest, SendsFullBatchesUnasked) {
  options.batch_spans = 2;
  std::promise<void> two_batches;
  OtlpTransport record = collector.transport();
  OtlpExporter exporter(
      [&](std::string_view path, const std::string& body) {
        auto status = record(path, body);
        if (collector.batches.size() == 2) two_batches.set_value();
        return status;
      },
      options, metrics, clock);
  for (const char* name : {"a", "b", "c", "d", "e"})
    exporter.add(named(name));
  two_batches.get_future().wait();
  exporter.flush();
  EXPECT_EQ(collector.batches, (std::vector<Names>{{"a", "b"}, {"c", "d"}, {"e"}}));
}

TEST_F(OtlpExporterTest, RetriesWithGrowingPauses) {
  options.longest_pause = seconds(3);
  options.attempts = 6;
  collector.script = {503, 429, base::Error(base::ErrorCode::unavailable, "connection refused"), 502, 504, 200};
  auto exporter = start();
  exporter->add(named("a"));
  exporter->flush();
  EXPECT_EQ(collector.batches, std::vector<Names>(6, Names{"a"}));
  EXPECT_EQ(exported(), 1);
  EXPECT_EQ(dropped(), 0);
  const base::Duration longest[] = {seconds(1), seconds(2), seconds(3), seconds(3), seconds(3)};
  ASSERT_EQ(pauses.size(), std::size(longest));
  for (size_t i = 0; i < pauses.size(); ++i) {
    EXPECT_LE(pauses[i], longest[i]);
    EXPECT_GE(pauses[i], longest[i] / 2);
  }
}

TEST_F(OtlpExporterTest, GivesUpAfterItsAttemptsAndGoesOn) {
  options.attempts = 3;
  collector.script = {503, 503, 503};
  auto exporter = start();
  exporter->add(named("a"));
  exporter->flush();
  EXPECT_EQ(dropped(), 1);
  exporter->add(named("b"));
  exporter->flush();
  EXPECT_EQ(exported(), 1);
  EXPECT_EQ(collector.batches, (std::vector<Names>{{"a"}, {"a"}, {"a"}, {"b"}}));
}

TEST_F(OtlpExporterTest, SaysAtTheFirstFailureAndOnceThatNobodyTakesSpans) {
  options.attempts = 3;
  options.advice = "unset this to send none";
  const base::Result<int> nobody = base::Error(base::ErrorCode::unavailable, "connection refused");
  collector.script = {nobody, nobody, nobody, 503};
  std::string at_first;
  options.pause = [&](base::Duration) {
    if (!at_first.empty()) return;
    at_first = testing::internal::GetCapturedStderr();
    testing::internal::CaptureStderr();
  };
  testing::internal::CaptureStderr();
  auto exporter = start();
  exporter->add(named("a"));
  exporter->flush();
  EXPECT_EQ(dropped(), 1);
  exporter->add(named("b"));
  exporter->flush();
  EXPECT_EQ(exported(), 1);
  const std::string later = testing::internal::GetCapturedStderr();
  EXPECT_NE(at_first.find("the OTLP collector could not be reached: "), std::string::npos) << at_first;
  EXPECT_NE(at_first.find("connection refused; unset this to send none\n"), std::string::npos) << at_first;
  EXPECT_EQ(later.find("cannot be sent"), std::string::npos) << later;
  EXPECT_NE(later.find("the OTLP collector takes spans again"), std::string::npos) << later;
}

TEST_F(OtlpExporterTest, DoesNotRepeatWhatWasRefused) {
  collector.script = {400, 500, 404};
  auto exporter = start();
  for (const char* name : {"a", "b", "c", "d"}) {
    exporter->add(named(name));
    exporter->flush();
  }
  EXPECT_EQ(collector.batches, (std::vector<Names>{{"a"}, {"b"}, {"c"}, {"d"}}));
  EXPECT_TRUE(pauses.empty());
  EXPECT_EQ(dropped(), 3);
  EXPECT_EQ(exported(), 1);
}

TEST_F(OtlpExporterTest, DropsTheOldestWhenFull) {
  options.queue_spans = 3;
  options.batch_spans = 3;
  std::promise<void> sending;
  std::promise<void> go_on;
  OtlpTransport record = collector.transport();
  OtlpExporter exporter(
      [&](std::string_view path, const std::string& body) {
        auto status = record(path, body);
        if (collector.batches.size() == 1) {
          sending.set_value();
          go_on.get_future().wait();
        }
        return status;
      },
      options, metrics, clock);
  for (const char* name : {"a", "b", "c"})
    exporter.add(named(name));
  sending.get_future().wait();
  for (const char* name : {"d", "e", "f", "g", "h"})
    exporter.add(named(name));
  EXPECT_EQ(dropped(), 2);
  go_on.set_value();
  exporter.flush();
  EXPECT_EQ(collector.batches, (std::vector<Names>{{"a", "b", "c"}, {"f", "g", "h"}}));
  EXPECT_EQ(exported(), 6);
}

TEST_F(OtlpExporterTest, SendsWhatIsQueuedWhenItEnds) {
  options.batch_spans = 2;
  collector.script = {503};
  auto exporter = start();
  exporter->add(named("a"));
  exporter.reset();
  EXPECT_EQ(collector.batches, (std::vector<Names>{{"a"}, {"a"}}));
  EXPECT_EQ(exported(), 1);
}

TEST_F(OtlpExporterTest, DoesNotWaitForNobodyWhenItEnds) {
  options.batch_spans = 10;
  collector.script = {base::Error(base::ErrorCode::unavailable, "connection refused")};
  auto exporter = start();
  exporter->add(named("a"));
  exporter->add(named("b"));
  exporter.reset();
  EXPECT_EQ(collector.batches, (std::vector<Names>{{"a", "b"}})) << "one try";
  EXPECT_TRUE(pauses.empty());
  EXPECT_EQ(dropped(), 2);
}

// The try that follows a pause which the end cuts short is the last.
TEST_F(OtlpExporterTest, TriesOnceMoreWhenItEndsBetweenTries) {
  options.pause = nullptr;
  options.first_pause = hours(24);
  options.longest_pause = hours(24);
  options.batch_spans = 1;
  options.shutdown_limit = milliseconds(1);  // by the clock that stands
  std::promise<void> sending;
  int tries = 0;
  auto exporter = std::make_unique<OtlpExporter>(
      [&](std::string_view, const std::string&) -> base::Result<int> {
        if (++tries == 1) sending.set_value();
        if (tries == 1) return 503;
        return base::Error(base::ErrorCode::unavailable, "connection refused");
      },
      options, metrics, clock);
  exporter->add(named("a"));
  sending.get_future().wait();
  exporter.reset();
  EXPECT_EQ(tries, 2);
  EXPECT_EQ(dropped(), 1);
}

TEST_F(OtlpExporterTest, EndsWithinItsLimit) {
  options.batch_spans = 2;
  options.queue_spans = 10;
  options.attempts = 1'000'000;
  options.shutdown_limit = seconds(5);
  std::promise<void> sending;
  std::promise<void> stopping;
  bool first = true;
  auto exporter = std::make_unique<OtlpExporter>(
      [&](std::string_view, const std::string&) -> base::Result<int> {
        if (std::exchange(first, false)) {
          sending.set_value();
          stopping.get_future().wait();
        }
        return 503;
      },
      options, metrics, clock);
  for (const char* name : {"a", "b", "c", "d", "e"})
    exporter->add(named(name));
  sending.get_future().wait();
  const base::SteadyTime begin = clock.now();
  std::thread end([&] { exporter.reset(); });
  stopping.set_value();
  end.join();
  // The million attempts were not made: only those until the end was seen, and those of the five seconds after it.
  EXPECT_EQ(dropped(), 5);
  EXPECT_EQ(exported(), 0);
  EXPECT_GE(clock.now() - begin, options.shutdown_limit);
}

TEST_F(OtlpExporterTest, ShutdownCutsTheThreadsOwnWaitShort) {
  options.pause = nullptr;
  options.first_pause = hours(24);
  options.longest_pause = hours(24);
  options.batch_spans = 1;
  options.shutdown_limit = seconds(0);
  std::promise<void> sending;
  auto exporter = std::make_unique<OtlpExporter>(
      [&](std::string_view, const std::string&) -> base::Result<int> {
        sending.set_value();
        return 503;
      },
      options, metrics, clock);
  exporter->add(named("a"));
  sending.get_future().wait();
  exporter.reset();  // comes back although the next attempt is due tomorrow
  EXPECT_EQ(dropped(), 1);
}

TEST_F(OtlpExporterTest, ManyThreads) {
  options.queue_spans = 100;
  options.batch_spans = 10;
  auto exporter = start();
  std::vector<std::thread> threads;
  threads.reserve(5);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 300; ++i) {
        exporter->add(named("a"));
        if (i % 100 == 0) exporter->flush();
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  exporter.reset();
  EXPECT_EQ(exported() + dropped(), 1200);
}

}  // namespace
}  // namespace tidemill::observe
