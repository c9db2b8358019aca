// Rounding that makes up for its own errors: weights are rounded from left to right, and what each loses is given to
// those of its row that are not rounded yet, as much as the inputs are correlated.
//
// After E. Frantar, S. Ashkboos, T. Hoefler, D. Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
// Pre-trained Transformers" (arXiv:2210.17323), with three differences. The scales of a block are chosen when its first
// column is reached, by the encoder of its type, which weighs errors by what the inputs' squares are. The factor of the
// inverse is found without inverting: where H = R R^T with an upper triangular R, H^-1 = U^T U with U = R^-1. And rows
// of more than kMostCorrelated columns are cut into stretches, between which nothing is made up for: time and memory
// grow with the square of a stretch, and a model's widest input decides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "base/thread_team.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::quantize {

// A multiple of every block.
inline constexpr int64_t kMostCorrelated = 2048;

// Second moments of the columns of an input, E[x_i x_j], in stretches of columns. Sums are of floats, in an order that
// depends on nothing but the calls.
class Moments {
 public:
  // `most` columns make a stretch at most: a multiple of every block that rows are rounded to.
  explicit Moments(int64_t cols, int64_t most = kMostCorrelated);

  int64_t cols() const { return cols_; }
  int64_t rows() const { return rows_; }  // that were added
  static size_t bytes(int64_t cols);      // of the moments of so many columns

  // Adds `rows` rows of cols() floats, `stride` apart.
  void add(const float* x, int64_t rows, int64_t stride, base::ThreadTeam& team);

  // The sums, for who keeps them elsewhere (moment_file.hpp), which have bytes(cols()).
  std::vector<std::span<float>> pieces();
  // They are those of so many rows.
  void set_rows(int64_t rows) { rows_ = rows; }

 private:
  friend class Compensation;
  struct Stretch {
    int64_t first;
    int64_t cols;
    std::vector<float> sums;  // of each row of [cols][cols], from the diagonal to the right

    // The diagonal of row i.
    float* row(int64_t i) { return sums.data() + i * cols - i * (i - 1) / 2; }
  };

  int64_t cols_;
  int64_t rows_ = 0;
  std::vector<Stretch> stretches_;
};

// Const calls are thread-safe.
class Compensation {
 public:
  // Of inputs that are divided by `factors`, one for each column, as smoothing does; empty: as they are. `damping` is
  // added to the diagonal, as a share of its mean: what makes rows solvable whose inputs were few or never there.
  // `cancelled` as elsewhere; the only other error is `internal`, where moments are not numbers.
  static base::Result<Compensation> create(Moments moments, std::span<const float> factors, double damping,
                                           base::ThreadTeam& team, const std::function<bool()>& cancelled);

  int64_t cols() const { return cols_; }
  size_t bytes() const;  // in memory

  // Rounds `rows` rows of cols() floats to a block type whose blocks fit; `weights` are changed on the way. `out` takes
  // row_bytes(type, cols()) bytes for each. Fastest with some sixteen rows at a time.
  void round(tensor::DType type, float* weights, int64_t rows, std::byte* out) const;

 private:
  struct Stretch {
    int64_t first;
    int64_t cols;
    std::vector<float> factor;      // U, [cols][cols], from the diagonal to the right
    std::vector<float> importance;  // [cols] what errors are weighed by: the damped diagonal of the moments
  };
  explicit Compensation(int64_t cols) : cols_(cols) {}

  static void round_block(const Stretch& stretch, tensor::DType type, int64_t at, float* weights, int64_t rows,
                          int64_t stride, std::byte* out, int64_t out_stride, std::span<float> errors);

  int64_t cols_;
  std::vector<Stretch> stretches_;
};

}  // namespace tidemill::quantize
