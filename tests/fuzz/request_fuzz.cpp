// Any bytes as the body of a request to each endpoint, and as a stream of server-sent events.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "fuzz/invariant.hpp"
#include "wire/anthropic_request.hpp"
#include "wire/error_body.hpp"
#include "wire/openai_request.hpp"
#include "wire/responses_request.hpp"
#include "wire/sse.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using test::require;

namespace {

// A refusal must be the client's fault, and reach the client as JSON.
template <typename T>
bool accepted(const base::Result<T>& parsed) {
  if (parsed) return true;
  const wire::HttpResponse response = wire::error_response(parsed.error());
  require(response.status == 400, "a bad body is answered with 400");
  const auto body = base::parse_json(response.body);
  require(body && !body->at("error").at("message").as_string().empty(), "a refusal is JSON and says why");
  return false;
}

void require_ids(const wire::TokenIds& ids) {
  for (const int32_t id : ids)
    require(id >= 0, "token ids are not negative");
}

void require_prompts(const std::vector<wire::Prompt>& prompts) {
  require(!prompts.empty(), "there is a prompt");
  for (const wire::Prompt& prompt : prompts)
    if (const auto* ids = std::get_if<wire::TokenIds>(&prompt)) require_ids(*ids);
}

// Roles and contents must be the same when the messages that were understood are read once more.
void require_settled(const base::json::array& messages) {
  require(!messages.empty(), "there is a message");
  const auto again = wire::parse_chat_request(base::json::serialize(base::json::object{{"messages", messages}}));
  require(again && again->messages.size() == messages.size(), "messages that were understood are understood again");
  for (size_t i = 0; i < messages.size(); ++i) {
    const base::json::object& before = messages[i].as_object();
    const base::json::object& after = again->messages[i].as_object();
    require(before.at("content").is_string() || before.at("content").is_null(), "content is text or null");
    require(before.at("content") == after.at("content") && before.at("role") == after.at("role"),
            "messages read the same the second time");
  }
}

void require_ranges(const wire::GenerateRequest& request) {
  const auto within = [](const auto& value, auto low, auto high) {
    return !value || (*value >= low && *value <= high);
  };
  const wire::SamplingFields& sampling = request.sampling;
  require(within(sampling.temperature, 0.0, 2.0) && within(sampling.top_p, 0.0, 1.0) &&
              within(sampling.min_p, 0.0, 1.0) && within(sampling.repetition_penalty, 0.01, 100.0) &&
              within(sampling.frequency_penalty, -2.0, 2.0) && within(sampling.presence_penalty, -2.0, 2.0) &&
              within(sampling.top_k, int64_t{-1}, int64_t{INT32_MAX}),
          "sampling is within its ranges");
  for (const auto& [id, bias] : sampling.logit_bias)
    require(id >= 0 && bias >= -100 && bias <= 100, "biases are within their range");
  require(request.n >= 1 && request.n <= 128, "n is within its range");
  require(request.top_logprobs >= 0 && request.top_logprobs <= 20, "top_logprobs is within its range");
  require(within(request.max_tokens, int64_t{0}, int64_t{INT32_MAX}), "max_tokens is within its range");
  require(!request.include_usage || request.stream, "usage is included in streams only");
  require_ids(request.stop_tokens);
  for (const std::string& stop : request.stop)
    require(!stop.empty(), "stop strings are not empty");
}

void require_conversation(const base::Result<wire::GenerateRequest>& request) {
  if (!accepted(request)) return;
  require_ranges(*request);
  require_settled(request->messages);
}

// What a store has for the ids that the request refers to.
std::map<std::string, base::json::value> referenced(const wire::ResponsesRequest& request) {
  std::map<std::string, base::json::value> items;
  for (const std::string& id : request.references)
    items[id] = {{"type", "message"}, {"role", "user"}, {"content", "x"}};
  return items;
}

using Events = std::vector<wire::SseEvent>;

// Nothing if the parser refused.
std::optional<Events> read_events(std::string_view stream, size_t piece) {
  wire::SseParser parser(1 << 16);
  Events events;
  while (!stream.empty()) {
    auto more = parser.feed(stream.substr(0, piece));
    if (!more) return std::nullopt;
    std::move(more->begin(), more->end(), std::back_inserter(events));
    stream.remove_prefix(std::min(piece, stream.size()));
  }
  return events;
}

void read_stream(std::string_view stream) {
  const auto whole = read_events(stream, stream.size() + 1);
  require(whole == read_events(stream, 1) && whole == read_events(stream, 7), "events do not depend on the pieces");
  if (!whole) return;
  std::string written;
  for (const wire::SseEvent& event : *whole)
    wire::append_sse(written, event.data, event.event);
  const auto again = read_events(written, written.size() + 1);
  if (!again) return;  // a "data: " in front of each line may go over the limit
  require(again->size() == whole->size(), "every event that was written is read");
  for (size_t i = 0; i < whole->size(); ++i)
    require((*again)[i].event == (*whole)[i].event && (*again)[i].data == (*whole)[i].data,
            "an event reads as it was written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 8) {
    case 0:
      require_conversation(wire::parse_chat_request(body));
      break;
    case 1: {
      const auto request = wire::parse_completion_request(body);
      if (!accepted(request)) break;
      require_ranges(*request);
      require_prompts(request->prompts);
      break;
    }
    case 2: {
      const auto request = wire::parse_embedding_request(body);
      if (accepted(request)) require_prompts(request->inputs);
      break;
    }
    case 3: {
      const auto request = wire::parse_tokenize_request(body);
      if (accepted(request) && request->conversation) require_settled(request->conversation->messages);
      break;
    }
    case 4: {
      const auto request = wire::parse_detokenize_request(body);
      if (accepted(request)) require_ids(request->tokens);
      break;
    }
    case 5:
      read_stream(body);
      break;
    case 6:
      require_conversation(wire::parse_messages_request(body));
      break;
    default: {
      auto request = wire::parse_responses_request(body);
      if (!accepted(request)) break;
      require_ranges(request->request);
      if (!accepted(wire::join_conversation(*request, {}, referenced(*request)))) break;
      require_settled(request->request.messages);
    }
  }
  return 0;
}
