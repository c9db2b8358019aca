#include "chat/output_writer.hpp"

#include <utility>

#include "chat/spelling.hpp"

namespace tidemill::chat {
namespace {

// A longer run of white space is text like any other, so that what is held stays bounded.
constexpr size_t max_space = 4096;

std::string letters_and_digits(const std::function<uint64_t()>& random, int count) {
  constexpr std::string_view alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string text;
  for (int i = 0; i < count; ++i)
    text += alphabet[random() % alphabet.size()];
  return text;
}

}  // namespace

OutputWriter::OutputWriter(bool short_ids, std::vector<Tool> tools, std::function<uint64_t()> random)
    : short_ids_(short_ids), tools_(std::move(tools)), random_(std::move(random)) {}

void OutputWriter::content(char byte) {
  if (is_space(byte) && content_space_.size() < max_space) {
    content_space_ += byte;
    return;
  }
  // At its beginning, white space belongs to content only if nothing came before.
  if (has_content_ || (!saw_reasoning_ && calls_ == 0)) out_->content += content_space_;
  content_space_.clear();
  out_->content += byte;
  has_content_ = true;
}

void OutputWriter::content(std::string_view text) {
  for (const char byte : text)
    content(byte);
}

void OutputWriter::separate_content() {
  if (has_content_ && content_space_.empty()) content_space_ = "\n";
}

void OutputWriter::open_reasoning() {
  saw_reasoning_ = true;
  in_reasoning_ = false;
  reasoning_space_.clear();
}

void OutputWriter::close_reasoning() {
  reasoning_space_.clear();
}

void OutputWriter::reasoning(char byte) {
  if (is_space(byte) && reasoning_space_.size() < max_space) {
    reasoning_space_ += byte;
    return;
  }
  if (in_reasoning_) {
    out_->reasoning += reasoning_space_;
  } else if (has_reasoning_) {
    out_->reasoning += '\n';
  }
  reasoning_space_.clear();
  out_->reasoning += byte;
  has_reasoning_ = true;
  in_reasoning_ = true;
}

void OutputWriter::reasoning(std::string_view text) {
  for (const char byte : text)
    reasoning(byte);
}

void OutputWriter::begin_call(std::string_view name, std::string_view id) {
  CallDelta& call = out_->calls.emplace_back();
  call.index = calls_++;
  call.name = name;
  // A result names its call by it, so that no two calls can have one.
  const bool usable = !id.empty() && ids_.insert(std::string(id)).second;
  call.id = usable       ? std::string(id)
            : short_ids_ ? letters_and_digits(random_, 9)
                         : "call_" + letters_and_digits(random_, 24);
  complete_ = false;
}

CallDelta& OutputWriter::current_call() {
  const int index = calls_ - 1;
  if (out_->calls.empty() || out_->calls.back().index != index) out_->calls.emplace_back().index = index;
  return out_->calls.back();
}

void OutputWriter::arguments(std::string_view piece) {
  if (!piece.empty()) current_call().arguments += piece;
}

void OutputWriter::finish() {
  if (calls_ == 0 && (has_content_ || !saw_reasoning_)) out_->content += content_space_;
  content_space_.clear();
}

const Tool* OutputWriter::tool(std::string_view name) const {
  for (const Tool& tool : tools_) {
    if (tool.name == name) return &tool;
  }
  return nullptr;
}

}  // namespace tidemill::chat
