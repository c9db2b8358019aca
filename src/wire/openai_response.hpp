// Internal events to OpenAI's response bodies: whole objects, and the chunks of a stream.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "wire/request.hpp"

namespace tidemill::wire {

// Writes the answer to one generation request in the dialect it came in. Feed it the events in order; for a stream it
// returns the `data:` payloads to send, otherwise it collects. Not thread-safe.
class OpenAiResponse {
 public:
  // `created` is in seconds since the Unix epoch; `choices` is the number of prompts times n.
  OpenAiResponse(const GenerateRequest& request, std::string id, std::string model, int64_t created, int choices);

  // For a stream: the chunks (JSON texts) that this event gives rise to.
  std::vector<std::string> stream(const Event& event);
  // After the last event: the chunk with the usage if it was asked for, else nothing. The caller sends "[DONE]" after
  // it.
  std::vector<std::string> finish_stream(const Usage& usage);

  // Not a stream: collects the event.
  void collect(const Event& event);
  // The whole body.
  std::string whole(const Usage& usage) const;

  static constexpr std::string_view done = "[DONE]";

 private:
  struct Choice {
    bool opened = false;  // the chunk that names the role has been sent
    std::string text;
    std::vector<TokenInfo> logprobs;
    FinishReason finish = FinishReason::none;
  };

  base::json::object envelope(bool chunk) const;
  std::string chunk(base::json::object choice) const;
  base::json::value logprobs_json(const std::vector<TokenInfo>& tokens) const;

  bool chat_;
  bool with_logprobs_;
  bool include_usage_;
  int top_logprobs_;
  std::string id_;
  std::string model_;
  int64_t created_;
  std::vector<Choice> choices_;
};

base::json::object usage_json(const Usage& usage);

// The body of /v1/embeddings. Base64 holds the floats' bytes in little-endian order, as OpenAI's clients decode them.
std::string embedding_response(std::span<const std::vector<float>> embeddings, std::string_view model,
                               int64_t prompt_tokens, bool base64);

}  // namespace tidemill::wire
