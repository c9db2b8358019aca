#include "gateway/backend.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/log.hpp"

namespace tidemill::gateway {

namespace {

constexpr base::Duration shortest_shun = std::chrono::milliseconds(250);
constexpr int most_doublings = 6;

// The sum over the series of `name`, which starts a line and ends at a blank or a brace.
std::optional<double> sum_of(std::string_view text, std::string_view name) {
  std::optional<double> sum;
  size_t at = 0;
  while ((at = text.find(name, at)) != std::string_view::npos) {
    const bool starts_line = at == 0 || text[at - 1] == '\n';
    const size_t behind = at + name.size();
    at = behind;
    if (!starts_line || behind >= text.size() || (text[behind] != ' ' && text[behind] != '{')) continue;
    const std::string_view line = text.substr(behind, text.find('\n', behind) - behind);
    // A label's value may hold blanks and braces; the value stands behind the last brace.
    const size_t brace = line.rfind('}');
    const size_t value = line.find_first_not_of(' ', brace == std::string_view::npos ? 0 : brace + 1);
    if (value == std::string_view::npos) continue;
    double number = 0;
    const auto [end, error] = std::from_chars(line.data() + value, line.data() + line.size(), number);
    if (error == std::errc()) sum = sum.value_or(0) + number;
  }
  return sum;
}

}  // namespace

BackendLoad BackendLoad::parse(std::string_view metrics) {
  BackendLoad load;
  load.waiting = sum_of(metrics, "vllm:num_requests_waiting").value_or(0);
  load.running = sum_of(metrics, "vllm:num_requests_running").value_or(0);
  load.kv_usage = sum_of(metrics, "vllm:kv_cache_usage_perc").value_or(0);
  load.started_at = sum_of(metrics, "process_start_time_seconds").value_or(0);
  return load;
}

Backend::Backend(BackendOptions options, observe::Metrics& metrics, const base::Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      requests_(metrics.counter({"tidemill_gateway_backend_requests_total"}, "Tries at each backend",
                                {{"backend", options_.name}})),
      errors_(metrics.counter({"tidemill_gateway_backend_failures_total"},
                              "Tries that a backend refused (429, 502, 503, 504), broke off or did not take",
                              {{"backend", options_.name}})) {}

bool Backend::serves(std::string_view model) const {
  if (model.empty()) return true;
  const auto holds = [model](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), model) != names.end();
  };
  if (!options_.models.empty()) return holds(options_.models);
  const std::lock_guard lock(mutex_);
  return listed_ && holds(*listed_);
}

bool Backend::models_known() const {
  if (!options_.models.empty()) return true;
  const std::lock_guard lock(mutex_);
  return listed_.has_value();
}

std::vector<std::string> Backend::models() const {
  if (!options_.models.empty()) return options_.models;
  const std::lock_guard lock(mutex_);
  return listed_.value_or(std::vector<std::string>());
}

void Backend::set_models(std::vector<std::string> models) {
  const std::lock_guard lock(mutex_);
  listed_ = std::move(models);
}

bool Backend::available() const {
  return ready_.load(std::memory_order_relaxed) &&
         shunned_until_.load(std::memory_order_relaxed) <= clock_.now().time_since_epoch().count();
}

bool Backend::note_poll(const BackendLoad& load) {
  timeouts_ = 0;
  const bool was_ready = ready_.exchange(true);
  if (!reachable_.exchange(true)) base::log::info("backend {} is ready", name());
  const std::lock_guard lock(mutex_);
  const bool restarted = load.started_at != load_.started_at;
  load_ = load;
  if (was_ready && !restarted) return false;
  shunned_until_ = 0;
  failures_ = 0;
  marks_ = -1;  // another program may have come up there
  return restarted;
}

void Backend::note_unready(std::string_view why) {
  ready_ = false;
  if (reachable_.exchange(false)) base::log::warn("backend {} is not ready: {}", name(), why);
}

BackendLoad Backend::load() const {
  const std::lock_guard lock(mutex_);
  return load_;
}

std::optional<bool> Backend::sends_marks() const {
  const int8_t marks = marks_.load(std::memory_order_relaxed);
  return marks < 0 ? std::nullopt : std::optional(marks == 1);
}

void Backend::note_marks(bool marked) {
  marks_.store(marked ? 1 : 0, std::memory_order_relaxed);
}

void Backend::begin() {
  in_flight_.fetch_add(1, std::memory_order_relaxed);
  requests_.add();
}

void Backend::finish(Outcome outcome) {
  in_flight_.fetch_sub(1, std::memory_order_relaxed);
  if (outcome == Outcome::answered) failures_.store(0, std::memory_order_relaxed);
  if (outcome == Outcome::answered || outcome == Outcome::abandoned) return;
  errors_.add();
  if (outcome == Outcome::refused) return;
  const int before = std::min(failures_.fetch_add(1), most_doublings);
  shunned_until_ = (clock_.now() + shortest_shun * (int64_t{1} << before)).time_since_epoch().count();
}

Backend::Lease::Lease(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {
  if (backend_) backend_->begin();
}

Backend::Lease& Backend::Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    end(Outcome::abandoned);
    backend_ = std::move(other.backend_);
  }
  return *this;
}

void Backend::Lease::end(Outcome outcome) {
  if (const auto backend = std::exchange(backend_, nullptr)) backend->finish(outcome);
}

}  // namespace tidemill::gateway
