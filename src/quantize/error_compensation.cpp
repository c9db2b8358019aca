#include "quantize/error_compensation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "tensor/block_codes.hpp"
#include "tensor/block_encoders.hpp"

namespace tidemill::quantize {

using base::Error;
using base::ErrorCode;
using base::Result;
using tensor::DType;

namespace {

constexpr int64_t kRowsTogether = 16;

// y += a x. Apart, so that the compiler makes vectors of it.
template <typename T>
void add_scaled(T a, const T* __restrict x, T* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    y[i] += a * x[i];
}

// In eight sums, which can be added at once.
double dot(const double* a, const double* b, int64_t n) {
  std::array<double, 8> sums{};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (size_t k = 0; k < 8; ++k)
      sums[k] += a[i + static_cast<int64_t>(k)] * b[i + static_cast<int64_t>(k)];
  }
  double sum = 0;
  for (const double part : sums)
    sum += part;
  for (; i < n; ++i)
    sum += a[i] * b[i];
  return sum;
}

// A square matrix of doubles, of which the upper triangle is used.
class Triangle {
 public:
  explicit Triangle(int64_t n) : n_(n), values_(static_cast<size_t>(n * n)) {}
  double* row(int64_t r) { return values_.data() + r * n_; }
  int64_t size() const { return n_; }

 private:
  int64_t n_;
  std::vector<double> values_;
};

// H becomes R, upper triangular, with R R^T = H: the columns from the last to the first. False where H is not positive.
bool factorise(Triangle& h, base::ThreadTeam& team, const std::function<bool()>& cancelled) {
  for (int64_t j = h.size() - 1; j >= 0; --j) {
    if (j % 64 == 0 && cancelled && cancelled()) return false;
    double* last = h.row(j);
    const int64_t right = h.size() - j - 1;
    const double square = last[j] - dot(last + j + 1, last + j + 1, right);
    if (!(square > 0) || !std::isfinite(square)) return false;
    last[j] = std::sqrt(square);
    const double inverse = 1 / last[j];
    // Few rows are sooner done than shared out.
    const int64_t chunk = std::max<int64_t>(16, (int64_t{1} << 15) / std::max<int64_t>(1, right));
    team.parallel_for(j, chunk, [&](int64_t begin, int64_t end, int /*member*/) {
      for (int64_t i = begin; i < end; ++i) {
        double* row = h.row(i);
        row[j] = (row[j] - dot(row + j + 1, last + j + 1, right)) * inverse;
      }
    });
  }
  return true;
}

// U = R^-1: the rows from the last to the first, columns shared out.
void invert(Triangle& r, Triangle& u, base::ThreadTeam& team) {
  team.parallel_for(r.size(), 64, [&](int64_t begin, int64_t end, int /*member*/) {
    for (int64_t i = end - 1; i >= 0; --i) {
      const int64_t from = std::max(begin, i);
      double* row = u.row(i);
      if (i >= begin) row[i] = 1;
      for (int64_t k = i + 1; k < end; ++k) {
        const int64_t first = std::max(from, k);
        if (first < end) add_scaled(-r.row(i)[k], u.row(k) + first, row + first, end - first);
      }
      const double inverse = 1 / r.row(i)[i];
      for (int64_t c = from; c < end; ++c)
        row[c] *= inverse;
    }
  });
}

}  // namespace

Moments::Moments(int64_t cols, int64_t most) : cols_(cols) {
  for (int64_t first = 0; first < cols; first += most) {
    const int64_t n = std::min(most, cols - first);
    stretches_.push_back({first, n, std::vector<float>(static_cast<size_t>(n * (n + 1) / 2))});
  }
}

std::vector<std::span<float>> Moments::pieces() {
  std::vector<std::span<float>> pieces;
  for (Stretch& stretch : stretches_)
    pieces.emplace_back(stretch.sums);
  return pieces;
}

size_t Moments::bytes(int64_t cols) {
  size_t sum = 0;
  for (int64_t first = 0; first < cols; first += kMostCorrelated) {
    const auto n = static_cast<size_t>(std::min(kMostCorrelated, cols - first));
    sum += n * (n + 1) / 2 * sizeof(float);
  }
  return sum;
}

void Moments::add(const float* x, int64_t rows, int64_t stride, base::ThreadTeam& team) {
  rows_ += rows;
  for (Stretch& stretch : stretches_) {
    const int64_t n = stretch.cols;
    const float* at = x + stretch.first;
    // A few rows at a time, which stay in the cache while all columns are multiplied by them.
    for (int64_t first = 0; first < rows; first += kRowsTogether) {
      const int64_t last = std::min(rows, first + kRowsTogether);
      team.parallel_for(n, 32, [&](int64_t begin, int64_t end, int /*member*/) {
        for (int64_t i = begin; i < end; ++i) {
          float* sums = stretch.row(i);
          for (int64_t r = first; r < last; ++r) {
            const float* row = at + r * stride;
            add_scaled(row[i], row + i, sums, n - i);
          }
        }
      });
    }
  }
}

size_t Compensation::bytes() const {
  size_t sum = 0;
  for (const Stretch& stretch : stretches_)
    sum += (stretch.factor.size() + stretch.importance.size()) * sizeof(float);
  return sum;
}

Result<Compensation> Compensation::create(Moments moments, std::span<const float> factors, double damping,
                                          base::ThreadTeam& team, const std::function<bool()>& cancelled) {
  Compensation made(moments.cols());
  const double count = std::max<double>(1, static_cast<double>(moments.rows()));
  for (Moments::Stretch& stretch : moments.stretches_) {
    const int64_t n = stretch.cols;
    const auto factor = [&](int64_t i) -> double {
      return factors.empty() ? 1 : factors[static_cast<size_t>(stretch.first + i)];
    };
    Triangle h(n);
    double mean = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i; j < n; ++j)
        h.row(i)[j] = stretch.row(i)[j - i] / count / factor(i) / factor(j);
      mean += h.row(i)[i] / static_cast<double>(n);
    }
    stretch.sums = std::vector<float>();
    Stretch finished{stretch.first, n, {}, {}};
    for (int64_t i = 0; i < n; ++i) {
      h.row(i)[i] += mean > 0 ? damping * mean : 1;
      finished.importance.push_back(static_cast<float>(h.row(i)[i]));
    }
    if (!factorise(h, team, cancelled)) {
      if (cancelled && cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      return Error(ErrorCode::internal, "the second moments of an input are not those of numbers");
    }
    Triangle u(n);
    invert(h, u, team);
    finished.factor.resize(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i)
      std::transform(u.row(i) + i, u.row(i) + n, finished.factor.begin() + i * n + i,
                     [](double value) { return static_cast<float>(value); });
    made.stretches_.push_back(std::move(finished));
  }
  return made;
}

void Compensation::round(DType type, float* weights, int64_t rows, std::byte* out) const {
  const int64_t block = tensor::info(type).block_elements;
  const int64_t block_bytes = tensor::info(type).block_bytes;
  const int64_t out_stride = tensor::row_bytes(type, cols_);
  std::vector<float> errors(static_cast<size_t>(rows * block));
  for (const Stretch& stretch : stretches_) {
    for (int64_t at = 0; at < stretch.cols; at += block) {
      round_block(stretch, type, at, weights + stretch.first, rows, cols_,
                  out + (stretch.first + at) / block * block_bytes, out_stride, errors);
      // What this block has lost goes to all columns behind it, a row of the factor after the other for all rows.
      const int64_t behind = at + block;
      for (int64_t i = 0; i < block; ++i) {
        const float* factor = stretch.factor.data() + (at + i) * stretch.cols + behind;
        for (int64_t r = 0; r < rows; ++r) {
          add_scaled(-errors[static_cast<size_t>(r * block + i)], factor, weights + r * cols_ + stretch.first + behind,
                     stretch.cols - behind);
        }
      }
    }
  }
}

// Rounds the columns [at, at + block) of the stretch, and leaves in `errors`, [rows][block], what each has lost in
// units of the factor's diagonal.
void Compensation::round_block(const Stretch& stretch, DType type, int64_t at, float* weights, int64_t rows,
                               int64_t stride, std::byte* out, int64_t out_stride, std::span<float> errors) {
  const int64_t block = tensor::info(type).block_elements;
  std::array<uint8_t, 256> codes{};
  for (int64_t r = 0; r < rows; ++r) {
    float* row = weights + r * stride + at;
    std::byte* encoded = out + r * out_stride;
    tensor::encode_block(type, row, stretch.importance.data() + at, encoded);
    const tensor::BlockGrid grid(type, encoded);
    float* lost = errors.data() + r * block;
    for (int64_t i = 0; i < block; ++i) {
      const float* factor = stretch.factor.data() + (at + i) * stretch.cols + at;
      codes[static_cast<size_t>(i)] = grid.nearest(static_cast<int>(i), row[i]);
      const float rounded = grid.worth(static_cast<int>(i), codes[static_cast<size_t>(i)]);
      lost[i] = (row[i] - rounded) / factor[i];
      add_scaled(-lost[i], factor + i + 1, row + i + 1, block - i - 1);
    }
    tensor::store_codes(type, codes.data(), encoded);
  }
}

}  // namespace tidemill::quantize
