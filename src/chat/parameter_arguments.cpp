#include "chat/parameter_arguments.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "chat/output_parser.hpp"
#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

bool is_key(char byte) {
  return byte != '<' && byte != '>' && byte != '"' && byte != '\n';
}

Alternatives between_parameters(const CallSyntax& syntax) {
  return Alternatives({trimmed(syntax.parameter_open), trimmed(syntax.close), trimmed(syntax.section_close)});
}

}  // namespace

ParameterArguments::ParameterArguments(const CallSyntax& syntax, const Tool* tool)
    : syntax_(syntax), tool_(tool), expected_(between_parameters(syntax)) {}

bool ParameterArguments::reads_key(std::string_view name) {
  return !name.empty() && name.size() <= max_name && trimmed(name) == name &&
         std::all_of(name.begin(), name.end(), is_key);
}

Took ParameterArguments::take(char byte, std::string& out) {
  if (at_ == At::value) {
    take_value(byte, out);
    return Took::more;
  }
  const size_t written = out.size();
  unfinished_ = expected_.seen();
  Took took = Took::more;
  switch (at_) {
    case At::between:
      took = take_between(byte, out);
      break;
    case At::key:
      took = take_key(byte, out);
      break;
    case At::key_end:
      took = take_key_end(byte, out);
      break;
    default:
      took = take_value_open(byte, out);
      break;
  }
  if (took != Took::bad) without_effect_ = out.size() > written || at_ == At::value ? 0 : without_effect_ + 1;
  return took;
}

Took ParameterArguments::take_between(char byte, std::string& out) {
  if (expected_.seen() == 0 && is_space(byte)) return Took::more;
  const Alternatives::Step step = expected_.take(byte);
  if (step == Alternatives::Step::more) return Took::more;
  if (step == Alternatives::Step::none) return Took::bad;
  if (expected_.found() == trimmed(syntax_.parameter_open)) {
    key_.clear();
    expected_ = Alternatives({});
    at_ = At::key;
    return Took::more;
  }
  out += first_ ? "{}" : "}";
  return Took::done;
}

Took ParameterArguments::take_key(char byte, std::string& out) {
  if (is_key(byte)) {
    if (key_.size() == max_name) return Took::bad;
    key_ += byte;
    return Took::more;
  }
  if (trimmed(key_).empty()) return Took::bad;
  expected_ = Alternatives({trimmed(syntax_.key_end), trimmed(syntax_.text_key_end)});
  at_ = At::key_end;
  return take_key_end(byte, out);
}

Took ParameterArguments::take_key_end(char byte, std::string& out) {
  const Alternatives::Step step = expected_.take(byte);
  if (step == Alternatives::Step::more) return Took::more;
  if (step == Alternatives::Step::none) return Took::bad;
  const std::string_view text_key_end = trimmed(syntax_.text_key_end);
  types_ = types_of_key(!text_key_end.empty() && expected_.found() == text_key_end);
  out += first_ ? "{" : ", ";
  first_ = false;
  append_quoted(out, trimmed(key_));
  out += ": ";
  if (trimmed(syntax_.value_open).empty()) {
    begin_value(out);
  } else {
    expected_ = Alternatives({trimmed(syntax_.value_open)});
    at_ = At::value_open;
  }
  return Took::more;
}

ValueTypes ParameterArguments::types_of_key(bool marked_as_text) const {
  if (marked_as_text) return ValueTypes::text;
  ValueTypes types = tool_ != nullptr ? property_types(tool_->parameters, trimmed(key_)) : ValueTypes::any;
  // Where text is marked, what is not marked is something else.
  if (!syntax_.text_key_end.empty() && types == ValueTypes::text) types = ValueTypes::any;
  return types;
}

Took ParameterArguments::take_value_open(char byte, std::string& out) {
  if (expected_.seen() == 0 && is_space(byte)) return Took::more;
  const Alternatives::Step step = expected_.take(byte);
  if (step == Alternatives::Step::found) begin_value(out);
  return step == Alternatives::Step::none ? Took::bad : Took::more;
}

void ParameterArguments::begin_value(std::string& out) {
  at_ = At::value;
  begins_ = true;
  streams_ = types_ == ValueTypes::text;
  if (streams_) out += '"';
}

void ParameterArguments::take_value(char byte, std::string& out) {
  if (begins_ && syntax_.values_on_lines && byte == '\n') {
    begins_ = false;
    return;
  }
  begins_ = false;
  if (inside_json(byte)) {
    store(byte, out);
    return;
  }
  const std::string_view close = trimmed(syntax_.value_close);
  held_ += byte;
  while (!held_.empty() && !close.starts_with(held_)) {
    value_byte(held_.front(), out);
    held_.erase(0, 1);
  }
  if (held_.size() < close.size()) return;
  held_.clear();
  held_line_break_ = false;
  end_value(out);
  without_effect_ = 0;
  expected_ = between_parameters(syntax_);
  at_ = At::between;
}

bool ParameterArguments::inside_json(char byte) {
  if (!json_) {
    const bool opens = byte == '{' || byte == '[';
    // Where text is marked, no other value is.
    const bool may_be_text = syntax_.text_key_end.empty() ? admits(types_, ValueTypes::text) : streams_;
    if (!opens || may_be_text || !held_.empty() || !trimmed(value_).empty()) return false;
    json_.emplace();
  }
  const Took took = json_->take(byte, ignored_);
  ignored_.clear();
  if (took != Took::more) json_.reset();
  return took != Took::bad;
}

void ParameterArguments::value_byte(char byte, std::string& out) {
  if (held_line_break_) store('\n', out);
  held_line_break_ = syntax_.values_on_lines && byte == '\n';
  if (!held_line_break_) store(byte, out);
}

void ParameterArguments::store(char byte, std::string& out) {
  if (streams_) {
    append_escaped(out, byte);
    return;
  }
  value_ += byte;
  if (value_.size() < OutputParser::max_held) return;
  // Too long to wait for its end, so it is text.
  out += '"';
  for (const char held : value_)
    append_escaped(out, held);
  value_.clear();
  streams_ = true;
}

void ParameterArguments::end_value(std::string& out) {
  if (streams_) {
    out += '"';
    return;
  }
  const std::string value = std::exchange(value_, {});
  std::string_view bare = trimmed(value);
  // Python's words come from templates that write values with str().
  if (bare == "True" && admits(types_, ValueTypes::boolean)) bare = "true";
  if (bare == "False" && admits(types_, ValueTypes::boolean)) bare = "false";
  if (bare == "None" && admits(types_, ValueTypes::null)) bare = "null";
  const auto parsed = base::parse_json(bare, JsonScanner::max_depth);
  if (parsed && admits(types_, type_of(*parsed))) {
    out += bare;
  } else {
    append_quoted(out, value);
  }
}

}  // namespace tidemill::chat
