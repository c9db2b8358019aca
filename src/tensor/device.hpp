// A Device owns memory and the operations on it. The decoder (model room) is written in these operations and knows no
// instruction set; a GPU will be another Device.
//
// Determinism: every operation computes each output row from that row's inputs alone, in an order of floating-point
// operations that is fixed by the shapes of the weights and by absolute positions in the sequence. It does not depend
// on how many rows the call has, on the thread count, or on the instruction set: all CPU kernels give the same bits,
// but for products with BF16 and F16 weights on instruction sets that multiply bf16 (kernels.hpp).
//
// Thread-safety: one thread calls operations on a device at a time (the engine's). Loading weights likewise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::tensor {

// A view of float activations, row-major: element (r, c) is data[r * stride + c]. Does not own.
template <typename T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  T* row(int64_t r) const { return data + r * stride; }
  // The same memory seen as rows * cols / new_cols rows; requires stride == cols.
  MatrixView reshaped(int64_t new_cols) const { return {data, rows * cols / new_cols, new_cols, new_cols}; }
  operator MatrixView<const T>() const { return {data, rows, cols, stride}; }  // NOLINT(google-explicit-constructor)
};
using Matrix = MatrixView<float>;
using ConstMatrix = MatrixView<const float>;

// Is told, while weights are packed, that their source up to the end of `read` will not be read again: a file that is
// mapped then need not stay in memory as a whole. `read` begins where the source does.
using SourceRelease = std::function<void(std::span<const std::byte> read)>;

// A weight matrix in the device's own packed layout: `rows` output features by `cols` input features.
class Weight {
 public:
  virtual ~Weight() = default;
  DType type() const { return type_; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  // Bytes it occupies on the device, padding and scales included.
  virtual size_t bytes() const = 0;

 protected:
  Weight(DType type, int64_t rows, int64_t cols) : type_(type), rows_(rows), cols_(cols) {}

 private:
  DType type_;
  int64_t rows_;
  int64_t cols_;
};

// What weights are multiplied by.
enum class ActivationScheme : uint8_t {
  // Where weights are quantised, activations are too: to integers, as they come, for each token and group of channels
  // (PanelLayout). Instruction sets that multiply bf16 (Isa) round them to it where weights are BF16, on AMX also F16.
  dynamic,
  // Activations stay F32, whatever the weights are (weight-only quantisation): products are those with an F32 matrix of
  // the weights' values, bit for bit and with every instruction set.
  f32,
};
// "dynamic", "f32".
std::string_view to_string(ActivationScheme scheme);
std::optional<ActivationScheme> parse_activation_scheme(std::string_view word);

enum class KvType : uint8_t { f32, f16, bf16, int8 };
// "f32", "f16", "bf16", "int8".
std::string_view to_string(KvType type);
std::optional<KvType> parse_kv_type(std::string_view word);

struct KvShape {
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t blocks = 0;  // physical blocks, each of kKvBlockTokens tokens for all layers
  KvType type = KvType::f16;
  // Above 0: the value of a head is the first so many elements of its key, and kept there alone (multi-head latent
  // attention). It and head_dim are multiples of 16, and head_dim is the larger. 0: values are apart, and as long.
  int64_t latent = 0;

  int64_t value_dim() const { return latent > 0 ? latent : head_dim; }
};

// Tokens in one KV block: what sequences share and what is freed at once.
inline constexpr int64_t kKvBlockTokens = 16;

// Keys and values of many sequences in fixed-size blocks. Who owns which block is the engine's business.
class KvCache {
 public:
  virtual ~KvCache() = default;
  const KvShape& shape() const { return shape_; }
  virtual size_t bytes() const = 0;

  // The content of one block, all layers of it, as kv_block_bytes(shape()) bytes in this kind of cache's own order: to
  // be kept elsewhere and given back to a cache of the same kind and shape, the number of blocks aside.
  virtual void read_block(int32_t block, std::span<std::byte> out) const = 0;
  virtual void write_block(int32_t block, std::span<const std::byte> content) = 0;

 protected:
  explicit KvCache(const KvShape& shape) : shape_(shape) {}

 private:
  KvShape shape_;
};
// Bytes of one block of `shape` (all layers, keys and values): what the engine divides its memory budget by.
size_t kv_block_bytes(const KvShape& shape);

// Where each row of an attention call stands: row r is the token at `positions[r]` of sequence `sequences[r]`, whose
// keys and values 0 .. positions[r] lie in the blocks block_tables[sequences[r]][0 .. positions[r] / kKvBlockTokens].
struct KvRows {
  std::span<const int32_t> positions;                      // [rows]
  std::span<const int32_t> sequences;                      // [rows]
  std::span<const std::span<const int32_t>> block_tables;  // [number of sequences][blocks of that sequence]
};

// Rotary position embedding: pair i of a head is turned by position * frequencies[i] radians, and multiplied by
// `magnitude`.
struct Rope {
  enum class Pairing : uint8_t {
    adjacent,  // elements (2i, 2i + 1): llama and granite as converted to GGUF
    halves,    // elements (i, i + rotated / 2): NeoX style, as most models have it
  };
  Pairing pairing = Pairing::adjacent;
  std::vector<double> frequencies;  // [rotated / 2]; rotated <= head_dim - first elements of each head are turned
  double magnitude = 1;             // other than 1 where long contexts are scaled so (LongRoPE, YaRN)
  int64_t first = 0;                // the element of a head from which on they are

  bool operator==(const Rope&) const = default;
};

// How the rows of an attention call look at keys.
struct AttentionRule {
  float scale;         // of the product of a query and a key: their score
  float soft_cap = 0;  // scores become soft_cap * tanh(score / soft_cap); 0: they stay as they are
  int64_t window = 0;  // tokens that a row sees at most, the one at its position included; 0: all up to there
  // [heads] the score of a token before all others, whose value is zero, whatever the query (attention sinks,
  // arXiv:2309.17453); empty: there is none.
  std::span<const float> sinks = {};
};

// One of the matrices that linear() multiplies its input by: y = input * weight^T (+ bias).
struct Product {
  const Weight* weight;
  std::span<const float> bias;  // empty or [weight->rows()]
  Matrix y;                     // [rows of the input][weight->rows()]
};

// Which experts the rows of a mixture use: those of the largest scores, of equal ones the first. Their weights are
// their scores or, normalised, their shares in the sum of those in use, times `scale`.
struct ExpertRule {
  // Of an expert: its share in the softmax over the logits of all, or the sigmoid of its own.
  enum class Score : uint8_t { softmax, sigmoid };

  int64_t used;  // 1 .. experts
  bool normalised;
  float scale = 1;
  Score score = Score::softmax;
  // [experts], or empty: added to the scores that choose, and not to weights (DeepSeek-V3, arXiv:2412.19437, section
  // 2.1.2, where it keeps experts equally busy).
  std::span<const float> score_correction_bias = {};
  // Experts are in `groups` of the same size, one behind the other. Those of the `used_groups` groups are chosen from
  // whose best `group_best` experts have the largest scores together.
  int64_t groups = 1;
  int64_t used_groups = 1;
  int64_t group_best = 1;
};
inline constexpr int64_t kMostExperts = 1024;

// An expert of a mixture: its matrices, and their biases, which are empty or [weight->rows()].
struct ExpertMatrices {
  struct One {
    const Weight* weight;
    std::span<const float> bias;
  };
  One gate;  // [inner][width]
  One up;    // [inner][width]
  One down;  // [width][inner]
};

// Inputs that are made on the way, and need never be written out.
struct RmsNormed {  // as Device::rms_norm()
  ConstMatrix x;
  std::span<const float> weight;
  float epsilon;
};
enum class Activation : uint8_t {
  silu,
  gelu_tanh,     // GELU, in the form with tanh
  silu_clamped,  // gpt-oss: g / (1 + e^(-1.702 g)) * (u + 1), where g is at most 7, and u within -7 and 7
};
struct Gated {  // activation(gate) * up, element by element, but where it says otherwise
  Activation activation;
  ConstMatrix gate;
  ConstMatrix up;
};
using LinearInput = std::variant<ConstMatrix, RmsNormed, Gated>;

class Device {
 public:
  virtual ~Device() = default;

  // "CPU avx512-vnni, 2 threads", for people; with ", F32 activations" where these are the scheme.
  virtual std::string description() const = 0;
  // Of all its linear operations.
  virtual ActivationScheme activations() const { return ActivationScheme::dynamic; }

  // Packs a matrix given in GGUF order (row-major, one row per output feature, `cols` a multiple of the type's block).
  // `source` must hold exactly rows * row_bytes(type, cols) bytes and may be released afterwards, and before that as
  // `release`, if there is one, is told. Fails with `exhausted` when memory is short.
  virtual base::Result<std::unique_ptr<Weight>> load_weight(DType type, int64_t rows, int64_t cols,
                                                            std::span<const std::byte> source,
                                                            const SourceRelease& release = {}) = 0;
  // `count` (1 or more) matrices of one shape, which lie one behind the other in `source`, each as load_weight() packs
  // it. A device that can keep them in one piece of memory does: it lasts as long as any of them.
  virtual base::Result<std::vector<std::unique_ptr<Weight>>> load_weights(DType type, int64_t count, int64_t rows,
                                                                          int64_t cols,
                                                                          std::span<const std::byte> source,
                                                                          const SourceRelease& release = {}) {
    std::vector<std::unique_ptr<Weight>> weights;
    const size_t each = source.size() / static_cast<size_t>(count);
    for (int64_t i = 0; i < count; ++i) {
      TM_TRY(auto weight, load_weight(type, rows, cols, source.subspan(static_cast<size_t>(i) * each, each)));
      weights.push_back(std::move(weight));
      if (release) release(source.first(static_cast<size_t>(i + 1) * each));
    }
    return weights;
  }
  // Takes a matrix that was packed ahead, in panels of the layout kPackedLayoutVersion (packed_layout.hpp). The CPU
  // uses them where they lie: `panels` must outlive the weight and begin at a multiple of 64 bytes. All of them are
  // read once and compared with `checksum` (base::piecewise_checksum); none: the caller has done it. Errors: `corrupt`
  // where that, the size or the place is wrong, `invalid_argument` for a shape that the type does not allow.
  virtual base::Result<std::unique_ptr<Weight>> load_panels(DType type, int64_t rows, int64_t cols,
                                                            std::span<const std::byte> panels,
                                                            std::optional<uint64_t> checksum) = 0;
  // Zeroed. Fails with `exhausted` when memory is short.
  virtual base::Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape) = 0;

  // out.row(r) = row tokens[r] of `table`, dequantised exactly. tokens are in [0, table.rows()).
  virtual void embed(const Weight& table, std::span<const int32_t> tokens, Matrix out) = 0;

  // All products of one input, which has as many columns as each of their weights. No y overlaps the input or another.
  // What weights are multiplied by is activations()'s word. An input that is quantised is so once for all weights that
  // want it alike, and sums inside a block are exact. What comes with an input made on the way are the bits that making
  // it first would give.
  virtual void linear(std::span<const Product> products, const LinearInput& input) = 0;

  // Products of an input each, as linear() computes them; inputs[i] is products[i]'s. All have the same shapes. For the
  // heads of a layer, which are many and small.
  virtual void linear_each(std::span<const Product> products, std::span<const ConstMatrix> inputs) {
    for (size_t i = 0; i < products.size(); ++i)
      linear(products.subspan(i, 1), inputs[i]);
  }

  // y.row(r) = x.row(r) / sqrt(mean(x.row(r)^2) + epsilon) * weight. In place when x and y are the same.
  virtual void rms_norm(ConstMatrix x, std::span<const float> weight, float epsilon, Matrix y) = 0;

  // y.row(r) = (x.row(r) - mean) / sqrt(variance + epsilon) * weight + bias, with mean and variance of that row. In
  // place when x and y are the same.
  virtual void layer_norm(ConstMatrix x, std::span<const float> weight, std::span<const float> bias, float epsilon,
                          Matrix y) = 0;

  // x = x * P(X <= x) for a normal X (GELU, in the form with the error function), element by element.
  virtual void gelu(Matrix x) = 0;
  // x = tanh(x), element by element.
  virtual void tanh(Matrix x) = 0;

  // Turns every head of every row in place; x is [n][heads * head_dim], positions [n].
  virtual void rope(const Rope& rope, std::span<const int32_t> positions, int64_t head_dim, Matrix x) = 0;

  // y = x
  virtual void copy(ConstMatrix x, Matrix y) = 0;
  // x += y
  virtual void add(Matrix x, ConstMatrix y) = 0;
  // x = x * factor
  virtual void scale(Matrix x, float factor) = 0;
  // x = cap * tanh(x / cap), element by element.
  virtual void soft_cap(Matrix x, float cap) = 0;

  // For mixtures of experts. Of row r of the logits ([rows][experts], at most kMostExperts), experts[r * used + i] is
  // the i-th choice and weights[r * used + i] its weight, the likeliest first.
  virtual void choose_experts(ConstMatrix logits, const ExpertRule& rule, std::span<int32_t> experts,
                              std::span<float> weights) = 0;
  // y.row(i) = x.row(rows[i])
  virtual void gather(ConstMatrix x, std::span<const int32_t> rows, Matrix y) = 0;
  // Of row r, whose choices are as choose_experts() leaves them, out.row(r) += weight * (down (activation(gate
  // x.row(r))
  // * up x.row(r))) for each of the experts that it chose, in the order of their numbers. All experts have the same
  // shapes; no row chooses one twice. Products are as linear() computes them, each expert's for all rows that chose it.
  virtual void add_experts(std::span<const ExpertMatrices> experts, Activation activation, ConstMatrix x,
                           std::span<const int32_t> chosen, std::span<const float> weights, Matrix out) = 0;
  // x.row(i) += y.row(i) * factors[i]
  virtual void add_scaled(Matrix x, ConstMatrix y, std::span<const float> factors) = 0;
  // x = 1 / (1 + e^-x), element by element.
  virtual void sigmoid(Matrix x) = 0;

  // Writes the rows' keys and values ([n][kv_heads * head_dim] each) into the cache at the rows' positions. A cache of
  // latents takes keys alone.
  virtual void store_kv(KvCache& cache, int64_t layer, const KvRows& rows, ConstMatrix keys, ConstMatrix values) = 0;

  // Grouped-query attention: out.row(r) = softmax(q K^T * scale) V over positions 0 .. positions[r], or the last
  // `window` of these, head by head. q is [n][heads * head_dim] and out [n][heads * value_dim]; heads is a multiple of
  // kv_heads. The keys of all these positions must be stored already. It is causal where positions[r] is the row's own;
  // where it is the sequence's last for each of its rows, all of them see all. What lies in blocks before a window is
  // not looked at.
  virtual void attention(const KvCache& cache, int64_t layer, const KvRows& rows, const AttentionRule& rule,
                         ConstMatrix q, Matrix out) = 0;
};

}  // namespace tidemill::tensor
