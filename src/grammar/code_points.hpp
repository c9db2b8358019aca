// Sets of Unicode code points.
#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tidemill::grammar {

using CodePointRange = std::pair<char32_t, char32_t>;  // both included

// A set of code points without the surrogates, kept as ascending ranges that neither overlap nor touch. A value.
class CodePointSet {
 public:
  static constexpr char32_t last_code_point = 0x10FFFF;

  CodePointSet() = default;
  // In any order, overlapping or not. What is past U+10FFFF, and surrogates, are left out.
  explicit CodePointSet(std::vector<CodePointRange> ranges);
  static CodePointSet all();
  static CodePointSet of(char32_t code_point) { return CodePointSet({{code_point, code_point}}); }
  static CodePointSet digits();       // \d of ECMA-262: 0-9
  static CodePointSet word();         // \w of ECMA-262: A-Z a-z 0-9 _
  static CodePointSet white_space();  // \s of ECMA-262: WhiteSpace and LineTerminator
  static CodePointSet line_ends();    // what . of ECMA-262 does not match: \n \r U+2028 U+2029

  std::span<const CodePointRange> ranges() const { return ranges_; }
  bool is_empty() const { return ranges_.empty(); }
  bool contains(char32_t code_point) const;
  CodePointSet united(const CodePointSet& other) const;
  CodePointSet common(const CodePointSet& other) const;
  CodePointSet complement() const;
  CodePointSet without(const CodePointSet& other) const { return common(other.complement()); }

  bool operator==(const CodePointSet&) const = default;

 private:
  std::vector<CodePointRange> ranges_;
};

}  // namespace tidemill::grammar
