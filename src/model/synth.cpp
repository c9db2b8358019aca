#include "model/synth.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/thread_team.hpp"
#include "model/gguf_writer.hpp"
#include "model/shape_tensors.hpp"
#include "model/synth_metadata.hpp"

namespace tidemill::model {
namespace {

using base::Result;
using tensor::DType;

// SplitMix64 (Steele, Lea, Flood 2014): one multiplication chain a number, any seed is good.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
  }
  // About normal: the sum of four uniform 16-bit numbers, scaled to variance 1.
  float gaussian() {
    const uint64_t bits = next();
    const auto sum = static_cast<float>((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48));
    return (sum - 131070.0F) * (1.0F / 37837.22F);  // 4 * 65535 / 2, sqrt(4 / 12) * 65536
  }

 private:
  uint64_t state_;
};

uint64_t mix(uint64_t a, uint64_t b) {
  return Random(a ^ (b * 0xD6E8FEB86659FD93U)).next();
}

// Weights are made in units of a few hundred bytes. A matrix of up to kPoolElements is random throughout; a larger one
// draws its units from a pool of that many elements, which costs a copy instead of a quantisation.
constexpr int64_t kPoolElements = int64_t{1} << 18;
constexpr int64_t kChunkUnits = 4096;   // one draw of work for a thread; its own stream of random numbers
constexpr int64_t kPortionChunks = 64;  // chunks made before they are written

int64_t unit_elements(DType type) {
  return std::max<int64_t>(32, tensor::info(type).block_elements);
}

// `units` quantised units of weights with standard deviation `scale`.
void quantised_units(DType type, float scale, uint64_t seed, int64_t units, std::byte* out) {
  const int64_t elements = unit_elements(type);
  const int64_t bytes = tensor::row_bytes(type, elements);
  std::vector<float> values(static_cast<size_t>(elements));
  Random random(seed);
  for (int64_t u = 0; u < units; ++u) {
    for (float& value : values)
      value = random.gaussian() * scale;
    tensor::quantize(type, values.data(), elements, out + u * bytes);
  }
}

class Synthesizer {
 public:
  Synthesizer(const Shape& shape, const SynthOptions& options)
      : shape_(shape), options_(options), team_(std::max(1, options.threads)) {}

  Result<void> write(const std::filesystem::path& path) {
    add_synthetic_metadata(shape_, options_.type, writer_);
    const std::vector<ShapeTensor> tensors = tensors_of(shape_);
    choose_outliers();
    for (const ShapeTensor& tensor : tensors)
      writer_.declare_tensor(tensor.name, type_of(tensor), tensor.shape);
    TM_CHECK(writer_.begin(path));
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].kind == ShapeTensor::Kind::matrix) {
        TM_CHECK(write_random(tensors[i], mix(options_.seed, i)));
      } else {
        const std::vector<float> values = vector(tensors[i], mix(options_.seed, ~i));
        TM_CHECK(emit(std::as_bytes(std::span(values))));
      }
    }
    return writer_.finish();
  }

 private:
  DType type_of(const ShapeTensor& tensor) const {
    const bool plain = tensor.kind != ShapeTensor::Kind::matrix || tensor.always_f32;
    return plain ? DType::f32 : synth_type(options_.type, tensor.shape[0]);
  }

  std::vector<float> vector(const ShapeTensor& tensor, uint64_t seed) const {
    if (tensor.kind == ShapeTensor::Kind::given) return tensor.values;
    const float mean = tensor.kind == ShapeTensor::Kind::near_zero ? 0.0F : 1.0F;
    Random random(seed);
    std::vector<float> values(static_cast<size_t>(tensor.elements()));
    for (float& value : values)
      value = mean + 0.1F * random.gaussian();
    if (tensor.kind != ShapeTensor::Kind::hidden_norm) return values;
    for (const size_t channel : outliers_)
      values[channel] *= kOutlierScale;
    return values;
  }

  // The channels are the first of a shuffled list, so that more of them include the fewer.
  void choose_outliers() {
    std::vector<size_t> channels(static_cast<size_t>(shape_.width));
    std::iota(channels.begin(), channels.end(), 0);
    Random random(mix(options_.seed, 0x6F75746C69657273U));
    for (size_t i = 0; i < static_cast<size_t>(options_.outlier_channels); ++i) {
      std::swap(channels[i], channels[i + random.next() % (channels.size() - i)]);
      outliers_.push_back(channels[i]);
    }
  }

  Result<void> emit(std::span<const std::byte> bytes) {
    if (options_.cancelled && options_.cancelled()) {
      return base::Error(base::ErrorCode::cancelled, "the model was not finished");
    }
    TM_CHECK(writer_.write(bytes));
    done_ += bytes.size();
    if (options_.on_progress) options_.on_progress(done_, writer_.tensor_bytes());
    return {};
  }

  // The pool of quantised units for matrices of `cols` inputs.
  const std::vector<std::byte>& pool(DType type, int64_t cols) {
    std::vector<std::byte>& units = pools_[{type, cols}];
    if (units.empty()) {
      units.resize(static_cast<size_t>(tensor::row_bytes(type, kPoolElements)));
      const int64_t count = kPoolElements / unit_elements(type);
      const auto unit_bytes = tensor::row_bytes(type, unit_elements(type));
      const uint64_t seed = mix(options_.seed, static_cast<uint64_t>(cols) << 8 | static_cast<uint64_t>(type));
      team_.parallel_for(count, 64, [&](int64_t begin, int64_t end, int) {
        quantised_units(type, scale(cols), mix(seed, static_cast<uint64_t>(begin)), end - begin,
                        units.data() + begin * unit_bytes);
      });
    }
    return units;
  }

  static float scale(int64_t inputs) { return 1.0F / std::sqrt(static_cast<float>(inputs)); }

  Result<void> write_random(const ShapeTensor& tensor, uint64_t seed) {
    const DType type = type_of(tensor);
    const int64_t cols = tensor.shape[0];
    const int64_t elements = tensor.elements();
    const int64_t units = elements / unit_elements(type);
    const auto unit_bytes = static_cast<size_t>(tensor::row_bytes(type, unit_elements(type)));
    const std::vector<std::byte>* drawn_from = elements > kPoolElements ? &pool(type, cols) : nullptr;
    for (int64_t start = 0; start < units; start += kPortionChunks * kChunkUnits) {
      const int64_t count = std::min(units - start, kPortionChunks * kChunkUnits);
      portion_.resize(static_cast<size_t>(count) * unit_bytes);
      team_.parallel_for(count, kChunkUnits, [&](int64_t begin, int64_t end, int) {
        std::byte* out = portion_.data() + static_cast<size_t>(begin) * unit_bytes;
        const uint64_t chunk_seed = mix(seed, static_cast<uint64_t>(start + begin));
        if (drawn_from == nullptr) {
          quantised_units(type, scale(cols), chunk_seed, end - begin, out);
          return;
        }
        Random random(chunk_seed);
        const size_t choices = drawn_from->size() / unit_bytes;
        for (int64_t u = begin; u < end; ++u, out += unit_bytes) {
          std::memcpy(out, drawn_from->data() + random.next() % choices * unit_bytes, unit_bytes);
        }
      });
      TM_CHECK(emit(portion_));
    }
    return {};
  }

  const Shape& shape_;
  const SynthOptions& options_;
  base::ThreadTeam team_;
  GgufWriter writer_;
  std::vector<size_t> outliers_;  // channels of the hidden state
  std::map<std::pair<DType, int64_t>, std::vector<std::byte>> pools_;
  std::vector<std::byte> portion_;
  size_t done_ = 0;
};

}  // namespace

DType synth_type(DType type, int64_t cols) {
  return cols % tensor::info(type).block_elements == 0 ? type : DType::q8_0;
}

Result<void> write_synthetic_model(const Shape& shape, const std::filesystem::path& path, const SynthOptions& options) {
  if (options.outlier_channels < 0 || options.outlier_channels > shape.width) {
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("{} outlier channels are wanted, but {} has a width of {}", options.outlier_channels,
                                   shape.name, shape.width));
  }
  return Synthesizer(shape, options).write(path);
}

}  // namespace tidemill::model
