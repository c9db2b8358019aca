#include "engine/reasoning.hpp"

#include <algorithm>

namespace tidemill::engine {
namespace {

bool is_space(char byte) {
  return byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

}  // namespace

void ReasoningWatch::add(std::string_view text) {
  if (inside_) ++used_;
  for (const char byte : text) {
    if (inside_) {
      take_inside(byte);
    } else {
      take_outside(byte);
    }
  }
}

void ReasoningWatch::close() {
  inside_ = false;
  answered_ = false;
  last_.clear();
}

void ReasoningWatch::take_inside(char byte) {
  last_ += byte;
  size_t longest = 0;
  for (const std::string& tag : budget_.closes) {
    if (last_.ends_with(tag)) return close();
    longest = std::max(longest, tag.size());
  }
  if (last_.size() > longest) last_.erase(0, last_.size() - longest);
}

void ReasoningWatch::take_outside(char byte) {
  const std::string& tag = budget_.open;
  if (tag.empty() || (answered_ && !budget_.anywhere)) return;
  if (last_.empty() && is_space(byte)) return;
  last_ += byte;
  if (last_.ends_with(tag)) {
    inside_ = true;
    last_.clear();
    return;
  }
  answered_ = answered_ || !tag.starts_with(last_);
  if (last_.size() > tag.size()) last_.erase(0, last_.size() - tag.size());
}

}  // namespace tidemill::engine
