#include "marked_stream.hpp"

#include <utility>

#include <gtest/gtest.h>

#include "wire/sse.hpp"

namespace tidemill::test {

namespace {

constexpr std::string_view lead = ": tidemill ";

// Blocks that a blank line ends, that included.
std::vector<std::string_view> blocks_of(std::string_view stream) {
  std::vector<std::string_view> blocks;
  while (!stream.empty()) {
    const size_t end = stream.find("\n\n");
    EXPECT_NE(end, std::string_view::npos) << "unfinished: " << stream;
    if (end == std::string_view::npos) break;
    blocks.push_back(stream.substr(0, end + 2));
    stream.remove_prefix(end + 2);
  }
  return blocks;
}

json::object parse(std::string_view text) {
  auto parsed = base::parse_json(text);
  EXPECT_TRUE(parsed && parsed->is_object()) << text;
  return parsed && parsed->is_object() ? parsed->get_object() : json::object();
}

void append(json::value& text, const json::value& more) {
  text.as_string().append(more.as_string());
}

// Arrays of probabilities, null where there are none.
void join_logprobs(json::object& into, const json::object& from) {
  const json::value* more = from.if_contains("logprobs");
  if (more == nullptr || more->is_null()) return;
  json::value& mine = into["logprobs"];
  if (mine.is_null()) {
    mine = *more;
    return;
  }
  const auto extend = [](json::value& array, const json::value& rest) {
    if (!array.is_array()) return;
    for (const json::value& item : rest.as_array())
      array.as_array().push_back(item);
  };
  if (mine.is_array()) return extend(mine, *more);
  for (auto& [name, value] : mine.as_object()) {
    if (value.is_array()) extend(value, more->at(name));
  }
}

// The member of a chat's delta that may go on from chunk to chunk.
std::string text_member(const json::object& delta) {
  for (const char* name : {"content", "reasoning_content"}) {
    if (delta.contains(name) && !delta.contains("role")) return name;
  }
  return {};
}

bool join_chat(json::object& into, const json::object& from) {
  json::object& mine = into.at("delta").as_object();
  const json::object& more = from.at("delta").as_object();
  if (!into.at("finish_reason").is_null() || !from.at("finish_reason").is_null()) return false;
  if (const std::string name = text_member(mine); !name.empty() && name == text_member(more)) {
    append(mine.at(name), more.at(name));
  } else if (mine.contains("tool_calls") && more.contains("tool_calls")) {
    json::object& call = mine.at("tool_calls").at(0).as_object();
    const json::object& rest = more.at("tool_calls").at(0).as_object();
    if (rest.contains("id") || call.at("index") != rest.at("index")) return false;
    append(call.at("function").at("arguments"), rest.at("function").at("arguments"));
  } else {
    return false;
  }
  join_logprobs(into, from);
  return true;
}

bool join_completion(json::object& into, const json::object& from) {
  if (!into.at("finish_reason").is_null() || !from.at("finish_reason").is_null()) return false;
  append(into.at("text"), from.at("text"));
  join_logprobs(into, from);
  return true;
}

// Puts `from` into `into` if both are pieces of one text.
bool join(json::object& into, const json::object& from) {
  if (const json::value* choices = into.if_contains("choices")) {
    if (choices->as_array().empty() || from.at("choices").as_array().empty()) return false;
    json::object& mine = into.at("choices").at(0).as_object();
    const json::object& more = from.at("choices").at(0).as_object();
    return mine.contains("delta") ? join_chat(mine, more) : join_completion(mine, more);
  }
  const std::string type(into.at("type").as_string());
  if (type != from.at("type").as_string()) return false;
  if (type == "content_block_delta") {
    json::object& mine = into.at("delta").as_object();
    const json::object& more = from.at("delta").as_object();
    if (mine.at("type") != more.at("type") || into.at("index") != from.at("index")) return false;
    for (const char* name : {"text", "thinking", "partial_json"}) {
      if (mine.contains(name)) append(mine.at(name), more.at(name));
    }
    return !mine.contains("signature");
  }
  if (!type.ends_with(".delta") || into.at("item_id") != from.at("item_id")) return false;
  append(into.at("delta"), from.at("delta"));
  if (into.contains("logprobs")) join_logprobs(into, from);
  return true;
}

int choice_of(const json::object& event) {
  const json::value* choices = event.if_contains("choices");
  if (choices == nullptr || choices->as_array().empty()) return -1;
  return static_cast<int>(choices->at(0).at("index").as_int64());
}

void remove_cached(json::value& from) {
  if (json::array* array = from.if_array()) {
    for (json::value& item : *array)
      remove_cached(item);
  }
  json::object* object = from.if_object();
  if (object == nullptr) return;
  object->erase("cached_tokens");
  // Anthropic's are apart from each other.
  if (object->contains("cache_read_input_tokens")) object->erase("input_tokens");
  object->erase("cache_read_input_tokens");
  for (auto& [name, value] : *object)
    remove_cached(value);
}

}  // namespace

json::object MarkedPrefix::resume() const {
  json::array lists;
  for (const auto& list : tokens)
    lists.push_back(json::array(list.begin(), list.end()));
  json::object member{{"open", open}, {"tokens", std::move(lists)}};
  if (state) member["state"] = *state;
  return member;
}

std::vector<MarkedPrefix> prefixes_of(std::string_view stream, size_t choices) {
  std::vector<MarkedPrefix> prefixes;
  MarkedPrefix now;
  now.tokens.resize(choices);
  std::string unmarked;
  for (const std::string_view block : blocks_of(stream)) {
    EXPECT_FALSE(now.complete) << "after the end: " << block;
    if (!block.starts_with(lead)) {
      EXPECT_FALSE(prefixes.empty()) << "before the first mark: " << block;
      unmarked += block;
      continue;
    }
    const json::object mark = parse(block.substr(lead.size()));
    now.bytes += std::exchange(unmarked, {});
    if (mark.contains("open")) {
      EXPECT_TRUE(prefixes.empty()) << "opened twice";
      now.open = mark.at("open");
    } else if (mark.contains("end")) {
      now.complete = true;
    } else {
      auto& tokens = now.tokens.at(static_cast<size_t>(mark.at("choice").as_int64()));
      for (const json::value& token : mark.at("tokens").as_array())
        tokens.push_back(static_cast<int32_t>(token.as_int64()));
      if (mark.contains("state")) now.state = mark.at("state");
    }
    prefixes.push_back(now);
  }
  EXPECT_TRUE(unmarked.empty()) << "after the last mark: " << unmarked;
  return prefixes;
}

std::string without_marks(std::string_view stream) {
  std::string rest;
  for (const std::string_view block : blocks_of(stream)) {
    if (!block.starts_with(lead)) rest += block;
  }
  return rest;
}

Events merged_events(std::string_view stream) {
  Events all;
  wire::SseParser parser;
  const auto events = parser.feed(stream);
  EXPECT_TRUE(events);
  int64_t sequence = 0;
  for (const wire::SseEvent& sent : *events) {
    if (sent.data == "[DONE]") {
      all[-1].emplace_back("[DONE]");
      continue;
    }
    json::object event = parse(sent.data);
    if (const json::value* number = event.if_contains("sequence_number")) {
      EXPECT_EQ(number->as_int64(), sequence++) << sent.data;
      event.erase("sequence_number");
    }
    if (json::value* response = event.if_contains("response")) response->as_object().erase("completed_at");
    std::vector<json::value>& before = all[choice_of(event)];
    const bool joined = !before.empty() && before.back().is_object() && join(before.back().as_object(), event);
    if (!joined) before.emplace_back(std::move(event));
  }
  return all;
}

void remove_cached(Events& events) {
  for (auto& [choice, list] : events) {
    for (json::value& event : list)
      remove_cached(event);
  }
}

std::string with_member(std::string_view body, std::string_view name, const json::value& value) {
  json::object object = parse(body);
  object[name] = value;
  return json::serialize(object);
}

}  // namespace tidemill::test
