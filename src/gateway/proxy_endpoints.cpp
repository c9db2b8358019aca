// What goes to a backend.
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "gateway/call.hpp"
#include "gateway/conversation.hpp"
#include "gateway/endpoints.hpp"
#include "gateway/model_route.hpp"
#include "gateway/plain_path.hpp"
#include "gateway/relay.hpp"
#include "gateway/request_outline.hpp"
#include "gateway/routed_request.hpp"
#include "gateway/session_key.hpp"
#include "gateway/turn_lock.hpp"
#include "session/session_store.hpp"

namespace tidemill::gateway {

using base::Result;

namespace {

// Until a backend says how many tokens a prompt has, and where a request sets no limit.
constexpr double bytes_per_token = 3.5;
constexpr int64_t usual_output = 1024;
// Most models take fewer for an image: Anthropic's up to about so many, OpenAI's some hundreds.
constexpr int64_t tokens_per_image = 1600;

int64_t prompt_tokens_of(const RequestOutline& outline) {
  const auto text = static_cast<int64_t>(static_cast<double>(outline.prompt_bytes()) / bytes_per_token) + 1;
  return text + outline.images.count * tokens_per_image;
}

// What is paid for, where its backend does not say.
int64_t prompt_tokens_of(std::string_view path, const RequestOutline& outline) {
  return counts_tokens(path) ? 0 : prompt_tokens_of(outline);
}

bool makes_text(std::string_view path) {
  return !embeds(path) && !counts_tokens(path);
}

// `conversation`: the session, where the request names none.
Wanted wanted_by(const wire::HttpRequest& request, const RequestOutline& outline, std::string_view tenant,
                 std::string_view conversation) {
  Wanted wanted;
  wanted.model = outline.model;
  wanted.session = request.headers.find("x-session-token").value_or(conversation);
  wanted.output_tokens = makes_text(request.path) ? outline.max_tokens : 0;
  if (counts_tokens(request.path)) return wanted;  // nothing of it is in any cache afterwards
  if (ranks(request.path)) {
    // Without bytes: how often the backend reads the query, and with it how many tokens they make, is not known.
    wanted.prompt_tokens = prompt_tokens_of(outline);
    return wanted;
  }
  const std::string salt = std::string(tenant) + '\n' + outline.model;
  PromptBlocks prompt = prompt_blocks(salt, outline.tools, outline.system, outline.prompt);
  wanted.blocks = std::move(prompt.blocks);
  wanted.prompt_bytes = prompt.bytes;
  return wanted;
}

// What one request for a model is relayed with.
struct Ask {
  std::string_view body;
  const RequestOutline& outline;
  AnswerFilter* filter = nullptr;
  std::string session{};       // by which a sticky route chooses
  std::string conversation{};  // of the Conversations API; empty: none
};

Asked asked_by(const wire::HttpRequest& request, const RelayRequest& relayed) {
  return {.model = relayed.outline.model,
          .prompt_tokens = relayed.prompt_tokens,
          .output_tokens = makes_text(request.path) ? relayed.outline.most_output(usual_output) : 0};
}

// Of one that did not pass the gate at once: waits for its turn, or says why there is none. False: it is answered, or
// its client gone.
asio::awaitable<bool> wait_to_enter(Service& service, Call& call, const Caller& caller, const Asked& asked,
                                    Gate::Entry& entry) {
  if (!entry.refused) co_await service.gate().wait_for_turn(caller, asked, call.exchange(), entry);
  if (entry.refused && !entry.gone) (void)co_await call.refuse(*entry.refused);
  co_return !entry.refused && !entry.gone;
}

// What a sticky route chooses by: the session that the request is of, or that its conversation was of in earlier turns.
// The first turn of a conversation that names none is one by its own id.
std::string session_of(const ModelRoute& route, Call& call, const RequestOutline& outline,
                       std::string_view conversation) {
  if (!route.plan().sticky) return {};
  std::string key = session_key(route.plan().session_sources, call.tenant(), call.request(), outline, conversation);
  return key.empty() ? call.id() : key;
}

// One target of a route after the other, until there is an answer.
asio::awaitable<void> relay_routed(Service& service, Call& call, const Caller& caller, Ask& ask,
                                   std::shared_ptr<ModelRoute> route) {
  if (ask.session.empty()) ask.session = session_of(*route, call, ask.outline, {});
  RoutedRequest routed(service, call, std::move(route), ask.outline, ask.session, prompt_tokens_of(ask.outline));
  std::optional<Gate::Entry> entry;
  while (true) {
    RequestOutline outline = ask.outline;
    std::string body;
    RelayRequest request{.body = ask.body, .outline = outline, .wanted = {}, .filter = ask.filter};
    if (routed.target().model != ask.outline.model)
      request.body = body = with_model(ask.body, outline, routed.target().model);
    request.prompt_tokens = prompt_tokens_of(call.request().path, ask.outline);
    request.wanted = wanted_by(call.request(), outline, call.tenant(), ask.conversation);
    request.wanted.backends = &routed.target().backends;
    request.handover = routed.handover();
    if (routed.is_rated()) request.before_last_byte = [&routed](const std::string& id) { routed.before_last_byte(id); };
    if (entry) {
      entry->passage.set_model(caller, outline.model);
    } else {
      const Asked asked = asked_by(call.request(), request);
      if (!service.gate().knows(caller)) co_await service.gate().learn(caller, service.store_pool());
      entry = service.gate().reserve(caller, asked);
      const bool waits = entry->refused || service.gate().queues();
      if (waits && !co_await wait_to_enter(service, call, caller, asked, *entry)) co_return;
    }
    request.passage = &entry->passage;
    request.text = routed.mirror(ask.body, ask.outline, request.wanted);
    Relay relay(service, call, request);
    const RelayEnd end = co_await relay.run();
    routed.end(end);
    if (!end.handed_over) co_return;
  }
}

// Chooses who answers, lets the request through the gate, waits for its turn, and relays it.
asio::awaitable<void> relay_in_turn(Service& service, Call& call, const Caller& caller, Ask& ask) {
  if (auto route = service.routes()->find(ask.outline.model)) {
    co_await relay_routed(service, call, caller, ask, std::move(route));
    co_return;
  }
  RelayRequest request{.body = ask.body, .outline = ask.outline, .wanted = {}, .filter = ask.filter};
  request.prompt_tokens = prompt_tokens_of(call.request().path, ask.outline);
  request.wanted = wanted_by(call.request(), ask.outline, call.tenant(), ask.conversation);
  const Asked asked = asked_by(call.request(), request);
  if (!service.gate().knows(caller)) co_await service.gate().learn(caller, service.store_pool());
  Gate::Entry entry = service.gate().reserve(caller, asked);
  const bool waits = entry.refused || service.gate().queues();
  if (waits && !co_await wait_to_enter(service, call, caller, asked, entry)) co_return;
  request.passage = &entry.passage;
  Relay relay(service, call, request);
  co_await relay.run();
}

// A conversation of so many bytes is read in a few milliseconds; a longer one would hold up the thread's other clients.
constexpr size_t most_read_at_once = size_t{64} << 10;

// A turn of a conversation that the gateway keeps.
asio::awaitable<void> converse(Service& service, Call& call, const Caller& caller, const RequestOutline& outline) {
  const wire::HttpRequest& request = call.request();
  const bool named = Conversation::is_named(outline);
  if ((outline.store || named) && service.store_lost()) {  // what is made could not be kept, so nothing is made
    const base::Error lost = store_failed(base::Error(base::ErrorCode::unavailable, "the last look found it lost"));
    (void)co_await call.refuse(lost, session::longest_pause);
    co_return;
  }
  TurnLock turn(service.store(), service.leases());
  auto open = [&] { return Conversation::open(service.sessions(), call.tenant(), request.body, outline, turn); };
  // Whatever becomes of it: who hears of it may go on at once.
  call.before_end([&] { return turn.end_on(service.store_pool()); });
  const bool refers =
      named || !outline.previous_response_id.empty() || outline.prompt.find("item_reference") != outline.prompt.npos;
  Result<Conversation> conversation = Conversation();
  if (refers || request.body.size() > most_read_at_once) {
    conversation = co_await service.store_pool().run(open);
  } else {
    conversation = open();
  }
  if (!conversation) {
    const base::Error failed = store_failed(conversation.error());
    (void)co_await call.refuse(failed, session::longest_pause);
    co_return;
  }
  auto resolved = RequestOutline::read(conversation->body, request.path);
  if (!resolved) {
    (void)co_await call.refuse(resolved.error());
    co_return;
  }
  resolved->model = outline.model;
  std::string session;
  if (const auto route = service.routes()->find(outline.model))
    session = session_of(*route, call, outline, conversation->session);
  ResponseKeeper keeper(service, call.tenant(), outline, *conversation, turn, session);
  Ask ask{.body = conversation->body,
          .outline = *resolved,
          .filter = &keeper,
          .session = std::move(session),
          .conversation = std::move(conversation->id)};
  co_await relay_in_turn(service, call, caller, ask);
  co_await call.act_before_end();  // where nobody was told anything
}

// A request that names no model means the only one that there is. Where there are several, it might mean one that its
// key does not allow, or that nobody would be charged for: then a caller with a key has to say.
std::optional<base::Error> find_model(const Service& service, const Caller& caller, RequestOutline& outline) {
  if (!outline.model.empty()) return std::nullopt;
  std::vector<std::string> models = service.fleet().models();
  if (models.size() == 1) {
    outline.model = models.front();
    return std::nullopt;
  }
  if (caller.key == nullptr) return std::nullopt;
  if (models.empty()) return base::Error(base::ErrorCode::unavailable, "no backend has told its models yet");
  std::erase_if(models, [&](const std::string& name) { return Gate::check(caller, "generate", name).has_value(); });
  return base::Error(
             base::ErrorCode::invalid_argument,
             fmt::format("'model' must name one of the models that this key may call: {}", fmt::join(models, ", ")))
      .with_param("model");
}

asio::awaitable<void> proxy(Service& service, Call& call, const Caller& caller) {
  if (service.draining()) {
    const base::Error stopping(base::ErrorCode::unavailable, "the gateway is stopping");
    const base::Duration elsewhere = service.retry_after(stopping, {});
    (void)co_await call.refuse(stopping, elsewhere);
    co_return;
  }
  const wire::HttpRequest& request = call.request();
  if (const char* const fault = why_not_plain(request.target)) {
    const base::Error error(base::ErrorCode::invalid_argument,
                            fmt::format("the path of the request is not passed on: {}", fault));
    (void)co_await call.refuse(error);
    co_return;
  }
  auto outline = RequestOutline::read(request.body, request.path);
  if (!outline) {
    // Other endpoints may take what is no JSON.
    if (dialect_of(request.path) != Dialect::other) {
      (void)co_await call.refuse(outline.error());
      co_return;
    }
    outline = RequestOutline();
  }
  if (const auto missing = find_model(service, caller, *outline)) {
    const base::Duration retry_after = service.retry_after(*missing, {});
    (void)co_await call.refuse(*missing, retry_after);
    co_return;
  }
  call.set_model(outline->model);
  // A key for embeddings is enough for reranking, which makes and compares them.
  const auto denied = Gate::check(caller, embeds(request.path) ? "embed" : "generate", outline->model);
  if (denied) {
    (void)co_await call.refuse(*denied);
    co_return;
  }
  const bool kept = outline->store || !outline->previous_response_id.empty() || Conversation::is_named(*outline);
  if (dialect_of(request.path) == Dialect::responses && kept) {
    co_await converse(service, call, caller, *outline);
    co_return;
  }
  Ask ask{.body = request.body, .outline = *outline};
  co_await relay_in_turn(service, call, caller, ask);
}

}  // namespace

void add_proxy_endpoints(wire::Router& router, Service& service) {
  const wire::Handler handler = for_callers(service, proxy);
  for (const char* path :
       {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens",
        "/v1/embeddings", "/v1/*", "/rerank", "/v2/rerank", "/tokenize", "/detokenize"}) {
    router.add("POST", path, handler);
  }
}

}  // namespace tidemill::gateway
