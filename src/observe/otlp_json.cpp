#include <cmath>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "observe/hex.hpp"
#include "observe/otlp.hpp"
#include "observe/semantic_conventions.hpp"

namespace tidemill::observe {

namespace {

namespace json = base::json;

json::string text_of(std::string_view text) {
  return json::string(base::utf8::sanitize(text));
}

json::object value_of(const std::string& text) {
  return {{"stringValue", text_of(text)}};
}
json::object value_of(int64_t number) {
  return {{"intValue", std::to_string(number)}};
}
json::object value_of(bool flag) {
  return {{"boolValue", flag}};
}

json::object value_of(double number) {
  // JSON has no such numbers; Protobuf's mapping names them.
  if (std::isnan(number)) return {{"doubleValue", "NaN"}};
  if (std::isinf(number)) return {{"doubleValue", number > 0 ? "Infinity" : "-Infinity"}};
  return {{"doubleValue", number}};
}

json::object value_of(const std::vector<std::string>& list) {
  json::array values;
  for (const std::string& item : list)
    values.push_back(value_of(item));
  return {{"arrayValue", json::object{{"values", std::move(values)}}}};
}

json::object attribute(std::string_view key, const AttributeValue& value) {
  return {{"key", text_of(key)}, {"value", std::visit([](const auto& v) { return value_of(v); }, value)}};
}

json::string nanos(base::WallTime time) {
  return json::string(std::to_string(base::unix_nanos(time)));
}

json::object span_of(const SpanRecord& record) {
  json::object span{{"traceId", to_hex(record.context.trace_id)}, {"spanId", to_hex(record.context.span_id)}};
  if (!record.context.trace_state.empty()) span["traceState"] = text_of(record.context.trace_state);
  if (record.parent_span_id != decltype(record.parent_span_id){}) span["parentSpanId"] = to_hex(record.parent_span_id);
  span["flags"] = record.context.sampled ? 1 : 0;
  span["name"] = text_of(record.name);
  span["kind"] = static_cast<int>(record.kind);
  span["startTimeUnixNano"] = nanos(record.start);
  span["endTimeUnixNano"] = nanos(record.end);
  json::array attributes;
  for (const auto& [key, value] : record.attributes)
    attributes.push_back(attribute(key, value));
  span["attributes"] = std::move(attributes);
  json::array events;
  for (const SpanRecord::Event& event : record.events) {
    events.push_back(json::object{{"timeUnixNano", nanos(event.time)}, {"name", text_of(event.name)}});
  }
  span["events"] = std::move(events);
  json::object status;  // without a code: unset, which is how success is told
  if (!record.error.empty()) status = {{"message", text_of(record.error)}, {"code", 2}};
  span["status"] = std::move(status);
  return span;
}

}  // namespace

std::string otlp_traces_body(std::span<const std::shared_ptr<const SpanRecord>> records, const OtlpResource& resource) {
  json::array spans;
  spans.reserve(records.size());
  for (const auto& record : records)
    spans.push_back(span_of(*record));

  const json::array about{
      attribute(semconv::attribute::service_name, std::string(semconv::service)),
      attribute(semconv::attribute::service_version, resource.version),
      attribute(semconv::attribute::service_instance_id, resource.instance_id),
  };
  const json::object scope{{"name", "tidemill.observe"}, {"version", text_of(resource.version)}};
  json::array scope_spans;
  scope_spans.push_back(json::object{{"scope", scope}, {"spans", std::move(spans)}});
  json::array resource_spans;
  resource_spans.push_back(
      json::object{{"resource", json::object{{"attributes", about}}}, {"scopeSpans", std::move(scope_spans)}});
  return json::serialize(json::object{{"resourceSpans", std::move(resource_spans)}});
}

}  // namespace tidemill::observe
