// Gathers what the machines find into deltas: content and reasoning without the white space around them, and calls.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "chat/format.hpp"
#include "chat/output_parser.hpp"
#include "chat/tools.hpp"

namespace tidemill::chat {

class OutputWriter {
 public:
  OutputWriter(bool short_ids, std::vector<Tool> tools, std::function<uint64_t()> random);

  // Where everything goes until the next call of this.
  void write_to(Delta& out) { out_ = &out; }

  void content(char byte);
  void content(std::string_view text);
  void reasoning(char byte);
  void reasoning(std::string_view text);
  // There is content already, which the prompt has begun.
  void go_on_with_content() { has_content_ = true; }
  // More content comes that is no direct continuation: a line break will stand between.
  void separate_content();
  // Reasoning begins here, or more of it; white space around its tags belongs to nothing.
  void open_reasoning();
  void close_reasoning();

  // A call begins; an `id` that is empty, or another call's, is made up.
  void begin_call(std::string_view name, std::string_view id);
  void arguments(std::string_view piece);
  void end_call() { complete_ = true; }

  // Nothing follows.
  void finish();

  bool has_content() const { return has_content_; }
  // White space behind content, which comes out if more content follows.
  std::string_view waiting_content() const { return has_content_ ? std::string_view(content_space_) : ""; }
  // Bytes of white space before or behind reasoning, of which it shows later what they are.
  size_t waiting_reasoning() const { return reasoning_space_.size(); }
  int calls() const { return calls_; }
  bool complete() const { return complete_; }
  // The tool of this name, or nullptr.
  const Tool* tool(std::string_view name) const;
  bool offers_tools() const { return !tools_.empty(); }

 private:
  CallDelta& current_call();

  bool short_ids_;
  std::vector<Tool> tools_;
  std::function<uint64_t()> random_;
  Delta* out_ = nullptr;
  std::string content_space_;    // white space that waits for what stands behind it
  std::string reasoning_space_;  // the same
  bool has_content_ = false;
  bool has_reasoning_ = false;           // anywhere
  bool in_reasoning_ = false;            // anything since reasoning began last
  bool saw_reasoning_ = false;           // it may have been empty
  std::unordered_set<std::string> ids_;  // that the model wrote
  int calls_ = 0;
  bool complete_ = false;
};

}  // namespace tidemill::chat
