// Counts the tokens of reasoning: those whose text shows in it, white space before it included, and none that a tag is
// spelled with. What a token is shows only when the text that is held back behind it does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace tidemill::serve {

// Of one choice. Not thread-safe.
class ReasoningCount {
 public:
  // A token begins; where that is `inside` of reasoning it may be one of it.
  void begin_token(bool inside) {
    if (inside) waiting_.push_back({fed_, open});
  }

  // So many bytes of its text were read. Of all that was, the last `held` bytes are held back; `shown`: before them
  // reasoning came out; `inside`: more of it may come.
  void feed(size_t bytes, size_t held, bool shown, bool inside) {
    fed_ += bytes;
    const size_t settled = fed_ - held;
    if (shown) {
      tokens_ += static_cast<int64_t>(
          std::erase_if(waiting_, [&](const Token& token) { return token.begin < settled && token.end > settled_; }));
    }
    settled_ = settled;
    if (inside) {
      drop();
    } else {
      waiting_.clear();
    }
  }

  // One without text is a part of the character that the next one ends, and goes with that.
  void end_token(bool has_text) {
    if (!has_text) return;
    for (Token& token : waiting_) {
      if (token.end == open) token.end = fed_;
    }
    drop();
  }

  // Nothing follows; `shown`: what was held back came out as reasoning.
  void finish(bool shown) {
    if (shown) tokens_ += static_cast<int64_t>(waiting_.size());
    waiting_.clear();
  }

  int64_t tokens() const { return tokens_; }

 private:
  static constexpr size_t open = std::numeric_limits<size_t>::max();

  struct Token {
    size_t begin;  // bytes of the output before it
    size_t end;
  };

  // What came out as nothing.
  void drop() {
    std::erase_if(waiting_, [this](const Token& token) { return token.end <= settled_; });
  }

  std::vector<Token> waiting_;
  size_t fed_ = 0;      // bytes
  size_t settled_ = 0;  // of these, before what is held back
  int64_t tokens_ = 0;
};

}  // namespace tidemill::serve
