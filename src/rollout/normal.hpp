// The standard normal distribution.
#pragma once

namespace tidemill::rollout {

double normal_cdf(double z);
// The inverse of normal_cdf, for 0 < p < 1 (Acklam's approximation, polished by one step of Halley's method: about
// 1e-15).
double normal_quantile(double p);

}  // namespace tidemill::rollout
