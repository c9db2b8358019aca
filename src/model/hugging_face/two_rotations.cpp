#include "model/hugging_face/two_rotations.hpp"

#include <string>
#include <string_view>

#include <fmt/format.h>

#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

// Older files call it "type", and LongRoPE "su".
Result<std::string> type_of_rotation(const JsonMembers& members) {
  TM_TRY(const std::string older, members.get_string_or("type", "default"));
  TM_TRY(const std::string type, members.get_string_or("rope_type", older));
  return type == "su" ? "longrope" : type;
}

// 8 and 8.0 are the same.
bool is_same(const base::json::value& a, const base::json::value& b) {
  if (a.is_number() && b.is_number()) return a.to_number<double>() == b.to_number<double>();
  if (!a.is_array() || !b.is_array()) return a == b;
  const auto& left = a.get_array();
  const auto& right = b.get_array();
  if (left.size() != right.size()) return false;
  for (size_t i = 0; i < left.size(); ++i) {
    if (!is_same(left[i], right[i])) return false;
  }
  return true;
}

std::string shown_member(const base::json::value* value) {
  return value == nullptr ? "absent" : printable(base::json::serialize(*value));
}

}  // namespace

Result<void> refuse_two_rotations(const JsonMembers& newer, const JsonMembers& older) {
  if (!newer.exists() || !older.exists()) return {};
  const auto contradiction = [&](std::string_view one, std::string_view this_way, std::string_view other,
                                 std::string_view that_way) {
    return newer.error(
        ErrorCode::unsupported,
        fmt::format("'{}' is {}, but '{}' is {}; where both objects are there, they have to say the same",
                    newer.name(one), this_way, older.name(other), that_way));
  };
  TM_TRY(const std::string newer_type, type_of_rotation(newer));
  TM_TRY(const std::string older_type, type_of_rotation(older));
  if (newer_type != older_type) {
    const auto member = [](const JsonMembers& members) {
      return members.find("type") != nullptr ? "type" : "rope_type";
    };
    return contradiction(member(newer), printable(newer_type), member(older), printable(older_type));
  }
  for (const auto& [key, value] : older.object()) {
    const std::string_view name = key;
    if (name == "type" || name == "rope_type" || value.is_null()) continue;
    const base::json::value* same = newer.find(name);
    if (same == nullptr || !is_same(*same, value)) {
      return contradiction(name, shown_member(same), name, shown_member(&value));
    }
  }
  return {};
}

}  // namespace tidemill::model
