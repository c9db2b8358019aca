// linear() on matrices of a 1B-parameter model, held against the machine's ceilings measured in the same run.
//
//   bench_linear [threads [TYPE...]]
//
// Quantised types are measured with quantised activations, and with those in F32 (tensor::ActivationScheme).
//
// Decoding (one row) reads every weight once, so it is measured in bytes of packed weights; the matrices together are
// far larger than any cache. Prefill (512 rows) is measured in operations, two per multiply-accumulate.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "best_seconds.hpp"
#include "tensor/ceilings.hpp"
#include "tensor/cpu_device.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using bench::best_seconds;
using tensor::DType;

namespace {

constexpr int64_t kRows = 8192;
constexpr int64_t kCols = 2048;
constexpr int64_t kMatrices = 72;       // of Q4_0 680 MB: more than the last cache of large servers
constexpr int kSweeps = 4;              // over all matrices
constexpr int64_t kPrefillRows = 2048;  // of a weight for prefill: short runs, as above
constexpr int kPrefills = 60;

bool measure(tensor::Device& device, DType type, const tensor::Ceilings& ceilings) {
  const bool floats = device.activations() == tensor::ActivationScheme::f32;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(512 * kCols);
  for (float& v : x)
    v = normal(random);
  std::vector<float> y(512 * kRows);
  std::vector<std::byte> source(static_cast<size_t>(kRows * row_bytes(type, kCols)));
  const auto period = static_cast<size_t>(512 * row_bytes(type, kCols));
  for (int64_t r = 0; r < 512; ++r)
    tensor::quantize(type, x.data() + r * kCols, kCols, source.data() + r * row_bytes(type, kCols));
  for (size_t i = period; i < source.size(); ++i)
    source[i] = source[i - period];
  std::vector<std::unique_ptr<tensor::Weight>> weights;
  double bytes = 0;
  for (int64_t i = 0; i < kMatrices; ++i) {
    auto weight = device.load_weight(type, kRows, kCols, source);
    if (!weight) {
      std::fprintf(stderr, "%s\n", weight.error().to_string().c_str());
      return false;
    }
    bytes += static_cast<double>((*weight)->bytes());
    weights.push_back(std::move(*weight));
  }
  std::printf("%-6s %-4s", std::string(tensor::info(type).name).c_str(), floats ? "F32" : "");
  for (const int64_t n : {1, 4, 8, 16}) {
    const double seconds = best_seconds(kSweeps * kMatrices, [&](int64_t i) {
      const auto& w = *weights[static_cast<size_t>(i % kMatrices)];
      const std::array products = {tensor::Product{&w, {}, {y.data(), n, kRows, kRows}}};
      device.linear(products, tensor::ConstMatrix{x.data(), n, kCols, kCols});
    });
    const double rate = bytes / kMatrices / seconds;
    std::printf("  M=%lld %6.1f GB/s (%3.0f %%)", static_cast<long long>(n), rate / 1e9,
                100 * rate / ceilings.read_bytes_per_s);
  }
  const bool quantized = !floats && info(type).block_elements > 1;
  const double ceiling = quantized ? ceilings.int8_ops_per_s : ceilings.float_ops_per_s;
  const double operations = 2.0 * 512 * kPrefillRows * kCols;
  source.resize(static_cast<size_t>(kPrefillRows * row_bytes(type, kCols)));
  const auto small = device.load_weight(type, kPrefillRows, kCols, source);
  if (!small) return false;
  const double seconds = best_seconds(kPrefills, [&](int64_t /*i*/) {
    const std::array products = {tensor::Product{small->get(), {}, {y.data(), 512, kPrefillRows, kPrefillRows}}};
    device.linear(products, tensor::ConstMatrix{x.data(), 512, kCols, kCols});
  });
  std::printf("  M=512 %7.1f Gop/s (%3.0f %%)\n", operations / seconds / 1e9, 100 * operations / seconds / ceiling);
  std::fflush(stdout);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const auto isa = tensor::choose_isa();
  if (!isa || threads < 1) {
    std::fprintf(stderr, "%s\n",
                 isa ? "usage: bench_linear [threads >= 1 [TYPE...]]" : isa.error().to_string().c_str());
    return 2;
  }
  const auto ceilings = tensor::measure_ceilings(*isa, threads);
  if (!ceilings) {
    std::fprintf(stderr, "%s\n", ceilings.error().to_string().c_str());
    return 1;
  }
  auto device = tensor::make_cpu_device(*isa, threads);
  auto floats = tensor::make_cpu_device(*isa, threads, tensor::ActivationScheme::f32);
  std::printf("%s: read %.1f GB/s, int8 %.1f Gop/s, float %.1f GFLOP/s\n", device->description().c_str(),
              ceilings->read_bytes_per_s / 1e9, ceilings->int8_ops_per_s / 1e9, ceilings->float_ops_per_s / 1e9);
  for (const DType type : tensor::all_dtypes()) {
    const auto named = [&](const char* word) { return tensor::info(type).name == word; };
    if (argc > 2 && std::none_of(argv + 2, argv + argc, named)) continue;
    if (!measure(*device, type, *ceilings)) return 1;
    if (tensor::info(type).block_elements > 1 && !measure(*floats, type, *ceilings)) return 1;
  }
  return 0;
}
