// POST /mcp: generation and tokenizing as tools of the Model Context Protocol, over its streamable HTTP transport
// without sessions. Each message stands for itself: "initialize" is answered for clients that begin with it, and needed
// by none.
#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/ids.hpp"
#include "base/version.hpp"
#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "serve/generation.hpp"
#include "wire/json_fields.hpp"
#include "wire/json_rpc.hpp"
#include "wire/mcp.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
using wire::JsonFields;
using wire::RpcCode;
using wire::RpcMessage;
namespace json = base::json;
namespace mcp = wire::mcp;

namespace {

constexpr int64_t default_max_tokens = 512;
constexpr int64_t any_integer = std::numeric_limits<int64_t>::max();

std::vector<mcp::Tool> offered_tools() {
  const json::object text{{"type", "string"}};
  return {
      {.name = "generate",
       .description = "Generates text with the served language model, from a prompt or as an answer to a message.",
       .input_schema = {{"type", "object"},
                        {"properties",
                         {{"prompt", {{"type", "string"}, {"description", "Text to continue"}}},
                          {"message", {{"type", "string"}, {"description", "A user's message to answer"}}},
                          {"system", {{"type", "string"}, {"description", "Instructions that go with the message"}}},
                          {"max_tokens", {{"type", "integer"}, {"minimum", 1}}},
                          {"temperature", {{"type", "number"}, {"minimum", 0}, {"maximum", 2}}},
                          {"seed", {{"type", "integer"}}},
                          {"stop", {{"type", "array"}, {"items", text}}},
                          {"schema", {{"type", "object"}, {"description", "A JSON Schema that the text follows"}}}}}}},
      {.name = "tokenize",
       .description = "Gives the token ids of a text in the served model's vocabulary, and their number.",
       .input_schema = {{"type", "object"}, {"properties", {{"text", text}}}, {"required", json::array{"text"}}}},
  };
}

Result<void> read_stop(const JsonFields& arguments, wire::GenerateRequest& request) {
  TM_TRY(const json::array* stop, arguments.array("stop"));
  if (stop == nullptr) return {};
  for (const json::value& text : *stop) {
    if (!text.is_string()) return arguments.mismatch("stop", "an array of strings", text);
    request.stop.emplace_back(text.get_string());
  }
  return {};
}

Result<wire::GenerateRequest> generate_request(const JsonFields& arguments) {
  wire::GenerateRequest request;
  TM_TRY(const auto prompt, arguments.string("prompt"));
  TM_TRY(const auto message, arguments.string("message"));
  TM_TRY(const auto system, arguments.string("system"));
  if (prompt.has_value() == message.has_value()) {
    return arguments.invalid("prompt", "one of 'prompt' (text to continue) and 'message' (to answer) is required");
  }
  if (prompt) {
    request.dialect = wire::Dialect::completions;
    request.prompts.emplace_back(*prompt);
  } else {
    if (system) request.messages.push_back({{"role", "system"}, {"content", *system}});
    request.messages.push_back({{"role", "user"}, {"content", *message}});
  }
  TM_TRY(const auto max_tokens, arguments.integer("max_tokens", 1, std::numeric_limits<int32_t>::max()));
  request.max_tokens = max_tokens.value_or(default_max_tokens);
  TM_TRY(request.sampling.temperature, arguments.number("temperature", 0, 2));
  TM_TRY(request.sampling.seed, arguments.integer("seed", -any_integer, any_integer));
  TM_CHECK(read_stop(arguments, request));
  TM_TRY(const json::object* schema, arguments.object("schema"));
  if (schema != nullptr) {
    request.output.kind = wire::OutputFormat::Kind::json_schema;
    request.output.schema = *schema;
    request.output.param = "schema";
  }
  return request;
}

// Runs it to its end. The last text is what the tool gives.
asio::awaitable<Result<json::object>> generate(Service& service, Call& call, const JsonFields& arguments) {
  const Serving& serving = *service.serving();
  auto request = generate_request(arguments);
  if (!request) co_return std::move(request).error();
  const std::string id = base::random_id("mcp-");
  auto prepare = [&] { return engine_work(*serving.model, serving.engine->max_context(), *request, id); };
  auto work = co_await service.run_text_work(Service::pooled_text_bytes, prepare);
  if (!work) co_return std::move(work).error();
  for (engine::Request& one : work->requests) {
    one.parent = call.span().context();
    one.tenant = call.tenant();
  }
  call.end_receive();
  auto generation = Generation::submit(*serving.engine, std::move(*work), 1);
  if (!generation) co_return std::move(generation).error();
  (*generation)->on_ready(call.exchange().waker());
  call.exchange().on_disconnect([shared = *generation] { shared->cancel(); });
  std::string text;
  std::string finish;
  while (true) {
    while (auto event = (*generation)->try_next()) {
      if (!*event) co_return std::move(*event).error();
      text += (*event)->text;
      if ((*event)->finish != wire::FinishReason::none) finish = wire::to_string((*event)->finish);
    }
    if ((*generation)->ended()) break;
    if (co_await call.exchange().wait() == wire::Wake::disconnected) {
      co_return Error(ErrorCode::cancelled, "the client has closed the connection");
    }
  }
  const wire::Usage& usage = (*generation)->usage();
  call.note_usage(usage, (*generation)->finish_reasons());
  service.note_completion(usage.completion_tokens);
  co_return mcp::call_result(text, {{"text", text},
                                    {"finish_reason", finish},
                                    {"prompt_tokens", usage.prompt_tokens},
                                    {"completion_tokens", usage.completion_tokens}});
}

asio::awaitable<Result<json::object>> tokenize(Service& service, const JsonFields& arguments) {
  auto text = arguments.string("text");
  if (!text) co_return std::move(text).error();
  if (!*text) co_return arguments.invalid("text", "'text' is required");
  const text::Tokenizer& tokenizer = service.serving()->model->tokenizer();
  auto encode = [&] { return tokenizer.encode(**text, {.add_special = false, .parse_special = false, .literal = {}}); };
  auto tokens = co_await service.run_text_work((*text)->size(), encode);
  if (!tokens) co_return std::move(tokens).error();
  json::object structured{{"count", tokens->size()}, {"tokens", json::array(tokens->begin(), tokens->end())}};
  const std::string shown = json::serialize(structured);
  co_return mcp::call_result(shown, std::move(structured));
}

// What is wrong with the arguments, and what the engine refused, is said to the model: it may do better.
asio::awaitable<std::string> call_tool(Service& service, Call& call, const RpcMessage& message) {
  const JsonFields params(message.params, "params");
  auto name = params.string("name");
  auto given = params.object("arguments");
  if (!name || !*name) co_return wire::rpc_error(message.id, RpcCode::invalid_params, "'params.name' is required");
  if (!given) co_return wire::rpc_error(message.id, RpcCode::invalid_params, given.error().to_string());
  const json::object none;
  const JsonFields arguments(*given == nullptr ? none : **given);
  Result<json::object> result = json::object();
  if (**name == "generate") {
    result = co_await generate(service, call, arguments);
  } else if (**name == "tokenize") {
    result = co_await tokenize(service, arguments);
  } else {
    co_return wire::rpc_error(message.id, RpcCode::invalid_params,
                              fmt::format("there is no tool '{}'; there are generate and tokenize", **name));
  }
  if (!result) co_return wire::rpc_result(message.id, mcp::call_failure(result.error().to_string()));
  co_return wire::rpc_result(message.id, std::move(*result));
}

asio::awaitable<std::string> answer(Service& service, Call& call, const RpcMessage& message) {
  if (message.method == "initialize") {
    auto wanted = JsonFields(message.params, "params").string("protocolVersion");
    const std::string version = wanted && *wanted ? **wanted : std::string();
    co_return wire::rpc_result(message.id, mcp::initialize_result(mcp::choose_version(version), base::version()));
  }
  if (message.method == "ping") co_return wire::rpc_result(message.id, json::object());
  if (message.method == "tools/list") co_return wire::rpc_result(message.id, mcp::tools_result(offered_tools()));
  if (message.method == "tools/call") co_return co_await call_tool(service, call, message);
  co_return wire::rpc_error(message.id, RpcCode::method_not_found,
                            fmt::format("this server has no method '{}'; it has initialize, ping, tools/list and "
                                        "tools/call",
                                        message.method.substr(0, 100)));
}

// Whether a browser may ask this for the page it shows. Pages of other sites must not reach a server that listens for
// this machine alone by giving their name its address.
bool allows_origin(const Service& service, const wire::HttpRequest& request) {
  const auto origin = request.headers.find("origin");
  if (!origin) return true;
  const std::vector<std::string>& allowed = service.options().cors_origins;
  return std::ranges::any_of(allowed, [&](const std::string& one) { return one == "*" || one == *origin; });
}

asio::awaitable<void> post(Service& service, Call& call) {
  if (!allows_origin(service, call.request())) {
    const std::string why = "this origin may not use the MCP endpoint; server.cors_origins lists those that may";
    (void)co_await call.respond(wire::HttpResponse::json(403, wire::rpc_error(nullptr, RpcCode::invalid_request, why)));
    co_return;
  }
  const std::string body = std::move(call.request().body);
  auto message = wire::parse_rpc(body);
  if (!message) {
    const RpcCode code = message.error().code() == ErrorCode::corrupt ? RpcCode::parse_error : RpcCode::invalid_request;
    const std::string text = wire::rpc_error(nullptr, code, message.error().to_string());
    (void)co_await call.respond(wire::HttpResponse::json(400, text));
    co_return;
  }
  if (message->kind != RpcMessage::Kind::request) {
    wire::HttpResponse accepted;
    accepted.status = 202;
    (void)co_await call.respond(std::move(accepted));
    co_return;
  }
  (void)co_await call.respond(wire::HttpResponse::json(200, co_await answer(service, call, *message)));
}

}  // namespace

void add_mcp_endpoints(wire::Router& router, Service& service) {
  router.add("POST", "/mcp", api_handler(service, Needs::engine, post));
}

}  // namespace tidemill::serve
