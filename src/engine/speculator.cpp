#include "engine/speculator.hpp"

#include <algorithm>
#include <cmath>

#include "engine/prompt_lookup.hpp"

namespace tidemill::engine {
namespace {

constexpr double kFirstAllowance = 0.25;  // steps
constexpr double kAllowanceEach = 0.01;   // for every step
constexpr double kMostAllowance = 4;      // gains are not saved up for long: they are meant for the client
constexpr double kMostBlamed = 2;         // a step of more plain steps' time was held up by something else
constexpr double kLeastGain = 1.03;       // expected tokens for the time, over those without; less is noise
constexpr int64_t kPlainEvery = 64;       // steps after which one goes without, to know again what that takes

// A proposal's support, in classes that are right alike often: 2, 3; 4 to 7; 8 to 15; more.
constexpr int kSupportBorders[] = {4, 8, 16};
// Their share of right tokens as it is taken to be before anything is known, and for how many tokens that counts.
constexpr double kExpected[] = {0.3, 0.6, 0.8, 0.9};
constexpr double kExpectedWeight = 3;
constexpr double kMostExpected = 0.98;
// What each further token tried leaves of the memory of those before; and each step in which nothing is tried, so that
// a sequence that has changed its ways is tried again, within its allowance.
constexpr double kKeepTried = 0.95;
constexpr double kKeepIdle = 0.99;

size_t support_class(int support) {
  const auto* const border = std::ranges::upper_bound(kSupportBorders, support);
  return static_cast<size_t>(border - std::begin(kSupportBorders));
}

bool only_decodes(std::span<const Slice> plan) {
  return std::ranges::all_of(
      plan, [](const Slice& slice) { return slice.count == 1 && slice.begin + 1 == slice.sequence->size(); });
}

int64_t mean_context(std::span<const Slice> plan) {
  int64_t sum = 0;
  for (const Slice& slice : plan)
    sum += slice.begin + 1;
  return sum / std::max<int64_t>(1, std::ssize(plan));
}

}  // namespace

Speculator::Speculator(const SpeculationOptions& options) : options_(options) {
  if (!options_.make_proposer) options_.make_proposer = [] { return std::make_unique<PromptLookup>(); };
}

Speculator::Stream& Speculator::stream(const Sequence& sequence) {
  const auto [entry, added] = streams_.try_emplace(&sequence);
  if (added) {
    entry->second.proposer = options_.make_proposer();
    entry->second.allowance = kFirstAllowance;
  }
  return entry->second;
}

std::span<const std::span<const Token>> Speculator::choose(std::span<const Slice> plan, std::span<const int64_t> most) {
  chosen_.assign(plan.size(), {});
  decodes_ = std::ssize(plan) < StepCost::kMostRows && only_decodes(plan);
  if (!decodes_) return chosen_;
  propose(plan, most);
  if (options_.adaptive) limit(plan);
  return chosen_;
}

void Speculator::propose(std::span<const Slice> plan, std::span<const int64_t> most) {
  for (size_t i = 0; i < plan.size(); ++i) {
    const int64_t wanted = std::min<int64_t>(most[i], options_.max_proposal);
    if (wanted <= 0) continue;
    Stream& s = stream(*plan[i].sequence);
    const Proposal proposal = s.proposer->propose(plan[i].sequence->tokens(), wanted);
    chosen_[i] = proposal.tokens.first(std::min(proposal.tokens.size(), static_cast<size_t>(wanted)));
    s.support = support_class(proposal.support);
  }
}

double Speculator::least_allowance(std::span<const Slice> plan) {
  double least = kMostAllowance;
  for (const Slice& slice : plan)
    least = std::min(least, stream(*slice.sequence).allowance);
  return least;
}

// Cuts what is proposed down to what is worth its time.
void Speculator::limit(std::span<const Slice> plan) {
  rows_.clear();
  for (size_t i = 0; i < plan.size(); ++i) {
    if (chosen_[i].empty()) continue;
    Stream& s = stream(*plan[i].sequence);
    const Record& record = s.records[s.support];
    const double each = std::min(
        kMostExpected, (record.right + kExpected[s.support] * kExpectedWeight) / (record.tried + kExpectedWeight));
    double all = 1;
    for (size_t j = 0; j < chosen_[i].size(); ++j)
      rows_.push_back({all *= each, i});
  }
  if (rows_.empty()) return;
  // The likeliest first. Within a sequence that is their order anyway, and no two are alike.
  std::ranges::sort(rows_, [](const Row& a, const Row& b) {
    return a.probability != b.probability ? a.probability > b.probability : a.slice < b.slice;
  });
  const size_t best =
      since_plain_ >= kPlainEvery ? 0 : best_rows(std::ssize(plan), mean_context(plan), least_allowance(plan));
  counts_.assign(plan.size(), 0);
  for (size_t row = 0; row < best; ++row)
    ++counts_[rows_[row].slice];
  for (size_t i = 0; i < plan.size(); ++i) {
    if (counts_[i] == 0 && !chosen_[i].empty()) {
      Stream& s = stream(*plan[i].sequence);
      s.records[s.support].right *= kKeepIdle;
      s.records[s.support].tried *= kKeepIdle;
    }
    chosen_[i] = chosen_[i].first(counts_[i]);
  }
}

// How many of rows_ give the most tokens for the time, of those that the allowance covers.
size_t Speculator::best_rows(int64_t plain, int64_t context, double allowance) const {
  const int64_t limit = cost_.worth_trying(plain, context) - plain;
  const size_t most = std::min(rows_.size(), static_cast<size_t>(std::max<int64_t>(0, limit)));
  size_t best = 0;
  double best_gain = kLeastGain;
  auto tokens = static_cast<double>(plain);
  for (size_t n = 1; n <= most; ++n) {
    tokens += rows_[n - 1].probability;
    const double cost = cost_.relative(plain + static_cast<int64_t>(n), plain, context);
    const double gain = tokens / (static_cast<double>(plain) * cost);
    if (cost - 1 > allowance || gain <= best_gain) continue;
    best = n;
    best_gain = gain;
  }
  return best;
}

void Speculator::observe(std::span<const Slice> plan, std::span<const int64_t> accepted, base::Duration time) {
  if (!options_.adaptive) return;
  if (!decodes_) {
    int64_t rows = 0;
    for (const Slice& slice : plan)
      rows += slice.count;
    if (rows > std::ssize(plan)) cost_.add_prefill(rows, time);
    return;
  }
  const int64_t plain = std::ssize(plan);
  int64_t rows = plain;
  for (const Slice& slice : plan)
    rows += std::ssize(slice.proposed);
  const int64_t context = mean_context(plan);
  cost_.add(rows, context, time);
  since_plain_ = rows > plain ? since_plain_ + 1 : 0;
  // The numbers that look cheapest are tried most, and some look cheap by chance: what this step took counts if it was
  // more, but for the worst, which others have done.
  const double took = std::min(kMostBlamed, cost_.relative(time, plain, context));
  const double delay = rows > plain ? std::max(cost_.relative(rows, plain, context), took) - 1 : 0;
  for (size_t i = 0; i < plan.size(); ++i) {
    const auto found = streams_.find(plan[i].sequence);
    if (found == streams_.end()) continue;  // it has ended
    Stream& s = found->second;
    const auto right = static_cast<double>(accepted[i]);
    s.allowance = std::min(kMostAllowance, s.allowance + kAllowanceEach - delay + right);
    if (plan[i].proposed.empty()) continue;
    const double tried = right + (accepted[i] < std::ssize(plan[i].proposed) ? 1 : 0);
    const double keep = std::pow(kKeepTried, tried);
    Record& record = s.records[s.support];
    record = {record.right * keep + right, record.tried * keep + tried};
  }
}

}  // namespace tidemill::engine
