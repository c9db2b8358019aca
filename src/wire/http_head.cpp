#include "wire/http_head.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/eight_bytes.hpp"

namespace tidemill::wire {

namespace {

// What room is made for at once: counting the lines first costs more than a larger vector.
constexpr size_t usual_fields = 12;

struct CharacterTable {
  std::array<bool, 256> token{};
  std::array<bool, 256> field{};
};

constexpr CharacterTable make_table() {
  CharacterTable table;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"))
    table.token[static_cast<unsigned char>(c)] = true;
  for (size_t c = 0; c < 256; ++c)
    table.field[c] = (c >= ' ' && c != 0x7f) || c == '\t';
  return table;
}
constexpr CharacterTable table = make_table();

bool all_token(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return table.token[static_cast<unsigned char>(c)]; });
}
bool all_field(std::string_view text) {
  using namespace base::eight_bytes;
  const auto odd = [](uint64_t eight) { return below(eight, ' ') | equal(eight, 0x7f); };
  if (!base::any_of_bytes(text, odd)) return true;
  return std::all_of(text.begin(), text.end(), [](char c) { return table.field[static_cast<unsigned char>(c)]; });
}

std::string_view trim_blanks(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
    text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

// The line at the front of `rest`, without its end, which is taken off too.
bool take_line(std::string_view& rest, std::string_view& line) {
  const size_t end = rest.find('\n');
  if (end == std::string_view::npos || end == 0 || rest[end - 1] != '\r') return false;
  line = rest.substr(0, end - 1);
  rest.remove_prefix(end + 1);
  return true;
}

const char* read_fields(std::string_view rest, Headers& headers) {
  std::string_view line;
  headers.reserve(usual_fields);
  while (true) {
    if (!take_line(rest, line)) return "a line of its head does not end in CR LF";
    if (line.empty()) return nullptr;
    if (line.front() == ' ' || line.front() == '\t') return "a header continues on a second line";
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return "a header without a colon";
    const std::string_view name = line.substr(0, colon);
    if (!all_token(name)) {
      return name.ends_with(' ') || name.ends_with('\t') ? "a blank before the colon of a header"
                                                         : "a header's name holds what a name cannot";
    }
    const std::string_view value = trim_blanks(line.substr(colon + 1));
    if (!all_field(value)) return "a control character in a header";
    headers.add(name, value);
  }
}

bool read_version(std::string_view text, bool& http_1_0) {
  http_1_0 = text == "HTTP/1.0";
  return http_1_0 || text == "HTTP/1.1";
}

}  // namespace

bool is_token_character(unsigned char c) {
  return table.token[c];
}
bool is_field_character(unsigned char c) {
  return table.field[c];
}

HeadScanner::Found HeadScanner::scan(std::string_view bytes, size_t limit) {
  // Lines are looked at one by one, so that a line feed without its CR is found before a limit or the end.
  while (true) {
    const size_t end = bytes.find('\n', searched_);
    if (end == std::string_view::npos || end >= limit) break;
    if (end == 0 || bytes[end - 1] != '\r') return Found::bare_line_feed;
    searched_ = end + 1;
    if (end >= 3 && bytes[end - 2] == '\n') {
      length_ = end + 1;
      return Found::head;
    }
  }
  searched_ = std::min(bytes.size(), limit);
  return bytes.size() >= limit ? Found::too_long : Found::nothing;
}

const char* read_request_head(std::string_view head, RequestLine& line, Headers& headers) {
  std::string_view text;
  if (!take_line(head, text)) return "its first line does not end in CR LF";
  const size_t first = text.find(' ');
  const size_t last = text.rfind(' ');
  if (first == std::string_view::npos || first == last) return "its first line is not METHOD TARGET VERSION";
  line.method = text.substr(0, first);
  line.target = text.substr(first + 1, last - first - 1);
  if (!all_token(line.method)) return "its method holds what a method cannot";
  const bool visible = std::all_of(line.target.begin(), line.target.end(),
                                   [](char c) { return static_cast<unsigned char>(c) > ' ' && c != '\x7f'; });
  if (line.target.empty() || !visible) return "its target is empty or holds a blank or a control character";
  if (!read_version(text.substr(last + 1), line.http_1_0)) return "its version is neither HTTP/1.1 nor HTTP/1.0";
  return read_fields(head, headers);
}

const char* read_answer_head(std::string_view head, StatusLine& line, Headers& headers) {
  std::string_view text;
  if (!take_line(head, text)) return "its first line does not end in CR LF";
  // "HTTP/1.1 200 OK", and without the reason some leave out the blank before it too.
  if (text.size() < 12 || !read_version(text.substr(0, 8), line.http_1_0) || text[8] != ' ') {
    return "its first line is not VERSION STATUS REASON";
  }
  const auto [stop, error] = std::from_chars(text.data() + 9, text.data() + 12, line.status);
  if (error != std::errc() || stop != text.data() + 12 || line.status < 100 || (text.size() > 12 && text[12] != ' ') ||
      !all_field(text)) {
    return "its status is not a number of three digits";
  }
  return read_fields(head, headers);
}

const char* read_body_length(const Headers& headers, bool http_1_0, BodyLength& length) {
  bool coded = false;
  for (const auto& [name, value] : headers) {
    // Few names have the lengths of these two.
    if (name.size() == 14 && equal_ignoring_case(name, "content-length")) {
      if (length.kind == BodyLength::Kind::length) return "more than one Content-Length";
      const char* const end = value.data() + value.size();
      const auto [stop, error] = std::from_chars(value.data(), end, length.bytes);
      if (error != std::errc() || stop != end || value.empty()) return "a Content-Length that is not a number";
      length.kind = BodyLength::Kind::length;
    } else if (name.size() == 17 && equal_ignoring_case(name, "transfer-encoding")) {
      if (coded) return "more than one Transfer-Encoding";
      if (http_1_0) return "a Transfer-Encoding, which HTTP/1.0 does not have";
      if (!equal_ignoring_case(value, "chunked")) return "a Transfer-Encoding other than \"chunked\"";
      coded = true;
    }
  }
  if (!coded) return nullptr;
  if (length.kind == BodyLength::Kind::length) return "both Content-Length and Transfer-Encoding";
  length.kind = BodyLength::Kind::chunked;
  return nullptr;
}

}  // namespace tidemill::wire
