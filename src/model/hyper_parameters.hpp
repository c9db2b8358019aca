// The numbers that shape a model, as read from a model file and validated against its tensors.
#pragma once

#include <cstdint>
#include <string>

#include "tensor/device.hpp"

namespace tidemill::model {

// Which rows of a text become its embedding: all, the first ("cls"), the last.
enum class Pooling : uint8_t { none, mean, first, last };

// What GGUF's pooling_type says of a model that scores texts instead.
inline constexpr int64_t kRankPooling = 4;

struct HyperParameters {
  std::string architecture;  // "llama", "qwen2", "qwen3", "bert"
  std::string name;          // general.name, or empty
  int64_t vocabulary = 0;    // rows of the embedding table
  int64_t context = 0;       // longest sequence the model was made for, tokens
  int64_t layers = 0;
  int64_t width = 0;         // elements of a hidden state
  int64_t feed_forward = 0;  // inner width of the feed-forward block
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  float rms_epsilon = 1e-5f;
  tensor::Rope rope;
  Pooling pooling = Pooling::none;  // how embeddings are pooled, from the model's metadata; none = unspecified
};

}  // namespace tidemill::model
