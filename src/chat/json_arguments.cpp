#include "chat/json_arguments.hpp"

#include "chat/spelling.hpp"

namespace tidemill::chat {

// What came out of the string is JSON to be scanned; an empty string means no arguments.
Took JsonArguments::take_inside(std::string& out) {
  for (const char byte : decoded_) {
    if (is_space(byte) && (inside_done_ || !inside_begun_)) continue;
    if (inside_done_) return Took::bad;
    if (!inside_begun_ && byte != '{') return Took::bad;
    inside_begun_ = true;
    const Took took = scanner_.take(byte, out);
    if (took == Took::bad) return took;
    inside_done_ = took == Took::done;
  }
  decoded_.clear();
  return Took::more;
}

Took JsonArguments::take(char byte, std::string& out) {
  const size_t written = out.size();
  const Took took = read(byte, out);
  if (took != Took::bad) without_effect_ = out.size() > written ? 0 : without_effect_ + 1;
  return took;
}

Took JsonArguments::read(char byte, std::string& out) {
  switch (at_) {
    case At::start:
      if (is_space(byte)) return Took::more;
      if (byte == '{') {
        at_ = At::object;
        return scanner_.take(byte, out);
      }
      if (byte == '"') {
        at_ = At::text;
        return Took::more;
      }
      if (byte == 'n') {
        at_ = At::null;
        rest_of_null_ = "ull";
        return Took::more;
      }
      return Took::bad;
    case At::object:
      return scanner_.take(byte, out);
    case At::null:
      if (rest_of_null_.front() != byte) return Took::bad;
      rest_of_null_.remove_prefix(1);
      if (!rest_of_null_.empty()) return Took::more;
      out += "{}";
      return Took::done;
    case At::text:
      break;
  }
  const Took took = decoder_.take(byte, decoded_);
  if (take_inside(out) == Took::bad) return Took::bad;
  if (took != Took::done) return Took::more;
  if (!inside_begun_) {
    out += "{}";
    return Took::done;
  }
  return inside_done_ ? Took::done : Took::bad;
}

}  // namespace tidemill::chat
