// Operations on the heads of a row: each has its own matrix, and its own columns of what lies in rows.
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "tensor/cpu_device.hpp"
#include "tensor/samples.hpp"

namespace tidemill::tensor {
namespace {

using test::matrix;
using test::Samples;

// Few heads, which are multiplied one after another, and many, of which each thread has some: the bits are the same.
TEST(LinearEach, GivesTheBitsOfEachProductAlone) {
  Samples samples(61);
  constexpr int64_t kRows = 5;
  constexpr int64_t kCols = 64;
  constexpr int64_t kOutputs = 48;
  for (const DType type : {DType::f32, DType::bf16, DType::q8_0, DType::q4_0}) {
    for (const int64_t heads : {1, 3, 40}) {
      const std::vector<float> x = samples.normal(kRows * heads * kCols);
      for (const Isa isa : available_isas()) {
        for (const int threads : {1, 3}) {
          auto device = make_cpu_device(isa, threads);
          Samples same(62);
          std::vector<std::unique_ptr<Weight>> weights;
          std::vector<float> together(static_cast<size_t>(kRows * heads * kOutputs));
          std::vector<float> alone(together.size());
          std::vector<Product> products;
          std::vector<ConstMatrix> inputs;
          for (int64_t h = 0; h < heads; ++h) {
            const std::vector<float> values = same.normal(kOutputs * kCols, 0.1F);
            std::vector<std::byte> bytes(static_cast<size_t>(row_bytes(type, kCols) * kOutputs));
            quantize(type, values.data(), kOutputs * kCols, bytes.data());
            weights.push_back(device->load_weight(type, kOutputs, kCols, bytes).value());
            inputs.push_back({x.data() + h * kCols, kRows, kCols, heads * kCols});
            const int64_t stride = heads * kOutputs;
            products.push_back({weights.back().get(), {}, {together.data() + h * kOutputs, kRows, kOutputs, stride}});
            const std::vector<Product> one = {
                {weights.back().get(), {}, {alone.data() + h * kOutputs, kRows, kOutputs, stride}}};
            device->linear(one, inputs.back());
          }
          device->linear_each(products, inputs);
          EXPECT_EQ(together, alone) << to_string(isa) << ", " << heads << " heads, " << threads << " threads";
        }
      }
    }
  }
}

TEST(Copy, RespectsStrides) {
  auto device = make_cpu_device(available_isas().back(), 2);
  const std::vector<float> x = {1, 2, 3, 4, 5, 6};
  std::vector<float> y(8, 9.0F);
  device->copy({x.data() + 1, 2, 2, 3}, {y.data(), 2, 2, 4});
  EXPECT_EQ(y, (std::vector<float>{2, 3, 9, 9, 5, 6, 9, 9}));
}

TEST(Rope, MayBeginInsideAHead) {
  Samples samples(63);
  constexpr int64_t kHead = 24;
  const Rope rope = {.pairing = Rope::Pairing::adjacent, .frequencies = {1, 0.3, 0.1, 0.03}, .first = 16};
  const std::vector<int32_t> positions = {0, 3, 700};
  const std::vector<float> before = samples.normal(3 * 2 * kHead);
  std::vector<float> x = before;
  auto device = make_cpu_device(available_isas().back(), 1);
  device->rope(rope, positions, kHead, matrix(x, 3, 2 * kHead));
  Rope alone = rope;
  alone.first = 0;
  for (int64_t r = 0; r < 3; ++r) {
    for (int64_t h = 0; h < 2; ++h) {
      const auto head = before.begin() + (r * 2 + h) * kHead;
      std::vector<float> wanted(head, head + kHead);
      std::vector<float> tail(head + 16, head + kHead);
      device->rope(alone, std::vector<int32_t>{positions[static_cast<size_t>(r)]}, 8, matrix(tail, 1, 8));
      std::copy(tail.begin(), tail.end(), wanted.begin() + 16);
      EXPECT_EQ(std::vector<float>(x.begin() + (r * 2 + h) * kHead, x.begin() + (r * 2 + h + 1) * kHead), wanted);
    }
  }
}

}  // namespace
}  // namespace tidemill::tensor
