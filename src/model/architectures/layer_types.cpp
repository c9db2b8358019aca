#include "model/architectures/layer_types.hpp"

#include <string_view>

#include <fmt/format.h>

#include "model/hugging_face/json_file.hpp"

namespace tidemill::model {

base::Result<void> check_layer_types(const JsonMembers& config, int64_t period) {
  const base::json::value* types = config.find("layer_types");
  if (types == nullptr) return {};
  if (!types->is_array()) return config.wrong("layer_types", "a list of names");
  int64_t layer = 0;
  for (const base::json::value& type : types->as_array()) {
    const std::string_view expected = layer % period == period - 1 ? "full_attention" : "sliding_attention";
    if (!type.is_string() || std::string_view(type.as_string()) != expected) {
      return config.error(base::ErrorCode::unsupported,
                          fmt::format("'{}' has another type than {} for layer {}; one of every {} sees everything",
                                      config.name("layer_types"), expected, layer, period));
    }
    ++layer;
  }
  return {};
}

}  // namespace tidemill::model
