#include "gateway/session_key.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include <fmt/core.h>

#include "gateway/json_members.hpp"
#include "rollout/chance.hpp"

namespace tidemill::gateway {

namespace {

using Kind = SessionSource::Kind;

constexpr std::string_view header_prefix = "header:";
constexpr std::array<std::pair<std::string_view, Kind>, 4> words = {{{"conversation", Kind::conversation},
                                                                     {"prompt_cache_key", Kind::prompt_cache_key},
                                                                     {"safety_identifier", Kind::safety_identifier},
                                                                     {"user", Kind::user}}};
// Keys are kept with each turn of a conversation: what is longer stands there by its hash.
constexpr size_t longest_key = 256;

// The text of `value`, or of its member `key` if it is an object; empty for anything else.
std::string text_or_member(std::string_view value, std::string_view key) {
  if (!value.starts_with('{')) return json_text(value).value_or("");
  JsonMembers members(value);
  while (const auto member = members.next()) {
    if (member->key == key) return json_text(member->value).value_or("");
  }
  return {};
}

std::string said_in(const SessionSource& source, const wire::HttpRequest& request, const RequestOutline& outline) {
  switch (source.kind) {
    case Kind::header:
      return std::string(request.headers.find(source.header).value_or(""));
    case Kind::conversation:
      return text_or_member(outline.conversation, "id");
    case Kind::prompt_cache_key:
      return json_text(outline.prompt_cache_key).value_or("");
    case Kind::safety_identifier:
      return json_text(outline.safety_identifier).value_or("");
    case Kind::user: {
      std::string user = json_text(outline.user).value_or("");
      if (user.empty() && outline.metadata.starts_with('{')) user = text_or_member(outline.metadata, "user_id");
      return user;
    }
  }
  return {};
}

}  // namespace

base::Result<SessionSource> parse_session_source(std::string_view text) {
  if (text.starts_with(header_prefix)) {
    const std::string_view name = text.substr(header_prefix.size());
    if (!name.empty() && name.find_first_of(": \t\r\n") == std::string_view::npos)
      return SessionSource{.kind = Kind::header, .header = std::string(name)};
  }
  const auto word = std::ranges::find(words, text, &std::pair<std::string_view, Kind>::first);
  if (word != words.end()) return SessionSource{.kind = word->second};
  return base::Error(base::ErrorCode::invalid_argument,
                     fmt::format("'{}' names no session; write \"header:NAME\", \"conversation\", "
                                 "\"prompt_cache_key\", \"safety_identifier\" or \"user\"",
                                 text));
}

std::string session_key(const std::vector<SessionSource>& sources, std::string_view tenant,
                        const wire::HttpRequest& request, const RequestOutline& outline,
                        std::string_view conversation) {
  for (const SessionSource& source : sources) {
    // Earlier turns have their key as it is here.
    if (source.kind == Kind::conversation && !conversation.empty()) return std::string(conversation);
    const std::string said = said_in(source, request, outline);
    if (said.empty()) continue;
    std::string key = fmt::format("{}\n{}\n{}", tenant, static_cast<int>(source.kind), said);
    if (key.size() <= longest_key) return key;
    return fmt::format("{}\n{:016x}{:016x}", static_cast<int>(source.kind), rollout::unit_of("session", key),
                       rollout::unit_of("and", key));
  }
  return {};
}

}  // namespace tidemill::gateway
