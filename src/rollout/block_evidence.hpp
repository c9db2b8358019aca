// What one block of observations says: e-values that owe their validity to the split's coin and to nothing else.
//
// A block is a run of observations of which a random subset, `canary`, was given to the canary. If the canary makes no
// difference, every subset of that size was as likely, whatever the values are: heavy tails, bursts that hit both
// versions, daily tides and correlation in time do not matter. Given the block's pooled values, the likelihood of the
// subset under an exponential tilt towards large values, over its likelihood under the fair draw, has the expectation 1
// then: it is an e-value, and the product over blocks is a test martingale, which may be looked at after every block
// (Ramdas, Gruenwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023; the
// conditional likelihood is that of conditional logistic regression, as in Cox's). If the canary's values are smaller
// than under the null, the expectation is below 1.
#pragma once

#include <array>
#include <cstddef>
#include <span>

namespace tidemill::rollout {

inline constexpr size_t kMostInBlock = 32;  // observations
inline constexpr size_t kTilts = 6;

// Natural logarithms of one block's e-values, one for each strength of the tilt.
using TiltLogs = std::array<double, kTilts>;

enum class Direction { larger, smaller };  // what the canary's values are suspected to be

// By ranks: the scores are the normal quantiles of the ranks in the pooled block (van der Waerden's), so that a value's
// size beyond its rank has no weight. Ties are broken by the order given, which must not depend on the assignment.
// `values`, finite, in the order of observation, 2 to kMostInBlock of them; `canary[i]` tells whose values[i] is. All
// zeros where one side has none.
TiltLogs rank_evidence(std::span<const double> values, std::span<const bool> canary, Direction direction);

// How many requests of one side of a block there were, and how many failed.
struct Failures {
  int requests = 0;
  int failed = 0;
};

// For failures (a Fisher's exact test, as an e-value). The null: the canary fails at most as often (`larger`; at least
// as often: `smaller`) as stable with `margin` added, that is, as stable if every request of stable that succeeds were
// failed with the probability `margin` afterwards. The e-value is averaged over that imagined coin, which makes it one
// again, and exact; nothing is drawn. 0 <= margin < 1; kMostInBlock requests at most in all.
TiltLogs failure_evidence(Failures canary, Failures stable, double margin, Direction direction);

}  // namespace tidemill::rollout
