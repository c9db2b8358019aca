// The checks that a canary is put to: what is compared, what difference is tolerated, and what difference is a
// regression.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tidemill::rollout {

enum class Check : uint8_t { failures, ttft, itl, longer, shorter };
inline constexpr std::array kChecks = {Check::failures, Check::ttft, Check::itl, Check::longer, Check::shorter};
// "error_rate", "ttft", "itl", "longer_output", "shorter_output"
std::string_view to_string(Check check);

// One answered (or failed) request. A quantity that was not measured, or does not apply, is 0.
struct Observation {
  // A 5xx, a reset, a timeout, an answer that breaks the protocol, in any try, whatever came of the request elsewhere;
  // or a refusal (4xx) of what the other version takes. What either would refuse is the client's fault, and is not
  // observed at all, nor is a client's hanging up: a few clients who ask nothing right, and whose sessions stay with
  // one version, would else be evidence against it. Nothing but this is taken from a failed request.
  bool failed = false;
  double ttft = 0;           // seconds to the first token, as the client saw it
  double itl = 0;            // seconds between tokens, the mean of this answer's
  double output_tokens = 0;  // of the whole answer
  double seconds = 0;        // from the request to the answer's end
  // Of the request, known before the version was chosen, or 0: explains some of the differences in the above, which
  // then need not be told from the canary's.
  double prompt_tokens = 0;
};

// Differences of the canary from stable. `tolerated` is not worth going back for, `regression` must not be promoted;
// what lies between may end either way. Ratios of the typical value, above 1; for failures, differences of the rates.
struct Limits {
  double tolerated;
  double regression;
  // What the first steps of a rollout must rule out, where there is too little traffic to rule out `regression`.
  double gross;
};

struct CheckLimits {
  Limits failures = {0.0025, 0.02, 0.2};
  Limits ttft = {1.05, 1.20, 2.0};
  Limits itl = {1.05, 1.20, 2.0};
  Limits length = {1.10, 1.40, 2.5};  // for `longer`, and its inverse for `shorter`

  const Limits& of(Check check) const;
};

}  // namespace tidemill::rollout
