#include "gateway/backend.hpp"

#include <algorithm>
#include <charconv>
#include <functional>
#include <utility>

#include <fmt/core.h>

#include "base/log.hpp"

namespace tidemill::gateway {

namespace {

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

const ModelCard* find_card(const std::vector<ModelCard>& sorted, std::string_view id) {
  const auto at =
      std::ranges::lower_bound(sorted, id, {}, [](const ModelCard& card) { return std::string_view(card.id); });
  return at != sorted.end() && at->id == id ? &*at : nullptr;
}

std::optional<int64_t> whole(std::optional<double> number) {
  return number ? std::optional(static_cast<int64_t>(*number)) : std::nullopt;
}

// The number that a label of the series `name` holds: cache_config_info{block_size="16"}.
std::optional<int64_t> label_of(std::string_view text, std::string_view name, std::string_view label) {
  const size_t series = text.find(name);
  if (series == std::string_view::npos) return std::nullopt;
  const std::string_view line = text.substr(series, text.find('\n', series + 1) - series);
  const std::string key = std::string(label) + "=\"";
  const size_t at = line.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(line.data() + at + key.size(), line.data() + line.size(), number);
  return error == std::errc() ? std::optional(number) : std::nullopt;
}

}  // namespace

route::BackendReport parse_report(std::string_view metrics) {
  route::BackendReport report;
  report.waiting = whole(sum_of(metrics, "vllm:num_requests_waiting"));
  report.running = whole(sum_of(metrics, "vllm:num_requests_running"));
  report.kv_usage = sum_of(metrics, "vllm:kv_cache_usage_perc");
  report.started_at = sum_of(metrics, "process_start_time_seconds");
  const auto block = label_of(metrics, "\nvllm:cache_config_info{", "block_size");
  const auto blocks = label_of(metrics, "\nvllm:cache_config_info{", "num_gpu_blocks");
  if (block && blocks) report.kv_capacity_tokens = *block * *blocks;
  return report;
}

Outcome outcome_of(int status) {
  if (status >= 200 && status < 300) return Outcome::answered;
  if (status == 429 || status == 503) return Outcome::refused;
  return status == 500 || status == 502 || status == 504 ? Outcome::faulty : Outcome::declined;
}

Backend::Backend(BackendOptions options, observe::Metrics& metrics)
    : options_(std::move(options)),
      requests_(metrics.counter({"tidemill_gateway_backend_requests_total"}, "Tries at each backend",
                                {{"backend", options_.name}})),
      errors_(
          metrics.counter({"tidemill_gateway_backend_failures_total"},
                          "Tries that a backend refused (429, 503), failed (500, 502, 504), broke off or did not take",
                          {{"backend", options_.name}})),
      unauthorized_(metrics.counter({"tidemill_gateway_backend_unauthorized_total"},
                                    "Answers of 401 by a backend that was sent the key configured for it",
                                    {{"backend", options_.name}})) {
  // Checked by all_backends(); what is none leads nowhere.
  if (auto parsed = wire::Url::parse(options_.url)) url_ = *std::move(parsed);
  base_path_ = url_.target == "/" ? "" : url_.target;
}

std::string Backend::target(std::string_view of_the_client) const {
  return base_path_ + std::string(of_the_client);
}

bool Backend::serves(std::string_view model) const {
  if (model.empty()) return true;
  const std::vector<std::string>& configured = options_.models;
  if (!configured.empty()) return std::find(configured.begin(), configured.end(), model) != configured.end();
  const std::lock_guard lock(mutex_);
  return listed_ && find_card(*listed_, model) != nullptr;
}

bool Backend::models_known() const {
  if (!options_.models.empty()) return true;
  const std::lock_guard lock(mutex_);
  return listed_.has_value();
}

std::vector<std::string> Backend::models() const {
  if (!options_.models.empty()) return options_.models;
  std::vector<std::string> names;
  const std::lock_guard lock(mutex_);
  if (!listed_) return names;
  names.reserve(listed_->size());
  for (const ModelCard& card : *listed_)
    names.push_back(card.id);
  return names;
}

std::vector<ModelCard> Backend::model_cards() const {
  const std::lock_guard lock(mutex_);
  std::vector<ModelCard> listed = listed_.value_or(std::vector<ModelCard>());
  if (options_.models.empty()) return listed;
  std::vector<ModelCard> cards;
  for (const std::string& name : options_.models) {
    const ModelCard* known = find_card(listed, name);
    cards.push_back(known != nullptr ? *known : ModelCard{.id = name});
  }
  return cards;
}

void Backend::note_list(int status, std::string_view body) {
  if (status == 401) note_unauthorized();
  if (status != 200) {
    note_no_list(fmt::format("it answers {} to /v1/models", status));
    return;
  }
  const size_t hash = std::hash<std::string_view>()(body);
  {
    const std::lock_guard lock(mutex_);
    if (listed_ && hash == list_hash_) {
      told_no_list_ = false;
      return;
    }
  }
  auto models = parse_models(body);
  if (!models) {
    note_no_list("its answer to /v1/models is no list of models: " + models.error().message());
    return;
  }
  const std::lock_guard lock(mutex_);
  listed_ = std::move(*models);
  list_hash_ = hash;
  told_no_list_ = false;
}

void Backend::note_no_list(std::string_view why) {
  if (!options_.models.empty()) return;  // nobody goes by its list
  const std::lock_guard lock(mutex_);
  if (std::exchange(told_no_list_, true)) return;
  if (listed_) {
    base::log::warn("backend {}: {}; it keeps the models that it has listed before", name(), why);
  } else {
    base::log::warn(
        "backend {}: {}; it is asked for what no other backend lists, so name its models (gateway.backend.models)",
        name(), why);
  }
}

void Backend::note_unauthorized() {
  if (options_.api_key.empty()) return;
  unauthorized_.add();
  const std::lock_guard lock(mutex_);
  if (std::exchange(told_unauthorized_, true)) return;
  base::log::warn("backend {} answers 401: the api_key that is configured for it is not good there", name());
}

void Backend::note_ready(const route::BackendReport& report) {
  timeouts_ = 0;
  if (seen_.exchange(Seen::ready) != Seen::ready) base::log::info("backend {} is ready", name());
  const std::lock_guard lock(mutex_);
  const auto started_at = std::exchange(report_, report).started_at;
  // One that does not say when it began, as while it is busy, may well be the same.
  if (!report.started_at) report_.started_at = started_at;
  if (report_.started_at == started_at) return;
  // Another process, perhaps another program.
  marks_ = -1;
  listed_.reset();
  told_no_list_ = false;
  told_unauthorized_ = false;
}

void Backend::note_unready(std::string_view why, bool by_itself, base::SteadyTime now) {
  if (by_itself) {
    const std::lock_guard lock(mutex_);
    asked_for_none_ = std::max(asked_for_none_.value_or(now), now);
  }
  const Seen after = by_itself ? Seen::unready : Seen::failing;
  const Seen before = seen_.exchange(after);
  if (before == after) return;
  if (by_itself && before != Seen::ready) {
    base::log::info("backend {} is not ready yet: {}", name(), why);  // as one that loads its model
  } else {
    base::log::warn("backend {} is not ready: {}", name(), why);
  }
}

bool Backend::asked_for_none_after(base::SteadyTime moment) const {
  const std::lock_guard lock(mutex_);
  return asked_for_none_ && *asked_for_none_ > moment;
}

route::BackendReport Backend::report() const {
  const std::lock_guard lock(mutex_);
  return report_;
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
  const bool well = outcome == Outcome::answered || outcome == Outcome::declined;
  if (!well && outcome != Outcome::abandoned) errors_.add();
}

}  // namespace tidemill::gateway
