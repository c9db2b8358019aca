#include <algorithm>
#include <utility>

#include "wire/http_server.hpp"

namespace tidemill::wire {

void Router::add(std::string method, std::string path, Handler handler) {
  auto route = std::find_if(routes_.begin(), routes_.end(), [&](const Route& known) { return known.path == path; });
  if (route == routes_.end()) route = routes_.insert(routes_.end(), Route{std::move(path), {}});
  std::erase_if(route->methods, [&](const auto& known) { return known.first == method; });
  route->methods.emplace_back(std::move(method), std::move(handler));
}

Router::Match Router::find(std::string_view method, std::string_view path) const {
  const Route* best = nullptr;
  std::string_view rest;
  for (const Route& route : routes_) {
    if (route.path == path) {
      best = &route;
      rest = {};
      break;
    }
    if (!route.path.ends_with("/*")) continue;
    const std::string_view prefix = std::string_view(route.path).substr(0, route.path.size() - 1);
    if (path.size() <= prefix.size() || !path.starts_with(prefix)) continue;
    if (best != nullptr && best->path.size() >= route.path.size()) continue;
    best = &route;
    rest = path.substr(prefix.size());
  }
  Match match;
  if (best == nullptr) return match;
  match.route = best->path;
  match.rest = rest;
  match.methods_ = &best->methods;
  const Handler* get = nullptr;
  for (const auto& [known, handler] : best->methods) {
    if (known == "GET") get = &handler;
    if (known == method) match.handler = &handler;
  }
  if (match.handler == nullptr && method == "HEAD") match.handler = get;
  return match;
}

std::string Router::Match::allow() const {
  if (methods_ == nullptr) return {};
  std::string allowed;
  for (const auto& [known, unused] : *methods_) {
    allowed += known + ", ";
    if (known == "GET") allowed += "HEAD, ";
  }
  return allowed + "OPTIONS";
}

}  // namespace tidemill::wire
