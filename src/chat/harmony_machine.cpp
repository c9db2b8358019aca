// gpt-oss's channels: messages with a header each, <|channel|>analysis<|message|>...<|end|><|start|>assistant...
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "chat/json_arguments.hpp"
#include "chat/machine.hpp"
#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

constexpr std::string_view message_tag = "<|message|>";
constexpr size_t max_header = 512;  // bytes

// What a header may begin with, white space aside.
constexpr std::array<std::string_view, 5> header_beginnings = {"<|start|>", "<|channel|>", "<|constrain|>",
                                                               "to=", message_tag};
// What ends a message; the last two begin the header of another.
constexpr std::array<std::string_view, 5> message_ends = {"<|end|>", "<|call|>", "<|return|>", "<|start|>",
                                                          "<|channel|>"};

class HarmonyMachine final : public OutputParser::Machine {
 public:
  HarmonyMachine(const Format& format, std::span<const Tool> tools, Start start, std::function<uint64_t()> random)
      : Machine(format, tools, std::move(random)), in_header_(start != Start::content) {
    if (!in_header_) writer_.go_on_with_content();
  }

  void take(char byte) override;
  void finish(bool cut) override;
  bool in_reasoning() const override { return !in_header_ && body_ == Body::reasoning; }
  size_t waiting_reasoning() const override { return in_reasoning() ? held_.size() + writer_.waiting_reasoning() : 0; }

 private:
  enum class Body : uint8_t { content, reasoning, call };

  void take_header(char byte);
  void take_body(char byte);
  void begin_body();
  void plain();
  void release(char byte);
  void end_body(std::string_view tag);
  bool may_be_header() const;

  bool in_header_;
  std::string header_;
  Body body_ = Body::content;
  std::string held_;  // perhaps the beginning of what ends the message
  // Of a call:
  std::string name_;
  std::string text_;  // the body until it is announced
  std::string piece_;
  std::optional<JsonArguments> arguments_;
  bool announced_ = false;
};

// The word behind `key` in a header: up to white space or the next tag.
std::string_view word_behind(std::string_view header, std::string_view key) {
  const size_t at = header.find(key);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = header.substr(at + key.size());
  size_t length = 0;
  while (length < rest.size() && !is_space(rest[length]) && rest[length] != '<')
    ++length;
  return rest.substr(0, length);
}

void HarmonyMachine::take(char byte) {
  if (in_header_) {
    take_header(byte);
  } else {
    take_body(byte);
  }
}

bool HarmonyMachine::may_be_header() const {
  const std::string_view header =
      std::string_view(header_).substr(std::min(header_.find_first_not_of(" \n\t\r"), header_.size()));
  for (const std::string_view beginning : header_beginnings) {
    if (header.starts_with(beginning) || beginning.starts_with(header)) return header_.size() < max_header;
  }
  return false;
}

void HarmonyMachine::take_header(char byte) {
  header_ += byte;
  if (header_.ends_with(message_tag)) {
    begin_body();
  } else if (!may_be_header()) {
    plain();
  }
}

// Text without a header.
void HarmonyMachine::plain() {
  in_header_ = false;
  body_ = Body::content;
  writer_.separate_content();
  writer_.content(std::exchange(header_, {}));
}

void HarmonyMachine::begin_body() {
  in_header_ = false;
  const std::string_view recipient = word_behind(header_, "to=");
  const std::string_view channel = word_behind(header_, "<|channel|>");
  if (!recipient.empty() && writer_.offers_tools()) {
    body_ = Body::call;
    name_ = recipient.substr(recipient.starts_with("functions.") ? std::string_view("functions.").size() : 0);
    text_ = header_;
    arguments_.emplace();
    announced_ = false;
  } else if (channel == "analysis") {
    body_ = Body::reasoning;
    writer_.open_reasoning();
  } else {
    body_ = Body::content;
    writer_.separate_content();
  }
  header_.clear();
}

void HarmonyMachine::take_body(char byte) {
  held_ += byte;
  while (!held_.empty()) {
    for (const std::string_view end : message_ends) {
      if (!end.starts_with(held_)) continue;
      if (end.size() == held_.size()) end_body(end);
      return;
    }
    release(held_.front());
    held_.erase(0, 1);
  }
}

void HarmonyMachine::release(char byte) {
  switch (body_) {
    case Body::content:
      writer_.content(byte);
      return;
    case Body::reasoning:
      writer_.reasoning(byte);
      return;
    case Body::call:
      break;
  }
  if (!arguments_) {
    // Behind complete arguments.
    if (!is_space(byte)) writer_.content(byte);
    return;
  }
  text_ += byte;
  piece_.clear();
  const Took took = name_.empty() || text_.size() > OutputParser::max_held ? Took::bad : arguments_->take(byte, piece_);
  if (took == Took::bad) {
    body_ = Body::content;
    writer_.separate_content();
    writer_.content(std::exchange(text_, {}));
    return;
  }
  if (!piece_.empty() && !announced_) {
    writer_.begin_call(name_, {});
    announced_ = true;
  }
  if (announced_) {
    writer_.arguments(piece_);
    text_.erase(0, text_.size() - std::min(text_.size(), arguments_->without_effect()));
  }
  if (took == Took::done) {
    writer_.end_call();
    arguments_.reset();
  }
}

void HarmonyMachine::end_body(std::string_view tag) {
  held_.clear();
  if (body_ == Body::reasoning) writer_.close_reasoning();
  if (body_ == Body::call && !announced_ && !name_.empty()) {
    // A call without arguments, or one whose arguments never became any.
    if (text_.ends_with(message_tag)) {
      writer_.begin_call(name_, {});
      writer_.arguments("{}");
      writer_.end_call();
    } else {
      writer_.separate_content();
      writer_.content(text_);
    }
  }
  text_.clear();
  in_header_ = true;
  header_ = tag == "<|start|>" || tag == "<|channel|>" ? std::string(tag) : std::string();
}

void HarmonyMachine::finish(bool cut) {
  if (cut && in_reasoning()) held_.clear();
  // A header that is cut off says nothing.
  const auto begins = [&](std::string_view beginning) { return trimmed(header_).starts_with(beginning); };
  if (in_header_ && !trimmed(header_).empty() &&
      std::none_of(header_beginnings.begin(), header_beginnings.end(), begins)) {
    plain();
  }
  for (const char byte : std::exchange(held_, {}))
    release(byte);
  if (!in_header_ && body_ == Body::call && !announced_) {
    writer_.separate_content();
    writer_.content(text_);
  }
  writer_.finish();
}

}  // namespace

bool OutputParser::Machine::harmony_reads_name(std::string_view name) {
  const auto may_stand = [](char byte) { return !is_space(byte) && byte != '<'; };
  return !name.empty() && name.size() <= max_name && std::all_of(name.begin(), name.end(), may_stand);
}

std::unique_ptr<OutputParser::Machine> OutputParser::Machine::harmony(const Format& format, std::span<const Tool> tools,
                                                                      Start start, std::function<uint64_t()> random) {
  return std::make_unique<HarmonyMachine>(format, tools, start, std::move(random));
}

}  // namespace tidemill::chat
