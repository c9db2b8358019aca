#include "chat/json_call_reader.hpp"

#include <algorithm>

#include "chat/spelling.hpp"

namespace tidemill::chat {

bool JsonCallReader::take(char byte) {
  raw_ += byte;
  const bool goes_on = dispatch(byte);
  if (!goes_on) return false;
  if (announced_ && at_ == At::arguments) {
    raw_.erase(0, raw_.size() - std::min(raw_.size(), arguments_->without_effect()));
  } else if (raw_.size() >= OutputParser::max_held) {
    return announced_ ? leave() : refuse(0);
  }
  return true;
}

bool JsonCallReader::dispatch(char byte) {
  switch (at_) {
    case At::opened:
      return take_opened(byte);
    case At::key:
      return take_key(byte);
    case At::text:
      return take_text(byte);
    case At::other:
      return take_other(byte);
    case At::arguments:
      return take_arguments(byte);
    case At::between:
      return take_between(byte);
    case At::tail:
      return take_tail(byte);
    default:
      return take_structure(byte);
  }
}

bool JsonCallReader::take_opened(char byte) {
  if (is_space(byte)) return true;
  if (byte == '{') {
    begin_object();
    return true;
  }
  if (byte != '[') return refuse(1);
  list_ = true;
  at_ = At::between;
  return true;
}

void JsonCallReader::begin_object() {
  announced_ = false;
  has_name_ = false;
  has_arguments_ = false;
  complete_ = false;
  waiting_.clear();
  id_.clear();
  at_ = At::key_or_end;
}

// The call that was announced, if one was, stays as it is; the present byte is read afresh.
bool JsonCallReader::fail() {
  return announced_ ? leave() : refuse(1);
}

bool JsonCallReader::take_structure(char byte) {
  if (is_space(byte)) return true;
  switch (at_) {
    case At::key_or_end:
      if (byte == '}') return end_object();
      [[fallthrough]];
    case At::key_begin:
      if (byte != '"') return fail();
      text_.clear();
      at_ = At::key;
      return true;
    case At::colon:
      if (byte != ':') return fail();
      at_ = At::value;
      return true;
    case At::value:
      return begin_value(byte);
    default:
      if (byte == '}') return end_object();
      if (byte != ',') return fail();
      at_ = At::key_begin;
      return true;
  }
}

bool JsonCallReader::take_key(char byte) {
  if (decoder_.take(byte, text_) != Took::done) return true;
  at_ = At::colon;
  if (syntax_.shape == CallSyntax::Shape::name_as_key) {
    announced_ = false;
    name_ = text_;
    has_name_ = true;
    has_arguments_ = true;
    complete_ = false;
    member_ = Member::arguments;
    return acceptable(name_) || refuse(0);
  }
  if (!has_name_ && (text_ == syntax_.name_key || text_ == "name")) {
    member_ = Member::name;
  } else if (!has_arguments_ && (text_ == syntax_.arguments_key || text_ == "arguments" || text_ == "parameters")) {
    member_ = Member::arguments;
    has_arguments_ = true;
  } else {
    member_ = text_ == "id" && !announced_ ? Member::id : Member::other;
  }
  return true;
}

bool JsonCallReader::begin_value(char byte) {
  if (member_ == Member::arguments) {
    arguments_.emplace();
    at_ = At::arguments;
    return take_arguments(byte);
  }
  if (byte == '"' && member_ != Member::other) {
    text_.clear();
    at_ = At::text;
    return true;
  }
  if (member_ == Member::name) return fail();
  scanner_ = JsonScanner();
  at_ = At::other;
  return take_other(byte);
}

bool JsonCallReader::take_text(char byte) {
  if (decoder_.take(byte, text_) != Took::done) return true;
  at_ = At::comma_or_end;
  if (member_ == Member::id) {
    if (text_.size() <= max_name) id_ = text_;
    return true;
  }
  if (text_.size() > max_name || !acceptable(text_)) return refuse(0);
  name_ = text_;
  has_name_ = true;
  if (waiting_.empty()) return true;
  announce();
  writer_.arguments(waiting_);
  waiting_.clear();
  if (complete_) writer_.end_call();
  raw_.clear();
  return true;
}

bool JsonCallReader::take_other(char byte) {
  piece_.clear();
  switch (scanner_.take(byte, piece_)) {
    case Took::more:
      return true;
    case Took::bad:
      return fail();
    case Took::done:
      at_ = At::comma_or_end;
      return true;
    case Took::ended:
      break;
  }
  at_ = At::comma_or_end;
  return take_structure(byte);
}

bool JsonCallReader::take_arguments(char byte) {
  piece_.clear();
  const Took took = arguments_->take(byte, piece_);
  if (took == Took::bad) return fail();
  if (!piece_.empty()) {
    if (has_name_) {
      if (!announced_) announce();
      writer_.arguments(piece_);
    } else {
      waiting_ += piece_;
    }
  }
  if (took != Took::done) return true;
  complete_ = true;
  if (announced_) {
    writer_.end_call();
    raw_.clear();
  }
  at_ = At::comma_or_end;
  return true;
}

void JsonCallReader::announce() {
  writer_.begin_call(name_, id_);
  announced_ = true;
  any_ = true;
}

bool JsonCallReader::end_object() {
  if (!announced_) {
    if (!has_name_ || has_arguments_) return refuse(0);
    announce();
    writer_.arguments("{}");
    writer_.end_call();
  }
  announced_ = false;
  raw_.clear();
  if (list_) {
    at_ = At::between;
  } else {
    expect_tail();
  }
  return true;
}

void JsonCallReader::expect_tail() {
  at_ = At::tail;
  expected_ = Alternatives({trimmed(syntax_.close), trimmed(syntax_.open)});
}

bool JsonCallReader::take_between(char byte) {
  if (is_space(byte) && raw_.size() < max_name) return true;
  if (byte == '{') {
    begin_object();
    return true;
  }
  if (byte == ',' && any_) return true;
  if (byte == ']' && any_) {
    raw_.clear();
    expect_tail();
    return true;
  }
  return any_ ? leave() : refuse(1);
}

bool JsonCallReader::take_tail(char byte) {
  if (expected_.seen() == 0) {
    if (is_space(byte) && raw_.size() < max_name) return true;
    const bool between = syntax_.bare ? byte == ';' || byte == ',' : !syntax_.list && syntax_.between.starts_with(byte);
    if (between && raw_.size() < max_name) return true;
    if (byte == '{' && !list_) {
      begin_object();
      return true;
    }
  }
  switch (expected_.take(byte)) {
    case Alternatives::Step::more:
      return true;
    case Alternatives::Step::none:
      return leave();
    case Alternatives::Step::found:
      break;
  }
  if (expected_.found() == trimmed(syntax_.open)) {
    list_ = false;
    at_ = At::opened;
    return true;
  }
  raw_.clear();
  return leave();
}

void JsonCallReader::finish() {
  if (announced_ || (any_ && (at_ == At::tail || at_ == At::between))) raw_.clear();
  CallReader::finish();
}

}  // namespace tidemill::chat
