#include "model/hugging_face/folder_files.hpp"

#include <utility>

#include <fmt/format.h>

#include "base/json.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

std::string text_of_module(const base::json::value& item, std::string_view key) {
  const base::json::object* object = item.if_object();
  const base::json::value* value = object == nullptr ? nullptr : object->if_contains(key);
  return value != nullptr && value->is_string() ? std::string(std::string_view(value->get_string())) : std::string();
}

}  // namespace

Result<std::optional<std::string>> pooling_file(std::string_view modules, const std::filesystem::path& path) {
  const auto error = [&](ErrorCode code, std::string_view message) {
    return Error(code, fmt::format("{}: {}", path.string(), message));
  };
  auto parsed = base::parse_json(modules);
  if (!parsed) return error(ErrorCode::corrupt, parsed.error().message());
  if (!parsed->is_array()) return error(ErrorCode::corrupt, "the file is no JSON list");
  std::optional<std::string> pooling;
  for (const base::json::value& item : parsed->get_array()) {
    const std::string type = text_of_module(item, "type");
    const std::string_view name = std::string_view(type).substr(type.rfind('.') + 1);
    if (name == "Transformer" || name == "Normalize") continue;
    if (name != "Pooling" || pooling) {
      return error(ErrorCode::unsupported,
                   fmt::format("a module is of the type '{}'; supported are Transformer, one Pooling, and Normalize",
                               printable(type)));
    }
    const std::string place = text_of_module(item, "path");
    if (place.empty() || place == "." || place == ".." || std::filesystem::path(place).filename() != place) {
      return error(ErrorCode::corrupt, fmt::format("the module for pooling lies in '{}'; expected the name of a folder "
                                                   "beside it",
                                                   printable(place)));
    }
    pooling = place + "/config.json";
  }
  return pooling;
}

}  // namespace tidemill::model
