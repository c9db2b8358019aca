#include "text/jinja_lexer.hpp"

#include <algorithm>
#include <array>

#include "base/utf8.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_hex(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}
bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<unsigned char>(c) >= 0x80;
}
bool is_name_part(char c) {
  return is_name_start(c) || is_digit(c);
}

// One kind of line break, and no break at the very end: what Jinja renders.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(std::string_view source, bool trim_blocks, bool lstrip_blocks)
      : source_(normalize_newlines(source)), trim_blocks_(trim_blocks), lstrip_blocks_(lstrip_blocks) {}

  std::vector<Token> run() {
    while (position_ < source_.size()) {
      const size_t tag = find_tag(position_);
      if (tag == std::string::npos) {
        emit_text(std::string_view(source_).substr(position_), false, false);
        position_ = source_.size();
        break;
      }
      lex_tag(tag);
    }
    push(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(std::string message, int line) const {
    throw Fault{std::move(message), base::ErrorCode::invalid_argument, line};
  }
  void push(TokenKind kind, std::string text) { tokens_.push_back(Token{kind, line_, std::move(text)}); }
  bool at(std::string_view what) const { return at(position_, what); }
  bool at(size_t where, std::string_view what) const {
    return std::string_view(source_).substr(std::min(where, source_.size())).starts_with(what);
  }
  void advance_to(size_t where) {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(position_),
                                         source_.begin() + static_cast<ptrdiff_t>(where), '\n'));
    position_ = where;
  }
  size_t after_space(size_t where) const {
    while (where < source_.size()) {
      const size_t length = white_space_at(source_, where);
      if (length == 0) break;
      where += length;
    }
    return where;
  }

  size_t find_tag(size_t from) const {
    for (size_t i = source_.find('{', from); i != std::string::npos; i = source_.find('{', i + 1)) {
      if (i + 1 < source_.size() && (source_[i + 1] == '{' || source_[i + 1] == '%' || source_[i + 1] == '#')) return i;
    }
    return std::string::npos;
  }

  // Emits text before a tag. `strip`: the tag begins with '-'. `own_line`: spaces between the line's start and the tag
  // go.
  void emit_text(std::string_view text, bool strip, bool own_line) {
    std::string_view kept = text;
    if (strip) {
      kept = strip_right(text);
    } else if (own_line) {
      const size_t newline = text.rfind('\n');
      const size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
      // Only a tag that is first on its line: after a line break, or where the previous tag swallowed one.
      if (line_start > 0 || line_starting_) {
        if (line_start < text.size() && strip_right(text.substr(line_start)).empty()) kept = text.substr(0, line_start);
      }
    }
    if (!kept.empty()) push(TokenKind::data, std::string(kept));
  }

  // Takes the mark after an opening tag: '-', '+' or none.
  char mark_at(size_t where) const {
    return where < source_.size() && (source_[where] == '-' || source_[where] == '+') ? source_[where] : '\0';
  }

  void lex_tag(size_t tag) {
    const std::string_view text = std::string_view(source_).substr(position_, tag - position_);
    const char kind = source_[tag + 1];
    const char mark = mark_at(tag + 2);
    emit_text(text, mark == '-', kind != '{' && lstrip_blocks_ && mark != '+');
    advance_to(tag);
    const size_t inside = tag + 2 + (mark != '\0' ? 1 : 0);
    if (kind == '%' && lex_raw(inside)) return;
    if (kind == '#') {
      lex_comment(inside);
      return;
    }
    push(kind == '{' ? TokenKind::variable_begin : TokenKind::block_begin, "");
    advance_to(inside);
    lex_expression(kind == '{');
  }

  // Position after a closing `tag` that starts at `where`, swallowing what its mark or trim_blocks swallows.
  size_t after_close(size_t where, std::string_view tag, bool trims) const {
    if (at(where, "-") && at(where + 1, tag)) return after_space(where + 1 + tag.size());
    const size_t end = where + (at(where, "+") ? 1 : 0) + tag.size();
    const bool plus = at(where, "+");
    return trims && !plus && trim_blocks_ && at(end, "\n") ? end + 1 : end;
  }
  void close(size_t end) {
    line_starting_ = end > 0 && source_[end - 1] == '\n';
    advance_to(end);
  }

  void lex_comment(size_t inside) {
    const int opened = line_;
    const size_t hash = source_.find("#}", inside);
    if (hash == std::string::npos) fail("a comment {# is never closed with #}", opened);
    // A mark belongs to the closing tag only if it is inside the comment.
    const bool marked = hash > inside && (source_[hash - 1] == '-' || source_[hash - 1] == '+');
    close(after_close(marked ? hash - 1 : hash, "#}", true));
  }

  // {% raw %} ... {% endraw %}: true if there was one at `inside`.
  bool lex_raw(size_t inside) {
    size_t where = after_space(inside);
    if (!at(where, "raw")) return false;
    where = after_space(where + 3);
    if (!at(where, "%}") && !at(where, "-%}")) return false;
    const int opened = line_;
    const size_t begin = after_close(where, "%}", false);
    line_starting_ = source_[begin - 1] == '\n';
    advance_to(begin);
    for (size_t tag = source_.find("{%", begin); tag != std::string::npos; tag = source_.find("{%", tag + 2)) {
      const char mark = mark_at(tag + 2);
      size_t end = after_space(tag + 2 + (mark != '\0' ? 1 : 0));
      if (!at(end, "endraw")) continue;
      end = after_space(end + 6);
      if (!at(end, "%}") && !at(end, "-%}") && !at(end, "+%}")) continue;
      emit_text(std::string_view(source_).substr(begin, tag - begin), mark == '-', lstrip_blocks_ && mark != '+');
      advance_to(tag);
      close(after_close(end, "%}", true));
      return true;
    }
    fail("a {% raw %} is never closed with {% endraw %}", opened);
  }

  void lex_expression(bool variable) {
    const std::string_view tag = variable ? "}}" : "%}";
    const int opened = line_;
    std::string brackets;
    while (true) {
      if (position_ >= source_.size()) {
        fail(variable ? "a {{ is never closed with }}" : "a {% is never closed with %}", opened);
      }
      if (brackets.empty()) {
        const bool plus = !variable && at("+") && at(position_ + 1, tag);
        if (at(tag) || plus || (at("-") && at(position_ + 1, tag))) {
          push(variable ? TokenKind::variable_end : TokenKind::block_end, "");
          close(after_close(position_, tag, !variable));
          return;
        }
      }
      if (const size_t space = after_space(position_); space != position_) {
        advance_to(space);
        continue;
      }
      lex_token(brackets);
    }
  }

  void lex_token(std::string& brackets) {
    const char c = source_[position_];
    if (is_digit(c)) {
      lex_number();
    } else if (is_name_start(c)) {
      size_t end = position_ + 1;
      while (end < source_.size() && is_name_part(source_[end]))
        ++end;
      push(TokenKind::name, source_.substr(position_, end - position_));
      position_ = end;
    } else if (c == '\'' || c == '"') {
      lex_string(c);
    } else {
      lex_operator(brackets);
    }
  }

  // Digits with single underscores between them; the end of the run, or `from` if there is none.
  template <typename Accept>
  size_t digits_end(size_t from, Accept accept) const {
    size_t end = from;
    while (end < source_.size()) {
      const bool joins = source_[end] == '_' && end > from && end + 1 < source_.size() && accept(source_[end + 1]);
      if (!joins && !accept(source_[end])) break;
      ++end;
    }
    return end;
  }

  void lex_number() {
    const auto take = [this](size_t end, TokenKind kind) {
      std::string text = source_.substr(position_, end - position_);
      std::erase(text, '_');
      push(kind, std::move(text));
      position_ = end;
    };
    if (source_[position_] == '0' && position_ + 2 < source_.size()) {
      const char base = static_cast<char>(source_[position_ + 1] | 0x20);
      const auto accepts = [base](char c) {
        return base == 'x' ? is_hex(c) : base == 'o' ? (c >= '0' && c <= '7') : (c == '0' || c == '1');
      };
      if ((base == 'x' || base == 'o' || base == 'b') && accepts(source_[position_ + 2])) {
        return take(digits_end(position_ + 2, accepts), TokenKind::integer);
      }
    }
    const size_t whole = digits_end(position_, is_digit);
    size_t end = whole;
    if (at(end, ".") && end + 1 < source_.size() && is_digit(source_[end + 1])) end = digits_end(end + 1, is_digit);
    if (at(end, "e") || at(end, "E")) {
      const size_t sign = end + 1 + (at(end + 1, "+") || at(end + 1, "-") ? 1 : 0);
      if (sign < source_.size() && is_digit(source_[sign])) end = digits_end(sign, is_digit);
    }
    // In `items.0.5` the digits after a dot are an index, never the start of a fraction.
    const bool index = !tokens_.empty() && tokens_.back().kind == TokenKind::op && tokens_.back().text == "." &&
                       position_ > 0 && source_[position_ - 1] == '.';
    if (end == whole || index) return take(whole, TokenKind::integer);
    take(end, TokenKind::floating);
  }

  void lex_string(char quote) {
    const int opened = line_;
    size_t end = position_ + 1;
    while (end < source_.size() && source_[end] != quote)
      end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail("a string is never closed", opened);
    const std::string_view body = std::string_view(source_).substr(position_ + 1, end - position_ - 1);
    push(TokenKind::string, unescape(body));
    advance_to(end + 1);
  }

  // Python's escapes in a string literal; an unknown one stays as it is.
  std::string unescape(std::string_view body) const {
    std::string out;
    for (size_t i = 0; i < body.size(); ++i) {
      if (body[i] != '\\' || i + 1 >= body.size()) {
        out.push_back(body[i]);
        continue;
      }
      const char c = body[++i];
      static constexpr std::string_view letters = "abfnrtv\\'\"";
      static constexpr std::string_view meanings = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t known = letters.find(c); known != std::string_view::npos) {
        out.push_back(meanings[known]);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        i = unescape_hex(body, i, c == 'x' ? 2 : c == 'u' ? 4 : 8, out);
      } else if (c >= '0' && c <= '7') {
        char32_t value = 0;
        size_t digits = 0;
        while (digits < 3 && i + digits < body.size() && body[i + digits] >= '0' && body[i + digits] <= '7') {
          value = value * 8 + static_cast<char32_t>(body[i + digits++] - '0');
        }
        i += digits - 1;
        base::utf8::append(out, value);
      } else if (c != '\n') {
        out.push_back('\\');
        out.push_back(c);
      }
    }
    return out;
  }

  size_t unescape_hex(std::string_view body, size_t letter, size_t digits, std::string& out) const {
    char32_t value = 0;
    for (size_t k = 1; k <= digits; ++k) {
      if (letter + k >= body.size() || !is_hex(body[letter + k])) {
        fail(std::string("the escape \\") + body[letter] + " in a string needs " + std::to_string(digits) +
                 " hex digits",
             line_);
      }
      const char c = body[letter + k];
      value = value * 16 + static_cast<char32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (value > 0x10FFFF) fail("an escape in a string names no Unicode character", line_);
    const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    base::utf8::append(out, surrogate ? base::utf8::replacement : value);
    return letter + digits;
  }

  void lex_operator(std::string& brackets) {
    static constexpr std::array<std::string_view, 25> operators = {"**", "//", "==", "!=", ">=", "<=", "+", "-", "/",
                                                                   "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                                   ">",  "<",  "=",  ".",  ":",  "|",  ","};
    for (const std::string_view op : operators) {
      if (!at(op)) continue;
      if (op == "(" || op == "[" || op == "{") brackets.push_back(op == "(" ? ')' : op == "[" ? ']' : '}');
      if (op == ")" || op == "]" || op == "}") {
        if (brackets.empty()) fail("unexpected '" + std::string(op) + "'", line_);
        if (brackets.back() != op[0]) {
          fail("unexpected '" + std::string(op) + "', expected '" + brackets.back() + "'", line_);
        }
        brackets.pop_back();
      }
      push(TokenKind::op, std::string(op));
      position_ += op.size();
      return;
    }
    const size_t length = character_bytes(source_[position_]);
    fail("unexpected character '" + source_.substr(position_, length) + "'", line_);
  }

  std::string source_;
  bool trim_blocks_;
  bool lstrip_blocks_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // the last tag ended right after a line break (or there was none yet)
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source, bool trim_blocks, bool lstrip_blocks) {
  return Lexer(source, trim_blocks, lstrip_blocks).run();
}

}  // namespace tidemill::text::jinja
