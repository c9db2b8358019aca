#include "wire/openai_response.hpp"

#include <bit>
#include <cmath>
#include <cstring>

#include <openssl/evp.h>

#include "base/utf8.hpp"

namespace tidemill::wire {

namespace json = base::json;

namespace {

json::value finish_json(FinishReason reason) {
  switch (reason) {
    case FinishReason::none:
      return nullptr;
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
  }
  return nullptr;
}

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
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

OpenAiResponse::OpenAiResponse(const GenerateRequest& request, std::string id, std::string model, int64_t created,
                               int choices)
    : chat_(request.dialect == Dialect::chat),
      with_logprobs_(request.logprobs),
      include_usage_(request.include_usage),
      top_logprobs_(request.top_logprobs),
      id_(std::move(id)),
      model_(std::move(model)),
      created_(created),
      choices_(static_cast<size_t>(choices)) {}

json::object OpenAiResponse::envelope(bool chunk) const {
  const std::string_view kind = !chat_ ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion";
  return {{"id", id_}, {"object", kind}, {"created", created_}, {"model", model_}};
}

std::string OpenAiResponse::chunk(json::object choice) const {
  json::object body = envelope(true);
  body["choices"] = json::array{std::move(choice)};
  if (include_usage_) body["usage"] = nullptr;
  return json::serialize(body);
}

json::value OpenAiResponse::logprobs_json(const std::vector<TokenInfo>& tokens) const {
  if (!with_logprobs_) return nullptr;
  if (chat_) {
    json::array content;
    for (const TokenInfo& token : tokens) {
      json::object entry = chat_token(token.chosen);
      json::array& top = entry["top_logprobs"].emplace_array();
      for (const TokenLogprob& other : token.top)
        top.push_back(chat_token(other));
      content.push_back(std::move(entry));
    }
    return json::object{{"content", std::move(content)}, {"refusal", nullptr}};
  }
  json::array texts;
  json::array logprobs;
  json::array tops;
  json::array offsets;
  for (const TokenInfo& token : tokens) {
    texts.push_back(json::value(base::utf8::sanitize(token.chosen.bytes)));
    logprobs.push_back(logprob_json(token.chosen));
    offsets.push_back(token.text_offset);
    if (!token.chosen.logprob) {
      tops.push_back(nullptr);
      continue;
    }
    json::object top;
    for (const TokenLogprob& other : token.top)
      top[base::utf8::sanitize(other.bytes)] = logprob_json(other);
    tops.push_back(std::move(top));
  }
  return json::object{{"tokens", std::move(texts)},
                      {"token_logprobs", std::move(logprobs)},
                      {"top_logprobs", top_logprobs_ > 0 ? json::value(std::move(tops)) : json::value(nullptr)},
                      {"text_offset", std::move(offsets)}};
}

std::vector<std::string> OpenAiResponse::stream(const Event& event) {
  std::vector<std::string> chunks;
  Choice& choice = choices_.at(static_cast<size_t>(event.choice));
  if (chat_ && !choice.opened) {
    chunks.push_back(chunk({{"index", event.choice},
                            {"delta", {{"role", "assistant"}, {"content", ""}, {"refusal", nullptr}}},
                            {"logprobs", nullptr},
                            {"finish_reason", nullptr}}));
  }
  choice.opened = true;
  const bool has_content = !event.text.empty() || (with_logprobs_ && !event.logprobs.empty());
  if (has_content) {
    json::value logprobs = logprobs_json(event.logprobs);
    json::object piece{{"index", event.choice}};
    if (chat_) {
      piece["delta"] = json::object{{"content", event.text}};
    } else {
      piece["text"] = event.text;
    }
    piece["logprobs"] = std::move(logprobs);
    piece["finish_reason"] = nullptr;
    chunks.push_back(chunk(std::move(piece)));
  }
  if (event.finish != FinishReason::none) {
    json::object piece{{"index", event.choice}};
    if (chat_) {
      piece["delta"] = json::object();
    } else {
      piece["text"] = "";
    }
    piece["logprobs"] = nullptr;
    piece["finish_reason"] = finish_json(event.finish);
    chunks.push_back(chunk(std::move(piece)));
  }
  return chunks;
}

std::vector<std::string> OpenAiResponse::finish_stream(const Usage& usage) {
  if (!include_usage_) return {};
  json::object body = envelope(true);
  body["choices"] = json::array();
  body["usage"] = usage_json(usage);
  return {json::serialize(body)};
}

void OpenAiResponse::collect(const Event& event) {
  Choice& choice = choices_.at(static_cast<size_t>(event.choice));
  choice.text += event.text;
  choice.logprobs.insert(choice.logprobs.end(), event.logprobs.begin(), event.logprobs.end());
  if (event.finish != FinishReason::none) choice.finish = event.finish;
}

std::string OpenAiResponse::whole(const Usage& usage) const {
  json::object body = envelope(false);
  json::array& choices = body["choices"].emplace_array();
  for (size_t i = 0; i < choices_.size(); ++i) {
    const Choice& choice = choices_[i];
    json::object entry{{"index", i}};
    if (chat_) {
      entry["message"] = json::object{{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    } else {
      entry["text"] = choice.text;
    }
    entry["logprobs"] = logprobs_json(choice.logprobs);
    entry["finish_reason"] = finish_json(choice.finish);
    choices.push_back(std::move(entry));
  }
  body["usage"] = usage_json(usage);
  return json::serialize(body);
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
