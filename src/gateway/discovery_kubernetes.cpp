#include "gateway/discovery_kubernetes.hpp"

#include <algorithm>
#include <random>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>
#include <fmt/format.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "route/endpoint_slices.hpp"
#include "wire/http_client.hpp"

namespace tidemill::gateway {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr size_t kTokenBytes = size_t{64} << 10;
constexpr size_t kEventBytes = size_t{16} << 20;
constexpr auto kBeyondTheWatch = std::chrono::seconds(30);  // how long its end may be late

// As names and selectors need it: everything but letters, digits, '-', '.' and '_' is escaped.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.pop_back();
  return text;
}

// What a watch came to.
enum class WatchEnd {
  again,   // go on from where it is
  relist,  // its version has expired
};

class Watcher {
 public:
  Watcher(KubernetesOptions options, Sleep sleep, OnEndpoints on_endpoints)
      : options_(std::move(options)),
        sleep_(std::move(sleep)),
        on_endpoints_(std::move(on_endpoints)),
        slices_(options_.port),
        random_(options_.seed) {}

  // Until whatever is waited for throws, as everything does once the coroutine is cancelled.
  asio::awaitable<void> run() {
    bool listed = false;
    while (true) {
      heard_ = false;
      const base::SteadyTime began = options_.clock->now();
      Result<WatchEnd> ended = WatchEnd::again;
      if (!listed) {
        const Result<void> list_result = co_await list();
        listed = list_result.has_value();
        if (!list_result) ended = list_result.error();
      }
      if (listed) ended = co_await watch();
      if (ended && *ended == WatchEnd::relist) listed = false;
      if (ended) {
        const bool lasted = options_.clock->now() - began >= options_.shortest_watch;
        if (lasted) failures_ = 0;
        const bool hurries = heard_ && (lasted || !hurried_);
        hurried_ = !lasted;
        if (hurries) continue;
      } else {
        base::log::warn("discovery: service '{}': {}", options_.service, ended.error().to_string());
        // What an answer that cannot be read left out is unknown.
        if (ended.error().code() == ErrorCode::corrupt) listed = false;
      }
      co_await sleep_(pause());
    }
  }

 private:
  base::Duration pause() {
    base::Duration most = options_.shortest_pause;
    for (int i = 0; i < failures_ && most < options_.longest_pause; ++i)
      most *= 2;
    most = std::min(most, options_.longest_pause);
    ++failures_;
    return most - base::Duration(std::uniform_int_distribution<int64_t>(0, most.count() / 2)(random_));
  }

  Result<wire::ClientRequest> request(std::string_view query) const {
    wire::ClientRequest request;
    request.url = fmt::format(
        "{}/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{}{}",
        options_.api_server, escaped(options_.name_space), escaped(options_.service), query);
    request.headers.add("Accept", "application/json");
    if (!options_.token_file.empty()) {
      TM_TRY(const std::string token, base::read_file(options_.token_file, kTokenBytes));
      request.headers.add("Authorization", "Bearer " + trimmed(token));
    }
    return request;
  }

  // An answer other than 200, in words.
  static Error refused(int status, std::string_view body) {
    const auto parsed = base::parse_json(body);
    const base::json::object* object = parsed ? parsed->if_object() : nullptr;
    const base::json::value* message = object == nullptr ? nullptr : object->if_contains("message");
    const base::json::string* text = message == nullptr ? nullptr : message->if_string();
    std::string what = fmt::format("the API server answered {}", status);
    if (text != nullptr) what += fmt::format(" ({})", std::string_view(*text));
    if (status == 401) what += "; the token is not valid";
    if (status == 403) what += "; the service account needs to list and watch endpointslices";
    return {ErrorCode::unavailable, std::move(what)};
  }

  asio::awaitable<Result<void>> list() {
    wire::HttpClientOptions http;
    http.ca_file = options_.ca_file.string();
    http.idle_timeout = std::chrono::seconds(30);
    listing_.emplace(http);
    http.idle_timeout = options_.watch_time + kBeyondTheWatch;
    watching_.emplace(http);

    Result<wire::ClientRequest> made = request("");
    if (!made) co_return std::move(made).error();
    const Result<wire::HttpResponse> answer = co_await listing_->send(std::move(*made));
    if (!answer) co_return Error(answer.error());
    if (answer->status != 200) co_return refused(answer->status, answer->body);
    const auto parsed = base::parse_json(answer->body);
    if (!parsed) co_return Error(ErrorCode::corrupt, "the API server's list is no JSON: " + parsed.error().message());
    Result<void> replaced = slices_.replace(*parsed);
    if (!replaced) co_return std::move(replaced).error();
    tell();
    co_return Result<void>{};
  }

  asio::awaitable<Result<WatchEnd>> watch() {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(options_.watch_time).count();
    Result<wire::ClientRequest> made =
        request(fmt::format("&watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
                            escaped(slices_.resource_version()), seconds));
    if (!made) co_return std::move(made).error();
    Result<wire::ClientStream> opened = co_await watching_->open(std::move(*made));
    if (!opened) co_return std::move(opened).error();
    const int status = opened->head().status;
    std::string lines;
    while (true) {
      Result<std::optional<std::string>> piece = co_await opened->read();
      if (!piece) co_return std::move(piece).error();
      if (!piece->has_value()) break;
      lines += **piece;
      if (status == 200) {
        const Result<WatchEnd> taken = take_events(lines);
        if (!taken || *taken == WatchEnd::relist) co_return taken;
      }
      if (lines.size() > kEventBytes) co_return Error(ErrorCode::corrupt, "an event of the watch is too long");
    }
    if (status == 410) co_return WatchEnd::relist;
    if (status != 200) co_return refused(status, lines);
    co_return WatchEnd::again;
  }

  // Applies the whole lines at the front of `lines`, and takes them off it.
  Result<WatchEnd> take_events(std::string& lines) {
    size_t begin = 0;
    bool changed = false;
    Result<WatchEnd> end = WatchEnd::again;
    for (size_t at = 0; end && *end == WatchEnd::again && (at = lines.find('\n', begin)) != std::string::npos;
         begin = at + 1) {
      const std::string_view line = std::string_view(lines).substr(begin, at - begin);
      if (line.empty() || line == "\r") continue;
      const auto parsed = base::parse_json(line);
      if (!parsed) {
        end = Error(ErrorCode::corrupt, "an event of the watch is no JSON: " + parsed.error().message());
        break;
      }
      auto applied = slices_.apply(*parsed);
      if (!applied) {
        end = std::move(applied).error();
        break;
      }
      if (*applied == route::EndpointSlices::Applied::expired) {
        end = WatchEnd::relist;
      } else {
        heard_ = true;
      }
      changed |= *applied == route::EndpointSlices::Applied::changed;
    }
    lines.erase(0, begin);
    if (changed) tell();
    return end;
  }

  void tell() {
    hint();
    std::vector<route::Endpoint> endpoints = slices_.endpoints();
    if (told_ == endpoints) return;
    told_ = endpoints;
    on_endpoints_(std::move(endpoints));
  }

  // A port that no slice has looks like a service without pods.
  void hint() {
    std::string ports = slices_.ports_instead();
    if (ports == hinted_) return;
    hinted_ = std::move(ports);
    if (hinted_.empty()) return;
    base::log::warn("discovery: service '{}' has pods, but none has a port '{}' (gateway.discover.port); there is {}",
                    options_.service, options_.port, hinted_);
  }

  KubernetesOptions options_;
  Sleep sleep_;
  OnEndpoints on_endpoints_;
  route::EndpointSlices slices_;
  std::optional<std::vector<route::Endpoint>> told_;
  std::string hinted_;  // of ports
  std::optional<wire::HttpClient> listing_;
  std::optional<wire::HttpClient> watching_;
  std::mt19937_64 random_;
  int failures_ = 0;
  bool heard_ = false;    // an event: then the next watch may begin at once, and else after a pause
  bool hurried_ = false;  // the last watch ended soon: what ends so again and again is not begun again at once
};

}  // namespace

Result<KubernetesOptions> in_pod(std::string service, std::string port,
                                 const std::function<std::optional<std::string>(std::string_view)>& environment,
                                 const fs::path& account) {
  const std::optional<std::string> host = environment("KUBERNETES_SERVICE_HOST");
  const std::optional<std::string> api_port = environment("KUBERNETES_SERVICE_PORT");
  if (!host || host->empty() || !api_port || api_port->empty()) {
    return Error(ErrorCode::unavailable,
                 "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is no pod of Kubernetes");
  }
  TM_TRY(const std::string name_space, base::read_file(account / "namespace", kTokenBytes));
  const bool v6 = host->find(':') != std::string::npos;
  return KubernetesOptions{.api_server = v6 ? fmt::format("https://[{}]:{}", *host, *api_port)
                                            : fmt::format("https://{}:{}", *host, *api_port),
                           .name_space = trimmed(name_space),
                           .service = std::move(service),
                           .port = std::move(port),
                           .token_file = account / "token",
                           .ca_file = account / "ca.crt"};
}

asio::awaitable<void> watch_kubernetes(KubernetesOptions options, Sleep sleep, OnEndpoints on_endpoints) {
  Watcher watcher(std::move(options), std::move(sleep), std::move(on_endpoints));
  try {
    co_await watcher.run();
  } catch (const boost::system::system_error& stopped) {
    if (stopped.code() != asio::error::operation_aborted) throw;
  }
}

}  // namespace tidemill::gateway
