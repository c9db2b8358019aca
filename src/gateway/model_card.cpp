#include "gateway/model_card.hpp"

namespace tidemill::gateway {

namespace json = base::json;

namespace {

// A count that is one; what else a backend may say is none.
std::optional<int64_t> count_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_int64() || value->get_int64() <= 0) return std::nullopt;
  return value->get_int64();
}

}  // namespace

std::vector<ModelCard> parse_models(std::string_view body) {
  std::vector<ModelCard> cards;
  const auto parsed = base::parse_json(body);
  const json::object* list = parsed ? parsed->if_object() : nullptr;
  const json::value* data = list == nullptr ? nullptr : list->if_contains("data");
  if (data == nullptr || !data->is_array()) return cards;
  for (const json::value& item : data->get_array()) {
    const json::object* object = item.if_object();
    const json::value* id = object == nullptr ? nullptr : object->if_contains("id");
    if (id == nullptr || !id->is_string()) continue;
    ModelCard& card = cards.emplace_back();
    card.id = id->get_string();
    card.created = count_of(*object, "created");
    card.max_model_len = count_of(*object, "max_model_len");
  }
  return cards;
}

json::object to_json(const ModelCard& card) {
  json::object shown{
      {"id", card.id}, {"object", "model"}, {"created", card.created.value_or(0)}, {"owned_by", "tidemill"}};
  if (card.max_model_len) shown["max_model_len"] = *card.max_model_len;
  return shown;
}

}  // namespace tidemill::gateway
