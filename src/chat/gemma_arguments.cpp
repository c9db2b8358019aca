#include "chat/gemma_arguments.hpp"

#include "base/json.hpp"
#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

constexpr size_t max_word = 256;  // bytes of a bare key or value

bool is_word(char byte) {
  return !is_space(byte) && std::string_view("{}[],:\"<>").find(byte) == std::string_view::npos;
}

}  // namespace

bool GemmaArguments::extend_quote(char byte) {
  if (quote_[partial_.size()] != byte) return false;
  partial_ += byte;
  return true;
}

Took GemmaArguments::take(char byte, std::string& out) {
  const size_t written = out.size();
  const Took took = read(byte, out);
  if (took != Took::bad) without_effect_ = out.size() > written ? 0 : without_effect_ + 1;
  return took;
}

Took GemmaArguments::read(char byte, std::string& out) {
  switch (at_) {
    case At::start:
      if (is_space(byte)) return Took::more;
      if (byte != '{') return Took::bad;
      [[fallthrough]];
    case At::value:
      return take_value(byte, out);
    case At::key:
    case At::bare_key:
      return take_key(byte, out);
    case At::quoted_key:
    case At::text:
      return take_quoted(byte, out);
    case At::colon:
      if (is_space(byte)) return Took::more;
      if (byte != ':') return Took::bad;
      out += ':';
      at_ = At::value;
      return Took::more;
    case At::bare:
      return take_bare(byte, out);
    case At::behind:
      return take_behind(byte, out);
  }
  return Took::bad;
}

Took GemmaArguments::take_key(char byte, std::string& out) {
  if (at_ == At::key) {
    if (partial_.empty() && is_space(byte)) return Took::more;
    if (partial_.empty() && byte == '}' && first_) return close(byte, out);
    if (extend_quote(byte)) {
      if (partial_.size() < quote_.size()) return Took::more;
      partial_.clear();
      at_ = At::quoted_key;
      out += '"';
      return Took::more;
    }
    if (!partial_.empty()) return Took::bad;
    at_ = At::bare_key;
  }
  if (is_word(byte) && word_.size() < max_word) {
    word_ += byte;
    return Took::more;
  }
  if (word_.empty() || (byte != ':' && !is_space(byte))) return Took::bad;
  append_quoted(out, word_);
  word_.clear();
  at_ = At::colon;
  return read(byte, out);
}

Took GemmaArguments::take_value(char byte, std::string& out) {
  if (partial_.empty() && is_space(byte)) return Took::more;
  if (partial_.empty() && (byte == '{' || byte == '[')) {
    if (open_.size() == JsonScanner::max_depth) return Took::bad;
    open_ += byte;
    out += byte;
    first_ = true;
    at_ = byte == '{' ? At::key : At::value;
    return Took::more;
  }
  if (partial_.empty() && byte == ']' && open_.back() == '[' && first_) return close(byte, out);
  if (extend_quote(byte)) {
    if (partial_.size() < quote_.size()) return Took::more;
    partial_.clear();
    at_ = At::text;
    out += '"';
    return Took::more;
  }
  if (!partial_.empty()) return Took::bad;
  at_ = At::bare;
  return take_bare(byte, out);
}

// A key or a text up to its closing quote.
Took GemmaArguments::take_quoted(char byte, std::string& out) {
  partial_ += byte;
  while (!partial_.empty() && !quote_.starts_with(partial_)) {
    append_escaped(out, partial_.front());
    partial_.erase(0, 1);
  }
  if (partial_.size() < quote_.size()) return Took::more;
  partial_.clear();
  out += '"';
  at_ = at_ == At::quoted_key ? At::colon : At::behind;
  return Took::more;
}

// A number, true, false or null, which Gemma's template writes as Python does; any other word is a text that lacks its
// quotes.
Took GemmaArguments::take_bare(char byte, std::string& out) {
  if (is_word(byte) && word_.size() < max_word) {
    word_ += byte;
    return Took::more;
  }
  if (word_.empty() || word_.size() >= max_word) return Took::bad;
  if (word_ == "None") word_ = "null";
  if (base::parse_json(word_)) {
    out += word_;
  } else {
    append_quoted(out, word_);
  }
  word_.clear();
  at_ = At::behind;
  return take_behind(byte, out);
}

Took GemmaArguments::take_behind(char byte, std::string& out) {
  if (is_space(byte)) return Took::more;
  if (byte != ',') return close(byte, out);
  out += ',';
  first_ = false;
  at_ = open_.back() == '{' ? At::key : At::value;
  return Took::more;
}

Took GemmaArguments::close(char byte, std::string& out) {
  if (byte != (open_.back() == '{' ? '}' : ']')) return Took::bad;
  open_.pop_back();
  out += byte;
  at_ = At::behind;
  return open_.empty() ? Took::done : Took::more;
}

}  // namespace tidemill::chat
