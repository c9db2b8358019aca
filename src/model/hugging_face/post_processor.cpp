#include "model/hugging_face/post_processor.hpp"

namespace tidemill::model {

namespace json = base::json;

namespace {

const json::value* member_of(const json::value& value, std::string_view key) {
  return value.is_object() ? value.get_object().if_contains(key) : nullptr;
}

std::string_view text_member(const json::value& value, std::string_view key) {
  const json::value* found = member_of(value, key);
  return found != nullptr && found->is_string() ? std::string_view(found->get_string()) : std::string_view();
}

const json::array* list_member(const json::value& value, std::string_view key) {
  const json::value* found = member_of(value, key);
  return found == nullptr ? nullptr : found->if_array();
}

// Of a template's item; empty: it is a text's place.
std::string_view special_token(const json::value& item) {
  const json::value* special = member_of(item, "SpecialToken");
  return special == nullptr ? std::string_view() : text_member(*special, "id");
}

// BERT's and RoBERTa's own processors have the tokens as [name, id].
std::string_view named_token(const json::value& processor, std::string_view key) {
  const json::array* pair = list_member(processor, key);
  const bool named = pair != nullptr && !pair->empty() && pair->front().is_string();
  return named ? std::string_view(pair->front().get_string()) : std::string_view();
}

bool is_own_processor(const json::value& processor) {
  const std::string_view type = text_member(processor, "type");
  return type == "BertProcessing" || type == "RobertaProcessing";
}

}  // namespace

std::string_view token_around(const json::value* processor, bool before) {
  if (processor == nullptr) return {};
  if (const json::array* steps = list_member(*processor, "processors")) {
    for (const json::value& step : *steps) {
      if (const std::string_view token = token_around(&step, before); !token.empty()) return token;
    }
    return {};
  }
  if (is_own_processor(*processor)) return named_token(*processor, before ? "cls" : "sep");
  const json::array* single = list_member(*processor, "single");
  if (single == nullptr || single->empty()) return {};
  return special_token(before ? single->front() : single->back());
}

bool parts_pairs_twice(const json::value* processor) {
  if (processor == nullptr) return false;
  if (const json::array* steps = list_member(*processor, "processors")) {
    for (const json::value& step : *steps) {
      if (parts_pairs_twice(&step)) return true;
    }
    return false;
  }
  if (is_own_processor(*processor)) return text_member(*processor, "type") == "RobertaProcessing";
  const json::array* pair = list_member(*processor, "pair");
  if (pair == nullptr) return false;
  size_t texts = 0;
  size_t between = 0;
  for (const json::value& item : *pair) {
    if (special_token(item).empty()) {
      ++texts;
    } else if (texts == 1) {
      ++between;
    }
  }
  return between == 2;
}

}  // namespace tidemill::model
