// A set of tokens of a vocabulary.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "text/vocabulary.hpp"

namespace tidemill::grammar {

// One bit per token. A value.
class TokenMask {
 public:
  TokenMask() = default;
  explicit TokenMask(size_t vocabulary) : size_(vocabulary), words_((vocabulary + 63) / 64, 0) {}

  size_t size() const { return size_; }  // of the vocabulary
  bool test(text::Token token) const {
    const auto bit = static_cast<size_t>(token);
    return token >= 0 && bit < size_ && ((words_[bit / 64] >> (bit % 64)) & 1U) != 0;
  }
  void set(text::Token token) {
    const auto bit = static_cast<size_t>(token);
    words_[bit / 64] |= uint64_t{1} << (bit % 64);
  }
  // All bits of a vocabulary of this size to 0.
  void clear(size_t vocabulary) {
    size_ = vocabulary;
    words_.assign((vocabulary + 63) / 64, 0);
  }
  size_t count() const {
    size_t set = 0;
    for (const uint64_t word : words_)
      set += static_cast<size_t>(std::popcount(word));
    return set;
  }
  // Token t is bit t % 64 of word t / 64; bits behind the vocabulary are 0.
  std::span<const uint64_t> words() const { return words_; }

  bool operator==(const TokenMask&) const = default;

 private:
  size_t size_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace tidemill::grammar
