// A server on a loopback socket with the embedded model, and a client for it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "serve/server.hpp"
#include "wire/http_client.hpp"

namespace tidemill::test {

namespace json = base::json;

// One thread, small queue, any port, quiet log.
serve::ServeOptions small_options();

std::unique_ptr<serve::LoadedModel> load_nano_coder(const serve::ServeOptions& options);

// Talks to one server. Failures of the transport fail the test and give status 0.
class Client {
 public:
  explicit Client(std::string url) : url_(std::move(url)) {}

  wire::HttpResponse get(std::string_view path, wire::Headers headers = {});
  wire::HttpResponse remove(std::string_view path, wire::Headers headers = {});  // DELETE
  wire::HttpResponse post(std::string_view path, std::string_view body, wire::Headers headers = {});

  // Every event of a stream, "[DONE]" included. `on_event` sees each as it comes and ends the exchange by returning
  // false, which closes the connection.
  std::vector<std::string> stream(std::string_view path, std::string_view body,
                                  const std::function<bool(const std::string&)>& on_event = {});

 private:
  wire::HttpResponse fetch(std::string_view method, std::string_view path, wire::Headers headers);

  std::string url_;
  wire::HttpClient client_;
};

class LiveServer {
 public:
  explicit LiveServer(serve::ServeOptions options = small_options());

  serve::Server& server() { return *server_; }
  engine::Engine& engine() { return server_->engine(); }
  Client client() const { return Client(server_->url()); }

 private:
  std::unique_ptr<serve::Server> server_;
};

// Tests that share one server: `class Endpoints : public test::OnSharedServer<Endpoints> {};`. A suite that has a
// public `server_options` of its own is served with those.
template <typename Suite>
class OnSharedServer : public testing::Test {
 public:
  static serve::ServeOptions server_options() { return small_options(); }

 protected:
  static void SetUpTestSuite() { live_ = std::make_unique<LiveServer>(Suite::server_options()); }
  static void TearDownTestSuite() { live_.reset(); }

  inline static std::unique_ptr<LiveServer> live_;
  Client client_ = live_->client();
};

json::object parse_object(std::string_view text);
json::object parse_object(const wire::HttpResponse& response);

// The error object's members, or empty strings.
struct ErrorShown {
  std::string message;
  std::string type;
  std::string param;
  std::string code;
};
ErrorShown error_of(const wire::HttpResponse& response);

// Waits for what another thread is about to bring about; fails the test after a minute.
void wait_until(const std::function<bool()>& condition, std::string_view what);

// The texts of choice `index` in the chunks of a stream, joined.
std::string streamed_text(const std::vector<std::string>& events, int index = 0);

}  // namespace tidemill::test
