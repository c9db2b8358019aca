#include "hub/model_name.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/utf8.hpp"

namespace tidemill::hub {

namespace {

constexpr std::string_view kPrefix = "hf:";
constexpr size_t kMostName = 96;  // characters of an organisation's or a repository's name

bool is_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  };
  // The hub has no names with "--" or "..", so that they can become parts of folders' names.
  return !name.empty() && name.size() <= kMostName && std::all_of(name.begin(), name.end(), allowed) &&
         name.find("--") == std::string_view::npos && name.find("..") == std::string_view::npos && name != ".";
}

bool is_revision(std::string_view revision) {
  const auto allowed = [](char c) { return static_cast<unsigned char>(c) > ' ' && c != '\x7f'; };
  // Git has no names with "..", nor with parts that begin with a dot: of a URL's path they would be steps.
  return !revision.empty() && revision.size() <= 200 && base::utf8::is_valid(revision) &&
         std::all_of(revision.begin(), revision.end(), allowed) && revision.find("..") == std::string_view::npos &&
         !revision.starts_with('.') && revision.find("/.") == std::string_view::npos;
}

}  // namespace

base::Result<ModelName> ModelName::parse(std::string_view text) {
  const auto bad = [text](std::string_view why) {
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("'{}' is no model of the hub: {}; it should look like hf:ORG/REPO, "
                                   "hf:ORG/REPO:Q4_K_M or hf:ORG/REPO@REVISION:FILE.gguf",
                                   base::utf8::printable(text, 200), why));
  };
  if (!is_one(text)) return bad("it does not begin with hf:");
  std::string_view rest = text.substr(kPrefix.size());
  ModelName name;
  // Neither repositories nor revisions have a colon.
  if (const size_t colon = rest.find(':'); colon != std::string_view::npos) {
    name.choice = rest.substr(colon + 1);
    rest = rest.substr(0, colon);
    if (name.choice.empty()) return bad("nothing follows the last colon");
  }
  if (const size_t at = rest.find('@'); at != std::string_view::npos) {
    name.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
    if (!is_revision(name.revision)) return bad("what follows the @ is no branch, tag or commit");
  }
  const size_t slash = rest.find('/');
  if (slash == std::string_view::npos) return bad("the organisation before the repository is missing");
  if (!is_name(rest.substr(0, slash)) || !is_name(rest.substr(slash + 1))) {
    return bad("names of organisations and repositories are letters, digits, '-', '_' and '.'");
  }
  name.repository = rest;
  return name;
}

std::string ModelName::text() const {
  std::string text = std::string(kPrefix) + repository;
  if (revision != "main") text += "@" + revision;
  if (!choice.empty()) text += ":" + choice;
  return text;
}

}  // namespace tidemill::hub
