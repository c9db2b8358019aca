#include "rollout/mirror_report.hpp"

#include <algorithm>
#include <utility>

#include <fmt/core.h>

namespace tidemill::rollout {
namespace {

constexpr size_t kLeastAlikeKept = 16;
constexpr std::array kMeasures = {"prefix", "word_f1", "edit_similarity"};
constexpr std::array kQuantities = {"seconds", "ttft", "output_tokens"};

double mean(const QuantileSketch& sketch) {
  return sketch.count() == 0 ? 0 : sketch.sum() / static_cast<double>(sketch.count());
}

base::json::value summary(const QuantileSketch& sketch) {
  return {{"count", sketch.count()},     {"mean", mean(sketch)},        {"p10", sketch.quantile(0.1)},
          {"p50", sketch.quantile(0.5)}, {"p90", sketch.quantile(0.9)}, {"p99", sketch.quantile(0.99)}};
}

std::string row(std::string_view name, const QuantileSketch& sketch) {
  return fmt::format("{:<24} {:>9} {:>10.4g} {:>10.4g} {:>10.4g} {:>10.4g} {:>10.4g}\n", name, sketch.count(),
                     mean(sketch), sketch.quantile(0.1), sketch.quantile(0.5), sketch.quantile(0.9),
                     sketch.quantile(0.99));
}

}  // namespace

void MirrorReport::Quantity::add(double of_stable, double of_shadow) {
  if (of_stable > 0) stable.add(of_stable);
  if (of_shadow > 0) shadow.add(of_shadow);
  if (of_stable > 0 && of_shadow > 0) ratio.add(of_shadow / of_stable);
}

void MirrorReport::Quantity::merge(const Quantity& other) {
  stable.merge(other.stable);
  shadow.merge(other.shadow);
  ratio.merge(other.ratio);
}

void MirrorReport::keep(std::vector<LeastAlike>& kept, LeastAlike entry) {
  const auto place = std::ranges::upper_bound(kept, entry.similarity, {}, &LeastAlike::similarity);
  if (place == kept.end() && kept.size() == kLeastAlikeKept) return;
  kept.insert(place, std::move(entry));
  if (kept.size() > kLeastAlikeKept) kept.pop_back();
}

Agreement MirrorReport::add(std::string_view id, const MirroredAnswer& stable, const MirroredAnswer& shadow) {
  const bool compared = !stable.failed && !shadow.failed;
  const Agreement agreement = compared ? compare_texts(stable.text, shadow.text) : Agreement{};
  const std::scoped_lock lock(mutex_);
  ++sums_.pairs;
  sums_.stable_failed += stable.failed ? 1 : 0;
  sums_.shadow_failed += shadow.failed ? 1 : 0;
  sums_.both_failed += stable.failed && shadow.failed ? 1 : 0;
  if (!compared) return agreement;
  ++sums_.compared;
  sums_.exact += agreement.exact ? 1 : 0;
  sums_.agreement[0].add(agreement.prefix);
  sums_.agreement[1].add(agreement.word_f1);
  sums_.agreement[2].add(agreement.edit_similarity);
  sums_.quantities[0].add(stable.seconds, shadow.seconds);
  sums_.quantities[1].add(stable.ttft, shadow.ttft);
  sums_.quantities[2].add(stable.output_tokens, shadow.output_tokens);
  if (!agreement.exact) keep(sums_.least_alike, {std::string(id), agreement.edit_similarity});
  return agreement;
}

void MirrorReport::merge(const MirrorReport& other) {
  if (this == &other) return;
  const std::scoped_lock lock(mutex_, other.mutex_);
  sums_.pairs += other.sums_.pairs;
  sums_.stable_failed += other.sums_.stable_failed;
  sums_.shadow_failed += other.sums_.shadow_failed;
  sums_.both_failed += other.sums_.both_failed;
  sums_.compared += other.sums_.compared;
  sums_.exact += other.sums_.exact;
  for (size_t i = 0; i < kMeasures.size(); ++i)
    sums_.agreement[i].merge(other.sums_.agreement[i]);
  for (size_t i = 0; i < kQuantities.size(); ++i)
    sums_.quantities[i].merge(other.sums_.quantities[i]);
  for (const LeastAlike& entry : other.sums_.least_alike)
    keep(sums_.least_alike, entry);
}

int64_t MirrorReport::pairs() const {
  const std::scoped_lock lock(mutex_);
  return sums_.pairs;
}

base::json::value MirrorReport::to_json() const {
  const std::scoped_lock lock(mutex_);
  const auto compared = static_cast<double>(std::max<int64_t>(1, sums_.compared));
  base::json::object agreement;
  for (size_t i = 0; i < kMeasures.size(); ++i)
    agreement[kMeasures[i]] = summary(sums_.agreement[i]);
  base::json::array least_alike;
  for (const LeastAlike& entry : sums_.least_alike)
    least_alike.push_back({{"id", entry.id}, {"edit_similarity", entry.similarity}});
  base::json::object report = {
      {"pairs", sums_.pairs},
      {"failed", {{"stable", sums_.stable_failed}, {"shadow", sums_.shadow_failed}, {"both", sums_.both_failed}}},
      {"compared", sums_.compared},
      {"exact", static_cast<double>(sums_.exact) / compared},
      {"agreement", std::move(agreement)}};
  for (size_t i = 0; i < kQuantities.size(); ++i) {
    const Quantity& quantity = sums_.quantities[i];
    report[kQuantities[i]] = {
        {"stable", summary(quantity.stable)}, {"shadow", summary(quantity.shadow)}, {"ratio", summary(quantity.ratio)}};
  }
  report["least_alike"] = std::move(least_alike);
  return report;
}

std::string MirrorReport::to_table() const {
  const std::scoped_lock lock(mutex_);
  std::string table = fmt::format(
      "{} pairs; failed: {} of stable, {} of the shadow, {} of both; {} of {} compared are equal\n", sums_.pairs,
      sums_.stable_failed, sums_.shadow_failed, sums_.both_failed, sums_.exact, sums_.compared);
  table +=
      fmt::format("{:<24} {:>9} {:>10} {:>10} {:>10} {:>10} {:>10}\n", "", "count", "mean", "p10", "p50", "p90", "p99");
  for (size_t i = 0; i < kMeasures.size(); ++i)
    table += row(kMeasures[i], sums_.agreement[i]);
  for (size_t i = 0; i < kQuantities.size(); ++i) {
    table += row(fmt::format("{}, stable", kQuantities[i]), sums_.quantities[i].stable);
    table += row(fmt::format("{}, shadow", kQuantities[i]), sums_.quantities[i].shadow);
    table += row(fmt::format("{}, ratio", kQuantities[i]), sums_.quantities[i].ratio);
  }
  for (const LeastAlike& entry : sums_.least_alike)
    table += fmt::format("least alike: {} ({:.3f})\n", entry.id, entry.similarity);
  return table;
}

}  // namespace tidemill::rollout
