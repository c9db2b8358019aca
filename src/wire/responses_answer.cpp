#include "wire/responses_answer.hpp"

#include <cmath>
#include <utility>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "wire/error_body.hpp"
#include "wire/sse.hpp"

namespace tidemill::wire {

namespace json = base::json;

namespace {

// What token_json() takes in memory, usually: they are kept as values, for the session store.
constexpr size_t bytes_per_value = 400;

json::object token_json(const TokenLogprob& token) {
  json::array bytes;
  for (const char c : token.bytes)
    bytes.push_back(static_cast<unsigned char>(c));
  const double logprob = token.logprob.value_or(0);
  return {{"token", base::utf8::sanitize(token.bytes)},
          {"logprob", std::isfinite(logprob) ? logprob : -9999.0},  // JSON has no infinity
          {"bytes", std::move(bytes)}};
}

json::array logprobs_json(const std::vector<TokenInfo>& tokens) {
  json::array all;
  for (const TokenInfo& token : tokens) {
    json::object entry = token_json(token.chosen);
    json::array& top = entry["top_logprobs"].emplace_array();
    for (const TokenLogprob& other : token.top)
      top.push_back(token_json(other));
    all.push_back(std::move(entry));
  }
  return all;
}

json::object responses_usage(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

}  // namespace

std::string ResponsesAnswer::item_id(size_t index) const {
  constexpr std::string_view prefixes[] = {"rs_", "msg_", "fc_"};
  const std::string_view own = std::string_view(info_.id).substr(info_.id.starts_with("resp_") ? 5 : 0);
  return fmt::format("{}{}{:02}", prefixes[static_cast<size_t>(items_[index].kind)], own, index);
}

json::object ResponsesAnswer::part_json(const Item& item, bool whole) const {
  const std::string_view text = whole ? std::string_view(item.text) : std::string_view();
  if (item.kind == Kind::reasoning) return {{"type", "reasoning_text"}, {"text", text}};
  return {{"type", "output_text"},
          {"text", text},
          {"annotations", json::array()},
          {"logprobs", whole ? item.logprobs : json::array()}};
}

json::object ResponsesAnswer::item_json(size_t index, std::string_view status) const {
  const Item& item = items_[index];
  const bool whole = status != "in_progress";
  json::array content;
  if (whole) content.push_back(part_json(item, true));
  switch (item.kind) {
    case Kind::reasoning:
      return {{"id", item_id(index)},
              {"type", "reasoning"},
              {"summary", json::array()},
              {"content", std::move(content)},
              {"status", status}};
    case Kind::message:
      return {{"id", item_id(index)},
              {"type", "message"},
              {"status", status},
              {"role", "assistant"},
              {"content", std::move(content)}};
    case Kind::call:
      break;
  }
  return {{"id", item_id(index)},    {"type", "function_call"}, {"status", status},
          {"call_id", item.call_id}, {"name", item.name},       {"arguments", whole ? item.text : ""}};
}

json::object ResponsesAnswer::response_json(std::string_view status) const {
  json::object response{{"id", info_.id},
                        {"object", "response"},
                        {"created_at", info_.created},
                        {"status", status},
                        {"background", false},
                        {"completed_at", nullptr},
                        {"error", nullptr},
                        {"incomplete_details", nullptr},
                        {"model", info_.model},
                        {"max_tool_calls", nullptr},
                        {"service_tier", "default"},
                        {"access_programs", nullptr},
                        {"output", json::array()},
                        {"usage", nullptr}};
  for (const auto& [name, value] : form_.echo)
    response[name] = value;
  // Members of our own: how much of the oldest "truncation": "auto" left out of this prompt.
  if (response["truncation"] == "auto") {
    response["dropped_turns"] = info_.dropped_turns;
    response["dropped_calls"] = info_.dropped_calls;
  }
  return response;
}

void ResponsesAnswer::append(json::object event, std::string& out) {
  event["sequence_number"] = sequence_++;
  const std::string type(event.at("type").get_string());
  append_sse(out, json::serialize(event), type);
}

void ResponsesAnswer::append_of_item(std::string_view type, json::object members, std::string& out) {
  json::object event{{"type", type}, {"item_id", item_id(items_.size() - 1)}, {"output_index", items_.size() - 1}};
  if (items_.back().kind != Kind::call) event["content_index"] = 0;
  for (auto& [name, value] : members)
    event[name] = std::move(value);
  append(std::move(event), out);
}

void ResponsesAnswer::open_item(Item item, std::string* out) {
  close_item(out);
  items_.push_back(std::move(item));
  open_ = true;
  if (out == nullptr) return;
  const size_t index = items_.size() - 1;
  append({{"type", "response.output_item.added"}, {"output_index", index}, {"item", item_json(index, "in_progress")}},
         *out);
  if (items_.back().kind != Kind::call) {
    append_of_item("response.content_part.added", {{"part", part_json(items_.back(), false)}}, *out);
  }
}

void ResponsesAnswer::close_item(std::string* out) {
  if (!std::exchange(open_, false) || out == nullptr) return;
  const size_t index = items_.size() - 1;
  const Item& item = items_.back();
  if (item.kind == Kind::call) {
    append_of_item("response.function_call_arguments.done", {{"name", item.name}, {"arguments", item.text}}, *out);
  } else if (item.kind == Kind::reasoning) {
    append_of_item("response.reasoning_text.done", {{"text", item.text}}, *out);
  } else {
    append_of_item("response.output_text.done", {{"text", item.text}, {"logprobs", item.logprobs}}, *out);
  }
  if (item.kind != Kind::call) append_of_item("response.content_part.done", {{"part", part_json(item, true)}}, *out);
  const std::string_view status = finish_ == FinishReason::length ? "incomplete" : "completed";
  append({{"type", "response.output_item.done"}, {"output_index", index}, {"item", item_json(index, status)}}, *out);
}

void ResponsesAnswer::take_piece(Kind kind, const ToolCallDelta* call, std::string_view text, json::array logprobs,
                                 std::string* out) {
  const int which = call == nullptr ? -1 : call->index;
  const bool goes_on = open_ && items_.back().kind == kind && items_.back().call == which;
  if (!goes_on) {
    Item item{.kind = kind, .call = which, .call_id = {}, .name = {}, .text = {}, .logprobs = {}};
    if (call != nullptr) {
      item.call_id = call->id;
      item.name = call->name;
    }
    open_item(std::move(item), out);
  }
  Item& item = items_.back();
  item.text += text;
  collected_bytes_ += text.size();
  for (const json::value& entry : logprobs)
    collected_bytes_ += bytes_per_value * (1 + entry.at("top_logprobs").get_array().size());
  item.logprobs.insert(item.logprobs.end(), logprobs.begin(), logprobs.end());
  if (out == nullptr || (text.empty() && logprobs.empty())) return;
  if (kind == Kind::message) {
    append_of_item("response.output_text.delta", {{"delta", text}, {"logprobs", std::move(logprobs)}}, *out);
  } else {
    append_of_item(kind == Kind::call ? "response.function_call_arguments.delta" : "response.reasoning_text.delta",
                   {{"delta", text}}, *out);
  }
}

void ResponsesAnswer::take(const Event& event, std::string* out) {
  if (!event.reasoning.empty()) take_piece(Kind::reasoning, nullptr, event.reasoning, {}, out);
  // Probabilities are those of the text. Tokens whose text is still held back come to the message that is open.
  json::array logprobs = form_.logprobs ? logprobs_json(event.logprobs) : json::array();
  const bool in_message = open_ && items_.back().kind == Kind::message;
  if (!event.text.empty() || (in_message && !logprobs.empty())) {
    take_piece(Kind::message, nullptr, event.text, std::move(logprobs), out);
  }
  for (const ToolCallDelta& delta : event.tool_calls)
    take_piece(Kind::call, &delta, delta.arguments, {}, out);
  if (event.finish != FinishReason::none) finish_ = event.finish;
}

void ResponsesAnswer::open_stream(std::string& out) {
  append({{"type", "response.created"}, {"response", response_json("in_progress")}}, out);
  append({{"type", "response.in_progress"}, {"response", response_json("in_progress")}}, out);
}

void ResponsesAnswer::stream(const Event& event, std::string& out) {
  take(event, &out);
}

void ResponsesAnswer::collect(const Event& event) {
  take(event, nullptr);
}

const json::object& ResponsesAnswer::complete(const Usage& usage, int64_t now) {
  const bool cut = finish_ == FinishReason::length;
  response_ = response_json(cut ? "incomplete" : "completed");
  if (cut) {
    response_["incomplete_details"] = {{"reason", "max_output_tokens"}};
  } else {
    response_["completed_at"] = now;
  }
  json::array& output = response_["output"].emplace_array();
  for (size_t i = 0; i < items_.size(); ++i)
    output.push_back(item_json(i, cut && i + 1 == items_.size() ? "incomplete" : "completed"));
  response_["usage"] = responses_usage(usage);
  return response_;
}

void ResponsesAnswer::finish_stream(const Usage& usage, std::string& out) {
  close_item(&out);
  if (response_.empty()) complete(usage, info_.created);
  const std::string type = fmt::format("response.{}", std::string_view(response_.at("status").get_string()));
  append({{"type", type}, {"response", response_}}, out);
}

void ResponsesAnswer::fail_stream(const base::Error& error, std::string& out) {
  const ErrorFace face = error_face(error);
  const std::string message = base::utf8::sanitize(error.to_string());
  const std::string_view code = face.status == 429 ? "rate_limit_exceeded" : "server_error";
  json::object response = response_json("failed");
  response["error"] = {{"code", code}, {"message", message}};
  append({{"type", "response.failed"}, {"response", std::move(response)}}, out);
  append({{"type", "error"}, {"code", code}, {"message", message}, {"param", nullptr}}, out);
}

size_t ResponsesAnswer::bytes_per_token() const {
  return usual_text_bytes + (form_.logprobs ? bytes_per_value * (1 + static_cast<size_t>(form_.top_logprobs)) : 0);
}

std::string ResponsesAnswer::whole(const Usage& usage) {
  if (response_.empty()) complete(usage, info_.created);
  return json::serialize(response_);
}

}  // namespace tidemill::wire
