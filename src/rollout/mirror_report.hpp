// What a mirror has shown: the stable version's answers and the shadow's, side by side.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "rollout/agreement.hpp"
#include "rollout/quantile_sketch.hpp"

namespace tidemill::rollout {

// One side's answer to a mirrored request. Quantities that were not measured are 0.
struct MirroredAnswer {
  bool failed = false;
  double seconds = 0;  // until it was whole
  double ttft = 0;     // seconds
  double output_tokens = 0;
  std::string_view text = {};  // empty if it failed
};

// Thread-safe; memory is bounded however much is added. `add` compares texts (compare_texts), so it does not belong on
// the threads that relay. Texts are not kept.
class MirrorReport {
 public:
  // What one pair has shown; `id` is kept if few agreed less.
  Agreement add(std::string_view id, const MirroredAnswer& stable, const MirroredAnswer& shadow);
  void merge(const MirrorReport& other);

  int64_t pairs() const;
  // {"pairs", "failed": {...}, "exact", "agreement": {<measure>: {"mean", "p10", ...}}, "seconds": {"stable": {...},
  // "shadow": {...}, "ratio": {...}}, "ttft", "output_tokens", "least_alike": [{"id", "edit_similarity"}]}
  base::json::value to_json() const;
  // The same as a table for people.
  std::string to_table() const;

 private:
  struct Quantity {
    QuantileSketch stable;
    QuantileSketch shadow;
    QuantileSketch ratio;  // shadow's over stable's, pair by pair
    void add(double of_stable, double of_shadow);
    void merge(const Quantity& other);
  };
  struct LeastAlike {
    std::string id;
    double similarity;
  };
  struct Sums {
    int64_t pairs = 0;
    int64_t stable_failed = 0;
    int64_t shadow_failed = 0;
    int64_t both_failed = 0;
    int64_t compared = 0;  // neither failed
    int64_t exact = 0;
    std::array<QuantileSketch, 3> agreement;  // prefix, word_f1, edit_similarity
    std::array<Quantity, 3> quantities;       // seconds, TTFT, output tokens
    std::vector<LeastAlike> least_alike;      // the least first
  };
  static void keep(std::vector<LeastAlike>& kept, LeastAlike entry);

  mutable std::mutex mutex_;
  Sums sums_;
};

}  // namespace tidemill::rollout
