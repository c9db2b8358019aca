#include "serve/service.hpp"

#include <algorithm>
#include <cmath>

#include "wire/unready.hpp"

namespace tidemill::serve {

namespace {

// A guess at the length of an answer, until some have been seen.
constexpr double usual_completion_tokens = 128;

// More than one, so that a text that takes its time does not hold up everybody else's.
constexpr size_t text_threads = 2;

}  // namespace

Service::Service(ServeOptions options, const base::Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      tracer_(clock, static_cast<size_t>(options_.trace_ring)),
      text_pool_(text_threads, stopping),
      large_text_pool_(1, stopping),
      grammar_pool_(1, stopping),
      large_grammar_pool_(1, stopping),
      store_pool_(1, stopping) {}

Service::~Service() {
  close_pools();
}

void Service::set_serving(std::unique_ptr<Serving> serving) {
  owned_ = std::move(serving);
  serving_.store(owned_.get(), std::memory_order_release);
}

std::optional<std::string_view> Service::unready() const {
  if (draining()) return wire::unready_draining;
  if (serving() == nullptr) return wire::unready_loading;
  return std::nullopt;
}

std::optional<base::Error> Service::refusal() const {
  const auto why = unready();
  if (!why) return std::nullopt;
  return base::Error(base::ErrorCode::unavailable,
                     *why == wire::unready_draining
                         ? "the server is draining: it finishes what runs and takes no new requests"
                         : "the model is still being loaded");
}

int Service::retry_after_s() const {
  const Serving* now = serving();
  if (now == nullptr) return 1;
  const engine::EngineStats stats = now->engine->stats();
  const auto completions = static_cast<double>(completions_.load());
  const double length =
      completions > 0 ? static_cast<double>(completion_tokens_.load()) / completions : usual_completion_tokens;
  if (stats.tokens_per_second <= 0) return 1;
  const double wait = std::ceil(stats.waiting * length / stats.tokens_per_second);
  return static_cast<int>(std::clamp(wait, 1.0, 60.0));
}

void Service::note_completion(int64_t tokens) {
  completions_.fetch_add(1);
  completion_tokens_.fetch_add(static_cast<uint64_t>(std::max<int64_t>(tokens, 0)));
}

void Service::close_pools() {
  give_up_waiting();
  text_pool_.close();
  large_text_pool_.close();
  grammar_pool_.close();
  large_grammar_pool_.close();
  store_pool_.close();
}

}  // namespace tidemill::serve
