#include "observe/trace.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <shared_mutex>
#include <type_traits>

#include "base/ids.hpp"
#include "observe/hex.hpp"

namespace tidemill::observe {

namespace {

constexpr size_t traceparent_size = 55;  // 2 + 1 + 32 + 1 + 16 + 1 + 2

// What room is made for at once.
constexpr size_t usual_attributes = 12;
// Records that have made room for others and were lent to nobody, of the thread: filling one anew costs less than
// making it.
constexpr size_t most_spare = 16;
thread_local std::vector<std::shared_ptr<SpanRecord>> spare_records;

std::shared_ptr<SpanRecord> blank_record() {
  if (!spare_records.empty()) {
    std::shared_ptr<SpanRecord> record = std::move(spare_records.back());
    spare_records.pop_back();
    return record;
  }
  auto record = std::make_shared<SpanRecord>();
  record->attributes.reserve(usual_attributes);
  return record;
}

template <size_t N>
bool all_zero(const std::array<uint8_t, N>& id) {
  return std::all_of(id.begin(), id.end(), [](uint8_t byte) { return byte == 0; });
}

template <size_t N>
void fill_random(std::array<uint8_t, N>& id) {
  static_assert(N % 8 == 0);
  do {
    for (size_t i = 0; i < N; i += 8) {
      const uint64_t word = base::random_u64();
      std::memcpy(id.data() + i, &word, 8);
    }
  } while (all_zero(id));
}

// Printable ASCII and tabs: what the specification's grammar is made of. Anything else could split the header of the
// request that hands it on.
bool valid_trace_state(std::string_view text) {
  return text.size() <= max_trace_state_bytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c == '\t' || (c >= ' ' && c <= '~'); });
}

// Cuts at the limit, but never inside a UTF-8 character.
void truncate(std::string& text) {
  if (text.size() <= max_attribute_bytes) return;
  size_t size = max_attribute_bytes;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80)
    --size;
  text.resize(size);
}

void truncate(AttributeValue& value) {
  if (auto* text = std::get_if<std::string>(&value)) {
    truncate(*text);
  } else if (auto* list = std::get_if<std::vector<std::string>>(&value)) {
    if (list->size() > max_attributes) list->resize(max_attributes);
    for (std::string& item : *list)
      truncate(item);
  }
}

std::string truncated(std::string_view text) {
  // One byte more than the limit is kept for truncate() to see where a character begins.
  std::string copy(text.substr(0, max_attribute_bytes + 1));
  truncate(copy);
  return copy;
}

}  // namespace

void SpanRecord::clear() {
  context.sampled = true;
  context.trace_state.clear();
  context.trace_id = {};
  context.span_id = {};
  parent_span_id = {};
  attributes.clear();
  events.clear();
  error.clear();
}

bool SpanContext::valid() const {
  return !all_zero(trace_id) && !all_zero(span_id);
}

std::optional<SpanContext> SpanContext::parse_traceparent(std::string_view header, std::string_view trace_state) {
  if (header.size() < traceparent_size || header[2] != '-' || header[35] != '-' || header[52] != '-') return {};
  std::array<uint8_t, 1> version{};
  std::array<uint8_t, 1> flags{};
  SpanContext context;
  if (!from_hex(header.substr(0, 2), version) || !from_hex(header.substr(3, 32), context.trace_id) ||
      !from_hex(header.substr(36, 16), context.span_id) || !from_hex(header.substr(53, 2), flags)) {
    return {};
  }
  if (version[0] == 0xff || !context.valid()) return {};
  // Version 00 ends here; a later one may go on, after a dash.
  if (header.size() > traceparent_size && (version[0] == 0 || header[traceparent_size] != '-')) return {};
  context.sampled = (flags[0] & 1) != 0;
  if (valid_trace_state(trace_state)) context.trace_state = trace_state;
  return context;
}

std::array<char, 32> SpanContext::trace_text() const {
  std::array<char, 32> text;
  write_hex(text.data(), trace_id);
  return text;
}

std::string SpanContext::to_traceparent() const {
  if (!valid()) return {};
  std::string text("00-00000000000000000000000000000000-0000000000000000-00");
  write_hex(text.data() + 3, trace_id);
  write_hex(text.data() + 36, span_id);
  if (sampled) text.back() = '1';
  return text;
}

Span& Span::operator=(Span&& other) noexcept {
  if (this != &other) {
    end();
    tracer_ = other.tracer_;
    record_ = std::move(other.record_);
    context_ = std::move(other.context_);
  }
  return *this;
}

Span::~Span() {
  end();
}

void Span::set(AttributeKey key, AttributeValue value) {
  if (!record_) return;
  truncate(value);
  auto& attributes = record_->attributes;
  const auto same = std::find_if(attributes.begin(), attributes.end(), [key](const auto& a) { return a.first == key; });
  if (same != attributes.end()) {
    same->second = std::move(value);
  } else if (attributes.size() < max_attributes) {
    attributes.emplace_back(key, std::move(value));
  }
}

void Span::event(std::string_view name) {
  if (!record_ || record_->events.size() >= max_events) return;
  record_->events.push_back({tracer_->now(), truncated(name)});
}

void Span::fail(std::string_view error) {
  // An empty text would read as success.
  if (record_) record_->error = error.empty() ? "error" : truncated(error);
}

void Span::end() {
  if (!record_) return;
  // The wall clock may have been set back meanwhile.
  record_->end = std::max(record_->start, tracer_->now());
  tracer_->finish(std::move(record_));
}

struct Tracer::State {
  explicit State(const base::Clock& its_clock, size_t its_capacity)
      : clock(its_clock), capacity(std::max<size_t>(its_capacity, 1)) {}

  const base::Clock& clock;
  const size_t capacity;

  struct Kept {
    std::shared_ptr<SpanRecord> record;
    bool lent;  // to a sink or a reader of recent(), who may hold it still
  };

  mutable std::mutex mutex;
  std::vector<Kept> ring;  // grows to `capacity`, then `next` is the oldest
  size_t next = 0;

  std::atomic<bool> has_sink{false};
  // Held shared while the sink runs, so that set_sink() returns only when the old one is no longer in use.
  std::shared_mutex sink_mutex;
  Sink sink;
};

Tracer::Tracer(const base::Clock& clock, size_t capacity) : state_(std::make_unique<State>(clock, capacity)) {}

Tracer::~Tracer() = default;

Span Tracer::start(std::string_view name, const SpanContext& parent, SpanKind kind) {
  return start_at(name, parent, now(), kind);
}

Span Tracer::start_at(std::string_view name, const SpanContext& parent, base::WallTime begin, SpanKind kind) {
  Span span;
  span.tracer_ = this;
  const bool child = parent.valid();
  span.record_ = blank_record();
  SpanRecord& record = *span.record_;
  if (child) {
    record.context = parent;
    record.parent_span_id = parent.span_id;
  } else {
    fill_random(record.context.trace_id);
  }
  fill_random(record.context.span_id);
  record.name = truncated(name);
  record.kind = kind;
  record.start = begin;
  span.context_ = record.context;
  return span;
}

std::vector<SpanRecord> Tracer::recent(std::string_view trace_id) const {
  std::array<uint8_t, 16> wanted{};
  if (!trace_id.empty() && !from_hex(trace_id, wanted)) return {};

  std::vector<std::shared_ptr<const SpanRecord>> kept;
  {
    const std::lock_guard lock(state_->mutex);
    const auto oldest = state_->ring.begin() + static_cast<std::ptrdiff_t>(state_->next);
    kept.reserve(state_->ring.size());
    const auto lend = [&kept](State::Kept& one) {
      one.lent = true;
      kept.push_back(one.record);
    };
    std::for_each(oldest, state_->ring.end(), lend);
    std::for_each(state_->ring.begin(), oldest, lend);
  }
  // Copied outside the lock, which every thread that ends a span takes.
  std::vector<SpanRecord> records;
  for (const auto& record : kept) {
    if (trace_id.empty() || record->context.trace_id == wanted) records.push_back(*record);
  }
  return records;
}

void Tracer::set_sink(Sink sink) {
  const std::unique_lock lock(state_->sink_mutex);
  state_->sink = std::move(sink);
  state_->has_sink = state_->sink != nullptr;
}

base::WallTime Tracer::now() const {
  return state_->clock.wall_now();
}

void Tracer::finish(std::shared_ptr<SpanRecord> record) {
  State::Kept one{std::move(record), false};
  if (state_->has_sink && one.record->context.sampled) {
    const std::shared_lock lock(state_->sink_mutex);
    one.lent = state_->sink != nullptr;
    if (one.lent) state_->sink(one.record);
  }
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->ring.size() < state_->capacity) {
      state_->ring.push_back(std::move(one));
      return;
    }
    std::swap(state_->ring[state_->next], one);
    state_->next = (state_->next + 1) % state_->capacity;
  }
  // The span that made room is emptied, or freed, outside the lock.
  if (one.lent || spare_records.size() >= most_spare) return;
  one.record->clear();
  spare_records.push_back(std::move(one.record));
}

}  // namespace tidemill::observe
