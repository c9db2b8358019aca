#include "observe/traces_json.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <map>
#include <vector>

#include <fmt/chrono.h>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "observe/hex.hpp"

namespace tidemill::observe {

namespace {

namespace json = base::json;
using Spans = std::vector<const SpanRecord*>;

double milliseconds(base::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

std::string timestamp(base::WallTime time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(time - whole);
  return fmt::format("{:%FT%T}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(whole.time_since_epoch().count())),
                     rest.count());
}

json::string text_of(std::string_view text) {
  return json::string(base::utf8::sanitize(text));
}

json::value value_of(const std::string& text) {
  return text_of(text);
}
json::value value_of(int64_t number) {
  return number;
}
json::value value_of(bool flag) {
  return flag;
}
json::value value_of(double number) {
  return std::isfinite(number) ? json::value(number) : json::value(nullptr);
}
json::value value_of(const std::vector<std::string>& list) {
  json::array values;
  for (const std::string& item : list)
    values.push_back(text_of(item));
  return values;
}

std::string_view kind_name(SpanKind kind) {
  switch (kind) {
    case SpanKind::internal:
      return "internal";
    case SpanKind::server:
      return "server";
    case SpanKind::client:
      return "client";
  }
  return "internal";
}

json::object span_object(const SpanRecord& record, base::WallTime trace_start) {
  json::object attributes;
  for (const auto& [key, value] : record.attributes) {
    attributes[text_of(key)] = std::visit([](const auto& v) { return value_of(v); }, value);
  }
  json::array events;
  for (const SpanRecord::Event& event : record.events) {
    events.push_back(json::object{{"name", text_of(event.name)}, {"at_ms", milliseconds(event.time - trace_start)}});
  }
  const bool root = record.parent_span_id == decltype(record.parent_span_id){};
  return {{"span_id", to_hex(record.context.span_id)},
          {"parent_span_id", root ? json::value(nullptr) : json::value(to_hex(record.parent_span_id))},
          {"name", text_of(record.name)},
          {"kind", kind_name(record.kind)},
          {"start_ms", milliseconds(record.start - trace_start)},
          {"duration_ms", milliseconds(record.end - record.start)},
          {"attributes", std::move(attributes)},
          {"events", std::move(events)},
          {"error", record.error.empty() ? json::value(nullptr) : json::value(text_of(record.error))}};
}

json::object trace_object(Spans spans) {
  // Of spans that start together the longer is the parent; of spans that also end together, the parent ends last.
  std::reverse(spans.begin(), spans.end());
  std::stable_sort(spans.begin(), spans.end(), [](const SpanRecord* a, const SpanRecord* b) {
    return a->start != b->start ? a->start < b->start : a->end > b->end;
  });
  const base::WallTime start = spans.front()->start;
  base::WallTime end = start;
  json::array rendered;
  for (const SpanRecord* span : spans) {
    end = std::max(end, span->end);
    rendered.push_back(span_object(*span, start));
  }
  return {{"trace_id", to_hex(spans.front()->context.trace_id)},
          {"start", timestamp(start)},
          {"duration_ms", milliseconds(end - start)},
          {"spans", std::move(rendered)}};
}

}  // namespace

std::string traces_json(const Tracer& tracer, std::string_view trace_id, size_t limit) {
  return traces_json({&tracer}, trace_id, limit);
}

std::string traces_json(std::initializer_list<const Tracer*> tracers, std::string_view trace_id, size_t limit) {
  std::vector<SpanRecord> records;
  for (const Tracer* tracer : tracers) {
    if (tracer == nullptr) continue;
    std::vector<SpanRecord> more = tracer->recent(trace_id);
    std::move(more.begin(), more.end(), std::back_inserter(records));
  }
  if (tracers.size() > 1) {
    std::stable_sort(records.begin(), records.end(),
                     [](const SpanRecord& a, const SpanRecord& b) { return a.end < b.end; });
  }
  std::map<std::array<uint8_t, 16>, Spans> by_trace;
  for (const SpanRecord& record : records)
    by_trace[record.context.trace_id].push_back(&record);

  // Records come in the order in which they ended.
  json::array traces;
  for (auto record = records.rbegin(); record != records.rend() && traces.size() < limit; ++record) {
    const auto trace = by_trace.find(record->context.trace_id);
    if (trace == by_trace.end()) continue;
    traces.push_back(trace_object(std::move(trace->second)));
    by_trace.erase(trace);
  }
  return json::serialize(traces);
}

}  // namespace tidemill::observe
