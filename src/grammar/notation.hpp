// How a schema's values are spelled: as JSON, or with texts written raw, as the tool formats of some models have them.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "grammar/builder.hpp"
#include "grammar/other_readings.hpp"
#include "grammar/regex.hpp"

namespace tidemill::grammar {

struct Notation {
  // What a raw text, which has no escapes, cannot hold, for it ends the text; empty: texts are JSON's, in quotation
  // marks.
  std::string end_of_text;
  // Around raw texts: a control token's name, or plain text; empty: nothing.
  std::string quote;
  bool python = false;  // True, False and None for true, false and null
  // Of raw texts that stand alone, without a quote: what is read as something else is no text.
  OtherReadings other_readings = {};
  // What no text of JSON holds but as an escape (\u003c), since it may begin the end of all of it: a character that
  // JSON has inside of texts alone. 0: nothing.
  char escaped = 0;

  bool raw() const { return !end_of_text.empty(); }
};

// A value as a literal of Python's, texts as JSON writes them.
std::string python_literal(const base::json::value& value);

// Not thread-safe. The builder must outlive it.
class NotationWriter {
 public:
  NotationWriter(GrammarBuilder& builder, Notation notation);

  bool raw() const { return notation_.raw(); }
  const std::string& end_of_text() const { return notation_.end_of_text; }
  // Whether a raw text cannot be this, since its end would be found within.
  bool ends_a_text(std::string_view text) const {
    return raw() && text.find(notation_.end_of_text) != std::string_view::npos;
  }
  // Whether texts are left out that are read as something else.
  bool has_other_readings() const { return raw() && notation_.other_readings.any(); }

  // What stands between the marks of a text: of so many characters, or one in which the pattern matches.
  Expression text(size_t least, std::optional<size_t> most);
  Expression text_matching(const Regex& regex, size_t least, std::optional<size_t> most);
  // The same of any length, and any text of so many characters, with what ends a raw text in it or not: for what holds
  // beside one of those.
  Expression text_searched(const Regex& regex);
  Expression text_counted(size_t least, std::optional<size_t> most);
  // Those of `texts`, which are the text between the marks, that have so many characters.
  Expression counted(Expression texts, size_t least, std::optional<size_t> most);
  Expression quoted(Expression text);

  // true, false or null.
  Expression word(std::string_view word);
  // Values as they stand: those of `enum`, of `const`.
  Expression values(std::span<const base::json::value* const> values);

  // A property's name, with its marks: raw names are bare words of up to 64 letters, digits, '_', '-' and '.' where
  // they can be.
  Expression key(const std::string& name);
  // Names that are none of these, and names in which the pattern matches; raw ones are bare words of up to 64
  // characters. Errors: `too_large` where the names are long.
  base::Result<Expression> other_keys(std::span<const std::string> names);
  base::Result<Expression> keys_matching(const Regex& regex, std::span<const std::string> names);
  // The names of `text` that are none of `names`.
  base::Result<Expression> keys_of(Expression text, std::span<const std::string> names);

 private:
  Expression value(const base::json::value& value);
  Expression without_end(Expression text);
  Expression as_text(Expression texts);
  Expression mark();
  Expression character_of(const CodePointSet& set);
  std::string spelled(std::string json) const;

  GrammarBuilder& builder_;
  Notation notation_;
  CodePointSet escaped_;
};

}  // namespace tidemill::grammar
