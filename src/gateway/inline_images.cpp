#include "gateway/inline_images.hpp"

#include "gateway/json_members.hpp"

namespace tidemill::gateway {

namespace {

constexpr std::string_view image_url_begins = "\"data:image";
constexpr std::string_view source_key = "\"source\"";

// `text` without the blanks at its end.
std::string_view without_blanks_behind(std::string_view text) {
  return text.substr(0, text.find_last_not_of(" \t\r\n") + 1);  // npos + 1 is 0
}

// Whether what comes behind `before` is the value of a member that holds an image's address.
bool is_address(std::string_view before) {
  before = without_blanks_behind(before);
  if (!before.ends_with(':')) return false;
  before.remove_suffix(1);
  before = without_blanks_behind(before);
  return before.ends_with("\"url\"") || before.ends_with("\"image_url\"");
}

void add_data_urls(std::string_view prompt, InlineImages& images) {
  size_t at = 0;
  while ((at = prompt.find(image_url_begins, at)) != std::string_view::npos) {
    const size_t end = prompt.find('"', at + 1);
    if (end == std::string_view::npos) return;
    const std::string_view url = prompt.substr(at + 1, end - at - 1);
    const bool holds_data = url.find(";base64,") != std::string_view::npos && url.find(' ') == std::string_view::npos;
    if (holds_data && is_address(prompt.substr(0, at))) {
      ++images.count;
      images.bytes += url.size();
    }
    at = end + 1;
  }
}

struct Source {
  size_t bytes = 0;  // of its data; 0: it is no image's
  size_t read = 0;   // how far it was looked at
};

// The one with which `object` begins.
Source read_source(std::string_view object) {
  size_t data = 0;
  bool as_base64 = false;
  bool of_image = false;
  JsonMembers members(object);
  while (const auto member = members.next()) {
    if (member->key == "type") as_base64 = member->value == "\"base64\"";
    if (member->key == "media_type") of_image = member->value.starts_with("\"image");
    if (member->key == "data" && member->value.starts_with('"')) data = member->value.size() - 2;
  }
  return {.bytes = as_base64 && of_image ? data : 0, .read = members.stopped_at()};
}

void add_sources(std::string_view prompt, InlineImages& images) {
  size_t at = 0;
  size_t read = 0;
  // Sources within sources are read again with each: no request has those, but to keep the gateway busy.
  while (read <= 2 * prompt.size() && (at = prompt.find(source_key, at)) != std::string_view::npos) {
    const bool escaped = at > 0 && prompt[at - 1] == '\\';
    at += source_key.size();
    const size_t colon = prompt.find_first_not_of(" \t\r\n", at);
    if (escaped || colon == std::string_view::npos || prompt[colon] != ':') continue;
    const size_t begin = prompt.find_first_not_of(" \t\r\n", colon + 1);
    if (begin == std::string_view::npos) return;
    const Source source = read_source(prompt.substr(begin));
    read += source.read;
    if (source.bytes == 0) continue;
    ++images.count;
    images.bytes += source.bytes;
    at = begin + source.read;
  }
}

}  // namespace

InlineImages inline_images(std::string_view prompt) {
  InlineImages images;
  if (prompt.find("base64") == std::string_view::npos) return images;
  add_data_urls(prompt, images);
  add_sources(prompt, images);
  return images;
}

}  // namespace tidemill::gateway
