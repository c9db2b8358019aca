#include "grammar/notation.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "grammar/counted_patterns.hpp"
#include "grammar/json_string.hpp"
#include "grammar/regex_match.hpp"

namespace tidemill::grammar {

namespace json = base::json;

namespace {

constexpr size_t short_bound = 100;    // of length: what has many states has fewer within
constexpr size_t many_states = 2'000;  // of a pattern
constexpr size_t longest_word = 64;

CodePointSet word_characters() {
  return CodePointSet({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}, {'-', '.'}});
}

bool is_word(std::string_view text) {
  const CodePointSet characters = word_characters();
  return !text.empty() && text.size() <= longest_word && std::all_of(text.begin(), text.end(), [&](char c) {
    return characters.contains(static_cast<unsigned char>(c));
  });
}

}  // namespace

std::string python_literal(const json::value& value) {
  if (value.is_null()) return "None";
  if (value.is_bool()) return value.get_bool() ? "True" : "False";
  std::string text;
  if (const auto* items = value.if_array()) {
    for (const json::value& item : *items)
      text.append(text.empty() ? "[" : ", ").append(python_literal(item));
    return text.empty() ? "[]" : text + "]";
  }
  if (const auto* members = value.if_object()) {
    for (const auto& [name, member] : *members) {
      text.append(text.empty() ? "{" : ", ").append(compact_json(json::value(name)));
      text.append(": ").append(python_literal(member));
    }
    return text.empty() ? "{}" : text + "}";
  }
  return compact_json(value);
}

Expression NotationWriter::word(std::string_view word) {
  if (!notation_.python) return builder_.literal(word);
  return builder_.literal(word == "null" ? "None" : word == "true" ? "True" : "False");
}

NotationWriter::NotationWriter(GrammarBuilder& builder, Notation notation)
    : builder_(builder), notation_(std::move(notation)) {
  if (notation_.escaped != 0) escaped_ = CodePointSet::of(static_cast<unsigned char>(notation_.escaped));
}

// One character of the set, within a text.
Expression NotationWriter::character_of(const CodePointSet& set) {
  if (raw()) return builder_.code_points(set);
  const Expression others = json_character_of(builder_, set.without(escaped_));
  if (set.common(escaped_).is_empty()) return others;
  return builder_.choice({others, builder_.literal(spelled(std::string(1, notation_.escaped)))});
}

// JSON, with the escapes that are needed here.
std::string NotationWriter::spelled(std::string json) const {
  if (notation_.escaped == 0) return json;
  const std::string escape = fmt::format("\\u{:04x}", static_cast<unsigned>(notation_.escaped));
  for (size_t at = 0; (at = json.find(notation_.escaped, at)) != std::string::npos; at += escape.size())
    json.replace(at, 1, escape);
  return json;
}

Expression NotationWriter::mark() {
  if (!raw()) return builder_.literal("\"");
  return notation_.quote.empty() ? builder_.empty() : builder_.special(notation_.quote);
}

Expression NotationWriter::quoted(Expression text) {
  return builder_.sequence({mark(), text, mark()});
}

Expression NotationWriter::without_end(Expression text) {
  return builder_.both(text, builder_.text_without(std::span(&notation_.end_of_text, 1)));
}

// Those of raw texts that are read as texts.
Expression NotationWriter::as_text(Expression texts) {
  if (!notation_.other_readings.any()) return texts;
  const Expression others = texts_read_otherwise(builder_, notation_.other_readings);
  return builder_.apart(texts, others) ? texts : builder_.except(texts, others);
}

Expression NotationWriter::text(size_t least, std::optional<size_t> most) {
  if (!raw()) return builder_.repeat(json_character(builder_, escaped_), least, most);
  return counted(as_text(builder_.text_without(std::span(&notation_.end_of_text, 1))), least, most);
}

Expression NotationWriter::counted(Expression texts, size_t least, std::optional<size_t> most) {
  if (least == 0 && !most) return texts;
  return builder_.counted(texts, character_of(CodePointSet::all()), least, most);
}

Expression NotationWriter::text_matching(const Regex& regex, size_t least, std::optional<size_t> most) {
  if (!raw()) {
    return texts_matching(builder_, regex, least, most, [this](const CodePointSet& set) { return character_of(set); });
  }
  const auto first = static_cast<unsigned char>(notation_.end_of_text.front());
  const bool has_many = likely_states(regex) > many_states;
  if (has_many && most.value_or(least) > short_bound) {
    // Without the character that the end begins with, where texts without it match: that takes no automaton.
    const auto texts = counted_texts(builder_, regex, least, most, [&](const CodePointSet& set) {
      return builder_.code_points(set.without(CodePointSet::of(first)));
    });
    if (texts && *texts != builder_.nothing()) return as_text(*texts);
  }
  const LengthRange own = lengths_of(regex);
  const bool is_within = own.least >= least && (!most || (own.most && *own.most <= *most));
  const bool within_match = is_within || (has_many && most.value_or(least) <= short_bound);
  bool may_hold_end = false;
  Expression texts = texts_matching(builder_, regex, within_match ? least : 0, within_match ? most : std::nullopt,
                                    [&](const CodePointSet& set) {
                                      may_hold_end = may_hold_end || set.contains(first);
                                      return builder_.code_points(set);
                                    });
  texts = as_text(may_hold_end ? without_end(texts) : texts);
  return within_match ? texts : counted(texts, least, most);
}

Expression NotationWriter::text_searched(const Regex& regex) {
  return texts_matching(builder_, regex, 0, std::nullopt,
                        [this](const CodePointSet& set) { return character_of(set); });
}

Expression NotationWriter::text_counted(size_t least, std::optional<size_t> most) {
  return builder_.repeat(character_of(CodePointSet::all()), least, most);
}

Expression NotationWriter::values(std::span<const json::value* const> values) {
  std::vector<std::string> texts;  // without the marks where they are raw
  std::vector<Expression> ways;
  for (const json::value* one : values) {
    if (notation_.python) {
      texts.push_back(python_literal(*one));
    } else if (!raw()) {
      texts.push_back(spelled(compact_json(*one)));
    } else if (!one->is_string()) {
      ways.push_back(value(*one));
    } else if (const std::string_view text = one->get_string(); text.find(notation_.end_of_text) == text.npos) {
      texts.emplace_back(text);
    }
  }
  const Expression listed = builder_.one_of(texts);
  ways.push_back(raw() ? quoted(as_text(listed)) : listed);
  return builder_.choice(ways);
}

// In the raw notation.
Expression NotationWriter::value(const json::value& value) {
  if (value.is_string()) {
    const std::string_view text = value.get_string();
    if (text.find(notation_.end_of_text) != std::string_view::npos) return builder_.nothing();
    return quoted(builder_.literal(text));
  }
  std::vector<Expression> parts;
  if (const auto* items = value.if_array()) {
    for (const json::value& item : *items) {
      parts.push_back(builder_.literal(parts.empty() ? "[" : ","));
      parts.push_back(this->value(item));
    }
    if (parts.empty()) return builder_.literal("[]");
    parts.push_back(builder_.literal("]"));
    return builder_.sequence(parts);
  }
  if (const auto* members = value.if_object()) {
    std::vector<std::string> names;
    names.reserve(members->size());
    for (const auto& [name, member] : *members)
      names.emplace_back(name);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) {
      parts.push_back(builder_.literal(parts.empty() ? "{" : ","));
      parts.push_back(builder_.sequence({key(name), builder_.literal(":"), this->value(members->at(name))}));
    }
    if (parts.empty()) return builder_.literal("{}");
    parts.push_back(builder_.literal("}"));
    return builder_.sequence(parts);
  }
  return builder_.literal(compact_json(value));
}

Expression NotationWriter::key(const std::string& name) {
  if (!raw()) return builder_.literal(spelled(compact_json(json::value(name))));
  if (is_word(name)) return builder_.literal(name);
  if (name.find(notation_.end_of_text) != std::string::npos) return builder_.nothing();
  return quoted(builder_.literal(name));
}

base::Result<Expression> NotationWriter::other_keys(std::span<const std::string> names) {
  if (!raw() && names.empty()) return quoted(builder_.repeat(json_character(builder_, escaped_), 0, std::nullopt));
  if (!raw()) {
    TM_TRY(const Expression others,
           texts_except(builder_, names, [this](const CodePointSet& set) { return character_of(set); }));
    return quoted(others);
  }
  const Expression letter = builder_.code_points(word_characters());
  return keys_of(builder_.repeat(letter, 1, longest_word), names);
}

base::Result<Expression> NotationWriter::keys_of(Expression text, std::span<const std::string> names) {
  if (names.empty()) return raw() ? text : quoted(text);
  TM_TRY(const Expression others,
         texts_except(builder_, names, [this](const CodePointSet& set) { return character_of(set); }));
  const Expression both = builder_.both(text, others);
  return raw() ? both : quoted(both);
}

base::Result<Expression> NotationWriter::keys_matching(const Regex& regex, std::span<const std::string> names) {
  if (!raw()) return keys_of(text_matching(regex, 0, std::nullopt), names);
  const Expression letter = builder_.code_points(word_characters());
  const Expression matching = texts_matching(builder_, regex, 0, std::nullopt, [this](const CodePointSet& set) {
    return builder_.code_points(set.common(word_characters()));
  });
  return keys_of(builder_.both(matching, builder_.repeat(letter, 1, longest_word)), names);
}

}  // namespace tidemill::grammar
