// What a backend says of a model that it serves.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::gateway {

struct ModelCard {
  std::string id{};
  std::optional<int64_t> created{};        // seconds since the Unix epoch
  std::optional<int64_t> max_model_len{};  // tokens of a context, in vLLM's words

  // What holds of both, where several serve the model: since when there is one, and what fits wherever it goes.
  void join(const ModelCard& other) {
    created = least(created, other.created);
    max_model_len = least(max_model_len, other.max_model_len);
  }

 private:
  static std::optional<int64_t> least(const std::optional<int64_t>& a, const std::optional<int64_t>& b) {
    return a && b ? std::min(*a, *b) : a ? a : b;
  }
};

// Of a backend's answer to GET /v1/models: some 20,000 models, which it takes 60 ms to read when they have changed.
inline constexpr size_t max_list_bytes = size_t{2} << 20;

// The models of a backend's answer to GET /v1/models, in order of their ids and each once. Errors: corrupt, where it is
// no list of models, or is too long: an object whose `data` is an array, of which one entry at least has an `id` unless
// it is empty.
base::Result<std::vector<ModelCard>> parse_models(std::string_view body);

// As the gateway lists it. `created` is 0 where nobody says it: the dialect wants a number.
base::json::object to_json(const ModelCard& card);

}  // namespace tidemill::gateway
