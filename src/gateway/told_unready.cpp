#include "gateway/told_unready.hpp"

#include "base/json.hpp"
#include "wire/unready.hpp"

namespace tidemill::gateway {

namespace json = base::json;

namespace {

// Of an error that says no more than that.
constexpr size_t max_error_bytes = 1024;

// {"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}
bool is_loading_llama_cpp(std::string_view body) {
  if (body.size() > max_error_bytes) return false;
  const auto parsed = base::parse_json(body);
  const json::object* whole = parsed ? parsed->if_object() : nullptr;
  const json::value* error = whole == nullptr ? nullptr : whole->if_contains("error");
  if (error == nullptr || !error->is_object()) return false;
  const auto says = [&](std::string_view name, std::string_view text) {
    const json::value* member = error->get_object().if_contains(name);
    return member != nullptr && member->is_string() && std::string_view(member->get_string()) == text;
  };
  return says("message", "Loading model") && says("type", "unavailable_error");
}

}  // namespace

std::optional<route::Unready> told_unready(const wire::HttpResponse& head, std::string_view body) {
  if (head.status != 503) return std::nullopt;
  const auto said = head.headers.find(wire::unready_header);
  if (said == wire::unready_loading) return route::Unready::loading;
  if (said == wire::unready_draining) return route::Unready::draining;
  return is_loading_llama_cpp(body) ? std::optional(route::Unready::loading) : std::nullopt;
}

}  // namespace tidemill::gateway
