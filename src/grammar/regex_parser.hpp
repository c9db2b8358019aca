// The parser behind regex.hpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "grammar/regex.hpp"

namespace tidemill::grammar {

// One use: parse() once.
class RegexParser {
 public:
  RegexParser(std::string_view pattern, const GrammarLimits& limits, size_t before);

  base::Result<Regex> parse();

 private:
  static constexpr char32_t kEnd = 0xFFFFFFFF;

  struct Alternative {
    Regex::Alternative regex;
    size_t anchor = 0;  // position of one of its anchors
    bool is_anchored() const { return regex.anchored_start || regex.anchored_end; }
  };
  struct Escape {
    CodePointSet set;
    bool is_class = false;  // \d, \p{...}: no end of a range
  };

  base::Result<std::vector<Alternative>> alternatives(int depth);
  base::Result<std::vector<Alternative>> alternative(int depth);
  base::Result<RegexNode> group(int depth, std::vector<Alternative>* whole);
  base::Result<RegexNode> atom(int depth, std::vector<Alternative>* whole);
  base::Result<RegexNode> quantified(RegexNode node, bool& is_quantified);
  base::Result<bool> braces(size_t& least, std::optional<size_t>& most);
  base::Result<size_t> number();
  base::Result<CodePointSet> character_class();
  base::Result<Escape> class_atom();
  base::Result<Escape> escape(bool in_class);
  base::Result<char32_t> unicode_escape();
  base::Result<char32_t> hexadecimal(int digits);
  base::Result<CodePointSet> property();

  char32_t peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : kEnd; }
  bool take(char32_t c);
  bool take(std::string_view ascii);
  base::Error error(base::ErrorCode code, size_t at, std::string_view what) const;
  base::Error invalid(size_t at, std::string_view what) const {
    return error(base::ErrorCode::invalid_argument, at, what);
  }
  base::Error unsupported(size_t at, std::string_view what) const {
    return error(base::ErrorCode::unsupported, at, what);
  }

  const GrammarLimits& limits_;
  std::string_view source_;
  size_t before_;  // characters in front of it, which positions count
  std::vector<char32_t> text_;
  size_t at_ = 0;
};

// The code points of a general category by its short or long name, of "Any" or "ASCII"; none if there is no such name.
std::optional<CodePointSet> unicode_property(std::string_view name);

}  // namespace tidemill::grammar
