#include "wire/request_parser.hpp"

#include <algorithm>
#include <utility>

namespace tidemill::wire {

namespace {

// Of a declared body, what memory is reserved for before it has come.
constexpr size_t reserve_limit = size_t{256} << 10;

// "a=1&b=%20" into pairs; false for a broken escape.
bool decode_query(std::string_view text, std::vector<std::pair<std::string, std::string>>& query) {
  while (!text.empty()) {
    const size_t end = text.find('&');
    const std::string_view pair = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (pair.empty()) continue;
    const size_t equals = pair.find('=');
    auto name = percent_decode(pair.substr(0, equals), true);
    auto value = percent_decode(equals == std::string_view::npos ? std::string_view() : pair.substr(equals + 1), true);
    if (!name || !value) return false;
    query.emplace_back(std::move(*name), std::move(*value));
  }
  return true;
}

// The parts of "http://host/a?b", which proxies send.
struct AbsoluteForm {
  std::string_view authority;
  std::string_view path_and_query;
};
std::optional<AbsoluteForm> absolute_form(std::string_view target) {
  const size_t scheme = target.find("://");
  if (scheme == std::string_view::npos) return std::nullopt;
  const std::string_view name = target.substr(0, scheme);
  if (!equal_ignoring_case(name, "http") && !equal_ignoring_case(name, "https")) return std::nullopt;
  const std::string_view rest = target.substr(scheme + 3);
  const size_t end = std::min(rest.find_first_of("/?"), rest.size());
  return AbsoluteForm{rest.substr(0, end), end == rest.size() ? std::string_view("/") : rest.substr(end)};
}

bool is_host_character(char c) {
  const bool alphanumeric = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
  return alphanumeric || std::string_view("-._~!$&'()*+,;=%:[]").find(c) != std::string_view::npos;
}

}  // namespace

size_t RequestParser::feed(std::string_view bytes) {
  if (done_ || refusal_) return 0;
  size_t taken = 0;
  if (!head_done_) {
    taken = skip_blank_lines(bytes);
    const std::string_view head = bytes.substr(taken);
    if (head.empty() || head == "\r") return taken;
    // What can be no head is refused without waiting for its end.
    if (static_cast<unsigned char>(head.front()) <= ' ') {
      refuse(400, head.front() == '\x16'
                      ? "this is a TLS handshake, and the server speaks plain HTTP here"
                      : "not a valid HTTP/1.1 request: its first line begins with a control character or a blank");
      return taken;
    }
    switch (scanner_.scan(head, limits_.header_bytes)) {
      case HeadScanner::Found::nothing:
        return taken;
      case HeadScanner::Found::bare_line_feed:
        refuse(400, "not a valid HTTP/1.1 request: its head is not lines of text that end in CR LF");
        return taken;
      case HeadScanner::Found::too_long:
        refuse(431,
               "the request's head is longer than the limit of " + std::to_string(limits_.header_bytes) + " bytes");
        return taken;
      case HeadScanner::Found::head:
        break;
    }
    read_head(head.substr(0, scanner_.length()));
    taken += scanner_.length();
    if (refusal_) return taken;
  }
  return taken + read_body(bytes.substr(taken));
}

// Line ends left over from a previous request are tolerated (RFC 9112, section 2.2).
size_t RequestParser::skip_blank_lines(std::string_view bytes) {
  size_t taken = 0;
  while (bytes.substr(taken).starts_with("\r\n"))
    taken += 2;
  return taken;
}

void RequestParser::read_head(std::string_view head) {
  RequestLine line;
  const char* const fault = read_request_head(head, line, request_.headers);
  request_.method = line.method;
  request_.target = line.target;
  if (fault != nullptr) return refuse(400, std::string("not a valid HTTP/1.1 request: ") + fault);
  head_done_ = true;
  request_.http_1_0 = line.http_1_0;
  keep_alive_ = request_.headers.has_token("connection", "close") ? false
                : request_.http_1_0 ? request_.headers.has_token("connection", "keep-alive")
                                    : true;
  expects_continue_ = !request_.http_1_0 && request_.headers.has_token("expect", "100-continue");
  if (const char* const unsure = read_body_length(request_.headers, request_.http_1_0, length_)) {
    return refuse(400, std::string("the length of the request's body is not certain: ") + unsure);
  }
  read_target();
  if (refusal_) return;
  check_content_encoding();
  if (refusal_) return;
  if (length_.kind == BodyLength::Kind::length && length_.bytes > limits_.body_bytes) {
    return refuse(413,
                  "the request's body is larger than the limit of " + std::to_string(limits_.body_bytes) + " bytes");
  }
  if (const auto parent = request_.headers.find("traceparent")) {
    const auto state = request_.headers.find("tracestate").value_or("");
    request_.trace = observe::SpanContext::parse_traceparent(*parent, state).value_or(observe::SpanContext());
  }
  if (length_.kind == BodyLength::Kind::length) request_.body.reserve(std::min<uint64_t>(length_.bytes, reserve_limit));
}

void RequestParser::read_target() {
  std::string_view target = request_.target;
  const auto absolute = absolute_form(target);
  if (absolute) target = absolute->path_and_query;
  check_host(absolute ? absolute->authority : std::string_view());
  if (refusal_) return;
  const size_t question = target.find('?');
  auto path = percent_decode(target.substr(0, question));
  const bool query_is_good = question == std::string_view::npos ||
                             decode_query(target.substr(question + 1, target.find('#') - question - 1), request_.query);
  if (!path || !query_is_good) return refuse(400, "the request's target has a broken percent escape");
  if (path->empty() && absolute) *path = "/";  // "http://host?query"
  if (!path->starts_with('/') && !(*path == "*" && request_.method == "OPTIONS")) {
    return refuse(400, "the request's target must be a path that begins with '/'");
  }
  request_.path = std::move(*path);
  if (absolute) request_.target = (target.starts_with('/') ? "" : "/") + std::string(target);
}

// `authority`: what an absolute target names; empty: nothing.
void RequestParser::check_host(std::string_view authority) {
  size_t hosts = 0;
  std::string_view host;
  for (const auto& [name, value] : request_.headers) {
    if (name.size() != 4 || !equal_ignoring_case(name, "host")) continue;
    ++hosts;
    host = value;
  }
  if (hosts > 1 || (hosts == 0 && !request_.http_1_0)) return refuse(400, "an HTTP/1.1 request has exactly one Host");
  if (!std::all_of(host.begin(), host.end(), is_host_character)) {
    return refuse(400, "the Host of the request is not a host name with or without a port");
  }
  if (!authority.empty() && hosts != 0 && !equal_ignoring_case(authority, host)) {
    return refuse(400, "the request's target and its Host name different hosts");
  }
}

// Nobody here could read what is compressed, and it would be called broken JSON.
void RequestParser::check_content_encoding() {
  for (const auto& [name, value] : request_.headers) {
    if (!equal_ignoring_case(name, "content-encoding") || value.empty()) continue;
    if (equal_ignoring_case(value, "identity")) continue;
    return refuse(415, "the request's body is encoded (Content-Encoding: " + value.substr(0, 40) +
                           "), and only \"identity\" is taken: send it as it is");
  }
}

// Takes what it can of the body and its framing, and returns how much that was.
size_t RequestParser::read_body(std::string_view bytes) {
  if (length_.kind != BodyLength::Kind::chunked) {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(length_.bytes, bytes.size()));
    request_.body.append(bytes.substr(0, count));
    length_.bytes -= count;
    done_ = length_.bytes == 0;
    return count;
  }
  size_t taken = 0;
  while (taken < bytes.size() && chunks_.state() == ChunkDecoder::State::more) {
    const ChunkDecoder::Step step = chunks_.next(bytes.substr(taken));
    request_.body.append(bytes.substr(taken + step.offset, step.length));
    taken += step.taken;
  }
  done_ = chunks_.state() == ChunkDecoder::State::done;
  if (!done_) refuse_chunk();
  return taken;
}

void RequestParser::refuse_chunk() {
  switch (chunks_.state()) {
    case ChunkDecoder::State::malformed:
      return refuse(400, "not a valid HTTP/1.1 request: a chunk of its body is malformed");
    case ChunkDecoder::State::framing_too_long:
      return refuse(431, "a chunk's header or the trailers are longer than the limit of " +
                             std::to_string(limits_.header_bytes) + " bytes");
    case ChunkDecoder::State::body_too_long:
      return refuse(413,
                    "the request's body is larger than the limit of " + std::to_string(limits_.body_bytes) + " bytes");
    case ChunkDecoder::State::more:
    case ChunkDecoder::State::done:
      break;
  }
}

void RequestParser::refuse(int status, std::string message) {
  refusal_ = Refusal{status, std::move(message)};
}

HttpRequest RequestParser::take() {
  return std::move(request_);
}

}  // namespace tidemill::wire
