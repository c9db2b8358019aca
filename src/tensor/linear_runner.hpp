// One linear operation of the CPU device, cut into work for its threads.
//
// The input is made ready once for all matrices that it meets: rows are normalised or gated and quantised a stretch of
// columns at a time, while they are in L1, once for each format that the weights want. Then the products of all
// matrices are one list of work.
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

  // Whether weights of a type take codes, and then which: `type` itself, or bf16 for all that round their input.
  bool takes_codes(DType type) const;
  DType format_of(DType type) const;
  int64_t code_bytes(DType format) const;
  void make_room(DType format, int64_t rows, int64_t cols);
  void write_codes(DType format, const float* from, int64_t r, int64_t k, int64_t n, int64_t rows);
  void choose_formats(std::span<const Product> products, const LinearInput& input);
  void make_ready(std::span<const Product> products, const LinearInput& input);
  void make_area(const LinearInput& input, const Area& area);
  const float* make_row(const LinearInput& input, int64_t r, int64_t k, int64_t n, float* space);
  void cut(int64_t items, int64_t item_cost);
  void multiply(std::span<const Product> products, int64_t rows, int64_t cols);
  void multiply_item(const Product& product, int64_t column, int64_t first_row, int64_t rows, int64_t all_rows);

  const Kernels& kernels_;
  const ActivationScheme activations_;
  base::ThreadTeam& team_;
  // Of the operation that runs:
  std::vector<DType> formats_;        // that its weights want, each once
  std::array<Codes, kDTypes> codes_;  // by DType
  ConstMatrix plain_;                 // the input for weights that take floats; without data where there are none
  std::vector<float> made_;           // what it lies in where it is not the caller's
  std::vector<float> inverses_;       // of the rows' root mean squares
  std::vector<int64_t> cuts_;         // chunks of the list of products
};

}  // namespace tidemill::tensor
