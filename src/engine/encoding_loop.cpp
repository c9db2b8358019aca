#include "engine/encoding_loop.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "base/log.hpp"

namespace tidemill::engine {
namespace {

base::Error keeps_nothing() {
  return base::Error(base::ErrorCode::unsupported, "an encoder keeps nothing of its texts, so it has no prefixes");
}

}  // namespace

EncodingLoop::EncodingLoop(Parts parts, const EngineOptions& options, Mailbox& mailbox, Telemetry& telemetry)
    : encoder_(parts.encoder),
      priority_seconds_(options.priority_seconds),
      most_rows_(std::min<int64_t>(options.step_tokens, parts.encoder.max_rows())),
      most_texts_(std::min<int64_t>(options.max_running, parts.encoder.max_texts())),
      mailbox_(mailbox),
      telemetry_(telemetry) {
  update_stats();
}

void EncodingLoop::run() {
  bool closed = false;
  while (!closed) {
    Mailbox::Letters letters = mailbox_.take(waiting_.empty());
    closed = letters.closed;
    receive(std::move(letters));
    if (!closed && !waiting_.empty()) step();
  }
  fail_all(base::Error(base::ErrorCode::unavailable, "the engine was stopped"));
}

void EncodingLoop::receive(Mailbox::Letters letters) {
  for (auto& job : letters.arrivals) {
    const Rank rank = rank_of(*job, priority_seconds_, 0);
    ranks_.emplace(job->number, rank);
    waiting_.emplace(rank, std::move(job));
  }
  for (const uint64_t number : letters.cancelled) {
    const auto rank = ranks_.find(number);
    if (rank == ranks_.end()) continue;
    const auto node = waiting_.extract(rank->second);
    ranks_.erase(rank);
    Choice& choice = *node.mapped()->choices.front();
    choice.end(FinishReason::cancelled);
    end(*node.mapped(), choice.take_event());
  }
  for (const auto& errand : letters.errands)
    errand();
}

void EncodingLoop::step() {
  choose();
  update_stats();
  const tensor::ConstMatrix hidden = encoder_.encode({tokens_, types_, begins_});
  ++current_.steps;
  telemetry_.stepped(0);
  if (encoder_.ranks()) {
    const tensor::ConstMatrix scores = encoder_.score(std::span(begins_).first(running_.size()));
    for (size_t t = 0; t < running_.size(); ++t)
      finish_scored(*running_[t], *scores.row(static_cast<int64_t>(t)));
    running_.clear();
    return;
  }
  for (size_t t = 0; t < running_.size(); ++t) {
    const int64_t rows = begins_[t + 1] - begins_[t];
    finish(*running_[t], {hidden.row(begins_[t]), rows, hidden.cols, hidden.stride});
  }
  running_.clear();
}

void EncodingLoop::choose() {
  tokens_.clear();
  types_.clear();
  begins_.assign(1, 0);
  while (!waiting_.empty() && std::ssize(running_) < most_texts_) {
    const Job& next = *waiting_.begin()->second;
    const int64_t rows = std::ssize(tokens_) + std::ssize(next.request.prompt);
    // Nobody overtakes a text that does not fit any more. Alone, every text does.
    if (rows > most_rows_ && !running_.empty()) return;
    place(next);
    ranks_.erase(next.number);
    running_.push_back(std::move(waiting_.extract(waiting_.begin()).mapped()));
    Job& job = *running_.back();
    job.started = true;
    mailbox_.left_queue();
    telemetry_.started(job);
    current_.prompt_tokens += job.request.prompt.size();
  }
}

void EncodingLoop::place(const Job& job) {
  const std::vector<Token>& prompt = job.request.prompt;
  tokens_.insert(tokens_.end(), prompt.begin(), prompt.end());
  const int64_t first = job.request.kind == Request::Kind::score ? job.request.second_text : std::ssize(prompt);
  types_.insert(types_.end(), static_cast<size_t>(first), 0);
  types_.insert(types_.end(), prompt.size() - static_cast<size_t>(first), encoder_.token_types() > 1 ? 1 : 0);
  begins_.push_back(static_cast<int32_t>(tokens_.size()));
}

void EncodingLoop::finish(Job& job, tensor::ConstMatrix hidden) {
  Pooling pooling(encoder_.hyper_parameters().pooling, hidden.cols);
  for (int64_t r = 0; r < hidden.rows; ++r)
    pooling.add({hidden.row(r), static_cast<size_t>(hidden.cols)});
  std::vector<float> vector = pooling.result();
  if (vector.empty()) return fail(job, no_embedding());
  Event event;
  event.embedding = std::move(vector);
  end_whole(job, std::move(event));
}

void EncodingLoop::finish_scored(Job& job, float score) {
  if (!std::isfinite(score)) return fail(job, no_embedding());
  Event event;
  event.score = score;
  end_whole(job, std::move(event));
}

// The event with all that was asked for.
void EncodingLoop::end_whole(Job& job, Event last) {
  job.prefilled = true;
  telemetry_.prefilled(job);
  Choice& choice = *job.choices.front();
  choice.end(FinishReason::stop);
  last.finish = choice.take_event().finish;
  end(job, std::move(last));
}

void EncodingLoop::fail(Job& job, base::Error error) {
  base::log::error("request {}: {}", job.request.id, error.to_string());
  Event event;
  event.finish = FinishReason::error;
  event.error = std::move(error);
  end(job, std::move(event));
}

void EncodingLoop::fail_all(const base::Error& error) {
  for (const auto& [rank, job] : std::exchange(waiting_, {}))
    fail(*job, error);
  ranks_.clear();
}

void EncodingLoop::end(Job& job, Event last) {
  assert(!job.ended);
  job.ended = true;
  last.usage = Usage{.prompt_tokens = static_cast<int>(job.request.prompt.size())};
  telemetry_.ended(job, *last.usage, last.error ? &*last.error : nullptr);
  if (!std::exchange(job.started, true)) mailbox_.left_queue();
  mailbox_.left();
  update_stats();
  job.channel->push(std::move(last), true);
}

base::Result<int64_t> EncodingLoop::save_prefixes(const std::filesystem::path& /*path*/,
                                                  std::string_view /*identity*/) const {
  return keeps_nothing();
}

base::Result<int64_t> EncodingLoop::restore_prefixes(const std::filesystem::path& /*path*/,
                                                     std::string_view /*identity*/) {
  return keeps_nothing();
}

void EncodingLoop::update_stats() {
  current_.running =
      static_cast<int>(std::ranges::count_if(running_, [](const std::unique_ptr<Job>& job) { return !job->ended; }));
  telemetry_.load({.waiting = mailbox_.in_flight() - current_.running, .running = current_.running});
  const std::lock_guard lock(stats_mutex_);
  published_ = current_;
}

EngineStats EncodingLoop::stats() const {
  EngineStats stats;
  {
    const std::lock_guard lock(stats_mutex_);
    stats = published_;
  }
  stats.waiting = std::max(0, mailbox_.in_flight() - stats.running);
  return stats;
}

}  // namespace tidemill::engine
