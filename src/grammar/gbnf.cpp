#include "grammar/gbnf.hpp"

#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "base/utf8.hpp"

namespace tidemill::grammar {

using base::Error;
using base::ErrorCode;

namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_name(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

class Parser {
 public:
  Parser(GrammarBuilder& builder, std::string_view text) : builder_(builder), text_(text) {}

  base::Result<Expression> parse() {
    if (text_.size() > builder_.limits().max_source_bytes)
      return Error(ErrorCode::too_large, fmt::format("a grammar of {} bytes is over the limit of {}", text_.size(),
                                                     builder_.limits().max_source_bytes));
    if (!base::utf8::is_valid(text_)) return Error(ErrorCode::invalid_argument, "the grammar is not UTF-8");
    for (skip_space(true); at_ < text_.size(); skip_space(true))
      TM_CHECK(definition());
    for (const auto& [name, known] : rules_)
      if (!known.is_defined) return error(known.first_use, fmt::format("rule '{}' is used but not defined", name));
    const auto root = rules_.find("root");
    if (root == rules_.end()) return error(at_, "the grammar has no rule 'root'");
    return builder_.use(root->second.rule);
  }

 private:
  struct KnownRule {
    Rule rule;
    size_t first_use = 0;
    bool is_defined = false;
  };

  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  Error error(size_t at, std::string_view what) const {
    size_t line = 1;
    size_t start = 0;
    for (size_t i = 0; i < at; ++i)
      if (text_[i] == '\n') {
        ++line;
        start = i + 1;
      }
    const size_t column = base::utf8::length(text_.substr(start, at - start)) + 1;
    return {ErrorCode::invalid_argument, fmt::format("grammar, line {} column {}: {}", line, column, what)};
  }
  Error expected(std::string_view what) const {
    if (at_ >= text_.size()) return error(at_, fmt::format("expected {}, found the end", what));
    const size_t length = base::utf8::decode(text_.substr(at_)).length;
    const std::string_view found = text_[at_] == '\n' ? "the end of the line" : text_.substr(at_, length);
    return error(at_, fmt::format("expected {}, found {}", what, found));
  }

  void skip_space(bool lines_too) {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '#') {
        while (at_ + 1 < text_.size() && text_[at_ + 1] != '\n' && text_[at_ + 1] != '\r')
          ++at_;
        continue;
      }
      const bool is_line_end = c == '\n' || c == '\r';
      if (c != ' ' && c != '\t' && !(is_line_end && lines_too)) return;
    }
  }

  base::Result<std::string> name(std::string_view what) {
    const size_t start = at_;
    while (is_name(peek()))
      ++at_;
    if (at_ == start) return expected(what);
    return std::string(text_.substr(start, at_ - start));
  }

  KnownRule& known(const std::string& name, size_t at) {
    const auto [found, is_new] = rules_.try_emplace(name);
    if (is_new) found->second = {builder_.declare(name), at};
    return found->second;
  }

  base::Result<void> definition() {
    const size_t start = at_;
    TM_TRY(const std::string rule_name, name("the name of a rule"));
    skip_space(false);
    if (!(peek() == ':' && peek(1) == ':' && peek(2) == '=')) return expected("'::='");
    at_ += 3;
    skip_space(true);
    TM_TRY(const Expression body, alternatives(0));
    if (at_ < text_.size() && peek() != '\n' && peek() != '\r' && !begins_definition())
      return expected("a literal, a class, a rule, '(', '|' or the end of the line");
    KnownRule& rule = known(rule_name, start);
    if (rule.is_defined) return error(start, fmt::format("rule '{}' is defined twice", rule_name));
    rule.is_defined = true;
    builder_.define(rule.rule, body);
    if (const Error* failure = builder_.failure()) return *failure;
    return {};
  }

  // A '|' at the start of the next line goes on with the rule: no rule begins so.
  bool take_bar() {
    const size_t before = at_;
    skip_space(true);
    if (take('|')) return true;
    at_ = before;
    return false;
  }

  base::Result<Expression> alternatives(int depth) {
    if (depth > builder_.limits().max_depth)
      return Error(ErrorCode::too_large,
                   fmt::format("the grammar's groups nest deeper than {}", builder_.limits().max_depth));
    std::vector<Expression> all;
    do {
      skip_space(true);
      TM_TRY(const Expression one, sequence(depth));
      all.push_back(one);
    } while (take_bar());
    return builder_.choice(all);
  }

  base::Result<Expression> sequence(int depth) {
    std::vector<Expression> parts;
    for (;; skip_space(depth > 0)) {
      const char c = peek();
      const bool begins = c == '"' || c == '[' || c == '(' || c == '.' || is_name(c);
      if (!begins || begins_definition()) break;
      TM_TRY(Expression part, element(depth));
      TM_TRY(part, quantified(part));
      parts.push_back(part);
    }
    return builder_.sequence(parts);
  }

  // Behind an empty alternative the next line may already be the next rule.
  bool begins_definition() {
    if (!is_name(peek())) return false;
    const size_t before = at_;
    while (is_name(peek()))
      ++at_;
    skip_space(false);
    const bool is = peek() == ':' && peek(1) == ':' && peek(2) == '=';
    at_ = before;
    return is;
  }

  base::Result<Expression> element(int depth) {
    switch (peek()) {
      case '"':
        return literal();
      case '[':
        return character_class();
      case '.':
        ++at_;
        return builder_.any_character();
      case '(': {
        ++at_;
        TM_TRY(const Expression group, alternatives(depth + 1));
        skip_space(true);
        if (!take(')')) return expected("')'");
        return group;
      }
      default: {
        const size_t start = at_;
        TM_TRY(const std::string rule_name, name("the name of a rule"));
        return builder_.use(known(rule_name, start).rule);
      }
    }
  }

  base::Result<Expression> quantified(Expression part) {
    for (;;) {
      const size_t before = at_;
      skip_space(false);
      if (take('*')) {
        part = builder_.repeat(part, 0, std::nullopt);
      } else if (take('+')) {
        part = builder_.repeat(part, 1, std::nullopt);
      } else if (take('?')) {
        part = builder_.optional(part);
      } else if (take('{')) {
        TM_TRY(part, counted(part, before));
      } else {
        at_ = before;
        return part;
      }
    }
  }

  base::Result<Expression> counted(Expression part, size_t start) {
    skip_space(false);
    TM_TRY(const size_t least, number());
    std::optional<size_t> most = least;
    skip_space(false);
    if (take(',')) {
      most.reset();
      skip_space(false);
      if (is_digit(peek())) {
        TM_TRY(most, number());
      }
      skip_space(false);
    }
    if (!take('}')) return expected("'}'");
    if (most && *most < least) return error(start, fmt::format("{{{},{}}} counts down", least, *most));
    return builder_.repeat(part, least, most);
  }

  base::Result<size_t> number() {
    const size_t start = at_;
    if (!is_digit(peek())) return expected("a number");
    size_t value = 0;
    for (; is_digit(peek()); ++at_) {
      value = value * 10 + static_cast<size_t>(peek() - '0');
      if (value > builder_.limits().max_repeat)
        return Error(ErrorCode::too_large, error(start, fmt::format("a repetition is over the limit of {} times",
                                                                    builder_.limits().max_repeat))
                                               .message());
    }
    return value;
  }

  base::Result<Expression> literal() {
    const size_t start = at_++;
    std::string text;
    while (peek() != '"') {
      if (at_ >= text_.size() || peek() == '\n') return error(start, "a literal without its closing '\"'");
      TM_TRY(const char32_t c, character());
      base::utf8::append(text, c);
    }
    ++at_;
    return builder_.literal(text);
  }

  base::Result<Expression> character_class() {
    const size_t start = at_++;
    const bool negated = take('^');
    std::vector<CodePointRange> ranges;
    while (peek() != ']') {
      if (at_ >= text_.size() || peek() == '\n') return error(start, "a class without its closing ']'");
      const size_t from = at_;
      TM_TRY(const char32_t first, character());
      char32_t last = first;
      if (peek() == '-' && peek(1) != ']') {
        ++at_;
        if (at_ >= text_.size() || peek() == '\n') return error(start, "a class without its closing ']'");
        TM_TRY(last, character());
      }
      if (last < first) return error(from, "a range whose end comes before its start");
      ranges.emplace_back(first, last);
    }
    ++at_;
    const CodePointSet set(std::move(ranges));
    return builder_.code_points(negated ? set.complement() : set);
  }

  base::Result<char32_t> character() {
    if (peek() != '\\') {
      const base::utf8::Decoded decoded = base::utf8::decode(text_.substr(at_));
      at_ += decoded.length;
      return decoded.code_point;
    }
    const size_t start = at_++;
    const char c = peek();
    ++at_;
    switch (c) {
      case 'x':
        return hexadecimal(start, 2);
      case 'u':
        return hexadecimal(start, 4);
      case 'U':
        return hexadecimal(start, 8);
      case 'n':
        return U'\n';
      case 't':
        return U'\t';
      case 'r':
        return U'\r';
      case '\\':
      case '"':
      case '[':
      case ']':
      case '-':
      case '^':
        return static_cast<char32_t>(c);
      default:
        return error(start, "expected an escape: \\n \\t \\r \\\\ \\\" \\[ \\] \\xHH \\uHHHH or \\UHHHHHHHH");
    }
  }

  base::Result<char32_t> hexadecimal(size_t start, int digits) {
    uint64_t value = 0;
    for (int i = 0; i < digits; ++i, ++at_) {
      const char c = peek();
      const int letter = (c | 0x20) - 'a';
      const bool is_hex = is_digit(c) || (letter >= 0 && letter < 6);
      if (!is_hex) return error(start, fmt::format("expected {} hexadecimal digits", digits));
      value = value * 16 + static_cast<uint64_t>(is_digit(c) ? c - '0' : letter + 10);
    }
    const bool is_surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (value > CodePointSet::last_code_point || is_surrogate) return error(start, "no character has this code");
    return static_cast<char32_t>(value);
  }

  GrammarBuilder& builder_;
  std::string_view text_;
  size_t at_ = 0;
  std::map<std::string, KnownRule, std::less<>> rules_;
};

}  // namespace

base::Result<Expression> gbnf(GrammarBuilder& builder, std::string_view text) {
  return Parser(builder, text).parse();
}

}  // namespace tidemill::grammar
