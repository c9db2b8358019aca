// One linear operation of the CPU device, cut into work for its threads.
//
// The input is made ready once for all matrices that it meets: rows are normalised or gated and quantised a stretch of
// columns at a time, while they are in L1, once for each format that the weights want. Then the products of all
// matrices are one list of work.
//
// Matrices that want some rows of it alone, as experts do, are multiplied in the same way: their products are of rows
// of what was made ready, which are taken from another runner's in the order that is wanted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_team.hpp"
#include "tensor/device.hpp"
#include "tensor/kernels.hpp"

namespace tidemill::tensor {

class LinearRunner {
 public:
  LinearRunner(const Kernels& kernels, ActivationScheme activations, base::ThreadTeam& team)
      : kernels_(kernels), activations_(activations), team_(team) {}

  // As Device::linear().
  void run(std::span<const Product> products, const LinearInput& input);

  // A product of some rows of what was made ready: as many as its y has, from `first_row` on.
  struct RowsProduct {
    Product product;
    int64_t first_row;
  };
  // The parts of run(). An input is made ready for the weights of `products`, whose y are not looked at, and stays so
  // until the next one is.
  void make_ready(std::span<const RowsProduct> products, const LinearInput& input);
  // In its place, rows of what `from` has ready, of the same device: row i is row rows[i] there.
  void take_ready(const LinearRunner& from, std::span<const int32_t> rows);
  // All of `products`, as one list of work.
  void multiply(std::span<const RowsProduct> products);

 private:
  // The input as weights of one type want it, quantised or rounded.
  struct Codes {
    std::vector<std::byte> codes;
    std::vector<float> scales;
    std::vector<int32_t> sums;

    QuantizedRows rows(int64_t count) { return {count, codes.data(), scales.data(), sums.data()}; }
  };
  // Rows and columns of the input that one item of work makes ready.
  struct Area {
    int64_t first_row;
    int64_t end_row;
    int64_t begin;
    int64_t end;
  };
  // Products of one matrix with a block of rows: a stretch of the list of work.
  struct Stretch {
    const Product* product;
    int64_t first_row;    // of what is ready
    int64_t first_row_y;  // of the product's y
    int64_t rows;
    int64_t items;
    int64_t item_cost;
  };
  // Where a chunk of that list begins.
  struct Cut {
    size_t stretch;
    int64_t item;
  };

  // Whether weights of a type take codes, and then which: `type` itself, or bf16 for all that round their input.
  bool takes_codes(DType type) const;
  DType format_of(DType type) const;
  int64_t code_bytes(DType format) const;
  void make_room(DType format, int64_t rows, int64_t cols);
  void write_codes(DType format, const float* from, int64_t r, int64_t k, int64_t n, int64_t rows);
  void choose_formats(std::span<const RowsProduct> products, const LinearInput& input);
  void make_area(const LinearInput& input, const Area& area);
  const float* make_row(const LinearInput& input, int64_t r, int64_t k, int64_t n, float* space);
  int64_t most_rows_of_block() const;
  void list_work(std::span<const RowsProduct> products);
  void cut();
  void multiply_items(const Stretch& stretch, int64_t begin, int64_t end);

  const Kernels& kernels_;
  const ActivationScheme activations_;
  base::ThreadTeam& team_;
  // Of the input that is ready:
  int64_t rows_ = 0;
  int64_t cols_ = 0;
  std::vector<DType> formats_;        // that its weights want, each once
  std::array<Codes, kDTypes> codes_;  // by DType
  ConstMatrix plain_;                 // the input for weights that take floats; without data where there are none
  std::vector<float> made_;           // what it lies in where it is not the caller's
  std::vector<float> inverses_;       // of the rows' root mean squares
  // Of the multiplication that runs:
  std::vector<RowsProduct> all_rows_;  // run()'s products
  std::vector<Stretch> stretches_;
  std::vector<Cut> cuts_;  // one more than there are chunks
};

}  // namespace tidemill::tensor
