#include "grammar/code_points.hpp"

#include <algorithm>

namespace tidemill::grammar {

namespace {

constexpr char32_t kFirstSurrogate = 0xD800;
constexpr char32_t kLastSurrogate = 0xDFFF;

}  // namespace

CodePointSet::CodePointSet(std::vector<CodePointRange> ranges) {
  std::vector<CodePointRange> parts;
  for (auto [first, last] : ranges) {
    last = std::min(last, last_code_point);
    if (first < kFirstSurrogate && first <= last)
      parts.emplace_back(first, std::min<char32_t>(last, kFirstSurrogate - 1));
    if (last > kLastSurrogate && first <= last) parts.emplace_back(std::max<char32_t>(first, kLastSurrogate + 1), last);
  }
  std::sort(parts.begin(), parts.end());
  for (const auto& [first, last] : parts) {
    if (!ranges_.empty() && first <= ranges_.back().second + 1)
      ranges_.back().second = std::max(ranges_.back().second, last);
    else
      ranges_.emplace_back(first, last);
  }
}

CodePointSet CodePointSet::all() {
  return CodePointSet({{0, last_code_point}});
}

CodePointSet CodePointSet::digits() {
  return CodePointSet({{'0', '9'}});
}

CodePointSet CodePointSet::word() {
  return CodePointSet({{'A', 'Z'}, {'a', 'z'}, {'0', '9'}, {'_', '_'}});
}

CodePointSet CodePointSet::white_space() {
  return CodePointSet({{0x09, 0x0D},
                       {0x20, 0x20},
                       {0xA0, 0xA0},
                       {0x1680, 0x1680},
                       {0x2000, 0x200A},
                       {0x2028, 0x2029},
                       {0x202F, 0x202F},
                       {0x205F, 0x205F},
                       {0x3000, 0x3000},
                       {0xFEFF, 0xFEFF}});
}

CodePointSet CodePointSet::line_ends() {
  return CodePointSet({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}});
}

bool CodePointSet::contains(char32_t code_point) const {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), code_point,
                                      [](char32_t value, const CodePointRange& range) { return value < range.first; });
  return after != ranges_.begin() && code_point <= std::prev(after)->second;
}

CodePointSet CodePointSet::united(const CodePointSet& other) const {
  std::vector<CodePointRange> both = ranges_;
  both.insert(both.end(), other.ranges_.begin(), other.ranges_.end());
  return CodePointSet(std::move(both));
}

CodePointSet CodePointSet::common(const CodePointSet& other) const {
  CodePointSet result;
  for (size_t i = 0, j = 0; i < ranges_.size() && j < other.ranges_.size();) {
    const char32_t first = std::max(ranges_[i].first, other.ranges_[j].first);
    const char32_t last = std::min(ranges_[i].second, other.ranges_[j].second);
    if (first <= last) result.ranges_.emplace_back(first, last);
    if (ranges_[i].second < other.ranges_[j].second)
      ++i;
    else
      ++j;
  }
  return result;
}

CodePointSet CodePointSet::complement() const {
  std::vector<CodePointRange> gaps;
  char32_t next = 0;
  for (const auto& [first, last] : ranges_) {
    if (next < first) gaps.emplace_back(next, first - 1);
    next = last + 1;
  }
  if (next <= last_code_point) gaps.emplace_back(next, last_code_point);
  return CodePointSet(std::move(gaps));
}

}  // namespace tidemill::grammar
