// POST /tokenize and /detokenize, in vLLM's shapes.
#include <string>
#include <utility>
#include <vector>

#include "base/utf8.hpp"
#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "serve/generation.hpp"
#include "wire/openai_request.hpp"

namespace tidemill::serve {

using base::Result;
namespace json = base::json;

namespace {

Result<std::vector<text::Token>> tokens_of(const LoadedModel& model, const wire::TokenizeRequest& request,
                                           text::StepAllowance* allowance) {
  if (request.conversation) {
    auto tokens = conversation_tokens(model, *request.conversation, allowance);
    // The prompt is the messages.
    if (!tokens && tokens.error().param() == "prompt") return std::move(tokens).error().with_param("messages");
    return tokens;
  }
  auto tokens = model.tokenizer().encode(
      request.text, {.add_special = request.add_special_tokens, .parse_special = request.parse_special, .literal = {}});
  if (!tokens) return std::move(tokens).error().with_param("prompt");
  return tokens;
}

Result<std::string> tokenize_body(const Serving& serving, std::string_view body, text::StepAllowance* allowance) {
  TM_TRY(const wire::TokenizeRequest request, wire::parse_tokenize_request(body));
  TM_CHECK(check_model(serving, request.model));
  TM_TRY(const std::vector<text::Token> tokens, tokens_of(*serving.model, request, allowance));
  json::object answer{{"count", tokens.size()},
                      {"max_model_len", serving.engine->max_context()},
                      {"tokens", json::array(tokens.begin(), tokens.end())}};
  if (request.with_pieces) {
    json::array pieces;
    for (const text::Token token : tokens)
      pieces.push_back(json::string(base::utf8::sanitize(serving.model->tokenizer().piece_bytes(token))));
    answer["token_strs"] = std::move(pieces);
  }
  return json::serialize(answer);
}

Result<std::string> detokenize_body(const Serving& serving, std::string_view body, text::StepAllowance*) {
  TM_TRY(wire::DetokenizeRequest request, wire::parse_detokenize_request(body));
  TM_CHECK(check_model(serving, request.model));
  TM_TRY(const std::vector<text::Token> tokens, prompt_tokens(*serving.model, serving.engine->max_context(),
                                                              wire::Prompt(std::move(request.tokens)), "tokens"));
  // Special tokens show: the text of all of the tokens is what was asked for.
  const std::string text = serving.model->tokenizer().decode(tokens, true);
  return json::serialize(json::object{{"prompt", base::utf8::sanitize(text)}});
}

asio::awaitable<void> answer(Service& service, Call& call,
                             Result<std::string> (*work)(const Serving&, std::string_view, text::StepAllowance*)) {
  const std::string body = std::move(call.request().body);
  const Serving& serving = *service.serving();
  auto job = [&](text::StepAllowance* allowance) { return work(serving, body, allowance); };
  auto text = co_await service.run_template_work(body.size(), &call.exchange(), job);
  if (text) {
    (void)co_await call.respond(wire::HttpResponse::json(200, std::move(*text)));
  } else {
    (void)co_await call.refuse(std::move(text).error());
  }
}

asio::awaitable<void> tokenize(Service& service, Call& call) {
  return answer(service, call, tokenize_body);
}
asio::awaitable<void> detokenize(Service& service, Call& call) {
  return answer(service, call, detokenize_body);
}

}  // namespace

void add_token_endpoints(wire::Router& router, Service& service) {
  router.add("POST", "/tokenize", api_handler(service, Needs::model, tokenize));
  router.add("POST", "/detokenize", api_handler(service, Needs::model, detokenize));
}

}  // namespace tidemill::serve
