// What every dialect is translated to, and what it is translated from: the one internal request and its answer's
// events. Free of any dialect's JSON except where the chat template wants it as it came (messages, tools).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.hpp"

namespace tidemill::wire {

using TokenIds = std::vector<int32_t>;
// One prompt: text to be tokenised, or token ids as they are.
using Prompt = std::variant<std::string, TokenIds>;

// How tokens are chosen; absent means the server's default. Ranges are checked by the dialect.
struct SamplingFields {
  std::optional<double> temperature;
  std::optional<int64_t> top_k;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::optional<double> frequency_penalty;
  std::optional<double> presence_penalty;
  std::map<int32_t, float> logit_bias;
  std::optional<int64_t> seed;  // 64 bits, with or without a sign
};

// A function that the model may call.
struct Tool {
  std::string name;
  std::string description;
  base::json::value parameters;  // a JSON Schema; null: none was given, any object goes
  bool strict = false;           // arguments must follow the schema, not only be an object
  bool prefers_strict = false;   // the same, where a grammar can follow the schema
};

struct ToolChoice {
  enum class Kind : uint8_t {
    none,       // no calls
    automatic,  // calls or text, as the model likes
    required,   // at least one call
    named,      // a call of `name`
  };
  Kind kind = Kind::automatic;
  std::string name;
  // Which of the tools may be called, where not all of those that the model is told of may; empty: any.
  std::vector<std::string> allowed;
};

// What the text must be.
struct OutputFormat {
  enum class Kind : uint8_t {
    text,         // anything
    json_object,  // any JSON object
    json_schema,  // JSON that `schema` describes
    regex,        // a match of `pattern`
    choice,       // one of `choices`
    grammar,      // a sentence of `pattern`, a GBNF grammar
  };
  Kind kind = Kind::text;
  std::string name;  // of the schema, as the client calls it
  base::json::value schema;
  std::string pattern;
  std::vector<std::string> choices;
  std::string param = "response_format";  // the request's field, for errors
};

// Which API the caller speaks.
enum class Dialect : uint8_t { chat, completions, responses, messages };

struct GenerateRequest {
  Dialect dialect = Dialect::chat;
  std::string model;  // empty: the served one

  // A conversation: every dialect but completions. Messages as the chat template reads them: `content` a string or
  // null, text parts joined by line feeds, the arguments of tool calls parsed; calls and results of tools, and
  // "reasoning_content", as in OpenAI's chat messages.
  base::json::array messages;
  // Where each of them stands in the request ("input[2]", "messages[1].content[0]"), in dialects whose messages are
  // others; empty: it is messages[i].
  std::vector<std::string> places;
  base::json::object template_variables;  // "chat_template_kwargs"
  bool add_generation_prompt = true;
  std::vector<Tool> tools;
  ToolChoice tool_choice;
  bool parallel_tool_calls = true;
  // The field of its own that the first message, the system's, came from; empty: none did.
  std::string system_param;
  // What the answer begins with, and is not said again: the model goes on from there. Anthropic's prefill, vLLM's
  // "continue_final_message".
  std::string answer_begins;
  std::string answer_reasoning;  // before that, where the format has a place for it
  bool answer_has_begun() const { return !answer_begins.empty() || !answer_reasoning.empty(); }
  // Calls are told as "function_call", the older word for one of "tool_calls".
  bool tells_function_call = false;
  // Responses' "truncation": "auto": where the context is too short, the oldest turns go, and calls with their results.
  bool drop_oldest = false;

  // Dialect::completions; at least one.
  std::vector<Prompt> prompts;
  bool echo = false;

  OutputFormat output;
  SamplingFields sampling;
  std::optional<int64_t> max_tokens;        // of each choice
  std::optional<int64_t> reasoning_tokens;  // of these, the most that each choice may spend on reasoning
  std::vector<std::string> stop;
  TokenIds stop_tokens;
  bool ignore_eos = false;
  bool skip_special_tokens = true;
  int n = 1;  // choices for each prompt
  bool logprobs = false;
  int top_logprobs = 0;
  int priority = 0;
  std::optional<int64_t> now;  // what the chat template takes for the time, in Unix seconds; absent: the clock's
  bool stream = false;
  bool include_usage = false;  // a last chunk with the usage, when streaming
};

struct EmbeddingRequest {
  std::string model;
  std::vector<Prompt> inputs;
  bool base64 = false;                // encoding_format
  std::optional<int64_t> dimensions;  // must be the model's own, if given
};

struct TokenizeRequest {
  std::string model;
  std::string text;
  std::optional<GenerateRequest> conversation;  // instead of `text`: the prompt of a chat, and what decides it
  bool add_special_tokens = true;
  bool parse_special = false;  // read special tokens that are written out in `text`
  bool with_pieces = false;    // also return each token's text
};

struct DetokenizeRequest {
  std::string model;
  TokenIds tokens;
};

enum class FinishReason : uint8_t { none, stop, length, tool_calls };

// In OpenAI's words; empty for none.
constexpr std::string_view to_string(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::tool_calls:
      return "tool_calls";
    case FinishReason::none:
      break;
  }
  return {};
}

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;     // of the prompt's
  int64_t reasoning_tokens = 0;  // of the completion's
};

struct TokenLogprob {
  std::string bytes;              // perhaps a part of a character
  std::optional<double> logprob;  // absent for the first token of an echoed prompt
};

struct TokenInfo {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most likely first
  size_t text_offset = 0;         // where in the choice's text it begins, in characters
};

// A piece of one call of a tool. `id` and `name` come with the call's first piece; the pieces of `arguments` are those
// of one JSON text.
struct ToolCallDelta {
  int index = 0;  // of the call in its choice
  std::string id;
  std::string name;
  std::string arguments;
};

// How far a choice has come.
struct ChoiceProgress {
  TokenIds tokens;  // generated since it was last told
};

// One piece of one choice. Of reasoning, text and calls, what comes first in the struct came first.
struct Event {
  int choice = 0;
  std::string reasoning;  // whole characters
  std::string text;       // whole characters
  std::vector<ToolCallDelta> tool_calls;
  std::vector<TokenInfo> logprobs;
  FinishReason finish = FinishReason::none;
  std::string matched_stop;   // the stop string that ended it, if one did
  int64_t cached_tokens = 0;  // of the choice's prompt; 0 where it is `resumed`

  std::optional<ChoiceProgress> progress;  // with the last of the pieces that the same tokens gave rise to
  bool resumed = false;                    // of what was told before the stream was resumed: not to be told again
};

}  // namespace tidemill::wire
