#include "live_server.hpp"

#include <chrono>
#include <thread>
#include <utility>

#include "base/log.hpp"
#include "data.hpp"
#include "wire/sse.hpp"

namespace tidemill::test {

serve::ServeOptions small_options() {
  serve::ServeOptions options;
  options.port = 0;
  options.io_threads = 2;
  options.threads = 1;
  options.kv_memory = base::ByteSize{uint64_t{64} << 20};
  options.model_path = nano_coder().string();
  return options;
}

std::unique_ptr<serve::LoadedModel> load_nano_coder(const serve::ServeOptions& options) {
  auto model = serve::LoadedModel::load(serve::model_options(options));
  EXPECT_TRUE(model) << model.error().to_string();
  return model ? std::move(*model) : nullptr;
}

LiveServer::LiveServer(serve::ServeOptions options) {
  base::log::set_level(base::log::Level::warn);
  auto started = serve::Server::start(options);
  EXPECT_TRUE(started) << started.error().to_string();
  if (!started) std::abort();
  server_ = std::move(*started);
  auto served = server_->serve(load_nano_coder(options));
  EXPECT_TRUE(served) << served.error().to_string();
  if (!served) std::abort();
}

wire::HttpResponse Client::get(std::string_view path, wire::Headers headers) {
  return fetch("GET", path, std::move(headers));
}

wire::HttpResponse Client::remove(std::string_view path, wire::Headers headers) {
  return fetch("DELETE", path, std::move(headers));
}

wire::HttpResponse Client::fetch(std::string_view method, std::string_view path, wire::Headers headers) {
  auto response = client_.fetch(
      {.method = std::string(method), .url = url_ + std::string(path), .headers = std::move(headers), .body = {}});
  EXPECT_TRUE(response) << path << ": " << response.error().to_string();
  if (response) return std::move(*response);
  wire::HttpResponse none;
  none.status = 0;
  return none;
}

wire::HttpResponse Client::post(std::string_view path, std::string_view body, wire::Headers headers) {
  headers.add("Content-Type", "application/json");
  auto response =
      client_.fetch({.method = "POST", .url = url_ + std::string(path), .headers = headers, .body = std::string(body)});
  EXPECT_TRUE(response) << path << ": " << response.error().to_string();
  if (response) return std::move(*response);
  wire::HttpResponse none;
  none.status = 0;
  return none;
}

std::vector<std::string> Client::stream(std::string_view path, std::string_view body,
                                        const std::function<bool(const std::string&)>& on_event) {
  std::vector<std::string> events;
  wire::SseParser parser;
  bool stopped = false;
  wire::ClientRequest request{
      .method = "POST", .url = url_ + std::string(path), .headers = {}, .body = std::string(body)};
  request.headers.set("Content-Type", "application/json");
  const auto on_chunk = [&](std::string_view bytes) -> base::Result<void> {
    auto parsed = parser.feed(bytes);
    if (!parsed) return std::move(parsed).error();
    for (wire::SseEvent& event : *parsed) {
      events.push_back(std::move(event.data));
      if (on_event && !on_event(events.back())) {
        stopped = true;
        return base::Error(base::ErrorCode::cancelled, "enough");
      }
    }
    return {};
  };
  auto response = client_.fetch(std::move(request), on_chunk);
  EXPECT_TRUE(response || stopped) << path << ": " << (response ? "" : response.error().to_string());
  return events;
}

json::object parse_object(std::string_view text) {
  auto value = base::parse_json(text);
  EXPECT_TRUE(value && value->is_object()) << text;
  return value && value->is_object() ? value->get_object() : json::object();
}

json::object parse_object(const wire::HttpResponse& response) {
  return parse_object(response.body);
}

ErrorShown error_of(const wire::HttpResponse& response) {
  const json::object body = parse_object(response);
  const json::value* error = body.if_contains("error");
  EXPECT_TRUE(error != nullptr && error->is_object()) << response.body;
  if (error == nullptr || !error->is_object()) return {};
  const auto text = [&](std::string_view name) {
    const json::value* member = error->get_object().if_contains(name);
    return member != nullptr && member->is_string() ? std::string(member->get_string()) : std::string();
  };
  return {text("message"), text("type"), text("param"), text("code")};
}

void wait_until(const std::function<bool()>& condition, std::string_view what) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "waited in vain: " << what;
    std::this_thread::yield();
  }
}

std::string streamed_text(const std::vector<std::string>& events, int index) {
  std::string text;
  for (const std::string& event : events) {
    if (event == "[DONE]") continue;
    const json::object chunk = parse_object(event);
    for (const json::value& choice : chunk.at("choices").as_array()) {
      const json::object& fields = choice.as_object();
      if (fields.at("index") != index) continue;
      const json::value* piece = fields.if_contains("text");
      if (piece == nullptr) piece = fields.at("delta").as_object().if_contains("content");
      if (piece != nullptr && piece->is_string()) text += std::string_view(piece->get_string());
    }
  }
  return text;
}

}  // namespace tidemill::test
