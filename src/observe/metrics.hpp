// Metrics in Prometheus' text format. A metric may have aliases: the same numbers under the names that other systems'
// routers and dashboards look for (vLLM's, OpenTelemetry's).
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tidemill::observe {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  virtual ~Counter() = default;
  virtual void add(double amount = 1) = 0;  // amount >= 0
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

// A registry. Thread-safe; the instruments it hands out live as long as it does and are thread-safe too. Asking again for
// the same name and labels gives the same instrument. The first of `names` is Tidemill's own, the others are aliases.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  Counter& counter(const std::vector<std::string>& names, std::string_view help, const Labels& labels = {});
  Gauge& gauge(const std::vector<std::string>& names, std::string_view help, const Labels& labels = {});
  // `bounds` are the upper bounds of the buckets, ascending, +Inf left out.
  Histogram& histogram(const std::vector<std::string>& names, std::string_view help, const std::vector<double>& bounds,
                       const Labels& labels = {});

  // Called before every render(), to set gauges from a snapshot.
  void on_collect(std::function<void()> collect);

  // Content type "text/plain; version=0.0.4".
  std::string render();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill::observe
