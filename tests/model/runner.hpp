// Runs a model on one sequence at a time, the way an engine would but without one.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include <gtest/gtest.h>

#include "model/gguf.hpp"
#include "model/load.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::test {

// A model on the best instruction set here, with a KV cache for `tokens` tokens.
struct Loaded {
  std::unique_ptr<tensor::Device> device;
  std::unique_ptr<model::Model> model;
  std::unique_ptr<tensor::KvCache> cache;
};

inline Loaded load(const std::filesystem::path& path, tensor::KvType kv_type, int64_t tokens, int threads = 1,
                   int64_t max_batch_rows = 256, bool dequantize = false,
                   tensor::ActivationScheme activations = tensor::ActivationScheme::dynamic) {
  Loaded loaded;
  const auto isa = tensor::choose_isa();
  const auto file = model::Checkpoint::open(path);
  if (!isa || !file) {
    ADD_FAILURE() << (isa ? file.error().to_string() : isa.error().to_string());
    return loaded;
  }
  loaded.device = tensor::make_cpu_device(*isa, threads, activations);
  auto model = model::load_model(*file, *loaded.device,
                                 {.max_batch_rows = max_batch_rows, .on_progress = {}, .dequantize = dequantize});
  if (!model) {
    ADD_FAILURE() << model.error().to_string();
    return loaded;
  }
  loaded.model = std::move(*model);
  tensor::KvShape shape = loaded.model->kv_shape();
  shape.blocks = (tokens + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens;
  shape.type = kv_type;
  auto cache = loaded.device->make_kv_cache(shape);
  if (!cache) {
    ADD_FAILURE() << cache.error().to_string();
    return loaded;
  }
  loaded.cache = std::move(*cache);
  return loaded;
}

// One sequence whose blocks lie in the order that `blocks` gives.
class Sequence {
 public:
  Sequence(Loaded& loaded, std::vector<int32_t> blocks) : loaded_(loaded), blocks_(std::move(blocks)) {}
  // All of the cache's blocks, in order.
  explicit Sequence(Loaded& loaded) : loaded_(loaded), blocks_(static_cast<size_t>(loaded.cache->shape().blocks)) {
    std::iota(blocks_.begin(), blocks_.end(), 0);
  }

  // Appends the tokens in one forward pass and gives the logits of each.
  std::vector<std::vector<float>> append(std::span<const model::Token> tokens) {
    std::vector<int32_t> positions(tokens.size());
    std::iota(positions.begin(), positions.end(), length_);
    const std::vector<int32_t> sequences(tokens.size(), 0);
    std::vector<int32_t> rows(tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    const std::vector<std::span<const int32_t>> tables = {blocks_};
    const model::Output output = loaded_.model->forward({.tokens = tokens,
                                                         .positions = positions,
                                                         .sequences = sequences,
                                                         .block_tables = tables,
                                                         .logit_rows = rows,
                                                         .hidden_rows = {}},
                                                        *loaded_.cache);
    length_ += static_cast<int32_t>(tokens.size());
    std::vector<std::vector<float>> logits;
    for (int64_t r = 0; r < output.logits.rows; ++r) {
      logits.emplace_back(output.logits.row(r), output.logits.row(r) + output.logits.cols);
    }
    return logits;
  }

  // The most likely next tokens after `prompt`, until `stop` or `most` of them.
  std::vector<model::Token> greedy(std::span<const model::Token> prompt, int most, model::Token stop) {
    std::vector<model::Token> generated;
    std::vector<float> logits = append(prompt).back();
    while (static_cast<int>(generated.size()) < most) {
      const auto best = static_cast<model::Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      if (best == stop) break;
      generated.push_back(best);
      logits = append(std::span(&generated.back(), 1)).back();
    }
    return generated;
  }

 private:
  Loaded& loaded_;
  std::vector<int32_t> blocks_;
  int32_t length_ = 0;
};

}  // namespace tidemill::test
