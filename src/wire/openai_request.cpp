#include "wire/openai_request.hpp"

#include <array>
#include <charconv>
#include <limits>
#include <memory>
#include <utility>
#include <variant>

#include <fmt/core.h>

#include "base/utf8.hpp"
#include "wire/json_fields.hpp"
#include "wire/openai_answer.hpp"
#include "wire/openai_functions.hpp"
#include "wire/openai_messages.hpp"
#include "wire/openai_notes.hpp"
#include "wire/openai_tools.hpp"

namespace tidemill::wire {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

constexpr size_t max_stop_strings = 64;
constexpr size_t max_prompts = 2048;

// The fault of `item`, which stands at `place` of the field `name` and is no token id.
Error no_token_id(const JsonFields& fields, std::string_view name, std::string_view place, const json::value& item) {
  const std::string wanted = fmt::format("a token id, an integer from 0 to {}", max_int);
  return fields.mismatch(place, wanted, item).with_param(fields.path(name));
}

// `place` of the field `name` holds the array.
Result<TokenIds> parse_ids(const JsonFields& fields, std::string_view name, std::string_view place,
                           const json::array& array) {
  TokenIds ids;
  ids.reserve(array.size());
  for (size_t i = 0; i < array.size(); ++i) {
    const json::value& item = array[i];
    if (!item.is_int64() || item.get_int64() < 0 || item.get_int64() > max_int) {
      return no_token_id(fields, name, fmt::format("{}[{}]", place, i), item);
    }
    ids.push_back(static_cast<int32_t>(item.get_int64()));
  }
  return ids;
}

// A string, an array of strings, an array of token ids, or an array of arrays of token ids.
Result<std::vector<Prompt>> parse_prompts(const JsonFields& fields, std::string_view name) {
  constexpr std::string_view wanted = "a string, an array of strings, or an array (of arrays) of token ids";
  const json::value* value = fields.find(name);
  if (value == nullptr) return fields.invalid(name, fmt::format("'{}' is required: {}", name, wanted));
  std::vector<Prompt> prompts;
  if (value->is_string()) {
    prompts.emplace_back(std::string(value->get_string()));
    return prompts;
  }
  const json::array* array = value->if_array();
  if (array == nullptr) return fields.mismatch(name, wanted, *value);
  if (array->empty()) return fields.invalid(name, fmt::format("'{}' must not be an empty array", name));
  if (array->size() > max_prompts && !array->front().is_int64()) {
    return fields.invalid(name, fmt::format("'{}' has {} entries; at most {} are taken in one request", name,
                                            array->size(), max_prompts));
  }
  if (array->front().is_int64()) {
    TM_TRY(TokenIds ids, parse_ids(fields, name, name, *array));
    prompts.emplace_back(std::move(ids));
    return prompts;
  }
  for (size_t i = 0; i < array->size(); ++i) {
    const json::value& item = (*array)[i];
    const std::string place = fmt::format("{}[{}]", name, i);
    if (item.is_string()) {
      prompts.emplace_back(std::string(item.get_string()));
    } else if (item.is_array()) {
      TM_TRY(TokenIds ids, parse_ids(fields, name, place, item.get_array()));
      prompts.emplace_back(std::move(ids));
    } else if (item.is_double()) {
      return no_token_id(fields, name, place, item);
    } else {
      return fields.mismatch(name, wanted, item);
    }
  }
  return prompts;
}

Result<std::map<int32_t, float>> parse_logit_bias(const JsonFields& fields) {
  std::map<int32_t, float> bias;
  TM_TRY(const json::object* object, fields.object("logit_bias"));
  if (object == nullptr) return bias;
  for (const auto& [key, value] : *object) {
    int32_t id = 0;
    const auto [end, fault] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (fault != std::errc() || end != key.data() + key.size() || id < 0) {
      return fields.invalid("logit_bias", fmt::format("'logit_bias' must map token ids to numbers; '{}' is no token id",
                                                      base::utf8::sanitize(std::string_view(key).substr(0, 40))));
    }
    const double amount = value.is_number() ? value.to_number<double>() : 1e9;
    if (amount < -100 || amount > 100) return fields.mismatch("logit_bias", "a map to numbers from -100 to 100", value);
    bias[id] = static_cast<float>(amount);
  }
  return bias;
}

Result<SamplingFields> parse_sampling(const JsonFields& fields) {
  SamplingFields sampling;
  TM_TRY(sampling.temperature, fields.number("temperature", 0, 2));
  TM_TRY(sampling.top_k, fields.integer("top_k", -1, max_int));
  TM_TRY(sampling.top_p, fields.number_above("top_p", 0, 1));
  TM_TRY(sampling.min_p, fields.number("min_p", 0, 1));
  TM_TRY(sampling.repetition_penalty, fields.number("repetition_penalty", 0.01, 100));
  TM_TRY(sampling.frequency_penalty, fields.number("frequency_penalty", -2, 2));
  TM_TRY(sampling.presence_penalty, fields.number("presence_penalty", -2, 2));
  TM_TRY(sampling.logit_bias, parse_logit_bias(fields));
  TM_TRY(sampling.seed, fields.word("seed"));
  return sampling;
}

Result<std::vector<std::string>> parse_stop(const JsonFields& fields) {
  std::vector<std::string> stop;
  const json::value* value = fields.find("stop");
  if (value == nullptr) return stop;
  const auto add = [&](const json::value& item) -> Result<void> {
    if (!item.is_string()) return fields.mismatch("stop", "a string or an array of strings", item);
    if (item.get_string().empty()) return fields.invalid("stop", "'stop' must not hold an empty string");
    stop.emplace_back(item.get_string());
    return {};
  };
  if (const json::array* array = value->if_array()) {
    if (array->size() > max_stop_strings) {
      return fields.invalid(
          "stop", fmt::format("'stop' has {} strings; at most {} are taken", array->size(), max_stop_strings));
    }
    for (const json::value& item : *array)
      TM_CHECK(add(item));
  } else {
    TM_CHECK(add(*value));
  }
  return stop;
}

// What OpenAI's endpoints or vLLM know and this server does not do. Each is refused when it asks for something.
Result<void> refuse_unsupported(const JsonFields& fields) {
  struct Field {
    std::string_view name;
    std::string_view why;
  };
  constexpr std::array<Field, 4> refused = {{
      {"audio", "audio output is not supported"},
      {"web_search_options", "web search is not supported"},
      {"suffix", "insertion before a suffix is not supported"},
      {"json_schema", "a schema is asked for by 'response_format' or 'guided_json'"},
  }};
  for (const Field& field : refused) {
    const json::value* asked = fields.find(field.name);
    if (asked != nullptr && *asked != "") return fields.unsupported(field.name, field.why);
  }
  TM_TRY(const json::array* modalities, fields.array("modalities"));
  if (modalities != nullptr && *modalities != json::array{"text"}) {
    return fields.unsupported("modalities", "only [\"text\"] is supported");
  }
  return {};
}

Result<void> parse_streaming(const JsonFields& fields, GenerateRequest& request) {
  TM_TRY(const auto stream, fields.boolean("stream"));
  request.stream = stream.value_or(false);
  TM_TRY(const json::object* options, fields.object("stream_options"));
  if (options == nullptr) return {};
  if (!request.stream) {
    return fields.invalid("stream_options", "'stream_options' is only allowed when 'stream' is true");
  }
  const JsonFields wanted(*options, "stream_options");
  TM_TRY(const auto usage, wanted.boolean("include_usage"));
  TM_CHECK(wanted.boolean("include_obfuscation"));  // there is none
  request.include_usage = usage.value_or(false);
  return {};
}

// The fields that both generation endpoints share.
Result<void> parse_common(const JsonFields& fields, GenerateRequest& request) {
  TM_TRY(const auto model, fields.string("model"));
  request.model = model.value_or("");
  TM_CHECK(refuse_unsupported(fields));
  TM_CHECK(check_notes(fields));
  TM_TRY(request.output, parse_output_format(fields));
  TM_TRY(request.sampling, parse_sampling(fields));
  TM_TRY(request.stop, parse_stop(fields));
  TM_TRY(const json::array* stop_tokens, fields.array("stop_token_ids"));
  if (stop_tokens != nullptr) {
    TM_TRY(request.stop_tokens, parse_ids(fields, "stop_token_ids", "stop_token_ids", *stop_tokens));
  }
  TM_TRY(const auto ignore_eos, fields.boolean("ignore_eos"));
  request.ignore_eos = ignore_eos.value_or(false);
  TM_TRY(const auto skip_special, fields.boolean("skip_special_tokens"));
  request.skip_special_tokens = skip_special.value_or(true);
  TM_TRY(const auto n, fields.integer("n", 1, 128));
  request.n = static_cast<int>(n.value_or(1));
  TM_TRY(const auto best_of, fields.integer("best_of", 1, 128));
  if (best_of && *best_of != request.n) {
    return fields.unsupported("best_of", "choosing the best of several is not supported; use 'n'");
  }
  TM_TRY(const auto priority, fields.integer("priority", -max_int, max_int));
  request.priority = static_cast<int>(priority.value_or(0));
  return parse_streaming(fields, request);
}

// vLLM's: the last message is the assistant's, and the answer goes on from it.
Result<void> parse_continuation(const JsonFields& fields, GenerateRequest& request) {
  constexpr std::string_view name = "continue_final_message";
  TM_TRY(const auto on, fields.boolean(name));
  if (!on.value_or(false)) return {};
  const json::object last = request.messages.back().get_object();
  const json::value& content = last.at("content");
  if (last.at("role") != "assistant" || last.contains("tool_calls") || !content.is_string()) {
    return fields.invalid(name, "'continue_final_message' needs a last message of the assistant's with text alone");
  }
  using Kind = ToolChoice::Kind;
  const bool must_call = request.tool_choice.kind == Kind::required || request.tool_choice.kind == Kind::named;
  if (request.output.kind != OutputFormat::Kind::text || must_call) {
    return fields.invalid(name,
                          "'continue_final_message' goes with no format of the output and no call that must come");
  }
  TM_TRY(const auto reasoning,
         JsonFields(last, fmt::format("messages[{}]", request.messages.size() - 1)).string("reasoning_content"));
  request.answer_begins = content.get_string();
  request.answer_reasoning = reasoning.value_or("");
  request.messages.pop_back();
  request.add_generation_prompt = true;
  if (request.messages.empty()) return fields.invalid("messages", "'messages' must hold a message before the last");
  return {};
}

// How the chat template is to render the messages.
Result<void> parse_rendering(const JsonFields& fields, GenerateRequest& request) {
  TM_TRY(const auto generation_prompt, fields.boolean("add_generation_prompt"));
  request.add_generation_prompt = generation_prompt.value_or(true);
  TM_CHECK(parse_continuation(fields, request));
  TM_TRY(const auto effort, fields.string("reasoning_effort"));
  if (effort) set_reasoning_effort(*effort, request.template_variables);
  TM_TRY(const json::object* variables, fields.object("chat_template_kwargs"));
  if (variables == nullptr) return {};
  for (const auto& [name, value] : *variables)
    request.template_variables[name] = value;
  return {};
}

Result<GenerateRequest> parse_chat(const JsonFields& fields) {
  GenerateRequest request;
  request.dialect = Dialect::chat;
  TM_CHECK(parse_common(fields, request));
  TM_CHECK(check_hints(fields));
  TM_TRY(request.messages, parse_messages(fields, "messages"));
  TM_TRY(request.tools, parse_tools(fields));
  TM_TRY(request.tool_choice, parse_tool_choice(fields, request.tools));
  TM_CHECK(check_tools(request.tools, request.tool_choice, "tools"));
  TM_TRY(const auto parallel, fields.boolean("parallel_tool_calls"));
  request.parallel_tool_calls = parallel.value_or(true);
  TM_CHECK(parse_functions(fields, request));

  TM_TRY(const auto max_completion_tokens, fields.limit("max_completion_tokens", 1));
  TM_TRY(const auto max_tokens, fields.limit("max_tokens", 1));
  request.max_tokens = max_completion_tokens ? max_completion_tokens : max_tokens;

  TM_TRY(const auto logprobs, fields.boolean("logprobs"));
  request.logprobs = logprobs.value_or(false);
  TM_TRY(const auto top_logprobs, fields.integer("top_logprobs", 0, 20));
  if (top_logprobs && !request.logprobs) {
    return fields.invalid("top_logprobs", "'top_logprobs' needs 'logprobs' to be true");
  }
  request.top_logprobs = static_cast<int>(top_logprobs.value_or(0));

  TM_CHECK(parse_rendering(fields, request));
  TM_TRY(request.reasoning_tokens, fields.limit("thinking_token_budget", 0));
  return request;
}

}  // namespace

Result<GenerateRequest> parse_chat_request(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  return parse_chat(JsonFields(object));
}

Result<GenerateRequest> parse_completion_request(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  const JsonFields fields(object);
  GenerateRequest request;
  request.dialect = Dialect::completions;
  constexpr std::array<JsonFields::Refused, 2> refused = {{
      {"functions", "calls are made in chats alone; use /v1/chat/completions"},
      {"function_call", "calls are made in chats alone; use /v1/chat/completions"},
  }};
  TM_CHECK(fields.refuse(refused));
  TM_CHECK(parse_common(fields, request));
  TM_TRY(request.prompts, parse_prompts(fields, "prompt"));

  TM_TRY(const auto max_tokens, fields.limit("max_tokens", 0));
  request.max_tokens = max_tokens.value_or(16);
  TM_TRY(const auto logprobs, fields.integer("logprobs", 0, 20));
  request.logprobs = logprobs.has_value();
  request.top_logprobs = static_cast<int>(logprobs.value_or(0));
  TM_TRY(const auto echo, fields.boolean("echo"));
  request.echo = echo.value_or(false);
  return request;
}

Result<Asked> ask_chat(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  const JsonFields fields(object);
  TM_TRY(GenerateRequest request, parse_chat(fields));
  TM_CHECK(check_tool_rounds(fields, "messages"));
  const auto answer = [form = AnswerForm::of(request)](const AnswerInfo& info) {
    return std::make_unique<ChatAnswer>(form, info);
  };
  return Asked{std::move(request), answer};
}

Result<Asked> ask_completion(std::string_view body) {
  TM_TRY(GenerateRequest request, parse_completion_request(body));
  const auto answer = [form = AnswerForm::of(request)](const AnswerInfo& info) {
    return std::make_unique<CompletionAnswer>(form, info);
  };
  return Asked{std::move(request), answer};
}

Result<EmbeddingRequest> parse_embedding_request(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  const JsonFields fields(object);
  EmbeddingRequest request;
  TM_TRY(const auto model, fields.string("model"));
  request.model = model.value_or("");
  TM_CHECK(check_notes(fields));
  TM_TRY(request.inputs, parse_prompts(fields, "input"));
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const auto empty = [](const auto& input) { return input.empty(); };
    if (!std::visit(empty, request.inputs[i])) continue;
    const std::string place = request.inputs.size() == 1 ? "input" : fmt::format("input[{}]", i);
    return fields.invalid(place, fmt::format("'{}' is empty: there is nothing to embed", place));
  }
  TM_TRY(const auto format, fields.string("encoding_format"));
  if (format && *format != "float" && *format != "base64") {
    return fields.invalid("encoding_format", "'encoding_format' must be \"float\" or \"base64\"");
  }
  request.base64 = format == "base64";
  TM_TRY(request.dimensions, fields.integer("dimensions", 1, max_int));
  return request;
}

Result<TokenizeRequest> parse_tokenize_request(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  const JsonFields fields(object);
  TokenizeRequest request;
  TM_TRY(const auto model, fields.string("model"));
  request.model = model.value_or("");
  if (fields.find("messages") != nullptr) {
    GenerateRequest& conversation = request.conversation.emplace();
    TM_TRY(conversation.messages, parse_messages(fields, "messages"));
    TM_TRY(conversation.tools, parse_tools(fields));
    TM_CHECK(check_tools(conversation.tools, {}, "tools"));
    TM_CHECK(parse_rendering(fields, conversation));
  } else {
    // vLLM says "prompt", llama.cpp's server "content".
    const std::string_view name =
        fields.find("prompt") == nullptr && fields.find("content") != nullptr ? "content" : "prompt";
    TM_TRY(const auto text, fields.string(name));
    if (!text) return fields.invalid("prompt", "'prompt' (a string) or 'messages' (an array) is required");
    request.text = *text;
  }
  TM_TRY(const auto add_special, fields.boolean("add_special_tokens"));
  request.add_special_tokens = add_special.value_or(true);
  TM_TRY(const auto parse_special, fields.boolean("parse_special"));
  request.parse_special = parse_special.value_or(false);
  TM_TRY(const auto pieces, fields.boolean("return_token_strs"));
  request.with_pieces = pieces.value_or(false);
  return request;
}

Result<DetokenizeRequest> parse_detokenize_request(std::string_view body) {
  TM_TRY(const json::object object, parse_body(body));
  const JsonFields fields(object);
  DetokenizeRequest request;
  TM_TRY(const auto model, fields.string("model"));
  request.model = model.value_or("");
  TM_TRY(const json::array* tokens, fields.array("tokens"));
  if (tokens == nullptr) return fields.invalid("tokens", "'tokens' is required: an array of token ids");
  TM_TRY(request.tokens, parse_ids(fields, "tokens", "tokens", *tokens));
  return request;
}

}  // namespace tidemill::wire
