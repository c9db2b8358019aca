#include "route/block_hasher.hpp"

#include <algorithm>

#include <xxhash.h>

namespace tidemill::route {

namespace json = base::json;

BlockHasher::BlockHasher(std::string_view salt, size_t block_bytes)
    : block_bytes_(std::max<size_t>(block_bytes, 1)), last_(XXH3_64bits(salt.data(), salt.size())) {}

void BlockHasher::add(std::string_view text) {
  bytes_ += text.size();
  if (!open_.empty()) {
    const size_t taken = std::min(block_bytes_ - open_.size(), text.size());
    open_.append(text.substr(0, taken));
    text.remove_prefix(taken);
    if (open_.size() < block_bytes_) return;
    close_block(open_);
    open_.clear();
  }
  for (; text.size() >= block_bytes_; text.remove_prefix(block_bytes_))
    close_block(text.substr(0, block_bytes_));
  open_.append(text);
}

void BlockHasher::close_block(std::string_view block) {
  last_ = XXH3_64bits_withSeed(block.data(), block.size(), last_);
  blocks_.push_back(last_);
}

namespace {

// Bytes that no JSON text holds raw keep what stands side by side apart.
constexpr std::string_view kTurn("\x1e", 1);
constexpr std::string_view kField("\x1f", 1);

// What says how to serve or bill a part, and does not reach the prompt.
bool beside_the_prompt(std::string_view key) {
  return key == "cache_control" || key == "id" || key == "status" || key == "annotations" || key == "logprobs" ||
         key == "type" || key == "index";
}

void add_value(BlockHasher& hasher, const json::value& value) {
  switch (value.kind()) {
    case json::kind::string:
      hasher.add(value.get_string());
      break;
    case json::kind::array:
      for (const json::value& element : value.get_array())
        add_value(hasher, element);
      break;
    case json::kind::object:
      for (const auto& [key, member] : value.get_object()) {
        if (beside_the_prompt(key) || member.is_null()) continue;
        // A part of text reads like its text alone.
        if (key != "text") {
          hasher.add(kField);
          hasher.add(key);
          hasher.add(kField);
        }
        add_value(hasher, member);
      }
      break;
    case json::kind::null:
      break;
    default:
      hasher.add(json::serialize(value));
      break;
  }
}

void add_turn_value(BlockHasher& hasher, const json::value& turn) {
  const json::object* object = turn.if_object();
  if (object == nullptr) {
    hasher.add(kTurn);
    add_value(hasher, turn);
    return;
  }
  hasher.add(kTurn);
  if (const json::value* role = object->if_contains("role")) add_value(hasher, *role);
  hasher.add(kField);
  if (const json::value* content = object->if_contains("content")) add_value(hasher, *content);
  for (const auto& [key, member] : *object) {
    if (key == "role" || key == "content" || beside_the_prompt(key) || member.is_null()) continue;
    hasher.add(kField);
    hasher.add(key);
    hasher.add(kField);
    add_value(hasher, member);
  }
}

}  // namespace

void add_prompt(BlockHasher& hasher, const json::object& body) {
  if (const json::value* tools = body.if_contains("tools")) add_value(hasher, *tools);
  for (const std::string_view key : {"system", "instructions"}) {
    const json::value* system = body.if_contains(key);
    if (system == nullptr || system->is_null()) continue;
    hasher.add(kTurn);
    hasher.add("system");
    hasher.add(kField);
    add_value(hasher, *system);
  }
  for (const std::string_view key : {"messages", "input"}) {
    const json::value* turns = body.if_contains(key);
    if (turns == nullptr) continue;
    if (const json::array* list = turns->if_array()) {
      for (const json::value& turn : *list)
        add_turn_value(hasher, turn);
    } else if (const json::string* text = turns->if_string()) {
      add_turn(hasher, "user", *text);
    }
  }
  if (const json::value* prompt = body.if_contains("prompt")) add_value(hasher, *prompt);
}

void add_turn(BlockHasher& hasher, std::string_view role, std::string_view text) {
  hasher.add(kTurn);
  hasher.add(role);
  hasher.add(kField);
  hasher.add(text);
}

}  // namespace tidemill::route
