#include "chat/tagged_call_reader.hpp"

#include <algorithm>
#include <utility>

#include "chat/gemma_arguments.hpp"
#include "chat/json_arguments.hpp"
#include "chat/parameter_arguments.hpp"
#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

using Shape = CallSyntax::Shape;

constexpr size_t longest_count = 8;  // bytes behind a name that number a call

bool is_name(char byte) {
  return static_cast<unsigned char>(byte) > ' ' &&
         std::string_view("<>[]{}()\"'`|,;").find(byte) == std::string_view::npos;
}

std::unique_ptr<ArgumentReader> argument_reader(const CallSyntax& syntax, const Tool* tool) {
  if (syntax.shape == Shape::parameters) return std::make_unique<ParameterArguments>(syntax, tool);
  if (syntax.shape == Shape::gemma) return std::make_unique<GemmaArguments>(syntax.quote);
  return std::make_unique<JsonArguments>();
}

}  // namespace

TaggedCallReader::TaggedCallReader(const CallSyntax& syntax, OutputWriter& writer, std::string announced)
    : CallReader(syntax, writer, std::move(announced)), expected_({}) {
  expect_name();
  if (!raw_.empty() && raw_ != trimmed(syntax.open)) expect_section();
}

bool TaggedCallReader::reads_name(const CallSyntax& syntax, std::string_view name) {
  const size_t around = syntax.name_prefix.size() + (syntax.counted_ids ? longest_count : 0);
  return !name.empty() && name.size() + around <= max_name && std::all_of(name.begin(), name.end(), is_name) &&
         (syntax.recipient.empty() || name != syntax.recipient);
}

void TaggedCallReader::expect_section() {
  at_ = At::section;
  expected_ = Alternatives({trimmed(syntax_.open), trimmed(syntax_.section_close)});
}

void TaggedCallReader::expect_name() {
  name_.clear();
  at_ = syntax_.preface_end.empty() ? At::name : At::preface;
}

bool TaggedCallReader::take(char byte) {
  raw_ += byte;
  switch (at_) {
    case At::section:
      return take_section(byte);
    case At::preface:
      return take_preface(byte);
    case At::name:
      return take_name(byte);
    case At::behind_name:
      return take_behind_name(byte);
    case At::id:
      return take_id(byte);
    case At::arguments:
      return take_arguments(byte);
    case At::no_arguments:
      return take_no_arguments(byte);
    case At::tail:
      return take_tail(byte);
  }
  return false;
}

bool TaggedCallReader::take_section(char byte) {
  if (expected_.seen() == 0 && is_space(byte) && raw_.size() < max_name) return true;
  switch (expected_.take(byte)) {
    case Alternatives::Step::more:
      return true;
    case Alternatives::Step::none:
      return any_ ? leave() : refuse(expected_.seen());
    case Alternatives::Step::found:
      break;
  }
  if (expected_.found() == trimmed(syntax_.open)) {
    expect_name();
    return true;
  }
  if (!any_) return refuse(0);
  raw_.clear();
  return leave();
}

// What ends the preface is known by its last tag.
bool TaggedCallReader::take_preface(char byte) {
  const std::string_view tag = std::string_view(syntax_.preface_end).substr(syntax_.preface_end.rfind('<'));
  if (raw_.ends_with(tag)) at_ = At::name;
  return byte != '{' && raw_.size() <= 4 * max_name ? true : refuse(0);
}

bool TaggedCallReader::take_name(char byte) {
  if (name_.empty() && is_space(byte) && raw_.size() < max_name) return true;
  if (is_name(byte)) {
    name_ += byte;
    return name_.size() <= max_name || refuse(0);
  }
  if (name_.empty()) return refuse(1);
  if (!syntax_.recipient.empty() && name_ == syntax_.recipient) {
    // What stands behind it is content, after a line break that is not.
    raw_.clear();
    if (!is_space(byte)) raw_ = byte;
    return leave();
  }
  if (const std::string_view name_end = trimmed(syntax_.name_end); name_end.empty()) {
    return begin_arguments() && take_arguments(byte);
  } else {
    expected_ = Alternatives({name_end, trimmed(syntax_.id_open)});
  }
  at_ = At::behind_name;
  return take_behind_name(byte);
}

bool TaggedCallReader::take_behind_name(char byte) {
  if (expected_.seen() == 0 && is_space(byte) && raw_.size() < 2 * max_name) return true;
  switch (expected_.take(byte)) {
    case Alternatives::Step::more:
      return true;
    case Alternatives::Step::none:
      return refuse(expected_.seen());
    case Alternatives::Step::found:
      break;
  }
  if (expected_.found() == trimmed(syntax_.name_end)) return begin_arguments();
  at_ = At::id;
  return true;
}

bool TaggedCallReader::take_id(char byte) {
  if (is_name(byte)) {
    id_ += byte;
    return id_.size() <= max_name || refuse(0);
  }
  expected_ = Alternatives({trimmed(syntax_.name_end)});
  at_ = At::behind_name;
  return take_behind_name(byte);
}

// Kimi's names are ids with the name inside: "functions.get_weather:0".
bool TaggedCallReader::begin_arguments() {
  if (syntax_.counted_ids) {
    id_ = name_;
    const size_t colon = name_.rfind(':');
    if (colon != std::string::npos && name_.find_first_not_of("0123456789", colon + 1) == std::string::npos) {
      name_.resize(colon);
    }
  }
  if (!syntax_.name_prefix.empty() && name_.starts_with(syntax_.name_prefix))
    name_.erase(0, syntax_.name_prefix.size());
  if (!acceptable(name_)) return refuse(at_ == At::name ? 1 : 0);
  arguments_ = argument_reader(syntax_, writer_.tool(name_));
  blank_ = true;
  announced_ = false;
  at_ = At::arguments;
  return true;
}

bool TaggedCallReader::announce() {
  writer_.begin_call(name_, id_);
  id_.clear();
  announced_ = true;
  any_ = true;
  raw_.clear();
  return true;
}

bool TaggedCallReader::take_arguments(char byte) {
  piece_.clear();
  const bool blank = blank_;
  blank_ = blank_ && is_space(byte);
  const Took took = arguments_->take(byte, piece_);
  if (took == Took::bad) {
    if (announced_) {
      // The call ends as it is.
      raw_.erase(0, raw_.size() - 1 - arguments_->without_effect());
      return leave();
    }
    if (!blank || trimmed(syntax_.close).empty()) return refuse(1 + arguments_->of_unfinished_text());
    expected_ = Alternatives({trimmed(syntax_.close)});
    at_ = At::no_arguments;
    return take_no_arguments(byte);
  }
  if (!announced_) {
    if (piece_.empty()) return raw_.size() < OutputParser::max_held || refuse(0);
    announce();
  }
  writer_.arguments(piece_);
  raw_.erase(0, raw_.size() - std::min(raw_.size(), arguments_->without_effect()));
  return took != Took::done || end_call();
}

bool TaggedCallReader::take_no_arguments(char byte) {
  switch (expected_.take(byte)) {
    case Alternatives::Step::more:
      return true;
    case Alternatives::Step::none:
      return refuse(expected_.seen());
    case Alternatives::Step::found:
      break;
  }
  announce();
  writer_.arguments("{}");
  writer_.end_call();
  return after_close();
}

bool TaggedCallReader::end_call() {
  writer_.end_call();
  raw_.clear();
  // Parameters end with the closing text.
  if (syntax_.shape == Shape::parameters) return after_close();
  at_ = At::tail;
  expected_ = Alternatives({trimmed(syntax_.close), trimmed(syntax_.section_close), trimmed(syntax_.open)});
  return true;
}

bool TaggedCallReader::take_tail(char byte) {
  if (expected_.seen() == 0 && is_space(byte) && raw_.size() < max_name) return true;
  switch (expected_.take(byte)) {
    case Alternatives::Step::more:
      return true;
    case Alternatives::Step::none:
      return leave();
    case Alternatives::Step::found:
      break;
  }
  if (expected_.found() == trimmed(syntax_.close)) return after_close();
  if (expected_.found() == trimmed(syntax_.open)) {
    expect_name();
    return true;
  }
  raw_.clear();
  return leave();
}

bool TaggedCallReader::after_close() {
  raw_.clear();
  if (trimmed(syntax_.section_open).empty()) return leave();
  expect_section();
  return true;
}

void TaggedCallReader::finish() {
  // The beginning of a closing text, or of another call's opening, is none of the content.
  if (at_ == At::tail || (at_ == At::section && any_) || announced_) raw_.clear();
  CallReader::finish();
}

}  // namespace tidemill::chat
