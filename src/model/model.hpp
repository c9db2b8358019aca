// A decoder-only language model: tokens in, logits out. The model knows no requests, the engine no layers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "model/hyper_parameters.hpp"
#include "tensor/device.hpp"

namespace tidemill::model {

using Token = int32_t;

// A flat list of token positions of many sequences, prefill and decode mixed. Rows of one sequence appear in ascending,
// consecutive order of position; everything before a sequence's first row is already in the KV cache.
struct Batch {
  std::span<const Token> tokens;                           // [rows]
  std::span<const int32_t> positions;                      // [rows], position in the sequence, from 0
  std::span<const int32_t> sequences;                      // [rows], index into block_tables
  std::span<const std::span<const int32_t>> block_tables;  // [sequences][blocks], physical KV blocks
  std::span<const int32_t> logit_rows;                     // rows whose logits are wanted, ascending; may be empty
  std::span<const int32_t> hidden_rows;  // rows whose final hidden state is wanted, ascending; may be empty
};

// Valid until the next forward() of the same model.
struct Output {
  tensor::ConstMatrix logits;  // [logit_rows][vocabulary]
  tensor::ConstMatrix hidden;  // [hidden_rows][width], after the final norm
};

struct LoadOptions {
  // Tokens of the longest sequence that will be asked for; 0: the model's context. It decides between the rotations of
  // HyperParameters::short_rope and rope.
  int64_t context = 0;
  int64_t max_batch_rows = 2048;                               // most rows one forward() may have
  std::function<void(size_t done, size_t total)> on_progress;  // bytes of tensors loaded
  std::function<bool()> cancelled = {};  // asked before each matrix, and once for a tensor of experts
  // Every matrix becomes F32, at up to eight times the memory: the plain arithmetic that quantised kernels are judged
  // against.
  bool dequantize = false;
  int threads = 1;  // that look at the weights, which must be finite; packing is done by the device's
  // Told of each matrix on the device, by its tensor's name: for those who watch what is computed with it.
  std::function<void(std::string_view tensor, const tensor::Weight& weight)> on_matrix = {};
};

// Multiply-accumulates by the arithmetic that they are done in: int8 for quantised weights that meet quantised
// activations, or floating point.
struct Multiplies {
  int64_t int8 = 0;
  int64_t floating = 0;
  // Every instruction set gives the same bits. Some round the input where weights are BF16 or F16
  // (tensor::ActivationScheme); the output matrix counts here.
  bool alike = true;
};

class Model {
 public:
  virtual ~Model() = default;

  virtual const HyperParameters& hyper_parameters() const = 0;
  // What a KV cache for this model must look like (blocks and type are the caller's choice).
  virtual tensor::KvShape kv_shape() const = 0;
  // Bytes of packed weights, and of activations held between calls.
  virtual size_t weight_bytes() const = 0;
  virtual size_t activation_bytes() const = 0;
  // The least that decoding costs, to hold measured speeds against: bytes of packed weights that a step reads however
  // few rows it has, and multiply-accumulates with weights that one row takes without the output matrix.
  virtual size_t step_weight_bytes() const = 0;
  virtual Multiplies row_multiplies() const = 0;

  // Runs the rows, stores their keys and values in `cache`, and gives the outputs asked for. Each row's result depends
  // on its own sequence alone, bit for bit. The batch must be well-formed (asserted: the engine is its only author).
  virtual Output forward(const Batch& batch, tensor::KvCache& cache) = 0;
};

}  // namespace tidemill::model
