#include "rollout/ridge.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <cassert>
#include <cmath>
#include <utility>

namespace tidemill::rollout {
namespace {

constexpr int kSize = static_cast<int>(kFeatures);
constexpr double kNoiseCounts = 10;  // observations that the noise taken for granted counts for

using Vector = Eigen::Matrix<double, kSize, 1>;
using Matrix = Eigen::Matrix<double, kSize, kSize, Eigen::RowMajor>;

Eigen::Map<const Vector> as_vector(const Features& x) {
  return Eigen::Map<const Vector>(x.data());
}

base::Error bad_sums(const char* what) {
  return {base::ErrorCode::invalid_argument, std::string("a regression's sums ") + what};
}

template <typename Numbers>
bool read_numbers(const base::json::object& object, const char* key, Numbers& numbers) {
  const auto* member = object.if_contains(key);
  if (member == nullptr || !member->is_array() || member->get_array().size() != numbers.size()) return false;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const base::json::value& number = member->get_array()[i];
    if (!number.is_number()) return false;
    numbers[i] = number.to_number<double>();
    if (!std::isfinite(numbers[i])) return false;
  }
  return true;
}

template <typename Numbers>
base::json::array write_numbers(const Numbers& numbers) {
  return base::json::array(numbers.begin(), numbers.end());
}

}  // namespace

RidgeSums::RidgeSums(size_t targets) : moments_(targets), squares_(targets) {
  for (Features& moment : moments_)
    moment.fill(0);
}

void RidgeSums::add(const Features& x, std::span<const double> targets, double keep) {
  assert(targets.size() == moments_.size());
  weight_ = weight_ * keep + 1;
  size_t pair = 0;
  for (size_t i = 0; i < kFeatures; ++i) {
    for (size_t j = 0; j <= i; ++j, ++pair)
      gram_[pair] = gram_[pair] * keep + x[i] * x[j];
  }
  for (size_t t = 0; t < targets.size(); ++t) {
    for (size_t i = 0; i < kFeatures; ++i)
      moments_[t][i] = moments_[t][i] * keep + x[i] * targets[t];
    squares_[t] = squares_[t] * keep + targets[t] * targets[t];
  }
}

void RidgeSums::merge(const RidgeSums& other) {
  assert(other.targets() == targets());
  weight_ += other.weight_;
  for (size_t i = 0; i < kPairs; ++i)
    gram_[i] += other.gram_[i];
  for (size_t t = 0; t < moments_.size(); ++t) {
    for (size_t i = 0; i < kFeatures; ++i)
      moments_[t][i] += other.moments_[t][i];
    squares_[t] += other.squares_[t];
  }
}

base::json::value RidgeSums::to_json() const {
  base::json::array moments;
  for (const Features& moment : moments_)
    moments.push_back(write_numbers(moment));
  return {{"weight", weight_},
          {"gram", write_numbers(gram_)},
          {"moments", std::move(moments)},
          {"squares", write_numbers(squares_)}};
}

base::Result<RidgeSums> RidgeSums::from_json(const base::json::value& value, size_t targets) {
  const auto* object = value.if_object();
  if (object == nullptr) return bad_sums("are an object with 'weight', 'gram', 'moments' and 'squares'");
  RidgeSums sums(targets);
  const auto* weight = object->if_contains("weight");
  if (weight == nullptr || !weight->is_number() || !(weight->to_number<double>() >= 0))
    return bad_sums("want a number 'weight' from 0 on");
  sums.weight_ = weight->to_number<double>();
  if (!read_numbers(*object, "gram", sums.gram_)) return bad_sums("want 78 numbers 'gram'");
  if (!read_numbers(*object, "squares", sums.squares_)) return bad_sums("want a number in 'squares' for every target");
  const auto* moments = object->if_contains("moments");
  if (moments == nullptr || !moments->is_array() || moments->get_array().size() != targets)
    return bad_sums("want a list in 'moments' for every target");
  for (size_t t = 0; t < targets; ++t) {
    const base::json::object row = {{"row", moments->get_array()[t]}};
    if (!read_numbers(row, "row", sums.moments_[t])) return bad_sums("want 12 numbers in every list of 'moments'");
  }
  // What is no sum of squares would make the factorisation fail.
  Matrix gram;
  size_t pair = 0;
  for (int i = 0; i < kSize; ++i) {
    for (int j = 0; j <= i; ++j)
      gram(i, j) = gram(j, i) = sums.gram_[pair++];
  }
  const double scale = 1 + gram.diagonal().cwiseAbs().maxCoeff();
  if (Eigen::LLT<Matrix>(gram + 1e-6 * scale * Matrix::Identity()).info() != Eigen::Success)
    return bad_sums("have a 'gram' that is no sum of squares");
  return sums;
}

Ridge::Ridge(const RidgeSums& sums, double ridge, double noise) : theta_(sums.targets()), noise_(sums.targets()) {
  Matrix gram;
  size_t pair = 0;
  for (int i = 0; i < kSize; ++i) {
    for (int j = 0; j <= i; ++j)
      gram(i, j) = gram(j, i) = sums.gram_[pair++];
  }
  const Eigen::LLT<Matrix> factor(gram + ridge * Matrix::Identity());
  Eigen::Map<Matrix>(lower_.data()) = factor.matrixL();
  for (size_t t = 0; t < theta_.size(); ++t) {
    const Vector moment = as_vector(sums.moments_[t]);
    const Vector theta = factor.solve(moment);
    Eigen::Map<Vector>(theta_[t].data()) = theta;
    const double residuals = std::max(0.0, sums.squares_[t] - 2 * theta.dot(moment) + theta.dot(gram * theta));
    noise_[t] = std::sqrt((kNoiseCounts * noise * noise + residuals) / (kNoiseCounts + sums.weight_));
  }
}

double Ridge::mean(const Features& x, size_t target) const {
  return as_vector(theta_[target]).dot(as_vector(x));
}

double Ridge::leverage(const Features& x) const {
  const Eigen::Map<const Matrix> lower(lower_.data());
  return lower.triangularView<Eigen::Lower>().solve(as_vector(x)).squaredNorm();
}

double Ridge::deviation(const Features& x, size_t target) const {
  return noise_[target] * std::sqrt(leverage(x));
}

}  // namespace tidemill::rollout
