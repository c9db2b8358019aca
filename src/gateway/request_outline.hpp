// What the gateway must know of a request's body to route it: read in one pass, without parsing what it does not need.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "gateway/inline_images.hpp"

namespace tidemill::gateway {

// The ways of asking for text, by their paths.
enum class Dialect : uint8_t { chat, completions, responses, messages, other };
Dialect dialect_of(std::string_view path);
// Whether it ranks documents; whether it embeds texts or ranks documents, and so makes no text.
bool ranks(std::string_view path);
bool embeds(std::string_view path);
// Whether it only counts or names tokens: no model runs for it.
bool counts_tokens(std::string_view path);

// Views into the body, which must stay where it is.
struct RequestOutline {
  std::string model;  // empty: none named
  bool stream = false;
  // As its dialect spells them; what that does not have says nothing. Neither is below what stands here, whatever the
  // body says, nor above `most_counted` (json_members.hpp).
  int64_t choices = 1;                // `n`, of each prompt
  int64_t best_of = 1;                // completions: so many are made for those
  int64_t prompts = 1;                // completions: texts, or lists of tokens, that `prompt` has
  std::optional<int64_t> max_tokens;  // of each; the largest, if several say it; nullopt: no limit
  bool has_tools = false;
  bool store = true;                 // Responses: whether the answer is to be kept
  std::string previous_response_id;  // Responses
  // The values, as JSON, of what the prompt is made from; empty where absent.
  std::string_view tools;
  std::string_view system;       // `system` or `instructions`
  std::string_view prompt;       // `messages`, `prompt` or `input`, whichever the dialect has; empty also where null
  std::string_view model_value;  // with its quotes
  // Of a request that ranks documents: the bytes of those, and of the query as often, since a reranker reads it with
  // each. An upper bound for backends that compare embeddings.
  size_t ranked_bytes = 0;
  InlineImages images;  // in the prompt, if that is long
  // What may tell which session it belongs to, likewise (session_key.hpp).
  std::string_view conversation;
  std::string_view prompt_cache_key;
  std::string_view safety_identifier;
  std::string_view user;
  std::string_view metadata;
  size_t closing_brace = 0;  // of the body

  // For one that outlives the body.
  void drop_views();

  // `path` is what the body was sent to. invalid_argument: the body is no JSON object, or holds twice what decides the
  // route, or a member that is the gateway's own to set; of Responses, what decides whether the gateway keeps the
  // answer and what it goes on with is not of its type. Other members are the backend's to refuse.
  static base::Result<RequestOutline> read(std::string_view body, std::string_view path = {});
  // The most tokens that it may make, for all its prompts and choices together, where `usual` stands for a limit that
  // it does not set.
  int64_t most_output(int64_t usual) const;
  // All that the prompt is made from, but for the data of its images.
  size_t prompt_bytes() const { return tools.size() + system.size() + prompt.size() + ranked_bytes - images.bytes; }
};

// The body with another model in place of the one that it names, or names none. `outline`, of `body`, becomes that of
// the new one, but for its views, which stay in the old one: it is good for no second rewriting.
std::string with_model(std::string_view body, RequestOutline& outline, std::string_view model);

}  // namespace tidemill::gateway
