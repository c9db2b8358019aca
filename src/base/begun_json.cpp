#include "base/begun_json.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace tidemill::base {
namespace {

constexpr std::string_view spaces = " \n\t\r";
constexpr size_t max_depth = 60;  // what is deeper is left out: less than parse_json takes

// Goes through a text up to its end or the first fault, and keeps in mind how far values are complete.
class Beginning {
 public:
  explicit Beginning(std::string_view text) : text_(text) {}

  // That much of the text, and what closes it.
  std::string completed() {
    while (next()) {
    }
    return std::string(text_.substr(0, kept_)) + kept_closers_;
  }

 private:
  enum class Expects : uint8_t { value, value_or_end, key, key_or_end, colon, comma_or_end };

  bool next() {
    at_ = text_.find_first_not_of(spaces, at_);
    if (at_ == std::string_view::npos) return false;
    const char byte = text_[at_];
    switch (expects_) {
      case Expects::key_or_end:
      case Expects::value_or_end:
        if (!closers_.empty() && byte == closers_.front()) return close();
        return expects_ == Expects::key_or_end ? key() : value();
      case Expects::key:
        return key();
      case Expects::value:
        return value();
      case Expects::colon:
        return sign(':', Expects::value);
      case Expects::comma_or_end:
        if (closers_.empty()) return false;
        if (byte == closers_.front()) return close();
        return sign(',', closers_.front() == '}' ? Expects::key : Expects::value);
    }
    return false;
  }

  bool sign(char wanted, Expects then) {
    if (text_[at_] != wanted) return false;
    ++at_;
    expects_ = then;
    return true;
  }

  bool key() {
    expects_ = Expects::colon;
    return text_[at_] == '"' && skip_text();
  }

  bool value() {
    const char byte = text_[at_];
    if (byte == '{' || byte == '[') {
      if (closers_.size() == max_depth) return false;
      ++at_;
      closers_.insert(closers_.begin(), byte == '{' ? '}' : ']');
      expects_ = byte == '{' ? Expects::key_or_end : Expects::value_or_end;
      keep();
      return true;
    }
    if (byte == '"' ? !skip_text() : !skip_word()) return false;
    expects_ = Expects::comma_or_end;
    keep();
    return true;
  }

  bool close() {
    ++at_;
    closers_.erase(0, 1);
    expects_ = Expects::comma_or_end;
    keep();
    return true;
  }

  void keep() {
    kept_ = at_;
    kept_closers_ = closers_;
  }

  // False where it does not end.
  bool skip_text() {
    const size_t begin = at_;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] == '\\') {
        ++at_;
      } else if (text_[at_] == '"') {
        ++at_;
        return parse_json(text_.substr(begin, at_ - begin)).has_value();
      }
    }
    return false;
  }

  // A number, which something must follow, or a name of JSON.
  bool skip_word() {
    const size_t end = std::min(text_.find_first_of(" \n\t\r,]}", at_), text_.size());
    const std::string_view word = text_.substr(at_, end - at_);
    const auto parsed = parse_json(word);
    if (!parsed || (parsed->is_number() && end == text_.size())) return false;
    at_ = end;
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  Expects expects_ = Expects::value;
  std::string closers_;  // of what is open, the innermost first
  size_t kept_ = 0;
  std::string kept_closers_;
};

}  // namespace

json::object begun_object(std::string_view text) {
  const size_t begin = text.find_first_not_of(spaces);
  if (begin == std::string_view::npos || text[begin] != '{') return {};
  auto parsed = parse_json(Beginning(text).completed());
  if (!parsed || !parsed->is_object()) return {};
  return std::move(parsed->get_object());
}

}  // namespace tidemill::base
