// Own instruments and rendering rather than prometheus-cpp's: a family there has one name, so that every alias would
// need a copy of the numbers, and its histograms take a lock for each observation.
#include "observe/metrics.hpp"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>

#include "base/log.hpp"
#include "base/utf8.hpp"

namespace tidemill::observe {

namespace {

// The bound on series of one metric: label values may come from outside, memory does not grow with them.
constexpr size_t max_series = 1000;

class CounterCell final : public Counter {
 public:
  void add(double amount) override {
    // Not a number, or less than zero: a counter never falls.
    if (!(amount >= 0)) return;
    value_.fetch_add(amount, std::memory_order_relaxed);
  }
  double value() const override { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class GaugeCell final : public Gauge {
 public:
  void set(double value) override { value_.store(value, std::memory_order_relaxed); }
  double value() const override { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

// One relaxed increment and one addition an observation; the buckets are summed up when they are read.
class HistogramCell final : public Histogram {
 public:
  explicit HistogramCell(std::vector<double> bounds) : bounds_(std::move(bounds)), buckets_(bounds_.size() + 1) {}

  void observe(double value) override {
    if (std::isnan(value)) return;
    const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
    buckets_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }

  const std::vector<double>& bounds() const { return bounds_; }
  double sum() const { return sum_.load(std::memory_order_relaxed); }
  uint64_t bucket(size_t i) const { return buckets_[i].load(std::memory_order_relaxed); }

 private:
  const std::vector<double> bounds_;
  std::vector<std::atomic<uint64_t>> buckets_;  // not cumulative; the last is +Inf
  std::atomic<double> sum_{0};
};

bool valid_name(std::string_view name, bool colons) {
  const auto letter = [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (colons && c == ':');
  };
  return !name.empty() && letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (const char c : text) {
    if (c == '\\') {
      out += "\\\\";
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '"' && quotes) {
      out += "\\\"";
    } else {
      out += c;
    }
  }
}

void append_number(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
  } else if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
  } else {
    char text[40];
    // Whole numbers up to 2^53 in full, since the shortest form of a million is 1e+06.
    const bool whole = std::abs(value) <= 9007199254740992.0 && value == std::trunc(value);
    const auto end = whole ? std::to_chars(text, text + sizeof text, static_cast<int64_t>(value)).ptr
                           : std::to_chars(text, text + sizeof text, value).ptr;
    out.append(text, end);
  }
}

void append_sample(std::string& out, std::string_view name, std::string_view suffix, std::string_view labels,
                   double value) {
  out.append(name).append(suffix);
  if (!labels.empty()) out.append("{").append(labels).append("}");
  out += ' ';
  append_number(out, value);
  out += '\n';
}

void append_samples(std::string& out, std::string_view name, std::string_view labels, const CounterCell& cell) {
  append_sample(out, name, "", labels, cell.value());
}

void append_samples(std::string& out, std::string_view name, std::string_view labels, const GaugeCell& cell) {
  append_sample(out, name, "", labels, cell.value());
}

void append_samples(std::string& out, std::string_view name, std::string_view labels, const HistogramCell& cell) {
  uint64_t count = 0;
  const auto& bounds = cell.bounds();
  for (size_t i = 0; i <= bounds.size(); ++i) {
    count += cell.bucket(i);
    std::string with_bound(labels);
    if (!with_bound.empty()) with_bound += ',';
    with_bound += "le=\"";
    append_number(with_bound, i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity());
    with_bound += '"';
    append_sample(out, name, "_bucket", with_bound, static_cast<double>(count));
  }
  append_sample(out, name, "_sum", labels, cell.sum());
  append_sample(out, name, "_count", labels, static_cast<double>(count));
}

// `a="1",b="2"`, sorted by key, so that the order in which labels are given makes no difference.
std::string render_labels(Labels labels) {
  std::sort(labels.begin(), labels.end());
  std::string out;
  for (const auto& [key, value] : labels) {
    if (!out.empty()) out += ',';
    out.append(key).append("=\"");
    append_escaped(out, base::utf8::sanitize(value), true);
    out += '"';
  }
  return out;
}

bool valid_labels(const Labels& labels) {
  std::vector<std::string_view> keys;
  for (const auto& [key, value] : labels) {
    if (!valid_name(key, false) || key == "le") return false;
    keys.push_back(key);
  }
  std::sort(keys.begin(), keys.end());
  return std::adjacent_find(keys.begin(), keys.end()) == keys.end();
}

enum class Kind { counter, gauge, histogram };
constexpr std::string_view kind_names[] = {"counter", "gauge", "histogram"};

// All series of one metric, under all of its names.
struct Family {
  Kind kind;
  std::string help;
  std::vector<double> bounds;
  // By rendered labels. Only the map of the family's kind is used.
  std::map<std::string, std::unique_ptr<CounterCell>> counters;
  std::map<std::string, std::unique_ptr<GaugeCell>> gauges;
  std::map<std::string, std::unique_ptr<HistogramCell>> histograms;
};

template <typename Cell>
void append_series(std::string& out, std::string_view name, const std::map<std::string, Cell>& series) {
  for (const auto& [labels, cell] : series)
    append_samples(out, name, labels, *cell);
}

}  // namespace

struct CollectHook::Slot {
  std::mutex mutex;
  std::function<void()> collect;  // empty once the hook is gone
};

CollectHook::CollectHook(CollectHook&& other) noexcept = default;

CollectHook& CollectHook::operator=(CollectHook&& other) noexcept {
  if (this != &other) {
    release();
    slot_ = std::move(other.slot_);
  }
  return *this;
}

CollectHook::~CollectHook() {
  release();
}

void CollectHook::release() {
  if (!slot_) return;
  const std::lock_guard lock(slot_->mutex);
  slot_->collect = nullptr;
}

struct Metrics::State {
  std::mutex mutex;
  std::vector<std::unique_ptr<Family>> families;
  std::map<std::string, Family*, std::less<>> by_name;  // own names and aliases

  // Handed out where a series cannot be shown; they count, but nobody sees it.
  CounterCell hidden_counter;
  GaugeCell hidden_gauge;
  HistogramCell hidden_histogram{{}};

  // One render at a time, so that collectors need not be thread-safe among themselves.
  std::mutex render_mutex;
  std::vector<std::shared_ptr<CollectHook::Slot>> hooks;  // under `mutex`

  // The family of these names, new or known. Null, and said in the log, where they contradict what is registered: names
  // are in the program's text, so this is a bug, but not one to stop serving for.
  Family* family(const std::vector<std::string>& names, Kind kind, std::string_view help,
                 const std::vector<double>& bounds);

  template <typename Cell, typename Make>
  Cell& series(std::map<std::string, std::unique_ptr<Cell>>& all, const Labels& labels, Cell& hidden, Make make);
};

Family* Metrics::State::family(const std::vector<std::string>& names, Kind kind, std::string_view help,
                               const std::vector<double>& bounds) {
  if (names.empty() || !std::all_of(names.begin(), names.end(), [](const auto& n) { return valid_name(n, true); })) {
    base::log::error("metric '{}' is not shown: a name must match [a-zA-Z_:][a-zA-Z0-9_:]*",
                     names.empty() ? "" : names.front());
    return nullptr;
  }
  const auto known = by_name.find(names.front());
  Family* found = known == by_name.end() ? nullptr : known->second;
  for (const std::string& name : names) {
    const auto other = by_name.find(name);
    if (other != by_name.end() && other->second != found) {
      base::log::error("metric '{}' is not shown: its name '{}' belongs to another metric", names.front(), name);
      return nullptr;
    }
  }
  if (found != nullptr && (found->kind != kind || found->bounds != bounds)) {
    base::log::error("metric '{}' is not shown as a {}: it is registered as a {}{}", names.front(),
                     kind_names[static_cast<size_t>(kind)], kind_names[static_cast<size_t>(found->kind)],
                     found->kind == kind ? " with other bounds" : "");
    return nullptr;
  }
  if (found == nullptr) {
    families.push_back(std::make_unique<Family>());
    found = families.back().get();
    found->kind = kind;
    found->help = help;
    found->bounds = bounds;
  }
  for (const std::string& name : names)
    by_name.emplace(name, found);
  return found;
}

template <typename Cell, typename Make>
Cell& Metrics::State::series(std::map<std::string, std::unique_ptr<Cell>>& all, const Labels& labels, Cell& hidden,
                             Make make) {
  if (!valid_labels(labels)) {
    base::log::error("a series is not shown: label names must differ, match [a-zA-Z_][a-zA-Z0-9_]*, and not be 'le'");
    return hidden;
  }
  std::string key = render_labels(labels);
  const auto known = all.find(key);
  if (known != all.end()) return *known->second;
  if (all.size() >= max_series) return hidden;
  return *all.emplace(std::move(key), make()).first->second;
}

Metrics::Metrics() : state_(std::make_unique<State>()) {}

Metrics::~Metrics() = default;

Counter& Metrics::counter(const std::vector<std::string>& names, std::string_view help, const Labels& labels) {
  const std::lock_guard lock(state_->mutex);
  Family* family = state_->family(names, Kind::counter, help, {});
  if (family == nullptr) return state_->hidden_counter;
  return state_->series(family->counters, labels, state_->hidden_counter,
                        [] { return std::make_unique<CounterCell>(); });
}

Gauge& Metrics::gauge(const std::vector<std::string>& names, std::string_view help, const Labels& labels) {
  const std::lock_guard lock(state_->mutex);
  Family* family = state_->family(names, Kind::gauge, help, {});
  if (family == nullptr) return state_->hidden_gauge;
  return state_->series(family->gauges, labels, state_->hidden_gauge, [] { return std::make_unique<GaugeCell>(); });
}

Histogram& Metrics::histogram(const std::vector<std::string>& names, std::string_view help,
                              std::span<const double> bounds, const Labels& labels) {
  const std::lock_guard lock(state_->mutex);
  std::vector<double> ascending(bounds.begin(), bounds.end());
  std::sort(ascending.begin(), ascending.end());
  ascending.erase(std::unique(ascending.begin(), ascending.end()), ascending.end());
  if (!ascending.empty() && std::isinf(ascending.back())) ascending.pop_back();
  Family* family = state_->family(names, Kind::histogram, help, ascending);
  if (family == nullptr) return state_->hidden_histogram;
  return state_->series(family->histograms, labels, state_->hidden_histogram,
                        [&] { return std::make_unique<HistogramCell>(ascending); });
}

CollectHook Metrics::on_collect(std::function<void()> collect) {
  CollectHook hook;
  hook.slot_ = std::make_shared<CollectHook::Slot>();
  hook.slot_->collect = std::move(collect);
  const std::lock_guard lock(state_->mutex);
  // A hook that only this list still holds has been released.
  std::erase_if(state_->hooks, [](const auto& slot) { return slot.use_count() == 1; });
  state_->hooks.push_back(hook.slot_);
  return hook;
}

std::map<std::string, std::string> Metrics::render_families() {
  const std::lock_guard render_lock(state_->render_mutex);
  std::vector<std::shared_ptr<CollectHook::Slot>> hooks;
  {
    const std::lock_guard lock(state_->mutex);
    hooks = state_->hooks;
  }
  // Without the registry's lock: a collector may ask for instruments.
  for (const auto& hook : hooks) {
    const std::lock_guard lock(hook->mutex);
    if (hook->collect) hook->collect();
  }

  const std::lock_guard lock(state_->mutex);
  std::map<std::string, std::string> families;
  for (const auto& [name, family] : state_->by_name) {
    std::string& out = families[name];
    out.append("# HELP ").append(name).append(" ");
    append_escaped(out, family->help, false);
    out.append("\n# TYPE ").append(name).append(" ").append(kind_names[static_cast<size_t>(family->kind)]).append("\n");
    append_series(out, name, family->counters);
    append_series(out, name, family->gauges);
    append_series(out, name, family->histograms);
  }
  return families;
}

std::string Metrics::render_with(Metrics* other) {
  std::map<std::string, std::string> families = render_families();
  if (other != nullptr) families.merge(other->render_families());
  std::string out;
  for (const auto& [name, text] : families)
    out += text;
  return out;
}

}  // namespace tidemill::observe
