// What /debug/traces shows: recent spans as JSON, for people and scripts.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>

#include "observe/trace.hpp"

namespace tidemill::observe {

// An array of at most `limit` traces, the one whose last span ended latest first; only the trace `trace_id` (32
// lower-case hex digits) if that is given, and an empty array if it is not in the ring. A trace:
//
//   {"trace_id", "start": "2026-01-31T12:00:00.000Z", "duration_ms", "spans": [
//     {"span_id", "parent_span_id": null for a root, "name", "kind": "internal" | "server" | "client",
//      "start_ms": since the trace's start, "duration_ms", "attributes": {...}, "events": [{"name", "at_ms"}],
//      "error": null for success}]}
//
// Spans are in the order of their starts, parents first; a parent may be missing (another process has it, it is still
// open, or it has left the ring).
std::string traces_json(const Tracer& tracer, std::string_view trace_id = {}, size_t limit = 100);
// Of several rings of this process, as if they were one. Null pointers are passed over.
std::string traces_json(std::initializer_list<const Tracer*> tracers, std::string_view trace_id = {},
                        size_t limit = 100);

}  // namespace tidemill::observe
