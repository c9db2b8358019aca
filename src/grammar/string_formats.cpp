#include "grammar/string_formats.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "grammar/named_formats.hpp"

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

// Letters past ASCII that RFC 5892 lets stand in any label, without the scripts that are written to the left: of Latin,
// Greek and Cyrillic the small ones, kana, Hangul, Han; for use in a class.
const std::string domain_letters =
    "\\u00DF-\\u00F6\\u00F8-\\u00FF\\u03B1-\\u03C9\\u0430-\\u045F\\u3041-\\u3096\\u30A1-\\u30FA\\u4E00-\\u9FA5"
    "\\uAC00-\\uD7A3";

// RFC 5890: up to four labels, of ASCII without doubled hyphens (which are reserved), or of up to ten characters, so
// that as an A-label they have room.
std::string idn_hostname(std::string_view count) {
  const std::string part = "(?:[A-Za-z0-9](?:-?[A-Za-z0-9]){0,30}|[a-z0-9" + domain_letters + "]{1,10})";
  return fmt::format("{0}(?:\\.{0}){1}", part, count);
}

// RFC 6531's dot-atoms of ASCII, or up to sixteen letters and digits of any of the alphabets above.
std::string idn_email() {
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\-]{1,64}";
  return fmt::format("(?:{0}(?:\\.{0}){{0,9}}|[A-Za-z0-9{1}]{{1,16}})@{2}", atom, domain_letters,
                     idn_hostname("{1,3}"));
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

// Characters past ASCII that RFC 3987 allows in IRIs, for use in a class; without the private ones, which only queries
// may have, and those that set a direction of writing, which it forbids.
std::string iri_characters() {
  std::string out = "\\u00A0-\\u200D\\u2010-\\u2029\\u202F-\\uD7FF\\uF900-\\uFDCF\\uFDF0-\\uFFEF";
  for (char32_t plane = 1; plane <= 14; ++plane) {
    out += fmt::format("\\u{{{:X}}}-\\u{{{:X}}}", (plane << 16U) + (plane == 14 ? 0x1000 : 0), (plane << 16U) + 0xFFFD);
  }
  return out;
}

// The parts of RFC 3986's references, and with more letters of RFC 3987's. Hosts are registered names or IPv4
// addresses; there are no users and no IPv6 addresses.
class References {
 public:
  explicit References(std::string letters = "") : letters_(std::move(letters)) {}

  // "scheme://host:port/path?query#fragment", or "scheme:path" without an authority.
  std::string absolute() const {
    return "[A-Za-z][A-Za-z0-9+.\\-]{0,31}:(?:" + authority() + "(?:/" + any() + "*)*|" + any() + "+(?:/" + any() +
           "*)*)" + query_and_fragment();
  }
  // The same without a scheme: what begins with "//", "/" or a name without a colon, or nothing.
  std::string relative() const {
    const std::string first = character("");
    return "(?:" + authority() + "(?:/" + any() + "*)*|/(?:" + any() + "+(?:/" + any() + "*)*)?|" + first + "+(?:/" +
           any() + "*)*)?" + query_and_fragment();
  }
  // Simpler ones of at most so many characters. The first needs room for "http://a".
  std::string absolute_within(size_t most) const {
    const bool little = most < 64;
    const size_t scheme = little ? 8 : 13;  // with "://"
    const size_t host = little ? std::max<size_t>((most - scheme) / 2, 1) : std::min<size_t>((most - scheme) / 3, 62);
    const size_t port = little ? 0 : 6;
    const size_t rest = most - scheme - host - port;
    std::string out = little ? "https?://" : "[A-Za-z][A-Za-z0-9+.\\-]{0,9}://";
    out += host == 1 ? ends() : ends() + inside(host - 2) + ends() + ")?";
    if (!little) out += "(?::[0-9]{1,5})?";
    if (rest > 0) out += fmt::format("(?:[/?]{}{{0,{}}})?", plain(":@/?"), rest - 1);
    return out;
  }
  std::string relative_within(size_t most) const {
    const size_t path = (most + 1) / 2;
    std::string out = fmt::format("{}{{0,{}}}", plain("/"), path);
    if (most > path) out += fmt::format("(?:[?#]{}{{0,{}}})?", plain(":@/?"), most - path - 1);
    return out;
  }

 private:
  std::string plain(std::string_view more) const {
    return "[A-Za-z0-9\\-._~!$&'()*+,;=" + std::string(more) + letters_ + "]";
  }
  std::string character(std::string_view more) const {
    return "(?:" + plain("@" + std::string(more)) + "|%[0-9A-Fa-f]{2})";
  }
  std::string any() const { return character(":"); }
  std::string ends() const { return "[A-Za-z0-9" + letters_ + "]"; }
  std::string inside(size_t most) const { return fmt::format("(?:[A-Za-z0-9.\\-{}]{{0,{}}}", letters_, most); }
  std::string authority() const { return "//" + ends() + inside(251) + ends() + ")?(?::[0-9]{1,5})?"; }
  std::string query_and_fragment() const {
    const std::string more = character(":/?");
    return "(?:\\?" + more + "*)?(?:#" + more + "*)?";
  }

  std::string letters_;
};

// RFC 6901.
const std::string json_pointer = "(?:/(?:[^~/]|~[01])*)*";

// Characters of ECMA-262's regular expressions (with the u flag) that stand for themselves outside of a class, and what
// has a backslash before it inside and outside of one.
const std::string regex_character = "[^\\u0000-\\u001F\\u007F\\u2028\\u2029\\^$\\\\.*+?()\\[\\]{}|]";
const std::string regex_escape =
    R"(\\(?:[dDwWsStnrfv\^$\\.*+?()\[\]{}|/]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[pP]\{(?:L[lu]?|Nd?|P|S|Z)\}))";

// A class, whose ranges are of small letters, of capitals or of digits.
std::string regex_class() {
  std::string members;
  for (const std::string_view letters : {"abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"}) {
    for (const char first : letters)
      members += fmt::format("{0}-[{0}-{1}]|", first, letters.back());
  }
  members += "[^\\u0000-\\u001F\\u007F\\u2028\\u2029\\\\\\[\\]\\^\\-]|\\\\[b\\-]|" + regex_escape;
  return fmt::format("\\[\\^?(?:-?(?:{})+-?|-)\\]", members);
}

// Regular expressions of ECMA-262 (with the u flag) whose groups nest no deeper than `depth`. Without names of groups,
// back-references, most properties and code points past U+FFFF as escapes; counts have two digits.
std::string regex_pattern(int depth) {
  const std::string count =
      "(?:[*+?]|\\{(?:[0-9]|[1-9][0-9]),?\\}|\\{(?:[01],[1-9]|2,[2-9]|3,[3-9]|[0-9],[1-9][0-9])\\})\\??";
  const std::string atom = fmt::format("(?:{}|\\.|{}|{})", regex_character, regex_escape, regex_class());
  std::string parts = fmt::format("{}(?:{})?|[\\^$|]|\\\\[bB]", atom, count);
  if (depth > 0) {
    const std::string inner = regex_pattern(depth - 1);
    parts += fmt::format("|\\((?:(?:\\?:)?{0}\\)(?:{1})?|\\?<?[=!]{0}\\))", inner, count);
  }
  return "(?:" + parts + ")*";
}

std::string regex_within(size_t most) {
  return fmt::format("(?:(?:{}|\\.)[*+?]?|\\\\[dDwWsS.]){{0,{}}}", regex_character, most / 2);
}

// RFC 6570, of ASCII, without dots in names and the operators that it reserves.
std::string uri_template() {
  const std::string name = "(?:[A-Za-z0-9_]|%[0-9A-Fa-f]{2})+(?::[1-9][0-9]{0,3}|\\*)?";
  return "(?:[!#$&(-;=?-\\[\\]_a-z~]|%[0-9A-Fa-f]{2}|\\{[+#./;?&]?" + name + "(?:," + name + ")*\\})*";
}

std::string uri_template_within(size_t most) {
  const std::string literal = "[!#$&(-;=?-\\[\\]_a-z~]";
  if (most < 6) return fmt::format("{}{{0,{}}}", literal, most);
  const size_t part = (most - 2) / 3;
  return fmt::format("{0}{{0,{1}}}(?:\\{{[A-Za-z0-9_]{{1,{1}}}\\}}{0}{{0,{1}}})?", literal, part);
}

// RFC 4648, section 4, with padding, whose unused bits are zero; `count` is of its groups of four.
std::string base64(std::string_view count) {
  const std::string digit = "[A-Za-z0-9+/]";
  return fmt::format("(?:{0}{{4}}){1}(?:{0}[AQgw]==|{0}{{2}}[AEIMQUYcgkosw048]=)?", digit, count);
}

// RFC 9562, of one version or of any.
std::string uuid(std::string_view version) {
  const std::string hex = "[0-9a-fA-F]";
  if (version.empty()) return hex + "{8}(?:-" + hex + "{4}){3}-" + hex + "{12}";
  return fmt::format("{0}{{8}}-{0}{{4}}-{1}{0}{{3}}-[89abAB]{0}{{3}}-{0}{{12}}", hex, version);
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

std::string json_pointer_within(size_t most) {
  return most == 0 ? "" : fmt::format("(?:/[^~]{{0,{}}})?", most - 1);
}

std::string relative_json_pointer_within(size_t most) {
  if (most == 0) return "";
  if (most < 5) return fmt::format("(?:0|[1-9][0-9]{{0,{}}})", most - 1);
  return fmt::format("(?:0|[1-9][0-9]{{0,2}})(?:#|/[^~]{{0,{}}})?", most - 4);
}

std::string pattern_within(std::string_view format, size_t most) {
  const bool international = format.starts_with("iri");
  const References references(international ? iri_characters() : "");
  if (format == "hostname" || format == "idn-hostname") return hostname_within(most);
  if (format == "email" || format == "idn-email") return email_within(most);
  if (format == "regex") return regex_within(most);
  if (format == "uri" || format == "iri") return most < 9 ? "" : references.absolute_within(most);
  if (format == "uri-reference" || format == "iri-reference") return references.relative_within(most);
  if (format == "uri-template") return uri_template_within(most);
  if (format == "json-pointer") return json_pointer_within(most);
  if (format == "relative-json-pointer") return relative_json_pointer_within(most);
  if (most < 4) return "";
  const std::string groups = fmt::format("{{0,{}}}", most / 4 - 1);
  return format == "base64" || format == "byte" ? base64(groups) : "";
}

}  // namespace

std::string format_pattern_within(std::string_view format, size_t most) {
  const std::string pattern = pattern_within(format, most);
  return pattern.empty() ? named_format_pattern_within(format, most) : "^" + pattern + "$";
}

namespace {

using Patterns = std::map<std::string, std::string, std::less<>>;

const Patterns& patterns() {
  static const Patterns all = [] {
    const References uris;
    const References iris(iri_characters());
    Patterns parts{
        {"date", full_date()},
        {"time", full_time},
        {"date-time", full_date() + "T" + full_time},
        {"duration", duration()},
        {"email", email()},
        {"idn-email", idn_email()},
        {"hostname", hostname()},
        {"idn-hostname", idn_hostname("{0,3}")},
        {"ipv4", ipv4_address},
        {"ipv6", ipv6()},
        {"uuid", uuid("")},
        {"uri", uris.absolute()},
        {"uri-reference", "(?:" + uris.absolute() + "|" + uris.relative() + ")"},
        {"iri", iris.absolute()},
        {"iri-reference", "(?:" + iris.absolute() + "|" + iris.relative() + ")"},
        {"uri-template", uri_template()},
        {"json-pointer", json_pointer},
        // Up to nine digits; without the index manipulation that a later draft has.
        {"relative-json-pointer", "(?:0|[1-9][0-9]{0,8})(?:#|" + json_pointer + ")"},
        {"base64", base64("*")},
        {"byte", base64("*")},
        {"regex", regex_pattern(2)},
    };
    for (const char* version : {"1", "2", "3", "4", "5", "6", "7", "8"})
      parts.emplace(std::string("uuid") + version, uuid(version));
    for (auto& [name, pattern] : parts)
      pattern.insert(0, "^").append("$");
    return parts;
  }();
  return all;
}

using Ranges = std::map<std::string, NumberRange, std::less<>>;

const Ranges& ranges() {
  static const Ranges all = [] {
    const auto whole = [](bool has_sign, unsigned bits) {
      NumberRange range;
      range.integer = true;
      const uint64_t most = UINT64_MAX >> (64 - bits + (has_sign ? 1U : 0U));
      range.maximum = Decimal{.digits = most};
      range.minimum = has_sign ? Decimal{.negative = true, .digits = most + 1} : Decimal();
      return range;
    };
    Ranges named{{"int", whole(true, 64)}, {"uint", whole(false, 64)}, {"double", {}}};
    for (const unsigned bits : {8U, 16U, 32U, 64U}) {
      named.emplace(fmt::format("int{}", bits), whole(true, bits));
      named.emplace(fmt::format("uint{}", bits), whole(false, bits));
    }
    NumberRange& single = named["float"];
    single.maximum = Decimal{.digits = 34028234, .exponent = 31};
    single.minimum = Decimal{.negative = true, .digits = 34028234, .exponent = 31};
    return named;
  }();
  return all;
}

constexpr std::array<std::string_view, 5> any_text = {"password", "binary", "path", "file-path", "directory-path"};

}  // namespace

std::string_view format_pattern(std::string_view format) {
  const auto found = patterns().find(format);
  return found == patterns().end() ? std::string_view() : found->second;
}

const NumberRange* number_format(std::string_view format) {
  const auto found = ranges().find(format);
  return found == ranges().end() ? nullptr : &found->second;
}

bool is_any_text(std::string_view format) {
  return std::find(any_text.begin(), any_text.end(), format) != any_text.end();
}

const std::string& known_formats() {
  static const std::string names = [] {
    std::vector<std::string_view> known(any_text.begin(), any_text.end());
    for (const auto& [name, pattern] : patterns())
      known.push_back(name);
    for (const std::string_view name : named_formats())
      known.push_back(name);
    for (const auto& [name, range] : ranges())
      known.push_back(name);
    std::sort(known.begin(), known.end());
    return fmt::format("{}", fmt::join(known, ", "));
  }();
  return names;
}

}  // namespace tidemill::grammar
