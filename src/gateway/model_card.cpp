#include "gateway/model_card.hpp"

#include <algorithm>

namespace tidemill::gateway {

namespace json = base::json;

namespace {

// A count that is one; what else a backend may say is none.
std::optional<int64_t> count_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_int64() || value->get_int64() <= 0) return std::nullopt;
  return value->get_int64();
}

base::Error no_list(const char* why) {
  return {base::ErrorCode::corrupt, why};
}

}  // namespace

base::Result<std::vector<ModelCard>> parse_models(std::string_view body) {
  std::vector<ModelCard> cards;
  if (body.size() > max_list_bytes) return no_list("it has more than 2 MiB");
  const auto parsed = base::parse_json(body);
  const json::object* list = parsed ? parsed->if_object() : nullptr;
  const json::value* data = list == nullptr ? nullptr : list->if_contains("data");
  if (data == nullptr || !data->is_array()) return no_list("it is no JSON object with a list 'data'");
  for (const json::value& item : data->get_array()) {
    const json::object* object = item.if_object();
    const json::value* id = object == nullptr ? nullptr : object->if_contains("id");
    if (id == nullptr || !id->is_string()) continue;
    ModelCard& card = cards.emplace_back();
    card.id = id->get_string();
    card.created = count_of(*object, "created");
    card.max_model_len = count_of(*object, "max_model_len");
  }
  if (cards.empty() && !data->get_array().empty()) return no_list("no entry of its list 'data' has an 'id'");
  std::ranges::stable_sort(cards, {}, &ModelCard::id);
  const auto same = [](const ModelCard& a, const ModelCard& b) { return a.id == b.id; };
  cards.erase(std::unique(cards.begin(), cards.end(), same), cards.end());
  return cards;
}

json::object to_json(const ModelCard& card) {
  json::object shown{
      {"id", card.id}, {"object", "model"}, {"created", card.created.value_or(0)}, {"owned_by", "tidemill"}};
  if (card.max_model_len) shown["max_model_len"] = *card.max_model_len;
  return shown;
}

}  // namespace tidemill::gateway
