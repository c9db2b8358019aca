// POST /mcp: generation and tokenizing as tools of the Model Context Protocol, over its streamable HTTP transport. Each
// message stands for itself: "initialize" is answered for clients that begin with it, and needed by none.
//
// A session is a name that "initialize" gives and nobody can guess, and nothing is kept of it: it says whose request
// "notifications/cancelled" means, since clients number their requests alike. Requests without one end with their
// connection alone. Any well-formed name is taken, so that sessions outlive a restart.
#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <openssl/rand.h>

#include "base/ids.hpp"
#include "base/utf8.hpp"
#include "base/version.hpp"
#include "serve/call.hpp"
#include "serve/endpoints.hpp"
#include "serve/generate_pipeline.hpp"
#include "serve/generation.hpp"
#include "wire/json_fields.hpp"
#include "wire/json_rpc.hpp"
#include "wire/mcp.hpp"
#include "wire/sse.hpp"

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
                          {"thinking_token_budget",
                           {{"type", "integer"},
                            {"minimum", 0},
                            {"description",
                             "Most of these tokens that go to reasoning before a message is answered; 0: none"}}},
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
  TM_TRY(request.reasoning_tokens, arguments.limit("thinking_token_budget", 0));
  if (prompt && system) return arguments.invalid("system", "'system' goes with 'message', not with 'prompt'");
  if (prompt && request.reasoning_tokens) {
    return arguments.invalid("thinking_token_budget", "'thinking_token_budget' goes with 'message', not with 'prompt'");
  }
  if (prompt) {
    request.dialect = wire::Dialect::completions;
    request.prompts.emplace_back(*prompt);
  } else {
    if (system) request.messages.push_back({{"role", "system"}, {"content", *system}});
    request.messages.push_back({{"role", "user"}, {"content", *message}});
  }
  TM_TRY(const auto max_tokens, arguments.limit("max_tokens", 1));
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

Error cancelled_by_client() {
  return {ErrorCode::cancelled, "the client has cancelled the request"};
}

struct Generated {
  std::string reasoning;
  std::string text;
  std::string finish;
};

json::object result_of(const Generated& generated, const wire::Usage& usage) {
  json::object structured{{"text", generated.text},
                          {"finish_reason", generated.finish},
                          {"prompt_tokens", usage.prompt_tokens},
                          {"completion_tokens", usage.completion_tokens}};
  if (generated.reasoning.empty()) return mcp::call_result(generated.text, std::move(structured));
  structured["reasoning_content"] = generated.reasoning;
  structured["reasoning_tokens"] = usage.reasoning_tokens;
  if (!generated.text.empty()) return mcp::call_result(generated.text, std::move(structured));
  // A model that reads the text alone would take nothing for the answer.
  const std::string why = fmt::format(
      "[There is no answer: {} tokens went to reasoning, and the finish reason is {}. A greater max_tokens "
      "leaves more room, a thinking_token_budget ends the reasoning earlier.]",
      usage.reasoning_tokens, generated.finish);
  return mcp::call_result(why, std::move(structured));
}

// Runs it to its end.
asio::awaitable<Result<json::object>> generate(Service& service, Call& call, const JsonFields& arguments,
                                               const RunningCalls::Running& running) {
  const Serving& serving = *service.serving();
  auto request = generate_request(arguments);
  if (!request) co_return std::move(request).error();
  const std::string id = base::random_id("mcp-");
  auto prepare = [&] { return engine_work(*serving.model, serving.engine->max_context(), *request, id); };
  auto work = co_await service.run_text_work(Service::pooled_text_bytes, &call.exchange(), prepare);
  if (!work) co_return std::move(work).error();
  auto completed = co_await complete(service, call, *work, running.token());
  if (!completed) co_return std::move(completed).error();
  for (engine::Request& one : work->requests) {
    one.parent = call.span().context();
    one.tenant = call.tenant();
  }
  call.end_receive();
  if (running.cancelled()) co_return cancelled_by_client();
  auto generation = Generation::submit(*serving.engine, std::move(*work), 1);
  if (!generation) co_return std::move(generation).error();
  (*generation)->on_ready(call.exchange().waker());
  call.exchange().on_disconnect([shared = *generation] { shared->cancel(); });
  const auto note = [&] { call.note_usage((*generation)->usage_so_far(), (*generation)->finish_reasons()); };
  Generated generated;
  while (true) {
    while (auto event = (*generation)->try_next()) {
      if (!*event) {
        note();
        co_return std::move(*event).error();
      }
      generated.reasoning += (*event)->reasoning;
      generated.text += (*event)->text;
      if ((*event)->finish != wire::FinishReason::none) generated.finish = wire::to_string((*event)->finish);
    }
    if ((*generation)->ended()) break;
    if (co_await call.exchange().wait() == wire::Wake::disconnected) {
      note();
      co_return Error(ErrorCode::cancelled, "the client has closed the connection");
    }
    if (running.cancelled()) {
      (*generation)->cancel();
      note();
      co_return cancelled_by_client();
    }
  }
  note();
  const wire::Usage& usage = (*generation)->usage();
  service.note_completion(usage.completion_tokens);
  co_return result_of(generated, usage);
}

asio::awaitable<Result<json::object>> tokenize(Service& service, Call& call, const JsonFields& arguments) {
  auto text = arguments.string("text");
  if (!text) co_return std::move(text).error();
  if (!*text) co_return arguments.invalid("text", "'text' is required");
  const text::Tokenizer& tokenizer = service.serving()->model->tokenizer();
  auto encode = [&] { return tokenizer.encode(**text, {.add_special = false, .parse_special = false, .literal = {}}); };
  auto tokens = co_await service.run_text_work((*text)->size(), &call.exchange(), encode);
  if (!tokens) co_return std::move(tokens).error();
  json::object structured{{"count", tokens->size()}, {"tokens", json::array(tokens->begin(), tokens->end())}};
  const std::string shown = json::serialize(structured);
  co_return mcp::call_result(shown, std::move(structured));
}

constexpr std::string_view session_header = "Mcp-Session-Id";
constexpr std::string_view version_header = "MCP-Protocol-Version";
constexpr size_t max_session_name = 128;

// 128 bits that nobody can guess; nullopt where the system gives none.
std::optional<std::string> new_session() {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) return std::nullopt;
  std::string name = "mcp-";
  for (const unsigned char byte : bytes)
    name += fmt::format("{:02x}", byte);
  return name;
}

// By what a call is cancelled; empty for a request without a session.
std::string name_of(Call& call, const json::value& id) {
  const auto session = call.request().headers.find(session_header);
  if (!session) return {};
  return fmt::format("{}\n{}\n{}", call.tenant(), *session, json::serialize(id));
}

// What is wrong with the headers of a message, if something is.
std::optional<std::string> header_fault(const wire::HttpRequest& request, const RpcMessage& message) {
  const auto session = request.headers.find(session_header);
  const auto visible = [](char c) { return c > ' ' && c < 0x7f; };
  if (session && (session->empty() || session->size() > max_session_name || !std::ranges::all_of(*session, visible))) {
    return fmt::format("'{}' must be what the answer to initialize gave", session_header);
  }
  if (message.method == "initialize") return std::nullopt;  // which settles the version
  const auto version = request.headers.find(version_header);
  if (!version || mcp::is_known(*version)) return std::nullopt;
  return fmt::format("version '{}' of the protocol ('{}') is not spoken here; known are {}",
                     base::utf8::sanitize(version->substr(0, 40)), version_header, mcp::known_versions());
}

// What is wrong with the arguments, and what the engine refused, is said to the model: it may do better. Nothing where
// the client has cancelled the call.
asio::awaitable<std::optional<std::string>> call_tool(Service& service, Call& call, const RpcMessage& message) {
  const JsonFields params(message.params, "params");
  auto name = params.string("name");
  auto given = params.object("arguments");
  if (!name || !*name) co_return wire::rpc_error(message.id, RpcCode::invalid_params, "'params.name' is required");
  if (!given) co_return wire::rpc_error(message.id, RpcCode::invalid_params, given.error().to_string());
  const json::object none;
  const JsonFields arguments(*given == nullptr ? none : **given);
  Result<json::object> result = json::object();
  if (**name == "generate") {
    const std::string known_as = name_of(call, message.id);
    const auto running =
        known_as.empty() ? RunningCalls::Running() : service.running_calls().begin(known_as, call.exchange().waker());
    result = co_await generate(service, call, arguments, running);
    if (running.cancelled()) {
      call.note_failure(cancelled_by_client());
      co_return std::nullopt;
    }
  } else if (**name == "tokenize") {
    result = co_await tokenize(service, call, arguments);
  } else {
    co_return wire::rpc_error(message.id, RpcCode::invalid_params,
                              fmt::format("there is no tool '{}'; there are generate and tokenize", **name));
  }
  if (!result) co_return wire::rpc_result(message.id, mcp::call_failure(result.error().to_string()));
  co_return wire::rpc_result(message.id, std::move(*result));
}

std::string initialize(const RpcMessage& message) {
  auto wanted = JsonFields(message.params, "params").string("protocolVersion");
  const std::string version = wanted && *wanted ? **wanted : std::string();
  return wire::rpc_result(message.id, mcp::initialize_result(mcp::choose_version(version), base::version()));
}

asio::awaitable<std::optional<std::string>> answer(Service& service, Call& call, const RpcMessage& message) {
  if (message.method == "initialize") co_return initialize(message);
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

// Notifications are taken in any state; the only one that says something here is that a request is given up.
wire::HttpResponse note(Service& service, Call& call, const RpcMessage& message) {
  if (message.method == "notifications/cancelled") {
    const json::value* id = message.params.if_contains("requestId");
    const std::string name = id == nullptr ? std::string() : name_of(call, *id);
    if (!name.empty()) service.running_calls().cancel(name);
  }
  wire::HttpResponse accepted;
  accepted.status = 202;
  return accepted;
}

asio::awaitable<void> answer_request(Service& service, Call& call, const RpcMessage& message) {
  if (auto refusal = service.refusal()) {
    (void)co_await call.refuse(std::move(*refusal));
    co_return;
  }
  std::optional<std::string> text = co_await answer(service, call, message);
  wire::HttpResponse response;
  if (text) {
    response = wire::HttpResponse::json(200, std::move(*text));
  } else {
    // A request that was cancelled has no answer: a stream of no messages.
    response.headers.set("Content-Type", std::string(wire::sse_content_type));
  }
  if (message.method == "initialize") {
    if (auto session = new_session()) response.headers.set(session_header, std::move(*session));
    if (call.request().headers.has("origin")) {
      response.headers.set("Access-Control-Expose-Headers", std::string(session_header));
    }
  }
  (void)co_await call.respond(std::move(response));
}

asio::awaitable<void> post(Service& service, Call& call) {
  const auto refuse = [&](int status, const json::value& id, RpcCode code, std::string_view why) {
    return call.respond(wire::HttpResponse::json(status, wire::rpc_error(id, code, why)));
  };
  if (!allows_origin(service, call.request())) {
    (void)co_await refuse(403, nullptr, RpcCode::invalid_request,
                          "this origin may not use the MCP endpoint; server.cors_origins lists those that may");
    co_return;
  }
  const std::string body = std::move(call.request().body);
  auto message = wire::parse_rpc(body);
  if (!message) {
    const RpcCode code = message.error().code() == ErrorCode::corrupt ? RpcCode::parse_error : RpcCode::invalid_request;
    (void)co_await refuse(400, nullptr, code, message.error().to_string());
    co_return;
  }
  if (const auto fault = header_fault(call.request(), *message)) {
    (void)co_await refuse(400, message->id, RpcCode::invalid_request, *fault);
  } else if (message->kind == RpcMessage::Kind::request) {
    co_await answer_request(service, call, *message);
  } else {
    (void)co_await call.respond(note(service, call, *message));
  }
}

}  // namespace

void add_mcp_endpoints(wire::Router& router, Service& service) {
  // Not Needs::engine: what runs may be cancelled while the server drains.
  router.add("POST", "/mcp", api_handler(service, Needs::model, post));
}

}  // namespace tidemill::serve
