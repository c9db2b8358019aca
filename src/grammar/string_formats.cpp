#include "grammar/string_formats.hpp"

#include <algorithm>
#include <string>
#include <unordered_map>

namespace tidemill::grammar {
namespace {

// RFC 3339, section 5.6, with the days that the months have. Years from 0001; no leap seconds; upper-case T and Z.
const std::string& full_date() {
  static const std::string pattern = [] {
    const std::string year = "(?:[1-9][0-9]{3}|0[0-9]{2}[1-9]|0[0-9][1-9]0|0[1-9]00)";
    const std::string leap_ending = "(?:0[48]|[2468][048]|[13579][26])";
    const std::string leap_year = "(?:[0-9]{2}" + leap_ending + "|" + leap_ending + "00)";
    return "(?:" + year +
           "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"
           "02-(?:0[1-9]|1[0-9]|2[0-8]))|" +
           leap_year + "-02-29)";
  }();
  return pattern;
}

const std::string full_time =
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+\\-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

// RFC 3339, appendix A; up to nine digits each.
std::string duration() {
  const std::string n = "[0-9]{1,9}";
  const std::string time = "T(?:" + n + "H(?:" + n + "M(?:" + n + "S)?)?|" + n + "M(?:" + n + "S)?|" + n + "S)";
  const std::string date = "(?:" + n + "Y(?:" + n + "M(?:" + n + "D)?)?|" + n + "M(?:" + n + "D)?|" + n + "D)";
  return "P(?:" + date + "(?:" + time + ")?|" + time + "|" + n + "W)";
}

// A part of a host's name of up to `length` characters, which is at least 1.
std::string label(size_t length) {
  const std::string end = "[A-Za-z0-9]";
  return length == 1 ? end : end + "(?:[A-Za-z0-9\\-]{0," + std::to_string(length - 2) + "}" + end + ")?";
}

// RFC 1123 within the 253 characters of a whole name: up to four labels of 62 characters, or up to eight of 30.
std::string hostname() {
  return "(?:" + label(62) + "(?:\\." + label(62) + "){0,3}|" + label(30) + "(?:\\." + label(30) + "){4,7})";
}

// RFC 5321's dot-atoms, and a domain name of at least two labels.
std::string email() {
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-]{1,64}";
  return atom + "(?:\\." + atom + "){0,9}@(?:" + label(62) + "\\.){1,7}" + label(62);
}

const std::string ipv4_address =
    "(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";

// RFC 4291, section 2.2: eight groups, fewer with one "::", and none in dotted form.
std::string ipv6() {
  const std::string group = "[0-9A-Fa-f]{1,4}";
  std::string out = "(?:" + group + ":){7}" + group;
  for (int before = 0; before <= 7; ++before) {
    // `before` groups, "::", and at most 7 - before groups.
    out += "|";
    if (before == 1) out += group;
    if (before > 1) out.append(group).append("(?::").append(group).append("){" + std::to_string(before - 1) + "}");
    out += "::";
    const int after = 7 - before;
    if (after == 1) out.append("(?:").append(group).append(")?");
    if (after > 1) {
      out.append("(?:").append(group).append("(?::").append(group).append("){0," + std::to_string(after - 1) + "})?");
    }
  }
  return "(?:" + out + ")";
}

// RFC 3986 with a scheme: "scheme://host:port/path?query#fragment" with a registered name or an IPv4 address, or
// "scheme:path" without an authority. No user, no IPv6 address.
std::string uri() {
  const std::string character = "(?:[A-Za-z0-9\\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})";
  const std::string more = "(?:[A-Za-z0-9\\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*";
  return "[A-Za-z][A-Za-z0-9+.\\-]{0,31}:(?://[A-Za-z0-9](?:[A-Za-z0-9.\\-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?(?:/" +
         character + "*)*|" + character + "+(?:/" + character + "*)*)(?:\\?" + more + ")?(?:#" + more + ")?";
}

// Letters and digits, of which any two may have a dot or a hyphen between them: names of up to 2 * pairs + 1
// characters, with labels no longer than 63.
std::string name_of_pairs(size_t pairs) {
  return "[A-Za-z0-9](?:[.\\-]?[A-Za-z0-9]){0," + std::to_string(std::min<size_t>(pairs, 31)) + "}";
}

std::string hostname_within(size_t most) {
  if (most == 0) return "";
  const std::string name = name_of_pairs((most - 1) / 2);
  const size_t more = most < 63 ? 0 : std::min<size_t>((most - 63) / 64, 2);
  return name + "(?:\\." + name + "){0," + std::to_string(more) + "}";
}

std::string email_within(size_t most) {
  if (most < 5) return "";
  const std::string character = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-]";
  const size_t local = std::min<size_t>((most / 2 - 2) / 2, 31);   // pairs
  const size_t name = ((most - (2 * local + 1) - 2) / 2 - 1) / 2;  // pairs, on each side of a dot
  return character + "(?:\\.?" + character + "){0," + std::to_string(local) + "}@" + name_of_pairs(name) + "\\." +
         name_of_pairs(name);
}

// "scheme://host:port/path?query" without percent-encoding; http or https where there is little room.
std::string uri_within(size_t most) {
  if (most < 9) return "";
  const bool little = most < 64;
  const size_t scheme = little ? 8 : 13;  // with "://"
  const size_t host = little ? std::max<size_t>((most - scheme) / 2, 1) : std::min<size_t>((most - scheme) / 3, 62);
  const size_t port = little ? 0 : 6;
  const size_t rest = most - scheme - host - port;
  const std::string ends = "[A-Za-z0-9]";
  std::string out = little ? "https?://" : "[A-Za-z][A-Za-z0-9+.\\-]{0,9}://";
  out += host == 1 ? ends : ends + "(?:[A-Za-z0-9.\\-]{0," + std::to_string(host - 2) + "}" + ends + ")?";
  if (!little) out += "(?::[0-9]{1,5})?";
  if (rest > 0) out += "(?:[/?][A-Za-z0-9\\-._~!$&'()*+,;=:@/?]{0," + std::to_string(rest - 1) + "})?";
  return out;
}

}  // namespace

std::string format_pattern_within(std::string_view format, size_t most) {
  std::string pattern;
  if (format == "hostname") pattern = hostname_within(most);
  if (format == "email") pattern = email_within(most);
  if (format == "uri") pattern = uri_within(most);
  return pattern.empty() ? pattern : "^" + pattern + "$";
}

std::string_view format_pattern(std::string_view format) {
  static const std::unordered_map<std::string_view, std::string> patterns = [] {
    const auto whole = [](const std::string& pattern) { return "^" + pattern + "$"; };
    return std::unordered_map<std::string_view, std::string>{
        {"date", whole(full_date())},
        {"time", whole(full_time)},
        {"date-time", whole(full_date() + "T" + full_time)},
        {"duration", whole(duration())},
        {"email", whole(email())},
        {"hostname", whole(hostname())},
        {"ipv4", whole(ipv4_address)},
        {"ipv6", whole(ipv6())},
        {"uuid", "^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"},
        {"uri", whole(uri())},
    };
  }();
  const auto found = patterns.find(format);
  return found == patterns.end() ? std::string_view() : found->second;
}

}  // namespace tidemill::grammar
