#include "grammar/regex_match.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "base/utf8.hpp"

namespace tidemill::grammar {
namespace {

using Positions = std::vector<bool>;  // between the characters of a text

class Matching {
 public:
  Matching(const std::u32string& text, size_t& work) : text_(text), work_(work) {}

  bool exhausted() const { return work_ == 0; }

  // Where a match of `node` may end that begins at one of `starts`.
  Positions ends(const RegexNode& node, const Positions& starts) {
    if (work_ <= starts.size()) {
      work_ = 0;
      return Positions(starts.size());
    }
    work_ -= starts.size();
    switch (node.kind) {
      case RegexNode::Kind::characters: {
        Positions out(starts.size());
        for (size_t i = 0; i < text_.size(); ++i)
          out[i + 1] = starts[i] && node.set.contains(text_[i]);
        return out;
      }
      case RegexNode::Kind::sequence: {
        Positions out = starts;
        for (const RegexNode& part : node.parts)
          out = ends(part, out);
        return out;
      }
      case RegexNode::Kind::choice: {
        Positions out(starts.size());
        for (const RegexNode& part : node.parts)
          unite(out, ends(part, starts));
        return out;
      }
      case RegexNode::Kind::repeat:
        return repeated(node, starts);
    }
    return starts;
  }

 private:
  static bool unite(Positions& into, const Positions& from) {
    bool grew = false;
    for (size_t i = 0; i < into.size(); ++i) {
      if (!from[i] || into[i]) continue;
      into[i] = true;
      grew = true;
    }
    return grew;
  }

  Positions repeated(const RegexNode& node, const Positions& starts) {
    Positions at = starts;
    for (size_t i = 0; i < node.least; ++i) {
      Positions next = ends(node.parts[0], at);
      if (next == at) break;  // and so on for ever
      at = std::move(next);
    }
    Positions out = at;
    for (size_t i = node.least; i < node.most.value_or(SIZE_MAX); ++i) {
      at = ends(node.parts[0], at);
      if (!unite(out, at)) break;
    }
    return out;
  }

  const std::u32string& text_;
  size_t& work_;
};

std::optional<size_t> sum(std::optional<size_t> left, std::optional<size_t> right) {
  return left && right && *left < SIZE_MAX / 2 && *right < SIZE_MAX / 2 ? std::optional(*left + *right) : std::nullopt;
}

size_t times(size_t left, size_t right) {
  constexpr size_t most = SIZE_MAX / 4;
  return left != 0 && right > most / left ? most : left * right;
}

}  // namespace

LengthRange lengths_of(const RegexNode& node) {
  LengthRange out{0, 0};
  switch (node.kind) {
    case RegexNode::Kind::characters:
      return {1, 1};
    case RegexNode::Kind::sequence:
      for (const RegexNode& part : node.parts) {
        const LengthRange range = lengths_of(part);
        out.least = std::min(out.least + range.least, SIZE_MAX / 4);
        out.most = sum(out.most, range.most);
      }
      return out;
    case RegexNode::Kind::choice:
      out.least = SIZE_MAX / 4;
      for (const RegexNode& part : node.parts) {
        const LengthRange range = lengths_of(part);
        out.least = std::min(out.least, range.least);
        out.most = out.most && range.most ? std::optional(std::max(*out.most, *range.most)) : std::nullopt;
      }
      return out;
    case RegexNode::Kind::repeat: {
      const LengthRange range = lengths_of(node.parts[0]);
      out.least = times(range.least, node.least);
      if (range.most != 0) {
        out.most = range.most && node.most ? std::optional(times(*range.most, *node.most)) : std::nullopt;
      }
      return out;
    }
  }
  return out;
}

namespace {

// What stands in front of a part of a pattern.
struct Attempts {
  bool anywhere;  // the text may be any, so that an attempt may begin at every place
  bool begun;     // something has to match since then
};

// The places of a character in `node`; `doublings` counts those that attempts under way are counted in.
size_t places_in(const RegexNode& node, Attempts& at, size_t& doublings) {
  constexpr size_t most_places = SIZE_MAX / 4;
  size_t places = 0;
  if (node.kind == RegexNode::Kind::characters) {
    at.begun = true;
    return 1;
  }
  if (node.kind == RegexNode::Kind::choice) {
    const Attempts before = at;
    for (const RegexNode& part : node.parts) {
      Attempts mine = before;
      places = std::min(places + places_in(part, mine, doublings), most_places);
      at = {at.anywhere || mine.anywhere, at.begun || mine.begun};
    }
    return places;
  }
  const bool under_way = at.anywhere && at.begun;
  for (const RegexNode& part : node.parts)
    places = std::min(places + places_in(part, at, doublings), most_places);
  if (node.kind == RegexNode::Kind::sequence) return places;
  if (!node.most) at = {.anywhere = true, .begun = false};
  places = times(places, std::max<size_t>(1, node.most.value_or(node.least)));
  if (under_way && node.most && *node.most > 1) doublings = std::min(doublings + places, most_places);
  return places;
}

}  // namespace

std::optional<bool> matches(const Regex& regex, std::string_view text, size_t& work) {
  std::u32string characters;
  while (!text.empty()) {
    const auto decoded = base::utf8::decode(text);
    characters += decoded.code_point;
    text.remove_prefix(decoded.length);
  }
  Matching matching(characters, work);
  for (const Regex::Alternative& alternative : regex.alternatives) {
    Positions starts(characters.size() + 1, !alternative.anchored_start);
    starts[0] = true;
    const Positions ends = matching.ends(alternative.root, starts);
    if (matching.exhausted()) return std::nullopt;
    if (alternative.anchored_end ? ends.back() : std::find(ends.begin(), ends.end(), true) != ends.end()) return true;
  }
  return false;
}

LengthRange lengths_of(const Regex& regex) {
  LengthRange out{SIZE_MAX / 4, 0};
  for (const Regex::Alternative& alternative : regex.alternatives) {
    const LengthRange range = lengths_of(alternative.root);
    out.least = std::min(out.least, range.least);
    const bool whole = alternative.anchored_start && alternative.anchored_end;
    out.most = whole && out.most && range.most ? std::optional(std::max(*out.most, *range.most)) : std::nullopt;
  }
  return out;
}

size_t likely_states(const Regex& regex) {
  constexpr size_t most_doublings = 20;
  size_t all = 0;
  for (const Regex::Alternative& alternative : regex.alternatives) {
    Attempts at{.anywhere = !alternative.anchored_start, .begun = false};
    size_t doublings = 0;
    const size_t places = places_in(alternative.root, at, doublings);
    all = std::min(all + times(places, size_t{1} << std::min(doublings, most_doublings)), SIZE_MAX / 4);
  }
  return all;
}

}  // namespace tidemill::grammar
