#include "wire/anthropic_answer.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <openssl/evp.h>

#include "base/begun_json.hpp"
#include "wire/error_body.hpp"
#include "wire/sse.hpp"

namespace tidemill::wire {

namespace json = base::json;

namespace {

void append_event(json::object event, std::string& out) {
  const std::string type(event.at("type").get_string());
  append_sse(out, json::serialize(event), type);
}

json::object messages_usage(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens - usage.cached_tokens},
          {"cache_creation_input_tokens", 0},
          {"cache_read_input_tokens", usage.cached_tokens},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"thinking_tokens", usage.reasoning_tokens}}},
          {"server_tool_use", nullptr}};
}

// Base64 of the SHA-256.
std::string sign(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) return "unsigned";
  std::string signature((size_t{size} + 2) / 3 * 4 + 1, '\0');  // EVP_EncodeBlock ends it with a NUL
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(signature.data()), digest.data(), static_cast<int>(size));
  signature.resize(static_cast<size_t>(length));
  return signature;
}

}  // namespace

json::object MessagesAnswer::message(json::array content, const Usage& usage) const {
  json::object counts = messages_usage(usage);
  counts["cache_creation"] = {{"ephemeral_5m_input_tokens", 0}, {"ephemeral_1h_input_tokens", 0}};
  counts["service_tier"] = "standard";
  counts["inference_geo"] = nullptr;
  counts["speed"] = nullptr;
  return {{"id", info_.id},
          {"type", "message"},
          {"role", "assistant"},
          {"model", info_.model},
          {"content", std::move(content)},
          {"stop_reason", nullptr},
          {"stop_sequence", nullptr},
          {"stop_details", nullptr},
          {"container", nullptr},
          {"diagnostics", nullptr},
          {"usage", std::move(counts)}};
}

json::object MessagesAnswer::block_json(const Block& block, bool whole) const {
  switch (block.kind) {
    case Kind::thinking:
      return {{"type", "thinking"},
              {"thinking", whole && form_.thinking ? block.text : ""},
              {"signature", whole ? sign(block.text) : ""}};
    case Kind::text:
      return {{"type", "text"}, {"text", whole ? block.text : ""}, {"citations", nullptr}};
    case Kind::tool_use:
      break;
  }
  // Of what the limit of tokens cut off, the members that are complete; stop_reason says so.
  json::object input;
  if (whole) input = base::begun_object(block.text);
  return {{"type", "tool_use"},
          {"id", block.id},
          {"name", block.name},
          {"input", std::move(input)},
          {"caller", {{"type", "direct"}}}};
}

void MessagesAnswer::set_stop(const Usage& usage, json::object& target) const {
  std::string_view reason = "end_turn";
  if (finish_ == FinishReason::length) {
    reason = usage.completion_tokens < form_.max_tokens ? "model_context_window_exceeded" : "max_tokens";
  } else if (finish_ == FinishReason::tool_calls) {
    reason = "tool_use";
  } else if (!matched_stop_.empty()) {
    reason = "stop_sequence";
  }
  target["stop_reason"] = reason;
  target["stop_sequence"] = reason == "stop_sequence" ? json::value(matched_stop_) : json::value(nullptr);
  target["stop_details"] = nullptr;
}

void MessagesAnswer::open_block(Block block, std::string* out) {
  close_block(out);
  blocks_.push_back(std::move(block));
  open_ = true;
  if (out == nullptr) return;
  append_event({{"type", "content_block_start"},
                {"index", blocks_.size() - 1},
                {"content_block", block_json(blocks_.back(), false)}},
               *out);
}

void MessagesAnswer::close_block(std::string* out) {
  if (!std::exchange(open_, false) || out == nullptr) return;
  const size_t index = blocks_.size() - 1;
  if (blocks_.back().kind == Kind::thinking) {
    append_event({{"type", "content_block_delta"},
                  {"index", index},
                  {"delta", {{"type", "signature_delta"}, {"signature", sign(blocks_.back().text)}}}},
                 *out);
  }
  append_event({{"type", "content_block_stop"}, {"index", index}}, *out);
}

void MessagesAnswer::take_piece(Kind kind, const ToolCallDelta* call, std::string_view text, std::string* out) {
  const int which = call == nullptr ? -1 : call->index;
  const bool goes_on = open_ && blocks_.back().kind == kind && blocks_.back().call == which;
  if (!goes_on) {
    Block block{.kind = kind, .call = which, .id = {}, .name = {}, .text = {}};
    if (call != nullptr) {
      block.id = call->id;
      block.name = call->name;
    }
    open_block(std::move(block), out);
  }
  blocks_.back().text += text;
  collected_bytes_ += text.size();
  if (out == nullptr || text.empty() || (kind == Kind::thinking && !form_.thinking)) return;
  constexpr std::array<std::pair<std::string_view, std::string_view>, 3> names = {
      {{"thinking_delta", "thinking"}, {"text_delta", "text"}, {"input_json_delta", "partial_json"}}};
  const auto& [type, member] = names.at(static_cast<size_t>(kind));
  append_event(
      {{"type", "content_block_delta"}, {"index", blocks_.size() - 1}, {"delta", {{"type", type}, {member, text}}}},
      *out);
}

void MessagesAnswer::take(const Event& event, std::string* out) {
  if (!event.reasoning.empty()) take_piece(Kind::thinking, nullptr, event.reasoning, out);
  if (!event.text.empty()) take_piece(Kind::text, nullptr, event.text, out);
  for (const ToolCallDelta& delta : event.tool_calls)
    take_piece(Kind::tool_use, &delta, delta.arguments, out);
  if (event.finish == FinishReason::none) return;
  finish_ = event.finish;
  matched_stop_ = event.matched_stop;
}

void MessagesAnswer::start(int64_t cached_tokens, std::string& out) {
  if (std::exchange(started_, true)) return;
  const Usage usage{.prompt_tokens = info_.prompt_tokens, .cached_tokens = cached_tokens};
  append_event({{"type", "message_start"}, {"message", message({}, usage)}}, out);
}

void MessagesAnswer::stream(const Event& event, std::string& out) {
  start(event.cached_tokens, out);
  take(event, &out);
}

void MessagesAnswer::finish_stream(const Usage& usage, std::string& out) {
  start(usage.cached_tokens, out);
  close_block(&out);
  json::object delta{{"container", nullptr}};
  set_stop(usage, delta);
  append_event({{"type", "message_delta"}, {"delta", std::move(delta)}, {"usage", messages_usage(usage)}}, out);
  append_event({{"type", "message_stop"}}, out);
}

void MessagesAnswer::fail_stream(const base::Error& error, std::string& out) {
  append_event(anthropic_error_body(error, ""), out);
}

void MessagesAnswer::keep_alive(std::string& out) {
  if (!started_) return Answer::keep_alive(out);
  append_event({{"type", "ping"}}, out);
}

void MessagesAnswer::collect(const Event& event) {
  take(event, nullptr);
}

std::string MessagesAnswer::whole(const Usage& usage) {
  json::array content;
  for (const Block& block : blocks_)
    content.push_back(block_json(block, true));
  json::object body = message(std::move(content), usage);
  set_stop(usage, body);
  return json::serialize(body);
}

}  // namespace tidemill::wire
