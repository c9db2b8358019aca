#include "grammar/named_formats.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "grammar/emoji_characters.hpp"
#include "grammar/string_formats.hpp"

namespace tidemill::grammar {
namespace {

const std::string base64url_digit = "[A-Za-z0-9_\\-]";

// Without its anchors.
std::string form_of(std::string_view format) {
  const std::string_view pattern = format_pattern(format);
  return "(?:" + std::string(pattern.substr(1, pattern.size() - 2)) + ")";
}

std::string hexadecimal_pairs(std::string_view digits) {
  return fmt::format("(?:[{0}]{{2}}:){{5}}[{0}]{{2}}", digits);
}

// RFC 4648, section 5, without padding, whose unused bits are zero; `count` is of its groups of four.
std::string base64url_pattern(std::string_view count) {
  return fmt::format("(?:{0}{{4}}){1}(?:{0}[AQgw]|{0}{{2}}[AEIMQUYcgkosw048])?", base64url_digit, count);
}

// RFC 7519 as a JWS of RFC 7515: three parts of base64url; "eyJ" is what `{"` begins with. `count` is of groups of
// four.
std::string jwt_pattern(std::string_view count) {
  const std::string object = fmt::format("eyJ{0}(?:{0}{{4}}){1}(?:{0}{{2,3}})?", base64url_digit, count);
  return fmt::format("{0}\\.{0}\\.{1}{{2,4}}(?:{1}{{4}}){2}", object, base64url_digit, count);
}

std::string jwt_within(size_t most) {
  if (most < 14) return "";
  const std::string object = fmt::format("eyJ{0}(?:{0}{{4}}){{0,{1}}}", base64url_digit, (most - 14) / 12);
  return fmt::format("{0}\\.{0}\\.{1}{{4}}(?:{1}{{4}}){{0,{2}}}", object, base64url_digit, (most - 14) / 12);
}

// Pictographs with a variation or a colour of skin, joined or not; flags; keycaps.
std::string emoji_pattern() {
  const std::string one = "[" + emoji_pictographs() + "](?:\\uFE0F|[\\u{1F3FB}-\\u{1F3FF}])?";
  return fmt::format("(?:{0}(?:\\u200D{0})*|[\\u{{1F1E6}}-\\u{{1F1FF}}]{{2}}|[0-9#*]\\uFE0F\\u20E3)+", one);
}

std::string emoji_within(size_t most) {
  if (most == 0) return "";
  const std::string one = "[" + emoji_pictographs() + "]";
  if (most < 3) return fmt::format("{}{{1,{}}}", one, most);
  return fmt::format("(?:{}\\uFE0F?|[\\u{{1F1E6}}-\\u{{1F1FF}}]{{2}}|[0-9#*]\\uFE0F\\u20E3){{1,{}}}", one, most / 3);
}

const std::string url_characters = "[A-Za-z0-9\\-._~!$&'()*+,;=:@/?#]";

// Of the web, whose host has a top-level domain of letters; the port has two digits or more.
std::string url_pattern() {
  return "https?://(?:[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20})?\\.){1,5}[A-Za-z]{2,24}(?::[1-9][0-9]{1,4})?(?:/" +
         url_characters + "*)?";
}

std::string url_within(size_t most) {
  constexpr size_t least = 12;  // "https://a.bc"
  if (most < least) return "";
  const size_t pairs = std::min<size_t>((most - least) / 4, 20);
  const size_t path = most - least - 2 * pairs;
  std::string out = fmt::format("https?://[A-Za-z0-9](?:-?[A-Za-z0-9]){{0,{}}}\\.[A-Za-z]{{2}}", pairs);
  if (path > 0) out += fmt::format("(?:/{}{{0,{}}})?", url_characters, path - 1);
  return out;
}

// A network's address has nothing but zeros behind its prefix.
std::string ipv4_network() {
  const std::string byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
  return fmt::format("(?:{1}/32|{0}\\.{0}\\.{0}\\.0/24|{0}\\.{0}\\.0\\.0/16|{0}\\.0\\.0\\.0/8|0\\.0\\.0\\.0/0)", byte,
                     form_of("ipv4"));
}

std::string ipv6_network() {
  const std::string group = "[0-9A-Fa-f]{1,4}:";
  return fmt::format("(?:{1}/128|(?:{0}){{4}}:/64|(?:{0}){{3}}:/48|(?:{0}){{2}}:/32|{0}:/16|::/0)", group,
                     form_of("ipv6"));
}

const std::map<std::string, std::string, std::less<>>& named_patterns() {
  static const auto all = [] {
    const std::string cidrv4 = form_of("ipv4") + "/(?:3[0-2]|[12]?[0-9])";
    const std::string cidrv6 = form_of("ipv6") + "/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])";
    std::map<std::string, std::string, std::less<>> parts{
        {"base64url", base64url_pattern("*")},
        {"cidrv4", cidrv4},
        {"cidrv6", cidrv6},
        {"cuid", "c[0-9a-z]{24}"},
        {"cuid2", "[a-z][0-9a-z]{23}"},
        {"e164", "\\+[1-9][0-9]{6,14}"},
        {"emoji", emoji_pattern()},
        {"guid", form_of("uuid")},
        {"hex", "[0-9A-Fa-f]*"},
        {"ipv4interface", cidrv4},
        {"ipv4network", ipv4_network()},
        {"ipv6interface", cidrv6},
        {"ipv6network", ipv6_network()},
        {"ipvanyaddress", "(?:" + form_of("ipv4") + "|" + form_of("ipv6") + ")"},
        {"ipvanyinterface", "(?:" + cidrv4 + "|" + cidrv6 + ")"},
        {"ipvanynetwork", "(?:" + ipv4_network() + "|" + ipv6_network() + ")"},
        {"jwt", jwt_pattern("*")},
        // The greatest begins with an "a", whose order is behind that of upper-case letters.
        {"ksuid", "[0-9A-Z][0-9A-Za-z]{26}"},
        {"mac", "(?:" + hexadecimal_pairs("0-9A-F") + "|" + hexadecimal_pairs("0-9a-f") + ")"},
        {"nanoid", "[A-Za-z0-9_\\-]{21}"},
        {"ulid", "[0-7][0-9A-HJKMNP-TV-Z]{25}"},
        {"url", url_pattern()},
        {"xid", "[0-9a-v]{20}"},
    };
    for (auto& [name, pattern] : parts)
      pattern.insert(0, "^").append("$");
    return parts;
  }();
  return all;
}

}  // namespace

std::string_view named_format_pattern(std::string_view format) {
  const auto found = named_patterns().find(format);
  return found == named_patterns().end() ? std::string_view() : found->second;
}

std::string named_format_pattern_within(std::string_view format, size_t most) {
  std::string pattern;
  if (format == "base64url" && most >= 4) pattern = base64url_pattern(fmt::format("{{0,{}}}", most / 4 - 1));
  if (format == "emoji") pattern = emoji_within(most);
  if (format == "jwt") pattern = jwt_within(most);
  if (format == "url") pattern = url_within(most);
  return pattern.empty() ? pattern : "^" + pattern + "$";
}

std::vector<std::string_view> named_formats() {
  std::vector<std::string_view> names;
  for (const auto& [name, pattern] : named_patterns())
    names.push_back(name);
  return names;
}

}  // namespace tidemill::grammar
