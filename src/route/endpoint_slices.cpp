#include "route/endpoint_slices.hpp"

#include <set>
#include <utility>

#include <fmt/format.h>

namespace tidemill::route {

namespace json = base::json;

namespace {

base::Error corrupt(std::string what) {
  return {base::ErrorCode::corrupt, "not what the API for EndpointSlices says: " + std::move(what)};
}

// The member at the end of a path of objects; null if there is none.
const json::value* member(const json::object& object, std::string_view key) {
  return object.if_contains(key);
}
const json::object* object_member(const json::object& object, std::string_view key) {
  const json::value* value = member(object, key);
  return value == nullptr ? nullptr : value->if_object();
}
std::string_view text_member(const json::object* object, std::string_view key) {
  if (object == nullptr) return {};
  const json::value* value = member(*object, key);
  const json::string* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? std::string_view() : std::string_view(*text);
}
// Null if there is none, or it is null, as lists without entries may be.
base::Result<const json::array*> list_member(const json::object& object, std::string_view key) {
  const json::value* value = member(object, key);
  if (value == nullptr || value->is_null()) return nullptr;
  if (!value->is_array()) return corrupt(fmt::format("'{}' is not a list", key));
  return &value->get_array();
}
// A condition; the API says to take one that is absent as `otherwise`.
bool condition(const json::object& endpoint, std::string_view name, bool otherwise) {
  const json::object* conditions = object_member(endpoint, "conditions");
  if (conditions == nullptr) return otherwise;
  const json::value* value = member(*conditions, name);
  return value != nullptr && value->is_bool() ? value->get_bool() : otherwise;
}

bool is_v6(const Endpoint& endpoint) {
  return endpoint.address.starts_with('[');
}

}  // namespace

bool says_expired(const json::value& status) {
  const json::object* object = status.if_object();
  if (object == nullptr) return false;
  const json::value* code = member(*object, "code");
  if (code != nullptr && code->is_int64() && code->get_int64() == 410) return true;
  const std::string_view reason = text_member(object, "reason");
  return reason == "Expired" || reason == "Gone";
}

base::Result<EndpointSlices::Slice> EndpointSlices::read(const json::object& slice) const {
  Slice read;
  int64_t number = 0;
  TM_TRY(const json::array* ports, list_member(slice, "ports"));
  for (const json::value& entry : ports == nullptr ? json::array() : *ports) {
    const json::object* port = entry.if_object();
    if (port == nullptr) return corrupt("a port is not an object");
    const json::value* value = member(*port, "port");
    if (value == nullptr || !value->is_int64()) continue;  // "all ports"
    const int64_t found = value->get_int64();
    const std::string_view name = text_member(port, "name");
    if (!port_.empty() && name != port_ && std::to_string(found) != port_) {
      read.other_ports += fmt::format("{}{} ({})", read.other_ports.empty() ? "" : ", ", name, found);
      continue;
    }
    number = found;
    break;
  }
  TM_TRY(const json::array* list, list_member(slice, "endpoints"));
  if (list == nullptr || list->empty() || number != 0) read.other_ports.clear();
  if (number == 0 || list == nullptr) return read;
  const bool v6 = text_member(&slice, "addressType") == "IPv6";
  for (const json::value& entry : *list) {
    const json::object* endpoint = entry.if_object();
    if (endpoint == nullptr) return corrupt("an endpoint is not an object");
    TM_TRY(const json::array* addresses, list_member(*endpoint, "addresses"));
    if (addresses == nullptr || addresses->empty()) continue;
    // Of several addresses clients may use the first alone.
    const json::string* address = addresses->front().if_string();
    if (address == nullptr) return corrupt("an address is not a string");
    const std::string_view host(*address);
    read.endpoints.push_back(
        {.address = v6 ? fmt::format("[{}]:{}", host, number) : fmt::format("{}:{}", host, number),
         .ready = condition(*endpoint, "ready", true) && !condition(*endpoint, "terminating", false),
         .instance = std::string(text_member(object_member(*endpoint, "targetRef"), "uid"))});
  }
  return read;
}

base::Result<void> EndpointSlices::replace(const json::value& list) {
  const json::object* object = list.if_object();
  if (object == nullptr) return corrupt("a list is not an object");
  const std::string_view version = text_member(object_member(*object, "metadata"), "resourceVersion");
  if (version.empty()) return corrupt("a list has no metadata.resourceVersion");
  std::map<std::string, Slice> slices;
  TM_TRY(const json::array* items, list_member(*object, "items"));
  if (items != nullptr) {
    for (const json::value& item : *items) {
      const json::object* slice = item.if_object();
      if (slice == nullptr) return corrupt("an item of a list is not an object");
      const std::string_view name = text_member(object_member(*slice, "metadata"), "name");
      if (name.empty()) return corrupt("an item of a list has no metadata.name");
      TM_TRY(Slice taken, read(*slice));
      slices.emplace(name, std::move(taken));
    }
  }
  slices_ = std::move(slices);
  resource_version_ = version;
  return {};
}

base::Result<EndpointSlices::Applied> EndpointSlices::apply(const json::value& event) {
  const json::object* outer = event.if_object();
  if (outer == nullptr) return corrupt("an event is not an object");
  const std::string_view type = text_member(outer, "type");
  const json::object* object = object_member(*outer, "object");
  if (object == nullptr) return corrupt("an event has no object");
  if (type == "ERROR") {
    if (says_expired(json::value(*object))) return Applied::expired;
    return base::Error(base::ErrorCode::unavailable,
                       fmt::format("the API server ended the watch: {}", text_member(object, "message")));
  }
  const json::object* metadata = object_member(*object, "metadata");
  const std::string_view version = text_member(metadata, "resourceVersion");
  if (version.empty()) return corrupt("an event has no metadata.resourceVersion");
  if (type == "BOOKMARK") {
    resource_version_ = version;
    return Applied::bookmark;
  }
  const std::string name(text_member(metadata, "name"));
  if (name.empty()) return corrupt("an event has no metadata.name");
  if (type == "ADDED" || type == "MODIFIED") {
    TM_TRY(Slice taken, read(*object));
    slices_[name] = std::move(taken);
  } else if (type == "DELETED") {
    slices_.erase(name);
  } else {
    return corrupt(fmt::format("unknown type of event '{}'", type));
  }
  resource_version_ = version;
  return Applied::changed;
}

std::string EndpointSlices::ports_instead() const {
  std::string others;
  for (const auto& [name, slice] : slices_) {
    if (!slice.endpoints.empty()) return {};
    if (others.empty()) others = slice.other_ports;
  }
  return others;
}

std::vector<Endpoint> EndpointSlices::endpoints() const {
  std::vector<Endpoint> all;
  for (const auto& [name, slice] : slices_)
    all.insert(all.end(), slice.endpoints.begin(), slice.endpoints.end());
  // A service of two address families has each pod in a slice of either: one server, asked over IPv4.
  std::set<std::string> over_v4;
  for (const Endpoint& endpoint : all)
    if (!is_v6(endpoint)) over_v4.insert(endpoint.instance);
  std::erase_if(all, [&](const Endpoint& endpoint) {
    return is_v6(endpoint) && !endpoint.instance.empty() && over_v4.contains(endpoint.instance);
  });
  // A pod that moves between slices stands in both for a moment: the set counts it once, and ready wins.
  BackendSet set;
  set.update("slices", std::move(all));
  return set.merged();
}

}  // namespace tidemill::route
