// One layer's attention of a 1B-parameter model (32 heads, 8 KV heads of 64), held against the machine's ceilings
// measured in the same run.
//
//   bench_attention [threads [context...]]
//
// Prefill is a chunk of 512 rows that ends at the context: multiply-accumulates (two operations each, 128 for each
// visible token and head) beside the int8 ceiling for int8 caches and the F32 one for the others; the best of several.
// Decode is rows of sequences that each hold the whole context, over several layers so that no cache holds them: bytes
// of keys and values beside read bandwidth; the median.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "best_seconds.hpp"
#include "tensor/ceilings.hpp"
#include "tensor/cpu_device.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using bench::best_seconds;
using bench::median_seconds;
using tensor::KvType;

namespace {

constexpr int64_t kHeads = 32;
constexpr int64_t kKvHeads = 8;
constexpr int64_t kHeadDim = 64;
constexpr int64_t kChunk = 512;
constexpr int64_t kDecodeBytes = int64_t{768} << 20;  // of keys and values at least
constexpr float kScale = 0.125F;

std::vector<float> normal(int64_t n) {
  std::mt19937 random(1);
  std::normal_distribution<float> distribution;
  std::vector<float> out(static_cast<size_t>(n));
  for (float& v : out)
    v = distribution(random);
  return out;
}

// Fills every layer; all sequences share the blocks of one table.
void fill(tensor::Device& device, tensor::KvCache& cache, std::span<const int32_t> table) {
  const int64_t width = kKvHeads * kHeadDim;
  const std::vector<float> keys = normal((kChunk + 7) * width);
  std::vector<int32_t> positions(kChunk);
  const std::vector<int32_t> zeros(kChunk, 0);
  const std::vector<std::span<const int32_t>> tables = {table};
  for (int64_t layer = 0; layer < cache.shape().layers; ++layer) {
    for (int64_t at = 0; at < std::ssize(table) * tensor::kKvBlockTokens; at += kChunk) {
      const int64_t n = std::min(kChunk, std::ssize(table) * tensor::kKvBlockTokens - at);
      std::iota(positions.begin(), positions.end(), static_cast<int32_t>(at));
      device.store_kv(cache, layer, {std::span(positions).first(static_cast<size_t>(n)), zeros, tables},
                      {keys.data(), n, width, width}, {keys.data() + 7 * width, n, width, width});
    }
  }
}

bool measure(tensor::Device& device, KvType type, int64_t context, const tensor::Ceilings& ceilings) {
  const int64_t width = kHeads * kHeadDim;
  tensor::KvShape shape = {.layers = 1, .kv_heads = kKvHeads, .head_dim = kHeadDim, .blocks = 1, .type = type};
  const int64_t blocks = (context + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens;
  shape.blocks = blocks;
  const auto layer_bytes = static_cast<int64_t>(tensor::kv_block_bytes(shape)) * blocks;
  shape.layers = std::max<int64_t>(1, kDecodeBytes / layer_bytes);
  auto cache = device.make_kv_cache(shape);
  if (!cache) {
    std::fprintf(stderr, "%s\n", cache.error().to_string().c_str());
    return false;
  }
  std::vector<int32_t> table(static_cast<size_t>(blocks));
  std::iota(table.begin(), table.end(), 0);
  fill(device, **cache, table);
  const std::vector<float> q = normal(kChunk * width);
  std::vector<float> out(q.size());
  const std::vector<int32_t> zeros(kChunk, 0);
  const std::vector<std::span<const int32_t>> tables = {table};

  const int64_t rows = std::min(kChunk, context);
  std::vector<int32_t> positions(static_cast<size_t>(rows));
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(context - rows));
  const double visible = std::accumulate(positions.begin(), positions.end(), static_cast<double>(rows));
  const double operations = 2 * visible * static_cast<double>(kHeads * kHeadDim * 2);
  const double prefill = best_seconds(context > 8192 ? 3 : 10, [&](int64_t /*i*/) {
    device.attention(**cache, 0, {positions, zeros, tables}, {.scale = kScale}, {q.data(), rows, width, width},
                     {out.data(), rows, width, width});
  });
  const double ceiling = type == KvType::int8 ? ceilings.int8_ops_per_s : ceilings.float_ops_per_s;
  std::printf("%-5s context %6lld  prefill %8.2f ms %7.1f Gop/s (%3.0f %%)", tensor::to_string(type).data(),
              static_cast<long long>(context), prefill * 1e3, operations / prefill / 1e9,
              100 * operations / prefill / ceiling);
  for (const int64_t n : {1, 16}) {
    const std::vector<int32_t> last(static_cast<size_t>(n), static_cast<int32_t>(context - 1));
    std::vector<int32_t> sequences(static_cast<size_t>(n));
    std::iota(sequences.begin(), sequences.end(), 0);
    const std::vector<std::span<const int32_t>> same(static_cast<size_t>(n), table);
    const double seconds = median_seconds(std::max<int64_t>(2 * shape.layers, 64 / n), [&](int64_t i) {
      device.attention(**cache, i % shape.layers, {last, sequences, same}, {.scale = kScale},
                       {q.data(), n, width, width}, {out.data(), n, width, width});
    });
    const double rate = static_cast<double>(layer_bytes * n) / seconds;
    std::printf("  decode %2lld x %7.3f ms %5.1f GB/s (%3.0f %%)", static_cast<long long>(n), seconds * 1e3, rate / 1e9,
                100 * rate / ceilings.read_bytes_per_s);
  }
  std::printf("\n");
  std::fflush(stdout);
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  std::vector<int64_t> contexts;
  for (int i = 2; i < argc; ++i)
    contexts.push_back(std::atoll(argv[i]));
  if (contexts.empty()) contexts = {512, 4096, 32768};
  const auto isa = tensor::choose_isa();
  if (!isa || threads < 1 || *std::min_element(contexts.begin(), contexts.end()) < 1) {
    std::fprintf(stderr, "%s\n",
                 isa ? "usage: bench_attention [threads >= 1 [context >= 1...]]" : isa.error().to_string().c_str());
    return 2;
  }
  const auto ceilings = tensor::measure_ceilings(*isa, threads);
  if (!ceilings) {
    std::fprintf(stderr, "%s\n", ceilings.error().to_string().c_str());
    return 1;
  }
  auto device = tensor::make_cpu_device(*isa, threads);
  std::printf("%s: read %.1f GB/s, int8 %.1f Gop/s, F32 %.1f GFLOP/s\n", device->description().c_str(),
              ceilings->read_bytes_per_s / 1e9, ceilings->int8_ops_per_s / 1e9, ceilings->float_ops_per_s / 1e9);
  for (const int64_t context : contexts) {
    for (const KvType type : {KvType::int8, KvType::f16, KvType::bf16, KvType::f32}) {
      if (!measure(*device, type, context, *ceilings)) return 1;
    }
  }
  return 0;
}
