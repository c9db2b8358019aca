// Metrics in Prometheus' text format. A metric may have aliases: the same numbers under the names that other systems'
// routers and dashboards look for (vLLM's, OpenTelemetry's).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tidemill::observe {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  virtual ~Counter() = default;
  virtual void add(double amount = 1) = 0;  // amount >= 0; anything else is ignored
  virtual double value() const = 0;
};

class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void set(double value) = 0;
  virtual double value() const = 0;
};

class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void observe(double value) = 0;
};

// Keeps a function registered with Metrics::on_collect(). When this is gone, the function is no longer called nor
// running. May outlive the registry. Must not be destroyed by the function itself.
class [[nodiscard]] CollectHook {
 public:
  CollectHook() = default;
  CollectHook(CollectHook&& other) noexcept;
  CollectHook& operator=(CollectHook&& other) noexcept;
  ~CollectHook();

 private:
  friend class Metrics;
  void release();

  struct Slot;
  std::shared_ptr<Slot> slot_;
};

// A registry. Thread-safe; the instruments it hands out live as long as it does and are thread-safe too. Asking again
// for the same name and labels gives the same instrument; that costs a lock and a look-up, so keep those in use often.
// The first of `names` is Tidemill's own, the others are aliases (observe/semantic_conventions.hpp has them all).
// Names or labels that the format does not allow, that contradict an earlier registration, or series past the first
// 1000 of a metric give an instrument that works but is not shown; the first two are said in the log.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  Counter& counter(const std::vector<std::string>& names, std::string_view help, const Labels& labels = {});
  Gauge& gauge(const std::vector<std::string>& names, std::string_view help, const Labels& labels = {});
  // `bounds` are the upper bounds of the buckets (a value equal to one is inside), ascending, +Inf left out.
  Histogram& histogram(const std::vector<std::string>& names, std::string_view help, std::span<const double> bounds,
                       const Labels& labels = {});

  // Called before every render(), one at a time, to set gauges from a snapshot. Must not call render().
  CollectHook on_collect(std::function<void()> collect);

  // Prometheus' text format 0.0.4 (https://prometheus.io/docs/instrumenting/exposition_formats/), sorted by name, then
  // by labels; aliases are metrics like any other in it.
  std::string render() { return render_with(nullptr); }
  // The same, with the metrics of another registry of this process among them; of those that both have, only these.
  std::string render_with(Metrics* other);
  static constexpr std::string_view content_type = "text/plain; version=0.0.4; charset=utf-8";

 private:
  // By name, each with its HELP and TYPE.
  std::map<std::string, std::string> render_families();

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill::observe
