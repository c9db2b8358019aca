// Content in which tags open reasoning and calls.
#include <algorithm>
#include <utility>

#include "chat/json_call_reader.hpp"
#include "chat/machine.hpp"
#include "chat/python_call_reader.hpp"
#include "chat/spelling.hpp"
#include "chat/tagged_call_reader.hpp"

namespace tidemill::chat {
namespace {

using Shape = CallSyntax::Shape;

bool is_json(Shape shape) {
  return shape == Shape::json_object || shape == Shape::name_as_key;
}

struct Trigger {
  enum class Kind : uint8_t { reasoning_open, reasoning_close, call, bare };
  std::string text;
  Kind kind;
  bool at_start;  // counts only where nothing but white space came before
};

class TextMachine final : public OutputParser::Machine {
 public:
  TextMachine(const Format& format, std::span<const Tool> tools, Start start, std::function<uint64_t()> random);

  void take(char byte) override;
  void finish(bool cut) override;
  bool in_reasoning() const override { return in_reasoning_; }
  size_t waiting_reasoning() const override { return in_reasoning_ ? held_.size() + writer_.waiting_reasoning() : 0; }

 private:
  void gather_triggers();
  void step(char byte);
  void look_for_triggers(char byte);
  // The first trigger that begins with what is held, or nullptr.
  const Trigger* candidate() const;
  void fire(const Trigger& trigger);
  void release(char byte);
  void begin_answer();
  void begin_region(std::string announced);
  bool at_start() const { return in_reasoning_ ? reasoning_blank_ : !writer_.has_content(); }

  std::vector<Trigger> content_triggers_;
  std::vector<Trigger> reasoning_triggers_;
  bool in_reasoning_;
  bool reasoning_blank_ = true;
  std::string held_;                    // perhaps the beginning of a trigger
  std::unique_ptr<CallReader> region_;  // a stretch of calls that is being read
  std::string pending_;                 // bytes to be read, the next one last
};

TextMachine::TextMachine(const Format& format, std::span<const Tool> tools, Start start,
                         std::function<uint64_t()> random)
    : Machine(format, tools, std::move(random)), in_reasoning_(start == Start::reasoning && format.reasons()) {
  gather_triggers();
  if (in_reasoning_) {
    writer_.open_reasoning();
  } else if (start == Start::content) {
    writer_.go_on_with_content();
  } else {
    begin_answer();
  }
}

void TextMachine::gather_triggers() {
  const auto add = [](std::vector<Trigger>& triggers, std::string_view text, Trigger::Kind kind, bool at_start) {
    if (!text.empty()) triggers.push_back({std::string(text), kind, at_start});
  };
  const std::string_view open = trimmed(format_.reasoning_open);
  const std::string_view close = trimmed(format_.reasoning_close);
  add(reasoning_triggers_, close, Trigger::Kind::reasoning_close, false);
  add(reasoning_triggers_, open, Trigger::Kind::reasoning_open, true);
  add(content_triggers_, open, Trigger::Kind::reasoning_open, true);
  if (!writer_.offers_tools()) return;
  const bool first_only = format_.syntax.first_only;
  for (const std::string& text : call_triggers(format_.syntax)) {
    // Where a recipient is announced, the first call has no opening.
    const bool opens = !first_only || format_.syntax.recipient.empty();
    if (opens) add(content_triggers_, text, Trigger::Kind::call, first_only);
    if (format_.syntax.control) add(reasoning_triggers_, text, Trigger::Kind::call, false);
  }
  if (format_.syntax.bare) {
    add(content_triggers_, "{", Trigger::Kind::bare, true);
    add(content_triggers_, "[", Trigger::Kind::bare, true);
  }
}

void TextMachine::take(char byte) {
  pending_ += byte;
  while (!pending_.empty()) {
    const char next = pending_.back();
    pending_.pop_back();
    step(next);
  }
}

void TextMachine::step(char byte) {
  if (!region_) return look_for_triggers(byte);
  if (region_->take(byte)) return;
  const std::unique_ptr<CallReader> over = std::move(region_);
  writer_.content(over->refused());
  pending_.append(over->leftover().rbegin(), over->leftover().rend());
}

const Trigger* TextMachine::candidate() const {
  for (const Trigger& trigger : in_reasoning_ ? reasoning_triggers_ : content_triggers_) {
    if (trigger.text.starts_with(held_) && (!trigger.at_start || at_start())) return &trigger;
  }
  return nullptr;
}

void TextMachine::look_for_triggers(char byte) {
  held_ += byte;
  while (!held_.empty()) {
    const Trigger* trigger = candidate();
    if (trigger != nullptr) {
      if (trigger->text.size() == held_.size()) fire(*trigger);
      return;
    }
    release(held_.front());
    held_.erase(0, 1);
  }
}

void TextMachine::fire(const Trigger& trigger) {
  held_.clear();
  switch (trigger.kind) {
    case Trigger::Kind::reasoning_open:
      writer_.open_reasoning();
      in_reasoning_ = true;
      reasoning_blank_ = true;
      return;
    case Trigger::Kind::reasoning_close:
      writer_.close_reasoning();
      in_reasoning_ = false;
      begin_answer();
      return;
    case Trigger::Kind::call:
      if (in_reasoning_) writer_.close_reasoning();
      in_reasoning_ = false;
      begin_region(trigger.text);
      return;
    case Trigger::Kind::bare:
      begin_region({});
      pending_ += trigger.text;
      return;
  }
}

// Where the prompt has announced a recipient, the answer begins with its name.
void TextMachine::begin_answer() {
  if (!format_.syntax.recipient.empty()) begin_region({});
}

void TextMachine::begin_region(std::string announced) {
  const Shape shape = format_.syntax.shape;
  if (is_json(shape)) {
    region_ = std::make_unique<JsonCallReader>(format_.syntax, writer_, std::move(announced));
  } else if (shape == Shape::python) {
    region_ = std::make_unique<PythonCallReader>(format_.syntax, writer_, std::move(announced));
  } else {
    region_ = std::make_unique<TaggedCallReader>(format_.syntax, writer_, std::move(announced));
  }
}

void TextMachine::release(char byte) {
  if (!in_reasoning_) return writer_.content(byte);
  writer_.reasoning(byte);
  reasoning_blank_ = reasoning_blank_ && is_space(byte);
}

void TextMachine::finish(bool cut) {
  if (cut && in_reasoning_) held_.clear();
  if (region_) {
    region_->finish();
    writer_.content(region_->refused());
    region_.reset();
  }
  for (const char byte : std::exchange(held_, {}))
    release(byte);
  writer_.finish();
}

}  // namespace

bool reads_name(const CallSyntax& syntax, std::string_view name) {
  if (syntax.shape == Shape::harmony) return OutputParser::Machine::harmony_reads_name(name);
  if (is_json(syntax.shape)) return JsonCallReader::reads_name(name);
  if (syntax.shape == Shape::python) return PythonCallReader::reads_name(name);
  return TaggedCallReader::reads_name(syntax, name);
}

std::unique_ptr<OutputParser::Machine> OutputParser::Machine::text(const Format& format, std::span<const Tool> tools,
                                                                   Start start, std::function<uint64_t()> random) {
  return std::make_unique<TextMachine>(format, tools, start, std::move(random));
}

}  // namespace tidemill::chat
