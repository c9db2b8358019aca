#include "engine/engine_loop.hpp"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "engine/prefix_file.hpp"

namespace tidemill::engine {
namespace {

base::Error no_distribution(const Sequence& sequence) {
  return base::Error(base::ErrorCode::internal,
                     fmt::format("the model's logits after {} tokens hold NaN or infinity", sequence.size()));
}

}  // namespace

void RateMeter::add(int64_t tokens, base::SteadyTime now) {
  constexpr double kHorizonSeconds = 10;
  pending_ += tokens;
  if (!last_) last_ = now;
  const double passed = base::seconds(now - *last_);
  if (passed <= 0) return;
  const double weight = 1 - std::exp(-passed / kHorizonSeconds);
  rate_ += weight * (static_cast<double>(pending_) / passed - rate_);
  pending_ = 0;
  last_ = now;
}

EngineLoop::EngineLoop(Parts parts, const EngineOptions& options, Mailbox& mailbox, Telemetry& telemetry)
    : model_(parts.model),
      tokenizer_(parts.tokenizer),
      clock_(parts.clock),
      cache_(std::move(parts.cache)),
      max_context_(parts.max_context),
      options_(options),
      mailbox_(mailbox),
      telemetry_(telemetry),
      blocks_(cache_->shape().blocks, tensor::kKvBlockTokens, options.prefix_cache),
      scheduler_(blocks_, {.step_tokens = options.step_tokens, .max_running = options.max_running}) {
  if (options.speculation.mode != Speculation::off) speculator_.emplace(options.speculation);
  update_stats();
}

void EngineLoop::run() {
  bool closed = false;
  while (!closed) {
    if (jobs_.empty()) check_idle_books();
    Mailbox::Letters letters = mailbox_.take(!scheduler_.has_work());
    closed = letters.closed;
    receive(std::move(letters));
    if (!closed && scheduler_.has_work()) step();
  }
  fail_all(base::Error(base::ErrorCode::unavailable, "the engine was stopped"));
  ended_.clear();
}

void EngineLoop::fail_all(const base::Error& error) {
  while (!jobs_.empty())
    fail(*jobs_.begin()->second, error);
}

void EngineLoop::check_idle_books() {
  auto checked = audit();
  const std::set<Block> pinned(pinned_.begin(), pinned_.end());
  if (checked && blocks_.available() + std::ssize(pinned) != blocks_.size()) {
    checked = base::Error(base::ErrorCode::internal, "blocks are owned while no sequence runs");
  }
  if (!checked) base::log::error("the idle engine's books do not balance: {}", checked.error().to_string());
  assert(checked);
}

void EngineLoop::receive(Mailbox::Letters letters) {
  for (auto& job : letters.arrivals)
    accept(std::move(job));
  for (const uint64_t number : letters.cancelled) {
    if (const auto found = jobs_.find(number); found != jobs_.end()) cancel(*found->second);
  }
  // A letter may be of an earlier time that the reader lagged: it counts if it does not lag now.
  for (const uint64_t number : letters.caught_up) {
    const auto found = jobs_.find(number);
    if (found != jobs_.end() && found->second->rests && !found->second->channel->lags()) wake(*found->second);
  }
  for (const auto& errand : letters.errands)
    errand();
  ended_.clear();
}

void EngineLoop::accept(std::unique_ptr<Job> arrived) {
  const uint64_t number = arrived->number;
  Job& job = *jobs_.emplace(number, std::move(arrived)).first->second;
  const bool samples = !job.embeds() && job.request.max_tokens > 0;
  job.last_token.resize(job.choices.size());
  job.resumed_infos.resize(job.choices.size());
  if (job.embeds()) {
    const model::HyperParameters& shape = model_.hyper_parameters();
    job.pooling = std::make_unique<Pooling>(shape.pooling, shape.width);
  }
  for (int i = 0; i < (samples ? job.request.n : 1); ++i)
    add_sequence(job, i);
  // Without probabilities, what is resumed can be told before it is computed.
  for (const auto& choice : job.choices) {
    if (choice->resumed() > 0) telemetry_.resumed(choice->resumed());
    if (choice->resumption_untold() && !job.request.logprobs) publish(job, *choice);
  }
  rest_lagging();
}

// The sequence of choice `index`, unless that has nothing left to compute.
void EngineLoop::add_sequence(Job& job, int index) {
  const Request& request = job.request;
  const Choice& choice = *job.choices[static_cast<size_t>(index)];
  const bool scores_resumed = request.logprobs && choice.resumed() > 0;
  if (choice.finished() && !scores_resumed) return;
  const bool leads = job.sequences.empty();
  SequenceSpec spec;
  spec.prompt = request.prompt;
  if (choice.resumed() > 0) spec.resumed = request.resumed[static_cast<size_t>(index)];
  spec.tenant = request.tenant;
  spec.rank = rank_of(job, options_.priority_seconds, index);
  spec.priority = request.priority;
  spec.samples = !job.embeds() && request.max_tokens > 0 && !choice.finished();
  if (job.embeds()) {
    spec.harvest = Harvest::hidden;
  } else if (leads && request.echo && request.logprobs) {
    spec.harvest = Harvest::logits;
  } else if (scores_resumed) {
    spec.harvest = Harvest::logits;
    spec.harvest_from = std::ssize(request.prompt) - 1;
  }
  const Sequence* leader = leads ? nullptr : job.sequences.front().get();
  job.sequences.push_back(std::make_unique<Sequence>(std::move(spec), leader));
  owners_.emplace(job.sequences.back().get(), &job);
  scheduler_.add(*job.sequences.back());
}

void EngineLoop::step() {
  const base::SteadyTime start = clock_.now();
  std::vector<Slice> plan = scheduler_.plan();
  if (speculator_) speculate(plan);
  for (const Slice& slice : plan)
    mark_started(*slice.sequence);
  update_stats();
  const model::Batch batch = builder_.build(plan);
  const model::Output output = model_.forward(batch, *cache_);
  const uint64_t generated_before = current_.generated_tokens;
  accepted_.clear();
  for (size_t i = 0; i < plan.size(); ++i)
    accepted_.push_back(finish_slice(plan[i], builder_.outputs()[i], output));
  const base::SteadyTime now = clock_.now();
  if (speculator_) speculator_->observe(plan, accepted_, now - start);
  ++current_.steps;
  rate_.add(static_cast<int64_t>(current_.generated_tokens - generated_before), now);
  telemetry_.stepped(scheduler_.preemptions());
  rest_lagging();
  update_stats();
  ended_.clear();
}

// Adds proposed tokens to the plan.
void EngineLoop::speculate(std::vector<Slice>& plan) {
  useful_.clear();
  for (const Slice& slice : plan)
    useful_.push_back(useful_proposal(*slice.sequence));
  const auto chosen = speculator_->choose(plan, useful_);
  for (size_t i = 0; i < plan.size(); ++i) {
    if (chosen[i].empty()) continue;
    const int64_t rows = scheduler_.extend(plan[i], std::ssize(chosen[i]));
    plan[i].proposed = chosen[i].first(static_cast<size_t>(rows));
  }
}

// How many tokens beyond the next one the sequence may still generate.
int64_t EngineLoop::useful_proposal(const Sequence& sequence) const {
  const Job& job = *owners_.at(&sequence);
  if (job.embeds() || job.request.max_tokens == 0) return 0;
  const Choice& choice = *job.choices[static_cast<size_t>(sequence.choice())];
  if (choice.finished()) return 0;  // only what it resumes is computed, for its probabilities
  return std::min<int64_t>(job.request.max_tokens - choice.generated(), max_context_ - sequence.size()) - 1;
}

void EngineLoop::mark_started(const Sequence& sequence) {
  Job& job = *owners_.at(&sequence);
  if (job.started) return;
  leave_queue(job);
  telemetry_.started(job);
  current_.prompt_tokens += static_cast<uint64_t>(sequence.prompt_size());
  if (job.embeds()) return;
  current_.prefix_queries += static_cast<uint64_t>(sequence.given_size());
  current_.prefix_hits += static_cast<uint64_t>(sequence.cached_at_start());
  telemetry_.looked_up(sequence.given_size(), sequence.cached_at_start());
}

void EngineLoop::leave_queue(Job& job) {
  if (job.started) return;
  job.started = true;
  mailbox_.left_queue();
}

int64_t EngineLoop::finish_slice(const Slice& slice, const BatchBuilder::Outputs& outputs,
                                 const model::Output& output) {
  Sequence& sequence = *slice.sequence;
  if (sequence.state() == Sequence::State::finished) return 0;  // its job failed earlier in this step
  Job& job = *owners_.at(&sequence);
  if (!harvest(job, slice, outputs, output)) {
    fail(job, no_distribution(sequence));
    return 0;
  }
  const auto proof = scheduler_.computed(slice);
  if (!job.prefilled && sequence.computed() >= sequence.given_size()) {
    job.prefilled = true;
    telemetry_.prefilled(job);
  }
  if (!proof) return 0;
  if (job.embeds()) {
    finish_embedding(job);
    return 0;
  }
  if (job.request.max_tokens == 0) {
    finish_scored(job);
    return 0;
  }
  Choice& choice = *job.choices[static_cast<size_t>(sequence.choice())];
  if (choice.resumption_untold()) tell_resumption(job, sequence, choice);
  if (choice.finished()) return 0;
  const int64_t rows = 1 + std::ssize(slice.proposed);
  const tensor::ConstMatrix& all = output.logits;
  return decode(job, sequence, *proof, slice.proposed,
                {all.row(outputs.first_logits + outputs.logits - rows), rows, all.cols, all.stride});
}

// Everything that a choice resumes has been computed, and so its probabilities are known.
void EngineLoop::tell_resumption(Job& job, Sequence& sequence, Choice& choice) {
  choice.complete_resumption(job.prompt_infos, job.resumed_infos[static_cast<size_t>(sequence.choice())]);
  if (choice.finished()) scheduler_.remove(sequence);
  publish(job, choice);
}

// Takes what the slice's rows give besides the next token; false if that is no distribution.
bool EngineLoop::harvest(Job& job, const Slice& slice, const BatchBuilder::Outputs& outputs,
                         const model::Output& output) {
  const Sequence& sequence = *slice.sequence;
  for (int64_t i = 0; i < outputs.hidden; ++i) {
    job.pooling->add({output.hidden.row(outputs.first_hidden + i), static_cast<size_t>(output.hidden.cols)});
  }
  if (sequence.harvest() != Harvest::logits) return true;
  if (job.request.echo && job.prompt_infos.empty()) {
    const Token first = sequence.tokens().front();
    job.prompt_infos.push_back({{first, std::string(tokenizer_.piece_bytes(first)), std::nullopt}, {}});
  }
  int64_t row = outputs.first_logits;
  for (int64_t position = slice.begin; position < slice.begin + slice.count; ++position) {
    if (!sequence.wants_logits(position)) continue;
    const std::span logits(output.logits.row(row++), static_cast<size_t>(output.logits.cols));
    if (position + 1 >= sequence.given_size()) continue;
    const Token next = sequence.tokens()[static_cast<size_t>(position) + 1];
    const auto logprobs = log_probabilities(logits, next, job.request.top_logprobs);
    if (!logprobs) return false;
    const bool of_prompt = position + 1 < sequence.prompt_size();
    std::vector<TokenInfo>& infos =
        of_prompt ? job.prompt_infos : job.resumed_infos[static_cast<size_t>(sequence.choice())];
    infos.push_back(describe(tokenizer_, next, *logprobs));
  }
  return true;
}

// Samples the next token; and as long as that is the one that was proposed, so that what follows it has been computed
// already, the next one too. Every token comes from the logits that it would have had without proposals, with the same
// draw: they decide how many steps are taken, and nothing else. How many of them were right.
int64_t EngineLoop::decode(Job& job, Sequence& sequence, Sequence::FullyComputed proof, std::span<const Token> proposed,
                           tensor::ConstMatrix logits) {
  Choice& choice = *job.choices[static_cast<size_t>(sequence.choice())];
  const auto cols = static_cast<size_t>(logits.cols);
  int64_t accepted = 0;
  std::optional<Sequence::FullyComputed> computed = proof;
  for (int64_t row = 0; computed; ++row) {
    const base::Result<Token> token = sample(job, sequence, *computed, {logits.row(row), cols});
    if (!token) {
      if (row > 0) publish(job, choice);  // what came before, as without proposals
      fail(job, token.error());
      return accepted;
    }
    computed = std::nullopt;
    if (row == std::ssize(proposed) || *token != proposed[static_cast<size_t>(row)]) break;
    ++accepted;
    if (!choice.finished()) computed = scheduler_.computed({&sequence, sequence.computed(), 1});
  }
  if (!proposed.empty()) {
    current_.proposed_tokens += static_cast<uint64_t>(std::ssize(proposed));
    current_.accepted_tokens += static_cast<uint64_t>(accepted);
    telemetry_.speculated(job, std::ssize(proposed), accepted);
  }
  if (choice.finished()) {
    scheduler_.remove(sequence);
    if (speculator_) speculator_->forget(sequence);
  }
  publish(job, choice);
  return accepted;
}

// The token that follows, appended; and behind it those that the grammar leaves no choice about, which need no logits
// of their own unless their probabilities were asked for.
base::Result<Token> EngineLoop::sample(Job& job, Sequence& sequence, Sequence::FullyComputed proof,
                                       std::span<const float> logits) {
  Choice& choice = *job.choices[static_cast<size_t>(sequence.choice())];
  TM_TRY(const Token token, choose(job, choice, sequence, logits));
  std::optional<TokenInfo> info;
  if (job.request.logprobs) {
    const auto logprobs = log_probabilities(logits, token, job.request.top_logprobs);
    if (!logprobs) return no_distribution(sequence);
    info = describe(tokenizer_, token, *logprobs);
  }
  if (choice.generated() == 0 && job.request.echo) choice.echo(sequence.prompt(), job.prompt_infos);
  int64_t room = max_context_ - sequence.size();
  appended_.clear();
  const auto add = [&](Token next) {
    appended_.push_back(next);
    choice.add(next, std::exchange(info, std::nullopt), --room);
    ++current_.generated_tokens;
    telemetry_.token(job, sequence.choice());
  };
  add(token);
  while (!job.request.logprobs && choice.forced())
    add(*choice.forced());
  sequence.append(proof, appended_);
  return token;
}

base::Result<Token> EngineLoop::choose(Job& job, Choice& choice, const Sequence& sequence,
                                       std::span<const float> logits) {
  if (const std::optional<Token> forced = choice.forced()) return *forced;
  TM_TRY(const grammar::TokenMask* mask, choice.allowed());
  const std::optional<Token> token =
      sampler_.sample(logits, job.request.sampling, choice.history(), choice.draw(), mask);
  if (!token) return no_distribution(sequence);
  return *token;
}

void EngineLoop::finish_scored(Job& job) {
  for (const auto& choice : job.choices) {
    if (job.request.echo) choice->echo(job.request.prompt, job.prompt_infos);
    choice->end(FinishReason::length);
  }
  for (size_t i = 0; i + 1 < job.choices.size(); ++i)
    job.channel->push(take_event(job, *job.choices[i]), false);
  end(job, take_event(job, *job.choices.back()));
}

void EngineLoop::finish_embedding(Job& job) {
  std::vector<float> vector = job.pooling->result();
  if (vector.empty()) return fail(job, no_embedding());
  Choice& choice = *job.choices.front();
  choice.end(FinishReason::stop);
  Event event = choice.take_event();
  event.embedding = std::move(vector);
  end(job, std::move(event));
}

Event EngineLoop::take_event(const Job& job, Choice& choice) {
  Event event = choice.take_event();
  if (!event.resumed) event.cached_tokens = job.cached_tokens();
  return event;
}

void EngineLoop::publish(Job& job, Choice& choice) {
  Event event = take_event(job, choice);
  if (job.all_told()) return end(job, std::move(event));
  if (job.channel->push(std::move(event), false)) lagging_.push_back(&job);
}

void EngineLoop::rest_lagging() {
  for (Job* job : lagging_) {
    if (job->ended || std::exchange(job->rests, true)) continue;
    for (const auto& sequence : job->sequences)
      scheduler_.rest(*sequence);
    telemetry_.rests(*job);
  }
  if (!lagging_.empty()) update_stats();
  lagging_.clear();
}

void EngineLoop::wake(Job& job) {
  job.rests = false;
  telemetry_.woken(job);
  for (const auto& sequence : job.sequences)
    scheduler_.wake(*sequence);
}

void EngineLoop::cancel(Job& job) {
  std::vector<Choice*> open;
  for (const auto& choice : job.choices) {
    if (choice->told_end()) continue;
    choice->end(FinishReason::cancelled);
    open.push_back(choice.get());
  }
  for (size_t i = 0; i + 1 < open.size(); ++i)
    job.channel->push(open[i]->take_event(), false);
  end(job, open.back()->take_event());
}

void EngineLoop::fail(Job& job, base::Error error) {
  base::log::error("request {}: {}", job.request.id, error.to_string());
  Event event;
  event.finish = FinishReason::error;
  event.error = std::move(error);
  end(job, std::move(event));
}

void EngineLoop::end(Job& job, Event last) {
  assert(!job.ended);
  job.ended = true;
  for (const auto& sequence : job.sequences) {
    scheduler_.remove(*sequence);
    if (speculator_) speculator_->forget(*sequence);
    owners_.erase(sequence.get());
  }
  if (job.request.pin_prompt && !last.error) {
    if (auto pinned = pin(job.request); !pinned) {
      last.finish = FinishReason::error;
      last.error = std::move(pinned).error();
    }
  }
  last.usage = usage(job);
  telemetry_.ended(job, *last.usage, last.error ? &*last.error : nullptr);
  leave_queue(job);
  mailbox_.left();
  const auto node = jobs_.extract(job.number);
  ended_.push_back(std::move(node.mapped()));
  update_stats();
  job.channel->push(std::move(last), true);
}

// Holds the blocks of the prompt for good. A context of the largest length must fit beside all that is held.
base::Result<void> EngineLoop::pin(const Request& request) {
  std::vector<Block> held = blocks_.match(request.tenant, request.prompt, std::numeric_limits<int64_t>::max());
  std::set<Block> all(pinned_.begin(), pinned_.end());
  all.insert(held.begin(), held.end());
  if (blocks_.size() - std::ssize(all) < blocks_.blocks_for(max_context_)) {
    for (; !held.empty(); held.pop_back())
      blocks_.release(held.back());
    return base::Error(
        base::ErrorCode::exhausted,
        fmt::format("keeping {} tokens for good would leave less room in the KV cache than the {} tokens "
                    "that a request may have; give it more memory, or requests a shorter context",
                    std::ssize(all) * blocks_.block_tokens(), max_context_));
  }
  pinned_.insert(pinned_.end(), held.begin(), held.end());
  return {};
}

base::Result<int64_t> EngineLoop::save_prefixes(const std::filesystem::path& path, std::string_view identity) const {
  return write_prefix_file(path, identity, blocks_, *cache_);
}

base::Result<int64_t> EngineLoop::restore_prefixes(const std::filesystem::path& path, std::string_view identity) {
  auto restored = read_prefix_file(path, identity, blocks_, *cache_);
  update_stats();
  return restored;
}

Usage EngineLoop::usage(const Job& job) const {
  return {.prompt_tokens = static_cast<int>(job.request.prompt.size()),
          .completion_tokens = job.completion_tokens(),
          .cached_tokens = job.cached_tokens()};
}

void EngineLoop::update_stats() {
  const auto runs = [](const auto& entry) {
    return std::ranges::any_of(entry.second->sequences,
                               [](const auto& s) { return s->state() == Sequence::State::running; });
  };
  current_.running = static_cast<int>(std::ranges::count_if(jobs_, runs));
  current_.resting = static_cast<int>(std::ranges::count_if(jobs_, [](const auto& e) { return e.second->rests; }));
  current_.kv_blocks = blocks_.size();
  current_.kv_blocks_free = blocks_.free();
  current_.kv_blocks_cached = blocks_.cached();
  current_.preemptions = scheduler_.preemptions();
  current_.tokens_per_second = rate_.per_second();
  const int64_t waiting = mailbox_.in_flight() - current_.running - current_.resting;
  const double used = static_cast<double>(blocks_.size() - blocks_.available());
  telemetry_.load({.waiting = waiting,
                   .running = current_.running,
                   .resting = current_.resting,
                   .kv_usage = used / static_cast<double>(blocks_.size())});
  const std::lock_guard lock(stats_mutex_);
  published_ = current_;
}

EngineStats EngineLoop::stats() const {
  EngineStats stats;
  {
    const std::lock_guard lock(stats_mutex_);
    stats = published_;
  }
  stats.waiting = std::max(0, mailbox_.in_flight() - stats.running - stats.resting);
  return stats;
}

}  // namespace tidemill::engine
