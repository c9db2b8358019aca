#include "wire/openai_answer.hpp"

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include <openssl/evp.h>

#include "base/utf8.hpp"
#include "wire/error_body.hpp"
#include "wire/sse.hpp"

namespace tidemill::wire {

namespace json = base::json;

namespace {

// JSON has no infinity; a token that cannot be chosen is shown as OpenAI shows it.
double finite_logprob(double logprob) {
  return std::isfinite(logprob) ? logprob : -9999.0;
}

json::value logprob_json(const TokenLogprob& token) {
  return token.logprob ? json::value(finite_logprob(*token.logprob)) : json::value(nullptr);
}

json::object chat_token(const TokenLogprob& token) {
  json::array bytes;
  for (const char c : token.bytes)
    bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", base::utf8::sanitize(token.bytes)}, {"logprob", logprob_json(token)}, {"bytes", std::move(bytes)}};
}

void add_entry(std::string& list, const json::value& entry) {
  if (!list.empty()) list += ',';
  list += json::serialize(entry);
}

// An object's text without its closing brace.
std::string begun_text(const json::object& object) {
  std::string text = json::serialize(object);
  text.pop_back();
  return text;
}

std::string base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // EVP_EncodeBlock ends it with a NUL
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(length));
  return text;
}

}  // namespace

json::object usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}}};
}

OpenAiAnswer::OpenAiAnswer(const AnswerForm& form, AnswerInfo info)
    : form_(form), info_(std::move(info)), choices_(static_cast<size_t>(info_.choices)) {}

json::value OpenAiAnswer::finish_json(FinishReason reason) const {
  if (reason == FinishReason::none) return nullptr;
  if (reason == FinishReason::tool_calls && form_.function_call) return "function_call";
  return json::string(to_string(reason));
}

json::object OpenAiAnswer::envelope(bool chunk) const {
  return {{"id", info_.id}, {"object", object_name(chunk)}, {"created", info_.created}, {"model", info_.model}};
}

void OpenAiAnswer::append_choice(json::object members, int index, const LogprobLists* logprobs, FinishReason finish,
                                 std::string& out) const {
  json::object entry{{"index", index}};
  for (auto& [key, value] : members)
    entry[key] = std::move(value);
  out += begun_text(entry);
  out += ",\"logprobs\":";
  if (logprobs == nullptr) {
    out += "null";
  } else {
    append_logprobs(*logprobs, out);
  }
  out += ",\"finish_reason\":";
  out += json::serialize(finish_json(finish));
  out += '}';
}

void OpenAiAnswer::append_chunk(json::object piece, int choice, const LogprobLists* logprobs, FinishReason finish,
                                std::string& out) const {
  std::string body = begun_text(envelope(true));
  body += ",\"choices\":[";
  append_choice(std::move(piece), choice, logprobs, finish, body);
  body += form_.include_usage ? "],\"usage\":null}" : "]}";
  append_sse(out, body);
}

void OpenAiAnswer::stream(const Event& event, std::string& out) {
  Choice& choice = choices_.at(static_cast<size_t>(event.choice));
  const bool has_logprobs = form_.logprobs && !event.logprobs.empty();
  LogprobLists logprobs;
  if (has_logprobs) add_logprobs(event.logprobs, logprobs);
  std::vector<json::object> all = pieces(event, has_logprobs, !choice.opened);
  const size_t bearer = !choice.opened && all.size() > 1 ? 1 : 0;  // of the probabilities: not a chat's opening
  choice.opened = true;
  for (size_t i = 0; i < all.size(); ++i) {
    append_chunk(std::move(all[i]), event.choice, has_logprobs && i == bearer ? &logprobs : nullptr, FinishReason::none,
                 out);
  }
  if (event.finish != FinishReason::none) append_chunk(last_piece(), event.choice, nullptr, event.finish, out);
}

void OpenAiAnswer::finish_stream(const Usage& usage, std::string& out) {
  if (form_.include_usage) {
    json::object body = envelope(true);
    body["choices"] = json::array();
    body["usage"] = usage_json(usage);
    append_sse(out, json::serialize(body));
  }
  append_sse(out, "[DONE]");
}

// The status is out: the error goes where the clients of OpenAI's API look for it, and no "[DONE]" follows.
void OpenAiAnswer::fail_stream(const base::Error& error, std::string& out) {
  append_sse(out, json::serialize(error_body(error)));
}

void OpenAiAnswer::collect(const Event& event) {
  Choice& choice = choices_.at(static_cast<size_t>(event.choice));
  choice.reasoning += event.reasoning;
  choice.text += event.text;
  for (const ToolCallDelta& delta : event.tool_calls) {
    const auto index = static_cast<size_t>(delta.index);
    if (index >= choice.calls.size()) choice.calls.resize(index + 1);
    ToolCall& call = choice.calls[index];
    if (!delta.id.empty()) call.id = delta.id;
    if (!delta.name.empty()) call.name = delta.name;
    call.arguments += delta.arguments;
    collected_bytes_ += delta.arguments.size();
  }
  collected_bytes_ += event.reasoning.size() + event.text.size();
  if (form_.logprobs && !event.logprobs.empty()) {
    const auto bytes = [](const LogprobLists& lists) {
      return std::accumulate(lists.begin(), lists.end(), size_t{0},
                             [](size_t sum, const std::string& list) { return sum + list.size(); });
    };
    collected_bytes_ -= bytes(choice.logprobs);
    add_logprobs(event.logprobs, choice.logprobs);
    collected_bytes_ += bytes(choice.logprobs);
  }
  if (event.finish != FinishReason::none) choice.finish = event.finish;
}

std::string OpenAiAnswer::whole(const Usage& usage) {
  constexpr size_t bytes_beside = 256;  // of a choice, its text and its probabilities
  std::string body = begun_text(envelope(false));
  body.reserve(collected_bytes_ + bytes_beside * (choices_.size() + 2));
  body += ",\"choices\":[";
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice choice = std::exchange(choices_[i], {});  // each goes when it is written
    if (i > 0) body += ',';
    append_choice(whole_choice(choice), static_cast<int>(i), form_.logprobs ? &choice.logprobs : nullptr, choice.finish,
                  body);
  }
  body += "],\"usage\":";
  body += json::serialize(usage_json(usage));
  body += '}';
  return body;
}

size_t OpenAiAnswer::bytes_per_token() const {
  return usual_text_bytes + (form_.logprobs ? bytes_per_logprob() * (1 + static_cast<size_t>(form_.top_logprobs)) : 0);
}

std::string_view ChatAnswer::object_name(bool chunk) const {
  return chunk ? "chat.completion.chunk" : "chat.completion";
}

std::vector<json::object> ChatAnswer::pieces(const Event& event, bool has_logprobs, bool first) const {
  std::vector<json::object> all;
  const auto add = [&all](json::object delta) { all.push_back({{"delta", std::move(delta)}}); };
  if (first) add({{"role", "assistant"}, {"content", ""}, {"refusal", nullptr}});
  const size_t opening = all.size();
  if (!event.reasoning.empty()) add({{"reasoning_content", event.reasoning}});
  if (!event.text.empty()) add({{"content", event.text}});
  for (const ToolCallDelta& delta : event.tool_calls) {
    json::object function;
    if (!delta.name.empty()) function["name"] = delta.name;
    function["arguments"] = delta.arguments;
    if (form_.function_call) {
      if (delta.index == 0) add({{"function_call", std::move(function)}});
      continue;
    }
    json::object call{{"index", delta.index}};
    if (!delta.id.empty()) {
      call["id"] = delta.id;
      call["type"] = "function";
    }
    call["function"] = std::move(function);
    add({{"tool_calls", json::array{std::move(call)}}});
  }
  if (has_logprobs && all.size() == opening) add({{"content", ""}});
  return all;
}

json::object ChatAnswer::last_piece() const {
  return {{"delta", json::object()}};
}

json::object ChatAnswer::whole_choice(const Choice& choice) const {
  json::object message{{"role", "assistant"}};
  // With calls and no text beside them, OpenAI says null.
  message["content"] = choice.text.empty() && !choice.calls.empty() ? json::value(nullptr) : json::value(choice.text);
  message["refusal"] = nullptr;
  if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
  if (!choice.calls.empty() && form_.function_call) {
    const ToolCall& call = choice.calls.front();
    message["function_call"] = json::object{{"name", call.name}, {"arguments", call.arguments}};
  } else if (!choice.calls.empty()) {
    json::array& calls = message["tool_calls"].emplace_array();
    for (const ToolCall& call : choice.calls) {
      calls.push_back(json::object{
          {"id", call.id}, {"type", "function"}, {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
    }
  }
  return {{"message", std::move(message)}};
}

void ChatAnswer::add_logprobs(const std::vector<TokenInfo>& tokens, LogprobLists& lists) const {
  for (const TokenInfo& token : tokens) {
    json::object entry = chat_token(token.chosen);
    json::array& top = entry["top_logprobs"].emplace_array();
    for (const TokenLogprob& other : token.top)
      top.push_back(chat_token(other));
    add_entry(lists.front(), entry);
  }
}

void ChatAnswer::append_logprobs(const LogprobLists& lists, std::string& out) const {
  out += "{\"content\":[";
  out += lists.front();
  out += "],\"refusal\":null}";
}

// {"token":" and","logprob":-1.2345678901234567E0,"bytes":[32,97,110,100]},
size_t ChatAnswer::bytes_per_logprob() const {
  return 72;
}

std::string_view CompletionAnswer::object_name(bool) const {
  return "text_completion";
}

std::vector<json::object> CompletionAnswer::pieces(const Event& event, bool has_logprobs, bool) const {
  if (event.text.empty() && !has_logprobs) return {};
  return {{{"text", event.text}}};
}

json::object CompletionAnswer::last_piece() const {
  return {{"text", ""}};
}

json::object CompletionAnswer::whole_choice(const Choice& choice) const {
  return {{"text", choice.text}};
}

void CompletionAnswer::add_logprobs(const std::vector<TokenInfo>& tokens, LogprobLists& lists) const {
  auto& [texts, logprobs, tops, offsets] = lists;
  for (const TokenInfo& token : tokens) {
    add_entry(texts, json::value(base::utf8::sanitize(token.chosen.bytes)));
    add_entry(logprobs, logprob_json(token.chosen));
    add_entry(offsets, json::value(token.text_offset));
    if (form_.top_logprobs == 0) continue;
    if (!token.chosen.logprob) {
      add_entry(tops, nullptr);
      continue;
    }
    json::object top;
    for (const TokenLogprob& other : token.top)
      top[base::utf8::sanitize(other.bytes)] = logprob_json(other);
    // One more than was asked for, where the token was none of the likeliest: so OpenAI's reference has it.
    const std::string chosen = base::utf8::sanitize(token.chosen.bytes);
    if (!top.contains(chosen)) top[chosen] = logprob_json(token.chosen);
    add_entry(tops, top);
  }
}

void CompletionAnswer::append_logprobs(const LogprobLists& lists, std::string& out) const {
  const auto& [texts, logprobs, tops, offsets] = lists;
  const auto append = [&out](std::string_view name, const std::string& list) {
    out += name;
    out += '[';
    out += list;
    out += ']';
  };
  append("{\"tokens\":", texts);
  append(",\"token_logprobs\":", logprobs);
  if (form_.top_logprobs > 0) {
    append(",\"top_logprobs\":", tops);
  } else {
    out += ",\"top_logprobs\":null";
  }
  append(",\"text_offset\":", offsets);
  out += '}';
}

// " and":-1.2345678901234567E0, and of the chosen one its place besides.
size_t CompletionAnswer::bytes_per_logprob() const {
  return 32;
}

std::string embedding_response(std::span<const std::vector<float>> embeddings, std::string_view model,
                               int64_t prompt_tokens, bool as_base64) {
  static_assert(std::endian::native == std::endian::little);
  json::array data;
  for (size_t i = 0; i < embeddings.size(); ++i) {
    const std::vector<float>& embedding = embeddings[i];
    json::value shown;
    if (as_base64) {
      std::string bytes(embedding.size() * sizeof(float), '\0');
      if (!embedding.empty()) std::memcpy(bytes.data(), embedding.data(), bytes.size());
      shown = json::string(base64(bytes));
    } else {
      shown = json::array(embedding.begin(), embedding.end());
    }
    data.push_back(json::object{{"object", "embedding"}, {"index", i}, {"embedding", std::move(shown)}});
  }
  return json::serialize(json::object{{"object", "list"},
                                      {"data", std::move(data)},
                                      {"model", model},
                                      {"usage", {{"prompt_tokens", prompt_tokens}, {"total_tokens", prompt_tokens}}}});
}

}  // namespace tidemill::wire
