// A text encoder: whole texts in, one hidden state for each of their tokens out. It stands beside Model, which
// generates: an encoder's rows see those behind them too, so that a text is computed in one piece, nothing of it is
// kept, and nothing follows it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.hpp"
#include "model/hyper_parameters.hpp"
#include "model/model.hpp"
#include "tensor/device.hpp"

namespace tidemill::model {

struct EncoderParameters {
  HyperParameters shape;  // `rms_epsilon` and `rope` mean nothing here
  float norm_epsilon = 1e-12F;
  int64_t token_types = 0;  // kinds of text that a token may be of (BERT's segments); 0: the model does not tell them
  bool ranks = false;       // it has a head that scores a text by its first row, and is no good for embeddings
};

// Texts of one call, one after another.
struct Texts {
  std::span<const Token> tokens;    // [rows]
  std::span<const int32_t> types;   // [rows], each below token_types, or 0
  std::span<const int32_t> begins;  // [texts + 1]: text t has the rows begins[t] .. begins[t + 1] - 1, at least one
};

class Encoder {
 public:
  virtual ~Encoder() = default;

  virtual const HyperParameters& hyper_parameters() const = 0;
  virtual int64_t token_types() const = 0;
  // Whether it is a reranker, whose texts are pairs of a query and a document.
  virtual bool ranks() const = 0;
  // What one call takes at most: rows, no fewer than the context, and texts.
  virtual int64_t max_rows() const = 0;
  virtual int64_t max_texts() const = 0;
  // Bytes of packed weights, and of what is held between calls to compute with.
  virtual size_t weight_bytes() const = 0;
  virtual size_t activation_bytes() const = 0;

  // The final hidden state of every row, [rows][width], valid until the next call. A text's depend on that text alone,
  // bit for bit. Texts must be well-formed and none longer than the context (asserted: the engine is their only
  // author).
  virtual tensor::ConstMatrix encode(const Texts& texts) = 0;

  // A reranker's score of each text whose first row of the last encode() is in `rows`: its logit, [rows][1], valid
  // until the next call. At most max_texts() rows.
  virtual tensor::ConstMatrix score(std::span<const int32_t> rows) = 0;
};

}  // namespace tidemill::model
