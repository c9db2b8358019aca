// Spans: what happened to a request and when. Kept in a ring for /debug/traces and handed to an exporter when one is set.
// Names follow OpenTelemetry (GenAI conventions in observe/semantic_conventions.hpp) and W3C Trace Context.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.hpp"

namespace tidemill::observe {

// Identifies a span to its children, in this process or another.
struct SpanContext {
  std::array<uint8_t, 16> trace_id{};
  std::array<uint8_t, 8> span_id{};
  bool sampled = true;
  std::string trace_state;  // W3C tracestate, handed on unchanged

  // All-zero ids mean "no parent".
  bool valid() const;

  // W3C Trace Context level 1. A malformed header is as good as none: nullopt.
  static std::optional<SpanContext> parse_traceparent(std::string_view header, std::string_view trace_state = {});
  std::string to_traceparent() const;
};

using AttributeValue = std::variant<std::string, int64_t, double, bool, std::vector<std::string>>;

enum class SpanKind : uint8_t { internal = 1, server = 2, client = 3 };  // OTLP's numbers

// A span that has ended.
struct SpanRecord {
  SpanContext context;
  std::array<uint8_t, 8> parent_span_id{};  // all zero: a root
  std::string name;
  SpanKind kind = SpanKind::internal;
  base::WallTime start;
  base::WallTime end;
  std::vector<std::pair<std::string, AttributeValue>> attributes;
  struct Event {
    base::WallTime time;
    std::string name;
  };
  std::vector<Event> events;
  std::string error;  // empty: the operation succeeded
};

class Tracer;

// An open span. Movable; ends when destroyed at the latest. One thread at a time.
class Span {
 public:
  Span() = default;  // records nothing
  Span(Span&& other) noexcept = default;
  Span& operator=(Span&& other) noexcept;
  ~Span();

  void set(std::string_view key, AttributeValue value);
  void event(std::string_view name);
  void fail(std::string_view error);
  void end();
  // What children take as their parent. Invalid for a default-constructed span.
  SpanContext context() const;
  bool recording() const { return record_ != nullptr; }

 private:
  friend class Tracer;
  Tracer* tracer_ = nullptr;
  std::unique_ptr<SpanRecord> record_;
};

// Thread-safe. Spans must not outlive their tracer.
class Tracer {
 public:
  // Keeps the latest `capacity` ended spans.
  explicit Tracer(const base::Clock& clock, size_t capacity = 4096);
  ~Tracer();

  // A child of `parent`, or the root of a new trace when that is not valid. A trace that its caller did not sample is
  // handed on but not recorded.
  Span start(std::string_view name, const SpanContext& parent, SpanKind kind = SpanKind::internal);
  // The same for an operation that began earlier, such as waiting in a queue.
  Span start_at(std::string_view name, const SpanContext& parent, base::WallTime begin,
                SpanKind kind = SpanKind::internal);

  // The ended spans that are still in the ring, oldest first; of one trace only, if given (32 hex digits).
  std::vector<SpanRecord> recent(std::string_view trace_id = {}) const;

  // Called with every ended span, from the thread that ended it; must return quickly.
  void set_sink(std::function<void(const SpanRecord&)> sink);

 private:
  friend class Span;
  void finish(std::unique_ptr<SpanRecord> record);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill::observe
