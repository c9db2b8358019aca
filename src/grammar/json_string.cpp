#include "grammar/json_string.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <vector>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "grammar/counted_patterns.hpp"
#include "grammar/regex_match.hpp"

namespace tidemill::grammar {

namespace json = base::json;

namespace {

constexpr size_t longest_intersected = 100;  // characters of a text with a pattern that are counted by an intersection
constexpr size_t most_counted_beside = 64;   // likely states of a pattern for which that is never better

// What comes behind the backslash, for characters that have an escape of one letter which they need.
constexpr std::array<std::pair<char32_t, char>, 7> short_escapes{
    {{'"', '"'}, {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'}, {'\n', 'n'}, {'\r', 'r'}, {'\t', 't'}}};

ByteSet byte_set(std::string_view ranges) {
  ByteSet set;
  for (size_t i = 0; i + 1 < ranges.size(); i += 2) {
    for (char byte = ranges[i]; byte <= ranges[i + 1]; ++byte)
      set.set(static_cast<size_t>(byte));
  }
  return set;
}

CodePointSet written_raw() {
  return CodePointSet({{0x20, CodePointSet::last_code_point}})
      .without(CodePointSet::of('"'))
      .without(CodePointSet::of('\\'));
}

void append_character(std::string& out, char32_t character) {
  const auto* const found = std::find_if(short_escapes.begin(), short_escapes.end(),
                                         [&](const auto& escape) { return escape.first == character; });
  if (found != short_escapes.end()) {
    out += '\\';
    out += found->second;
  } else if (character < 0x20) {
    out += fmt::format("\\u{:04x}", static_cast<unsigned>(character));
  } else {
    base::utf8::append(out, character);
  }
}

void append_string(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80) {
      append_character(out, static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_value(std::string& out, const json::value& value) {
  if (value.is_string()) return append_string(out, value.get_string());
  if (const auto* number = value.if_double()) {
    std::array<char, 40> text{};
    const auto written = std::to_chars(text.data(), text.data() + text.size(), *number);
    out.append(text.data(), written.ptr);
    return;
  }
  if (const auto* items = value.if_array()) {
    out += '[';
    for (size_t i = 0; i < items->size(); ++i) {
      if (i > 0) out += ',';
      append_value(out, (*items)[i]);
    }
    out += ']';
    return;
  }
  if (const auto* members = value.if_object()) {
    out += '{';
    for (auto member = members->begin(); member != members->end(); ++member) {
      if (member != members->begin()) out += ',';
      append_string(out, member->key());
      out += ':';
      append_value(out, member->value());
    }
    out += '}';
    return;
  }
  out += json::serialize(value);
}

// The tree of names' characters, and what does not follow it to the end of a name.
class Exclusion {
 public:
  Exclusion(GrammarBuilder& builder, std::vector<std::u32string> names, const CharacterLeaf& leaf)
      : builder_(builder),
        names_(std::move(names)),
        leaf_(leaf),
        anything_(builder.repeat(leaf(CodePointSet::all()), 0, std::nullopt)) {
    std::sort(names_.begin(), names_.end());
  }

  // What may follow the first `depth` characters of names_[from], which the names up to `to` begin with.
  Expression behind(size_t from, size_t to, size_t depth) {
    std::vector<Expression> ways;
    if (names_[from].size() == depth) {
      ++from;
    } else {
      ways.push_back(builder_.empty());
    }
    CodePointSet others = CodePointSet::all();
    while (from < to) {
      const char32_t character = names_[from][depth];
      size_t end = from;
      while (end < to && names_[end][depth] == character)
        ++end;
      const CodePointSet one = CodePointSet::of(character);
      ways.push_back(builder_.sequence({leaf_(one), behind(from, end, depth + 1)}));
      others = others.without(one);
      from = end;
    }
    ways.push_back(builder_.sequence({leaf_(others), anything_}));
    return builder_.choice(ways);
  }

 private:
  GrammarBuilder& builder_;
  std::vector<std::u32string> names_;
  const CharacterLeaf& leaf_;
  Expression anything_;
};

}  // namespace

Expression json_character(GrammarBuilder& builder, const CodePointSet& escaped) {
  const Expression hex = builder.bytes(byte_set("09afAF"));
  const Expression back = builder.literal("\\");
  const Expression letter_d = builder.bytes(byte_set("ddDD"));
  const Expression plane = builder.choice({
      builder.sequence({builder.bytes(byte_set("09aceeffACEEFF")), hex, hex, hex}),
      builder.sequence({letter_d, builder.bytes(byte_set("07")), hex, hex}),
  });
  const Expression pair =
      builder.sequence({letter_d, builder.bytes(byte_set("89abAB")), hex, hex, builder.literal("\\u"), letter_d,
                        builder.bytes(byte_set("cfCF")), hex, hex});
  ByteSet letters;
  for (const char letter : std::string_view("\"\\/bfnrt"))
    letters.set(static_cast<size_t>(letter));
  const Expression escape =
      builder.choice({builder.bytes(letters), builder.sequence({builder.literal("u"), builder.choice({plane, pair})})});
  return builder.choice({builder.code_points(written_raw().without(escaped)), builder.sequence({back, escape})});
}

Expression json_character_of(GrammarBuilder& builder, const CodePointSet& set) {
  std::vector<Expression> ways{builder.code_points(set.common(written_raw()))};
  const CodePointSet escaped = set.without(written_raw());
  for (const auto& [first, last] : escaped.ranges()) {
    for (char32_t character = first; character <= last; ++character) {
      std::string text;
      append_character(text, character);
      ways.push_back(builder.literal(text));
    }
  }
  return builder.choice(ways);
}

Expression texts_matching(GrammarBuilder& builder, const Regex& regex, size_t least, std::optional<size_t> most,
                          const CharacterLeaf& leaf) {
  if (most && *most < least) return builder.nothing();
  const Regex::Alternative& first = regex.alternatives.front();
  const RegexNode* root = &first.root;
  while (root->kind == RegexNode::Kind::sequence && root->parts.size() == 1)
    root = root->parts.data();
  if (regex.alternatives.size() == 1 && first.anchored_start && first.anchored_end &&
      root->kind == RegexNode::Kind::repeat && root->parts[0].kind == RegexNode::Kind::characters) {
    // The common case ^[...]+$: the bounds narrow its own.
    const std::optional<size_t> end =
        root->most && most ? std::optional(std::min(*root->most, *most)) : (most ? most : root->most);
    return builder.repeat(leaf(root->parts[0].set), std::max(root->least, least), end);
  }
  const bool is_long = most.value_or(least) > longest_intersected;
  if (is_long) {
    if (const auto counted = counted_texts(builder, regex, least, most, leaf)) return *counted;
  }
  const Expression any = builder.repeat(leaf(CodePointSet::all()), 0, std::nullopt);
  std::vector<Expression> alternatives;
  for (const Regex::Alternative& one : regex.alternatives) {
    alternatives.push_back(
        builder.sequence({one.anchored_start ? builder.empty() : any, translate_regex(builder, one.root, leaf),
                          one.anchored_end ? builder.empty() : any}));
  }
  const Expression texts = builder.choice(alternatives);
  const LengthRange own = lengths_of(regex);
  if (own.least >= least && (!most || (own.most && *own.most <= *most))) return texts;
  const Expression character = leaf(CodePointSet::all());
  // What is likely to have many states has fewer within a short bound.
  if (!is_long && likely_states(regex) > most_counted_beside)
    return builder.both(texts, builder.repeat(character, least, most));
  return builder.counted(texts, character, least, most);
}

base::Result<Expression> texts_except(GrammarBuilder& builder, std::span<const std::string> names,
                                      const CharacterLeaf& leaf) {
  constexpr size_t longest = 1'000;  // characters; the tree is as deep
  std::vector<std::u32string> texts;
  for (std::string_view name : names) {
    std::u32string& text = texts.emplace_back();
    while (!name.empty()) {
      const auto decoded = base::utf8::decode(name);
      text += decoded.code_point;
      name.remove_prefix(decoded.length);
    }
    if (text.size() > longest) {
      return base::Error(base::ErrorCode::too_large,
                         fmt::format("a property's name is longer than {} characters where others are allowed "
                                     "besides: set additionalProperties to false, or shorten it",
                                     longest));
    }
  }
  const size_t count = texts.size();
  return Exclusion(builder, std::move(texts), leaf).behind(0, count, 0);
}

std::string compact_json(const json::value& value) {
  std::string out;
  append_value(out, value);
  return out;
}

std::string brief_json(const json::value& value, size_t most_bytes) {
  // Of a long text no more is written than may stay.
  const auto* text = value.if_string();
  std::string out = text == nullptr ? compact_json(value) : "";
  if (text != nullptr) append_string(out, base::utf8::prefix(*text, most_bytes));
  if (out.size() <= most_bytes) return out;
  size_t end = most_bytes;
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xC0U) == 0x80U)
    --end;
  return out.substr(0, end) + "...";
}

}  // namespace tidemill::grammar
