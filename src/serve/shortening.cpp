#include "serve/shortening.hpp"

#include <algorithm>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include "wire/text_lines.hpp"

namespace tidemill::serve {

namespace json = base::json;

namespace {

std::string_view text_of(const json::value& value, std::string_view name) {
  const json::object* object = value.if_object();
  const json::value* member = object == nullptr ? nullptr : object->if_contains(name);
  return member != nullptr && member->is_string() ? std::string_view(member->get_string()) : std::string_view();
}

bool is_systems(const json::value& message) {
  const std::string_view role = text_of(message, "role");
  return role == "system" || role == "developer";
}

const json::array* calls_of(const json::value& message) {
  const json::value* calls = message.get_object().if_contains("tool_calls");
  return calls == nullptr ? nullptr : calls->if_array();
}

// A message of which only the calls at these places are gone; nothing where that was all it had to say.
bool take_calls(json::object& message, const std::set<size_t>& gone) {
  const json::array& calls = message.at("tool_calls").get_array();
  json::array left;
  for (size_t i = 0; i < calls.size(); ++i) {
    if (!gone.contains(i)) left.push_back(calls[i]);
  }
  if (!left.empty()) {
    message["tool_calls"] = std::move(left);
    return true;
  }
  message.erase("tool_calls");
  return !text_of(message, "content").empty();
}

// At the end of what is kept. What an assistant said before calls that are gone, and what it says next, is one answer,
// as where nothing was between the two: templates may want others to take their turn in between.
void keep_message(json::value message, json::array& kept) {
  const bool goes_on = !kept.empty() && text_of(kept.back(), "role") == "assistant" &&
                       calls_of(kept.back()) == nullptr && text_of(message, "role") == "assistant";
  if (!goes_on) {
    kept.push_back(std::move(message));
    return;
  }
  json::object& answer = kept.back().get_object();
  for (const std::string_view name : {"reasoning_content", "content"}) {
    const std::string_view more = text_of(message, name);
    if (more.empty()) continue;
    std::string text(text_of(kept.back(), name));
    wire::add_line(text, more);
    answer[name] = json::string(text);
  }
  if (json::value* calls = message.get_object().if_contains("tool_calls")) answer["tool_calls"] = std::move(*calls);
}

}  // namespace

Shortening::Shortening(const json::array& messages) : messages_(messages) {
  find_results();
  std::vector<size_t> turns;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (text_of(messages[i], "role") == "user") turns.push_back(i);
  }
  // What comes before the first user's words is a part of that turn.
  size_t begin = 0;
  for (size_t i = 1; i < turns.size(); ++i) {
    add_calls(begin, turns[i]);
    parts_.push_back({.turn_end = turns[i], .caller = 0, .call = 0, .result = 0, .whole_turn = true});
    begin = turns[i];
  }
  const size_t before = parts_.size();
  add_calls(begin, messages.size());
  if (parts_.size() > before) parts_.pop_back();
}

// By their ids, which may come again once the call has been answered.
void Shortening::find_results() {
  std::map<std::string_view, std::deque<CallPlace>> open;
  for (size_t i = 0; i < messages_.size(); ++i) {
    if (text_of(messages_[i], "role") == "tool") {
      const auto waiting = open.find(text_of(messages_[i], "tool_call_id"));
      if (waiting == open.end() || waiting->second.empty()) continue;
      results_[waiting->second.front()] = i;
      waiting->second.pop_front();
      continue;
    }
    const json::array* calls = calls_of(messages_[i]);
    for (size_t call = 0; calls != nullptr && call < calls->size(); ++call)
      open[text_of((*calls)[call], "id")].emplace_back(i, call);
  }
}

void Shortening::add_calls(size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    const json::array* calls = calls_of(messages_[i]);
    for (size_t call = 0; calls != nullptr && call < calls->size(); ++call) {
      const auto result = results_.find({i, call});
      const size_t at = result == results_.end() ? no_result : result->second;
      parts_.push_back({.turn_end = end, .caller = i, .call = call, .result = at, .whole_turn = false});
    }
  }
}

json::array Shortening::without(size_t count) const {
  size_t begin = 0;  // of the first turn that stays
  std::map<size_t, std::set<size_t>> calls;
  std::set<size_t> results;
  for (size_t i = 0; i < std::min(count, parts_.size()); ++i) {
    const Part& part = parts_[i];
    if (part.whole_turn) {
      begin = part.turn_end;
    } else {
      calls[part.caller].insert(part.call);
      results.insert(part.result);
    }
  }
  for (const auto& [call, result] : results_) {
    if (call.first < begin) results.insert(result);
  }
  json::array kept;
  for (size_t i = 0; i < messages_.size(); ++i) {
    if (!is_systems(messages_[i]) && (i < begin || results.contains(i))) continue;
    const auto gone = calls.find(i);
    if (gone == calls.end()) {
      keep_message(messages_[i], kept);
      continue;
    }
    json::object message = messages_[i].get_object();
    if (take_calls(message, gone->second)) keep_message(std::move(message), kept);
  }
  return kept;
}

Shortening::Dropped Shortening::dropped(size_t count) const {
  Dropped dropped;
  for (size_t i = 0; i < std::min(count, parts_.size()); ++i) {
    if (parts_[i].whole_turn) {
      ++dropped.turns;
      dropped.calls = 0;
    } else {
      ++dropped.calls;
    }
  }
  return dropped;
}

}  // namespace tidemill::serve
