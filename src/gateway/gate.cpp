#include "gateway/gate.hpp"

#include <fmt/core.h>

#include "base/log.hpp"

namespace tidemill::gateway {

using base::Result;

namespace {

// Rounds of keep() between two looks at the keys.
constexpr int keys_every = 20;

Refused refused(const access::Denial& denial) {
  return {.status = denial.status,
          .message = denial.message,
          .type = denial.status == 401 ? "authentication_error" : "permission_error",
          .code = denial.code,
          .retry_after = std::nullopt};
}

Refused refused(const access::Refusal& refusal) {
  return {.status = 429,
          .message = refusal.message,
          .type = std::string(access::error_type(refusal.reason)),
          .code = std::string(access::error_code(refusal.reason)),
          .retry_after = refusal.retry_after};
}

// What the queue has decided, told from the thread that decides to the coroutine that waits.
struct Decision {
  std::mutex mutex;
  bool made = false;
  std::optional<access::Refusal> refusal;
};

}  // namespace

// ---- Passage

Passage& Passage::operator=(Passage&& other) noexcept {
  if (this == &other) return *this;
  if (gate_ != nullptr && place_ != 0) gate_->admission_->finish(place_, 0, gate_->clock_.now());
  gate_ = std::exchange(other.gate_, nullptr);
  reservation_ = std::move(other.reservation_);
  status_ = other.status_;
  price_ = other.price_;
  place_ = std::exchange(other.place_, 0);
  return *this;
}

Passage::~Passage() {
  if (gate_ != nullptr && place_ != 0) gate_->admission_->finish(place_, 0, gate_->clock_.now());
}

void Passage::first_token() {
  if (gate_ != nullptr && place_ != 0) gate_->admission_->first_token(place_, gate_->clock_.now());
}

void Passage::set_model(const Caller& caller, const std::string& model) {
  price_ = caller.policy->prices.find(model);
}

std::optional<access::Money> Passage::cost_of(const access::Usage& usage) const {
  return price_ ? std::optional(access::cost_of(*price_, usage)) : std::nullopt;
}

std::optional<access::Money> Passage::settle(const access::Usage& usage) {
  if (gate_ == nullptr) return std::nullopt;
  if (place_ != 0) gate_->admission_->finish(std::exchange(place_, 0), usage.tokens(), gate_->clock_.now());
  const std::optional<access::Money> cost = cost_of(usage);
  if (reservation_) status_ = reservation_.settle(usage.tokens(), cost.value_or(access::Money()));
  return cost;
}

// ---- Gate

Gate::Gate(GateOptions options, const base::Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      slots_(options_.slots),
      limiter_({.gateway = options_.gateway, .store = options_.store}, clock),
      policy_(std::make_shared<const access::Policy>()) {
  if (options_.slots > 0) {
    access::AdmissionOptions admission;
    admission.slots = options_.slots;
    admission.max_queued = options_.max_queued;
    admission.longest_wait = options_.longest_wait;
    admission_.emplace(admission);
  }
}

Result<std::unique_ptr<Gate>> Gate::open(GateOptions options, const base::Clock& clock) {
  std::unique_ptr<Gate> gate(new Gate(std::move(options), clock));
  TM_TRY(gate->policy_, load_policy(gate->options_.policy));
  if (gate->options_.keys.empty()) return gate;
  auto vault = access::open_keys(gate->options_.keys);
  if (!vault) return std::move(vault).error().with_param("gateway.keys");
  gate->vault_ = std::move(*vault);
  auto read = gate->read_keys();
  if (!read) return std::move(read).error().wrap("the API keys").with_param("gateway.keys");
  return gate;
}

Result<void> Gate::read_keys() {
  TM_TRY(access::KeyDocument document, vault_->read());
  complain_of_keys(std::move(document.concern));
  auto ring = std::make_shared<const access::KeyRing>(std::move(document.keys));
  const std::lock_guard lock(mutex_);
  ring_ = std::move(ring);
  revision_ = std::move(document.revision);
  return {};
}

Result<std::shared_ptr<const access::Policy>> Gate::load_policy(const std::string& path) {
  if (path.empty()) return std::make_shared<const access::Policy>();
  auto read = access::read_policy(path);
  if (!read) return std::move(read).error().wrap("the policy").with_param("gateway.policy");
  return std::make_shared<const access::Policy>(std::move(*read));
}

void Gate::use_policy(std::shared_ptr<const access::Policy> policy) {
  const std::lock_guard lock(mutex_);
  policy_ = std::move(policy);
}

std::pair<Caller, std::optional<Refused>> Gate::identify(const wire::HttpRequest& request) const {
  Caller caller;
  {
    const std::lock_guard lock(mutex_);
    caller.ring = ring_;
    caller.policy = policy_;
  }
  if (!vault_) return {std::move(caller), std::nullopt};
  std::string_view secret = request.bearer_token();
  if (secret.empty()) secret = request.headers.find("x-api-key").value_or("");
  const access::KeyRing::Found found = caller.ring->find(secret, clock_.wall_now());
  if (found.denial) return {std::move(caller), refused(*found.denial)};
  caller.key = found.key;
  caller.tenant = found.key->tenant;
  caller.key_id = found.key->id;
  return {std::move(caller), std::nullopt};
}

std::optional<Refused> Gate::check(const Caller& caller, std::string_view scope, std::string_view model) {
  if (caller.key == nullptr) return std::nullopt;
  const auto denial = access::denied(*caller.key, scope, model);
  return denial ? std::optional(refused(*denial)) : std::nullopt;
}

asio::awaitable<void> Gate::learn(const Caller& caller, wire::BlockingPool& pool) {
  auto work = [&]() -> Result<void> {
    limiter_.learn(caller.tenant, caller.policy->of(caller.tenant));
    return {};
  };
  (void)co_await pool.run(work);
}

Gate::Entry Gate::reserve(const Caller& caller, const Asked& asked) {
  Entry entry;
  Passage& passage = entry.passage;
  passage.gate_ = this;
  passage.price_ = caller.policy->prices.find(asked.model);
  const access::Usage most{.prompt_tokens = asked.prompt_tokens, .output_tokens = asked.output_tokens};
  const access::Money cost = passage.price_ ? access::cost_of(*passage.price_, most) : access::Money();
  access::Limiter::Admission admitted =
      limiter_.admit(caller.tenant, caller.policy->of(caller.tenant), most.tokens(), cost);
  passage.status_ = admitted.status;
  if (admitted.refusal) {
    entry.refused = refused(*admitted.refusal);
    entry.refused->headers = passage.headers();
  } else {
    passage.reservation_ = std::move(admitted.reservation);
  }
  return entry;
}

asio::awaitable<void> Gate::wait_for_turn(const Caller& caller, const Asked& asked, wire::Exchange& exchange,
                                          Entry& entry) {
  const access::TenantPolicy& policy = caller.policy->of(caller.tenant);
  const access::AdmissionRequest request{
      .tenant = caller.tenant,
      .weight = policy.weight,
      .priority = caller.key != nullptr && caller.key->priority ? *caller.key->priority : policy.priority,
      .prompt_tokens = asked.prompt_tokens,
      .output_tokens = asked.output_tokens};
  const auto decision = std::make_shared<Decision>();
  entry.passage.place_ = admission_->submit(request, clock_.now(), [decision, wake = exchange.waker()](auto refusal) {
    {
      const std::lock_guard lock(decision->mutex);
      decision->made = true;
      decision->refusal = std::move(refusal);
    }
    wake();
  });
  while (true) {
    {
      const std::lock_guard lock(decision->mutex);
      if (decision->made) break;
    }
    const wire::Wake wake = co_await exchange.wait();
    if (wake != wire::Wake::disconnected) continue;
    entry.gone = true;
    co_return;
  }
  if (!decision->refusal) co_return;
  entry.refused = refused(*decision->refusal);
  entry.refused->headers = entry.passage.headers();
  entry.passage.place_ = 0;
}

void Gate::expire() {
  if (admission_) admission_->expire(clock_.now());
}

void Gate::keep() {
  (void)limiter_.exchange();  // logs by itself
  if (vault_ && ++rounds_ % keys_every == 0) look_at_keys();
}

void Gate::share_books() {
  if (!limiter_.apart()) (void)limiter_.exchange();  // logs by itself
}

void Gate::look_at_keys() {
  const auto failed = [this](const base::Error& error) {
    if (!std::exchange(keys_lost_, true)) complain_of_keys("they stay as they were: " + error.to_string());
  };
  const auto changed = vault_->changed(revision_);
  if (!changed) return failed(changed.error());
  if (!*changed && !keys_lost_) return;
  const auto read = read_keys();
  if (!read) return failed(read.error());
  keys_lost_ = false;
}

void Gate::complain_of_keys(std::string complaint) {
  if (complaint == complaint_) return;
  if (complaint.empty()) {
    base::log::info("the API keys are well again");
  } else {
    base::log::warn("the API keys: {}", complaint);
  }
  complaint_ = std::move(complaint);
}

void Gate::set_queue(int slots, size_t max_queued, base::Duration longest_wait) {
  if (!admission_ || slots == 0) return;
  slots_ = slots;
  admission_->set_queue(max_queued, longest_wait);
  admission_->set_slots(slots, clock_.now());
}

std::string Gate::currency() const {
  const std::lock_guard lock(mutex_);
  return policy_->currency;
}

access::Admission::State Gate::queue() const {
  return admission_ ? admission_->state() : access::Admission::State();
}

double Gate::pressure() const {
  if (!admission_) return 0;
  const access::Admission::State state = admission_->state();
  return state.queued > 0 ? 1 : static_cast<double>(state.running) / slots_;
}

}  // namespace tidemill::gateway
