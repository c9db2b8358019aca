#include "chat/python_call_reader.hpp"

#include <algorithm>

#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

bool is_name(char byte) {
  return static_cast<unsigned char>(byte) > ' ' &&
         std::string_view("<>[]{}()\"'`|,;=").find(byte) == std::string_view::npos;
}

}  // namespace

bool PythonCallReader::reads_name(std::string_view name) {
  return !name.empty() && name.size() <= max_name && std::all_of(name.begin(), name.end(), is_name);
}

bool PythonCallReader::take(char byte) {
  raw_ += byte;
  switch (at_) {
    case At::opened:
      if (is_space(byte)) return raw_.size() < 2 * max_name || refuse(0);
      at_ = At::name;
      return byte == '[' || take_name(byte);
    case At::name:
      return take_name(byte);
    case At::arguments:
      return take_arguments(byte);
    case At::between:
      if (is_space(byte)) return raw_.size() < max_name || leave();
      if (byte == ',') {
        name_.clear();
        announced_ = false;
        at_ = At::name;
        return true;
      }
      expected_ = Alternatives({trimmed(syntax_.close)});
      at_ = At::tail;
      return byte == ']' || take_tail(byte);
    case At::tail:
      return take_tail(byte);
  }
  return false;
}

bool PythonCallReader::take_name(char byte) {
  if (name_.empty() && is_space(byte)) return raw_.size() < 2 * max_name || refuse(0);
  if (is_name(byte)) {
    name_ += byte;
    return name_.size() <= max_name || refuse(0);
  }
  if (byte != '(' || !acceptable(name_)) return refuse(1);
  arguments_ = std::make_unique<PythonArguments>();
  at_ = At::arguments;
  return take_arguments(byte);
}

bool PythonCallReader::take_arguments(char byte) {
  piece_.clear();
  const Took took = arguments_->take(byte, piece_);
  if (took == Took::bad) {
    // The call ends as it is.
    raw_.erase(0, raw_.size() - std::min(raw_.size(), 1 + arguments_->without_effect()));
    return leave();
  }
  if (!announced_) {
    writer_.begin_call(name_, {});
    announced_ = true;
    any_ = true;
  }
  writer_.arguments(piece_);
  raw_.erase(0, raw_.size() - std::min(raw_.size(), arguments_->without_effect()));
  if (took != Took::done) return true;
  writer_.end_call();
  raw_.clear();
  at_ = At::between;
  return true;
}

bool PythonCallReader::take_tail(char byte) {
  if (expected_.seen() == 0 && is_space(byte) && raw_.size() < max_name) return true;
  if (expected_.seen() == 0 && byte == ']' && raw_.size() == 1) return true;
  switch (expected_.take(byte)) {
    case Alternatives::Step::more:
      return true;
    case Alternatives::Step::none:
      return leave();
    case Alternatives::Step::found:
      break;
  }
  raw_.clear();
  return leave();
}

void PythonCallReader::finish() {
  // The beginning of the closing text is none of the content.
  if (at_ == At::tail || at_ == At::between || announced_) raw_.clear();
  CallReader::finish();
}

}  // namespace tidemill::chat
