// Spans: what happened to a request and when. Kept in a ring for /debug/traces and handed to an exporter when one is
// set. Names follow OpenTelemetry (GenAI conventions in observe/semantic_conventions.hpp) and W3C Trace Context.
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

// What a span holds is bounded, because much of it comes from requests. Longer text is cut, further items are dropped.
inline constexpr size_t max_attribute_bytes = 1024;   // of a text: attribute value, name, error
inline constexpr size_t max_attributes = 64;          // of a span; also the items of a list
inline constexpr size_t max_events = 128;             // of a span
inline constexpr size_t max_trace_state_bytes = 512;  // what the specification asks everyone to hand on

// Identifies a span to its children, in this process or another.
struct SpanContext {
  std::array<uint8_t, 16> trace_id{};
  std::array<uint8_t, 8> span_id{};
  bool sampled = true;
  std::string trace_state;  // W3C tracestate, handed on unchanged

  // All-zero ids mean "no parent".
  bool valid() const;

  // W3C Trace Context level 1 (https://www.w3.org/TR/trace-context-1/). A malformed header is as good as none: nullopt.
  // A tracestate that is too long or holds characters no header may have is left out.
  static std::optional<SpanContext> parse_traceparent(std::string_view header, std::string_view trace_state = {});
  // The trace's id in hexadecimal.
  std::array<char, 32> trace_text() const;
  // "00-<trace id>-<span id>-<flags>"; empty when not valid.
  std::string to_traceparent() const;
};

// What an attribute is called: a constant of the program, so that no span need copy it.
class AttributeKey {
 public:
  consteval AttributeKey(const char* name) : name_(name) {}
  consteval AttributeKey(std::string_view name) : name_(name) {}
  // `name` must outlive the tracer and all records of it.
  static constexpr AttributeKey that_lasts(std::string_view name) {
    AttributeKey key("");
    key.name_ = name;
    return key;
  }
  constexpr operator std::string_view() const { return name_; }
  friend constexpr bool operator==(AttributeKey a, std::string_view b) { return a.name_ == b; }

 private:
  std::string_view name_;
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
  std::vector<std::pair<AttributeKey, AttributeValue>> attributes;
  struct Event {
    base::WallTime time;
    std::string name;
  };
  std::vector<Event> events;
  std::string error;  // empty: the operation succeeded

  // Of all but name, kind and times; keeps the room that there is.
  void clear();
};

class Tracer;

// An open span. Movable; ends when destroyed at the latest. One thread at a time.
class Span {
 public:
  Span() = default;  // records nothing
  Span(Span&& other) noexcept = default;
  Span& operator=(Span&& other) noexcept;
  ~Span();

  // Replaces the value of a key that is there already.
  void set(AttributeKey key, AttributeValue value);
  void event(std::string_view name);
  void fail(std::string_view error);
  void end();
  // What children take as their parent, also after the end. Invalid for a default-constructed span.
  const SpanContext& context() const { return context_; }
  bool recording() const { return record_ != nullptr; }

 private:
  friend class Tracer;
  Tracer* tracer_ = nullptr;
  std::shared_ptr<SpanRecord> record_;
  SpanContext context_;
};

// Thread-safe. Spans must not outlive their tracer.
class Tracer {
 public:
  // Keeps the latest `capacity` ended spans.
  explicit Tracer(const base::Clock& clock, size_t capacity = 4096);
  ~Tracer();

  // A child of `parent`, or the root of a new trace when that is not valid. The spans of a trace that its caller did
  // not sample say so to those below them, and are for the ring alone.
  Span start(std::string_view name, const SpanContext& parent, SpanKind kind = SpanKind::internal);
  // The same for an operation that began earlier, such as waiting in a queue.
  Span start_at(std::string_view name, const SpanContext& parent, base::WallTime begin,
                SpanKind kind = SpanKind::internal);

  // The ended spans that are still in the ring, oldest first; of one trace only, if given (32 hex digits).
  std::vector<SpanRecord> recent(std::string_view trace_id = {}) const;

  using Sink = std::function<void(const std::shared_ptr<const SpanRecord>&)>;
  // Called with every ended span of a sampled trace, from the thread that ended it; must return quickly and not call
  // the tracer. When this returns, the sink before it is no longer in use.
  void set_sink(Sink sink);

 private:
  friend class Span;
  base::WallTime now() const;
  void finish(std::shared_ptr<SpanRecord> record);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill::observe
