#include <array>

#include <utf8proc.h>

#include "grammar/regex_parser.hpp"

namespace tidemill::grammar {

namespace {

struct Category {
  std::string_view short_name;
  std::string_view long_name;
};

// In utf8proc's numbering of categories.
constexpr std::array<Category, 30> kCategories{{
    {"Cn", "Unassigned"},
    {"Lu", "Uppercase_Letter"},
    {"Ll", "Lowercase_Letter"},
    {"Lt", "Titlecase_Letter"},
    {"Lm", "Modifier_Letter"},
    {"Lo", "Other_Letter"},
    {"Mn", "Nonspacing_Mark"},
    {"Mc", "Spacing_Mark"},
    {"Me", "Enclosing_Mark"},
    {"Nd", "Decimal_Number"},
    {"Nl", "Letter_Number"},
    {"No", "Other_Number"},
    {"Pc", "Connector_Punctuation"},
    {"Pd", "Dash_Punctuation"},
    {"Ps", "Open_Punctuation"},
    {"Pe", "Close_Punctuation"},
    {"Pi", "Initial_Punctuation"},
    {"Pf", "Final_Punctuation"},
    {"Po", "Other_Punctuation"},
    {"Sm", "Math_Symbol"},
    {"Sc", "Currency_Symbol"},
    {"Sk", "Modifier_Symbol"},
    {"So", "Other_Symbol"},
    {"Zs", "Space_Separator"},
    {"Zl", "Line_Separator"},
    {"Zp", "Paragraph_Separator"},
    {"Cc", "Control"},
    {"Cf", "Format"},
    {"Cs", "Surrogate"},
    {"Co", "Private_Use"},
}};

constexpr std::array<Category, 7> kGroups{{
    {"L", "Letter"},
    {"M", "Mark"},
    {"N", "Number"},
    {"P", "Punctuation"},
    {"S", "Symbol"},
    {"Z", "Separator"},
    {"C", "Other"},
}};

// Asks utf8proc about every code point, once in the life of the program.
std::array<CodePointSet, kCategories.size()> read_categories() {
  std::array<std::vector<CodePointRange>, kCategories.size()> ranges;
  for (char32_t c = 0; c <= CodePointSet::last_code_point; ++c) {
    auto& list = ranges[static_cast<size_t>(utf8proc_category(static_cast<utf8proc_int32_t>(c)))];
    if (!list.empty() && list.back().second + 1 == c)
      list.back().second = c;
    else
      list.emplace_back(c, c);
  }
  std::array<CodePointSet, kCategories.size()> sets;
  for (size_t i = 0; i < sets.size(); ++i)
    sets[i] = CodePointSet(std::move(ranges[i]));
  return sets;
}

}  // namespace

std::optional<CodePointSet> unicode_property(std::string_view name) {
  for (const std::string_view prefix : {"gc=", "General_Category="})
    if (name.starts_with(prefix)) name.remove_prefix(prefix.size());
  if (name == "Any") return CodePointSet::all();
  if (name == "ASCII") return CodePointSet({{0, 0x7F}});
  for (const Category& group : kGroups)
    if (name == group.long_name) name = group.short_name;
  static const auto sets = read_categories();
  CodePointSet found;
  bool is_known = false;
  for (size_t i = 0; i < kCategories.size(); ++i) {
    const Category& category = kCategories[i];
    const bool in_group = name.size() == 1 && category.short_name[0] == name[0];
    if (!in_group && name != category.short_name && name != category.long_name) continue;
    found = found.united(sets[i]);
    is_known = true;
  }
  if (!is_known) return std::nullopt;
  return found;
}

}  // namespace tidemill::grammar
