// A model whose logits are a hash of everything the sequence holds, read back through the block tables it was given. A
// wrong block table, a stale or shared-by-mistake block, a missing or doubled row: all change the output.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/request.hpp"
#include "model/model.hpp"
#include "tensor/device.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::engine::test {

inline constexpr int64_t kVocabulary = 64;
inline constexpr int64_t kWidth = 8;
inline constexpr Token kEos = 2;
inline constexpr Token kPoison = 63;  // a sequence that holds it has NaN for logits; it is never sampled

inline uint64_t mix(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9E3779B97F4A7C15u + b + 0x632BE59BD9B4E019u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// What a position's "keys and values" are: a hash of all tokens up to it.
inline uint64_t chain(uint64_t before, Token token, int64_t position) {
  return mix(mix(before, static_cast<uint64_t>(token)), static_cast<uint64_t>(position));
}
// A hash of all positions' keys and values, as attention would see them.
inline uint64_t digest(std::span<const uint64_t> chain_values) {
  uint64_t sum = 0;
  for (const uint64_t value : chain_values)
    sum = mix(sum, value);
  return sum;
}
inline std::vector<float> logits_of(uint64_t digest_value, bool poisoned) {
  std::vector<float> logits(kVocabulary);
  for (int64_t v = 0; v < kVocabulary; ++v) {
    const uint64_t bits = mix(digest_value, static_cast<uint64_t>(v)) >> 40;  // 24 of them
    logits[static_cast<size_t>(v)] = static_cast<float>(bits) * (8.0f / (1 << 24)) - 4.0f;
  }
  logits[kPoison] = -std::numeric_limits<float>::infinity();
  if (poisoned) logits[5] = std::numeric_limits<float>::quiet_NaN();
  return logits;
}
inline std::vector<float> hidden_of(uint64_t digest_value) {
  std::vector<float> hidden(kWidth);
  for (int64_t i = 0; i < kWidth; ++i) {
    hidden[static_cast<size_t>(i)] =
        static_cast<float>(mix(digest_value, static_cast<uint64_t>(1000 + i)) >> 40) / (1 << 24) - 0.5f;
  }
  return hidden;
}

class FakeCache final : public tensor::KvCache {
 public:
  struct Slot {
    uint64_t value = 0xDEADDEADDEADDEADu;
    bool poisoned = false;
  };
  explicit FakeCache(const tensor::KvShape& shape)
      : KvCache(shape), slots(static_cast<size_t>(shape.blocks * tensor::kKvBlockTokens)) {}
  size_t bytes() const override { return slots.size() * sizeof(Slot); }
  void read_block(int32_t block, std::span<std::byte> out) const override {
    std::memcpy(out.data(), first_of(block), std::min(out.size(), block_bytes));
  }
  void write_block(int32_t block, std::span<const std::byte> content) override {
    std::memcpy(const_cast<Slot*>(first_of(block)), content.data(), std::min(content.size(), block_bytes));
  }
  Slot& at(std::span<const int32_t> table, int64_t position) {
    const int32_t block = table[static_cast<size_t>(position / tensor::kKvBlockTokens)];
    return slots[static_cast<size_t>(block * tensor::kKvBlockTokens + position % tensor::kKvBlockTokens)];
  }
  std::vector<Slot> slots;

 private:
  static constexpr size_t block_bytes = tensor::kKvBlockTokens * sizeof(Slot);
  const Slot* first_of(int32_t block) const { return &slots[static_cast<size_t>(block * tensor::kKvBlockTokens)]; }
};

// Only makes caches.
class FakeDevice final : public tensor::Device {
 public:
  std::string description() const override { return "fake"; }
  base::Result<std::unique_ptr<tensor::Weight>> load_weight(tensor::DType, int64_t, int64_t, std::span<const std::byte>,
                                                            const tensor::SourceRelease&) override {
    return base::Error(base::ErrorCode::unsupported, "the fake device has no weights");
  }
  base::Result<std::unique_ptr<tensor::Weight>> load_panels(tensor::DType, int64_t, int64_t, std::span<const std::byte>,
                                                            std::optional<uint64_t>) override {
    return base::Error(base::ErrorCode::unsupported, "the fake device has no weights");
  }
  base::Result<std::unique_ptr<tensor::KvCache>> make_kv_cache(const tensor::KvShape& shape) override {
    return std::unique_ptr<tensor::KvCache>(std::make_unique<FakeCache>(shape));
  }
  void embed(const tensor::Weight&, std::span<const int32_t>, tensor::Matrix) override { FAIL(); }
  void linear(std::span<const tensor::Product>, const tensor::LinearInput&) override { FAIL(); }
  void rms_norm(tensor::ConstMatrix, std::span<const float>, float, tensor::Matrix) override { FAIL(); }
  void layer_norm(tensor::ConstMatrix, std::span<const float>, std::span<const float>, float, tensor::Matrix) override {
    FAIL();
  }
  void gelu(tensor::Matrix) override { FAIL(); }
  void tanh(tensor::Matrix) override { FAIL(); }
  void rope(const tensor::Rope&, std::span<const int32_t>, int64_t, tensor::Matrix) override { FAIL(); }
  void copy(tensor::ConstMatrix, tensor::Matrix) override { FAIL(); }
  void add(tensor::Matrix, tensor::ConstMatrix) override { FAIL(); }
  void scale(tensor::Matrix, float) override { FAIL(); }
  void soft_cap(tensor::Matrix, float) override { FAIL(); }
  void choose_experts(tensor::ConstMatrix, const tensor::ExpertRule&, std::span<int32_t>, std::span<float>) override {
    FAIL();
  }
  void gather(tensor::ConstMatrix, std::span<const int32_t>, tensor::Matrix) override { FAIL(); }
  void add_experts(std::span<const tensor::ExpertMatrices>, tensor::Activation, tensor::ConstMatrix,
                   std::span<const int32_t>, std::span<const float>, tensor::Matrix) override {
    FAIL();
  }
  void add_scaled(tensor::Matrix, tensor::ConstMatrix, std::span<const float>) override { FAIL(); }
  void sigmoid(tensor::Matrix) override { FAIL(); }
  void store_kv(tensor::KvCache&, int64_t, const tensor::KvRows&, tensor::ConstMatrix, tensor::ConstMatrix) override {
    FAIL();
  }
  void attention(const tensor::KvCache&, int64_t, const tensor::KvRows&, const tensor::AttentionRule&,
                 tensor::ConstMatrix, tensor::Matrix) override {
    FAIL();
  }
};

class FakeModel final : public model::Model {
 public:
  explicit FakeModel(int64_t context = 512) {
    parameters_.architecture = "fake";
    parameters_.vocabulary = kVocabulary;
    parameters_.context = context;
    parameters_.width = kWidth;
    parameters_.pooling = model::Pooling::mean;
  }

  // Set these before the engine starts.
  std::function<void(const model::Batch&)> before_forward;
  int64_t fails_from = std::numeric_limits<int64_t>::max();  // rows of this position and later have NaN for logits
  model::HyperParameters& parameters() { return parameters_; }

  const model::HyperParameters& hyper_parameters() const override { return parameters_; }
  tensor::KvShape kv_shape() const override {
    return {.layers = 1, .kv_heads = 1, .head_dim = 32, .blocks = 0, .type = tensor::KvType::f32};
  }
  size_t weight_bytes() const override { return 0; }
  size_t activation_bytes() const override { return 0; }
  size_t step_weight_bytes() const override { return 0; }
  model::Multiplies row_multiplies() const override { return {}; }

  model::Output forward(const model::Batch& batch, tensor::KvCache& cache) override {
    if (before_forward) before_forward(batch);
    auto& fake = dynamic_cast<FakeCache&>(cache);
    const auto rows = std::ssize(batch.tokens);
    EXPECT_GT(rows, 0);
    // All rows are stored before any is read, as each layer of a real decoder does.
    for (int64_t row = 0; row < rows; ++row)
      store(batch, fake, static_cast<size_t>(row));
    logits_.clear();
    hidden_.clear();
    for (const int32_t row : batch.logit_rows) {
      const auto [value, poisoned] = read(batch, fake, static_cast<size_t>(row));
      const auto logits = logits_of(value, poisoned || batch.positions[static_cast<size_t>(row)] >= fails_from);
      logits_.insert(logits_.end(), logits.begin(), logits.end());
    }
    for (const int32_t row : batch.hidden_rows) {
      const auto hidden = hidden_of(read(batch, fake, static_cast<size_t>(row)).first);
      hidden_.insert(hidden_.end(), hidden.begin(), hidden.end());
    }
    return {{logits_.data(), std::ssize(batch.logit_rows), kVocabulary, kVocabulary},
            {hidden_.data(), std::ssize(batch.hidden_rows), kWidth, kWidth}};
  }

 private:
  void store(const model::Batch& batch, FakeCache& cache, size_t row) {
    const int64_t position = batch.positions[row];
    const auto table = batch.block_tables[static_cast<size_t>(batch.sequences[row])];
    if (row > 0 && batch.sequences[row] == batch.sequences[row - 1]) {
      EXPECT_EQ(position, batch.positions[row - 1] + 1);
    }
    ASSERT_GE(std::ssize(table) * tensor::kKvBlockTokens, position + 1);
    const FakeCache::Slot before = position > 0 ? cache.at(table, position - 1) : FakeCache::Slot{0, false};
    cache.at(table, position) = {chain(before.value, batch.tokens[row], position),
                                 before.poisoned || batch.tokens[row] == kPoison};
  }
  static std::pair<uint64_t, bool> read(const model::Batch& batch, FakeCache& cache, size_t row) {
    const auto table = batch.block_tables[static_cast<size_t>(batch.sequences[row])];
    std::vector<uint64_t> values;
    bool poisoned = false;
    for (int64_t i = 0; i <= batch.positions[row]; ++i) {
      values.push_back(cache.at(table, i).value);
      poisoned = poisoned || cache.at(table, i).poisoned;
    }
    return {digest(values), poisoned};
  }

  model::HyperParameters parameters_;
  std::vector<float> logits_;
  std::vector<float> hidden_;
};

// 64 tokens: three special ones, the letters, a space, the two bytes of "é", and pairs of letters.
inline std::unique_ptr<text::Tokenizer> fake_tokenizer() {
  auto vocabulary = text::Vocabulary::with_defaults("llama", "");
  EXPECT_TRUE(vocabulary);
  auto& v = *vocabulary;
  const auto add = [&](std::string piece, text::TokenKind kind = text::TokenKind::normal) {
    v.pieces.push_back(std::move(piece));
    v.kinds.push_back(kind);
    v.scores.push_back(0);
  };
  add("<unk>", text::TokenKind::unknown);
  add("<s>", text::TokenKind::control);
  add("</s>", text::TokenKind::control);
  for (char c = 'a'; c <= 'z'; ++c)
    add(std::string(1, c));
  add("\xe2\x96\x81");
  add("<0xC3>", text::TokenKind::byte);
  add("<0xA9>", text::TokenKind::byte);
  for (char c = 'a'; std::ssize(v.pieces) < kVocabulary; ++c)
    add(std::string("q") + c + (c > 'z' ? "!" : ""));
  v.unknown = 0;
  v.bos = 1;
  v.eos = kEos;
  v.add_bos = false;
  v.add_eos = false;
  v.add_space_prefix = false;
  auto tokenizer = text::Tokenizer::create(std::move(v));
  EXPECT_TRUE(tokenizer) << tokenizer.error().to_string();
  return std::move(*tokenizer);
}

}  // namespace tidemill::engine::test
