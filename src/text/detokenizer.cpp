#include "text/detokenizer.hpp"

#include <utility>

#include "base/utf8.hpp"

namespace tidemill::text {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, std::span<const Token> previous, bool show_special)
    : tokenizer_(tokenizer), show_special_(show_special), prefixed_(tokenizer.prefixed_after(previous)) {}

std::string_view Detokenizer::shown_bytes(Token token) const {
  if (!show_special_ && tokenizer_.is_special(token)) return {};
  std::string_view bytes = tokenizer_.piece_bytes(token);
  if (prefixed_ && bytes.starts_with(' ')) bytes.remove_prefix(1);
  return bytes;
}

std::string Detokenizer::push(Token token) {
  const std::string_view bytes = shown_bytes(token);
  prefixed_ = tokenizer_.prefixed_after(prefixed_, token);
  if (bytes.empty()) return {};
  pending_ += bytes;
  const size_t whole = pending_.size() - base::utf8::incomplete_tail(pending_);
  std::string text = base::utf8::sanitize(std::string_view(pending_).substr(0, whole));
  pending_.erase(0, whole);
  return text;
}

std::string Detokenizer::flush() {
  return base::utf8::sanitize(std::exchange(pending_, {}));
}

}  // namespace tidemill::text
