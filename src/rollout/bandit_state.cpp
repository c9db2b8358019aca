#include <algorithm>
#include <utility>

#include <fmt/core.h>

#include "rollout/bandit.hpp"

namespace tidemill::rollout {

void BanditState::merge(const BanditState& other) {
  for (const Model& theirs : other.models) {
    const auto ours = std::ranges::find(models, theirs.name, &Model::name);
    if (ours == models.end()) {
      models.push_back(theirs);
    } else {
      ours->quality.merge(theirs.quality);
      ours->spending.merge(theirs.spending);
    }
  }
}

base::json::value BanditState::to_json() const {
  base::json::array list;
  for (const Model& model : models)
    list.push_back(
        {{"name", model.name}, {"quality", model.quality.to_json()}, {"spending", model.spending.to_json()}});
  return {{"version", kFeatureVersion}, {"models", std::move(list)}};
}

base::Result<BanditState> BanditState::from_json(const base::json::value& value) {
  const auto invalid = [](std::string message) {
    return base::Error(base::ErrorCode::invalid_argument, "a bandit's state " + std::move(message));
  };
  const auto* object = value.if_object();
  const auto* version = object != nullptr ? object->if_contains("version") : nullptr;
  if (version == nullptr || !version->is_int64()) return invalid("is an object with a 'version'");
  if (version->get_int64() != kFeatureVersion)
    return base::Error(base::ErrorCode::unsupported,
                       fmt::format("a bandit's state has version {}, and this program's is {}: its features mean "
                                   "something else; begin anew",
                                   version->get_int64(), kFeatureVersion));
  const auto* list = object->if_contains("models");
  if (list == nullptr || !list->is_array()) return invalid("wants a list 'models'");
  BanditState state;
  for (const base::json::value& entry : list->get_array()) {
    const auto* model = entry.if_object();
    const auto* name = model != nullptr ? model->if_contains("name") : nullptr;
    const auto* quality = model != nullptr ? model->if_contains("quality") : nullptr;
    const auto* spending = model != nullptr ? model->if_contains("spending") : nullptr;
    if (name == nullptr || !name->is_string() || quality == nullptr || spending == nullptr)
      return invalid("has a model without 'name', 'quality' or 'spending'");
    TM_TRY(RidgeSums quality_sums, RidgeSums::from_json(*quality, 1));
    TM_TRY(RidgeSums spending_sums, RidgeSums::from_json(*spending, 2));
    state.models.push_back({.name = std::string(name->get_string()),
                            .quality = std::move(quality_sums),
                            .spending = std::move(spending_sums)});
  }
  return state;
}

}  // namespace tidemill::rollout
