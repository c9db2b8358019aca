#include "observe/otlp.hpp"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "observe/semantic_conventions.hpp"

namespace tidemill::observe {

namespace {

bool worth_retrying(const base::Result<int>& status) {
  return !status || *status == 429 || *status == 502 || *status == 503 || *status == 504;
}

std::string answer_in_words(const base::Result<int>& status) {
  if (status) return "the OTLP collector answered with status " + std::to_string(*status);
  return "the OTLP collector could not be reached: " + status.error().to_string();
}

// Somewhere between half of `pause` and all of it.
base::Duration shortened_at_random(base::Duration pause) {
  const int64_t half = pause.count() / 2;
  return pause - base::Duration(static_cast<int64_t>(base::random_u64() % static_cast<uint64_t>(half + 1)));
}

OtlpOptions checked(OtlpOptions options) {
  if (options.resource.instance_id.empty()) options.resource.instance_id = base::random_hex(16);
  options.queue_spans = std::max<size_t>(options.queue_spans, 1);
  options.batch_spans = std::clamp<size_t>(options.batch_spans, 1, options.queue_spans);
  options.first_pause = std::max(options.first_pause, base::Duration(0));
  return options;
}

}  // namespace

struct OtlpExporter::State {
  State(OtlpTransport its_transport, OtlpOptions its_options, Metrics& metrics, const base::Clock& its_clock)
      : transport(std::move(its_transport)),
        options(checked(std::move(its_options))),
        clock(its_clock),
        exported(metrics.counter(semconv::metric::spans_exported.names(), semconv::metric::spans_exported.help)),
        dropped(metrics.counter(semconv::metric::spans_dropped.names(), semconv::metric::spans_dropped.help)) {}

  const OtlpTransport transport;
  const OtlpOptions options;
  const base::Clock& clock;
  Counter& exported;
  Counter& dropped;

  std::mutex mutex;
  std::condition_variable wake;     // the exporter's thread
  std::condition_variable settled;  // flush()
  std::deque<std::shared_ptr<const SpanRecord>> queue;
  uint64_t added = 0;             // spans so far: the newest in the queue is number `added` - 1
  uint64_t in_flight = 0;         // spans of the batch being sent; they precede those in the queue
  uint64_t in_flight_number = 0;  // of the first of them
  uint64_t flush_before = 0;      // spans with a lower number do not wait for a full batch
  bool stopping = false;
  base::SteadyTime deadline;  // when stopping

  // Of the exporter's thread.
  bool failing = false;      // the last attempt failed, which the log says
  bool unreachable = false;  // no answer came while stopping
  std::thread thread;

  // The number of the oldest span that is neither sent nor dropped.
  uint64_t oldest() const { return in_flight > 0 ? in_flight_number : added - queue.size(); }
  bool out_of_time() const { return stopping && clock.now() >= deadline; }

  void run();
  bool deliver(std::string_view path, const std::string& body);
  bool gives_up(const base::Result<int>& status);
  bool wait_before_retry(base::Duration pause);
};

void OtlpExporter::State::run() {
  std::unique_lock lock(mutex);
  while (true) {
    wake.wait(lock, [&] { return stopping || !queue.empty(); });
    wake.wait_for(lock, options.delay,
                  [&] { return stopping || queue.size() >= options.batch_spans || oldest() < flush_before; });
    if (stopping && (queue.empty() || unreachable || out_of_time())) break;

    const size_t size = std::min(queue.size(), options.batch_spans);
    in_flight_number = oldest();
    in_flight = size;
    const auto last = queue.begin() + static_cast<std::ptrdiff_t>(size);
    const std::vector<std::shared_ptr<const SpanRecord>> batch(std::make_move_iterator(queue.begin()),
                                                               std::make_move_iterator(last));
    queue.erase(queue.begin(), last);
    lock.unlock();
    const bool arrived = deliver("/v1/traces", otlp_traces_body(batch, options.resource));
    (arrived ? exported : dropped).add(static_cast<double>(size));
    lock.lock();
    in_flight = 0;
    settled.notify_all();
  }
  dropped.add(static_cast<double>(queue.size()));
  queue.clear();
  settled.notify_all();
}

// Whether the collector took the body, after as many attempts as are due.
bool OtlpExporter::State::deliver(std::string_view path, const std::string& body) {
  base::Duration pause = options.first_pause;
  for (int attempt = 1;; ++attempt) {
    const base::Result<int> status = transport(path, body);
    if (status && *status / 100 == 2) {
      if (failing) base::log::info("the OTLP collector takes spans again");
      failing = false;
      return true;
    }
    // At once, for whoever has just set it up; and once until it recovers: a collector that is down for a day should
    // not fill the log.
    if (!std::exchange(failing, true)) {
      base::log::warn("spans cannot be sent, and are lost if that lasts: {}{}{}", answer_in_words(status),
                      options.advice.empty() ? "" : "; ", options.advice);
    }
    if (!worth_retrying(status) || attempt >= options.attempts || gives_up(status) || !wait_before_retry(pause)) {
      return false;
    }
    pause = std::min(pause * 2, options.longest_pause);
  }
}

// Whether nobody was there, and the end does not wait for anybody.
bool OtlpExporter::State::gives_up(const base::Result<int>& status) {
  const std::lock_guard lock(mutex);
  const auto absent = [](base::ErrorCode code) {
    return code == base::ErrorCode::unavailable || code == base::ErrorCode::timeout;
  };
  unreachable = stopping && !status && absent(status.error().code());
  return unreachable;
}

// Whether there is time for another attempt.
bool OtlpExporter::State::wait_before_retry(base::Duration pause) {
  pause = shortened_at_random(pause);
  std::unique_lock lock(mutex);
  if (stopping) pause = std::min(pause, deadline - clock.now());
  if (pause > base::Duration(0)) {
    if (options.pause) {
      lock.unlock();
      options.pause(pause);
      lock.lock();
    } else {
      wake.wait_for(lock, pause, [&, was_stopping = stopping] { return stopping && !was_stopping; });
    }
  }
  return !out_of_time();
}

OtlpExporter::OtlpExporter(OtlpTransport transport, OtlpOptions options, Metrics& metrics, const base::Clock& clock)
    : state_(std::make_unique<State>(std::move(transport), std::move(options), metrics, clock)) {
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

OtlpExporter::~OtlpExporter() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->deadline = state_->clock.now() + state_->options.shutdown_limit;
  }
  state_->wake.notify_all();
  state_->thread.join();
}

void OtlpExporter::add(std::shared_ptr<const SpanRecord> record) {
  std::shared_ptr<const SpanRecord> oldest;  // freed after the lock
  const std::lock_guard lock(state_->mutex);
  auto& queue = state_->queue;
  if (queue.size() >= state_->options.queue_spans) {
    oldest = std::move(queue.front());
    queue.pop_front();
    state_->dropped.add();
  }
  queue.push_back(std::move(record));
  ++state_->added;
  // The thread sleeps until there is a first span, then until the batch is full or the delay over.
  if (queue.size() == 1 || queue.size() == state_->options.batch_spans) state_->wake.notify_one();
}

void OtlpExporter::flush() {
  std::unique_lock lock(state_->mutex);
  const uint64_t before = state_->added;
  state_->flush_before = before;
  state_->wake.notify_one();
  state_->settled.wait(lock, [&] { return state_->oldest() >= before; });
}

}  // namespace tidemill::observe
