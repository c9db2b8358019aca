// Sets of texts as trees of what they begin with. Equal parts are one in the builder, so common ends are shared too.
#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "grammar/builder.hpp"

namespace tidemill::grammar {

namespace {

constexpr int kMaxDepth = 1'000;  // of texts that begin with one another

class TextTree {
 public:
  TextTree(GrammarBuilder& builder, std::span<const std::string> texts) : builder_(builder) {
    texts_.assign(texts.begin(), texts.end());
    std::sort(texts_.begin(), texts_.end());
    texts_.erase(std::unique(texts_.begin(), texts_.end()), texts_.end());
  }

  bool too_deep() const { return too_deep_; }
  Expression all() { return texts_.empty() ? builder_.nothing() : behind(0, texts_.size(), 0, 0); }

 private:
  // What may follow the first `length` bytes of texts_[from], which the texts up to `to` begin with.
  Expression behind(size_t from, size_t to, size_t length, int depth) {
    if (depth > kMaxDepth) too_deep_ = true;
    if (too_deep_) return builder_.nothing();
    std::vector<Expression> ways;
    if (texts_[from].size() == length) {
      ways.push_back(builder_.empty());
      ++from;
    }
    while (from < to) {
      const std::string_view first = texts_[from];
      size_t end = from + 1;
      while (end < to && texts_[end][length] == first[length])
        ++end;
      // They are sorted: what the first and the last have in common, all have.
      const std::string_view last = texts_[end - 1];
      const auto apart = std::mismatch(first.begin(), first.end(), last.begin(), last.end()).first;
      const auto common = static_cast<size_t>(apart - first.begin());
      const Expression rest = end - from > 1 ? behind(from, end, common, depth + 1) : builder_.empty();
      ways.push_back(builder_.sequence({builder_.literal(first.substr(length, common - length)), rest}));
      from = end;
    }
    return builder_.choice(ways);
  }

  GrammarBuilder& builder_;
  std::vector<std::string_view> texts_;
  bool too_deep_ = false;
};

}  // namespace

Expression GrammarBuilder::one_of(std::span<const std::string> texts) {
  TextTree tree(*this, texts);
  const Expression all = tree.all();
  if (tree.too_deep()) {
    fail(base::ErrorCode::too_large,
         fmt::format("more than {} texts of a list begin with one another: leave some of them out", kMaxDepth));
    return nothing();
  }
  return all;
}

}  // namespace tidemill::grammar
