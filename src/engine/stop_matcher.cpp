#include "engine/stop_matcher.hpp"

#include <cassert>
#include <deque>
#include <utility>

namespace tidemill::engine {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) : nodes_(1) {
  for (const std::string& stop : stops) {
    add(stop, static_cast<int32_t>(lengths_.size()));
    lengths_.push_back(stop.size());
  }
  add_fallbacks();
}

void StopMatcher::add(const std::string& text, int32_t index) {
  assert(!text.empty());
  int32_t node = 0;
  for (const char byte : text) {
    const auto [entry, added] =
        nodes_[static_cast<size_t>(node)].next.try_emplace(byte, static_cast<int32_t>(nodes_.size()));
    const int32_t child = entry->second;
    if (added) {
      const int32_t depth = nodes_[static_cast<size_t>(node)].depth + 1;
      nodes_.emplace_back().depth = depth;
    }
    node = child;
  }
  if (nodes_[static_cast<size_t>(node)].stop < 0) nodes_[static_cast<size_t>(node)].stop = index;
}

void StopMatcher::add_fallbacks() {
  std::deque<int32_t> queue;  // breadth first: fallbacks are shorter, so they are complete when they are needed
  for (const auto& [byte, child] : nodes_[0].next)
    queue.push_back(child);
  while (!queue.empty()) {
    const int32_t parent = queue.front();
    queue.pop_front();
    for (const auto& [byte, child] : nodes_[static_cast<size_t>(parent)].next) {
      Node& node = nodes_[static_cast<size_t>(child)];
      node.fallback = step(nodes_[static_cast<size_t>(parent)].fallback, byte);
      if (node.stop < 0) node.stop = nodes_[static_cast<size_t>(node.fallback)].stop;
      queue.push_back(child);
    }
  }
}

int32_t StopMatcher::step(int32_t node, char byte) const {
  for (;;) {
    const Node& here = nodes_[static_cast<size_t>(node)];
    if (const auto found = here.next.find(byte); found != here.next.end()) return found->second;
    if (node == 0) return 0;
    node = here.fallback;
  }
}

StopMatcher::Step StopMatcher::push(std::string_view text) {
  if (lengths_.empty()) return {std::string(text), -1};
  Step result;
  for (const char byte : text) {
    held_.push_back(byte);
    state_ = step(state_, byte);
    const int32_t found = nodes_[static_cast<size_t>(state_)].stop;
    if (found < 0) continue;
    held_.resize(held_.size() - lengths_[static_cast<size_t>(found)]);
    result.text += std::exchange(held_, {});
    result.matched = found;
    return result;
  }
  const auto keep = static_cast<size_t>(nodes_[static_cast<size_t>(state_)].depth);
  result.text += held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return result;
}

bool StopMatcher::finds(std::string_view text) const {
  int32_t state = state_;
  for (const char byte : text) {
    state = step(state, byte);
    if (nodes_[static_cast<size_t>(state)].stop >= 0) return true;
  }
  return false;
}

std::string StopMatcher::flush() {
  state_ = 0;
  return std::exchange(held_, {});
}

}  // namespace tidemill::engine
