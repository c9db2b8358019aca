// Merging against the plainest way to do it: look at all pairs, merge the best, begin again.
#include "text/merge.hpp"

#include <map>
#include <random>
#include <string>

#include <gtest/gtest.h>

namespace tidemill::text {
namespace {

// Random pieces over a small alphabet, with few ranks, so that long chains of merges and ties are common.
struct Pieces {
  explicit Pieces(uint32_t seed) {
    std::mt19937 random(seed);
    for (char c = 'a'; c < 'd'; ++c)
      add(std::string(1, c), 0);
    for (int i = 0; i < 40; ++i)
      add(texts[random() % texts.size()] + texts[random() % texts.size()], static_cast<uint32_t>(random() % 6));
  }
  void add(const std::string& text, uint32_t rank) {
    if (text.size() > 12 || !ids.try_emplace(text, static_cast<int32_t>(texts.size())).second) return;
    texts.push_back(text);
    ranks.push_back(rank);
  }
  Merge find(const std::string& text) const {
    const auto found = ids.find(text);
    return found == ids.end() ? Merge{0, -1} : Merge{ranks[found->second], found->second};
  }
  std::map<std::string, int32_t> ids;
  std::vector<std::string> texts;
  std::vector<uint32_t> ranks;
};

std::vector<std::string> merge_plainly(const Pieces& pieces, const std::string& text) {
  std::vector<std::string> parts;
  for (const char c : text)
    parts.emplace_back(1, c);
  while (true) {
    size_t best = parts.size();
    uint32_t best_rank = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const Merge merge = pieces.find(parts[i] + parts[i + 1]);
      if (merge.id >= 0 && (best == parts.size() || merge.rank < best_rank)) {
        best = i;
        best_rank = merge.rank;
      }
    }
    if (best == parts.size()) return parts;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(Merger, EqualsThePlainestWayForShortAndLongWords) {
  Merger merger;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    const Pieces pieces(seed);
    std::mt19937 random(seed);
    std::string text;
    const size_t length = random() % 200;
    for (size_t i = 0; i < length; ++i)
      text += static_cast<char>('a' + random() % (1 + seed % 4));  // 'd' is no piece
    std::vector<Symbol> symbols;
    for (uint32_t i = 0; i < text.size(); ++i)
      symbols.push_back({i, i + 1, pieces.find(text.substr(i, 1)).id});
    merger.merge(symbols, [&](const Symbol& left, const Symbol& right) {
      return pieces.find(text.substr(left.begin, right.end - left.begin));
    });
    std::vector<std::string> parts;
    for (const Symbol& symbol : symbols)
      parts.push_back(text.substr(symbol.begin, symbol.end - symbol.begin));
    EXPECT_EQ(parts, merge_plainly(pieces, text)) << "seed " << seed;
  }
}

}  // namespace
}  // namespace tidemill::text
