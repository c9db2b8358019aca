#include "wire/request_parser.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

namespace tidemill::wire {

namespace http = boost::beast::http;

struct RequestParser::Grammar {
  http::request_parser<http::string_body> parser;
};

namespace {

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

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

// The path and query of any form of target: "/a?b", "http://host/a?b" (which proxies send) or "*".
std::string_view origin_form(std::string_view target) {
  const size_t scheme = target.find("://");
  if (target.starts_with('/') || scheme == std::string_view::npos) return target;
  const size_t path = target.find('/', scheme + 3);
  return path == std::string_view::npos ? std::string_view("/") : target.substr(path);
}

}  // namespace

RequestParser::RequestParser(Limits limits) : limits_(limits), grammar_(std::make_unique<Grammar>()) {
  auto& parser = grammar_->parser;
  parser.header_limit(std::numeric_limits<std::uint32_t>::max());  // ours is checked before Beast sees the head
  // A declared length is checked against this before memory is reserved for it.
  parser.body_limit(limits.body_bytes);
  parser.eager(false);
}

RequestParser::~RequestParser() = default;

size_t RequestParser::feed(std::string_view bytes) {
  if (done_ || refusal_) return 0;
  size_t taken = 0;
  if (!head_done_) {
    // Line ends left over from a previous request are tolerated (RFC 9112, section 2.2).
    while (taken < bytes.size() && (bytes[taken] == '\r' || bytes[taken] == '\n'))
      ++taken;
    const std::string_view head = bytes.substr(taken);
    const size_t length = whole_head(head);
    if (length == 0) return taken;
    read_head(head.substr(0, length));
    taken += length;
  }
  if (!done_ && !refusal_) taken += read_body(bytes.substr(taken));
  if (done_) request_.body = std::move(grammar_->parser.get().body());
  return taken;
}

// The length of the head at the front of `bytes`; 0 if it is not whole yet, or refused for its length.
//
// Beast sees whole heads only. It would count the request line against the limit apart from the fields when they come
// at once and together when they come in pieces, and find faults in what follows the head. What can be no head is
// refused without waiting for its end.
size_t RequestParser::whole_head(std::string_view bytes) {
  constexpr std::string_view blank_line = "\r\n\r\n";
  const size_t from = std::min(head_searched_, bytes.size());
  const size_t end = bytes.find(blank_line, from - std::min(from, blank_line.size() - 1));
  const bool whole = end != std::string_view::npos;
  const size_t length = whole ? end + blank_line.size() : bytes.size();
  if (length > limits_.header_bytes || (!whole && length == limits_.header_bytes)) {
    refuse(431, "the request's head is longer than the limit of " + std::to_string(limits_.header_bytes) + " bytes");
    return 0;
  }
  if (whole) return length;
  bool broken = !bytes.empty() && static_cast<unsigned char>(bytes.front()) <= ' ';
  for (size_t at = bytes.find('\n', from); at != std::string_view::npos && !broken; at = bytes.find('\n', at + 1))
    broken = at == 0 || bytes[at - 1] != '\r';
  if (broken) refuse(400, "not a valid HTTP/1.1 request: its head is not lines of text that end in CR LF");
  head_searched_ = bytes.size();
  return 0;
}

void RequestParser::read_head(std::string_view head) {
  auto& parser = grammar_->parser;
  boost::beast::error_code error;
  parser.put(boost::asio::buffer(head.data(), head.size()), error);
  if (error == http::error::body_limit) {
    refuse_large_body();
  } else if (error) {
    refuse(400, "not a valid HTTP/1.1 request: " + error.message());
  } else {
    finish_head();
    done_ = !refusal_ && parser.is_done();
  }
}

// Takes what it can of the body and its framing, and returns how much that was.
//
// The end of a chunked body is never shorter than "0\r\n\r\n", and Beast asserts that many bytes on its second look at
// an unfinished last chunk: fewer are left to come again with more behind them.
size_t RequestParser::read_body(std::string_view bytes) {
  auto& parser = grammar_->parser;
  const size_t least = parser.chunked() ? 5 : 1;
  size_t taken = 0;
  while (!done_ && !refusal_ && bytes.size() - taken >= least) {
    boost::beast::error_code error;
    const size_t body_before = parser.get().body().size();
    const size_t count = parser.put(boost::asio::buffer(bytes.data() + taken, bytes.size() - taken), error);
    taken += count;
    if (error == http::error::body_limit) {
      refuse_large_body();
    } else if (error && error != http::error::need_more) {
      refuse(400, "not a valid HTTP/1.1 request: " + error.message());
    }
    framing_bytes_ = parser.get().body().size() > body_before ? 0 : framing_bytes_ + count;
    refuse_long_framing(framing_bytes_ > limits_.header_bytes);
    if (error == http::error::need_more) {
      // What is left is a chunk's header or the trailers, unfinished.
      refuse_long_framing(framing_bytes_ + bytes.size() - taken >= limits_.header_bytes);
      break;
    }
    done_ = !refusal_ && parser.is_done();
  }
  return taken;
}

void RequestParser::refuse_large_body() {
  if (!head_done_) request_.target = view(grammar_->parser.get().target());  // decides how the refusal is worded
  refuse(413, "the request's body is larger than the limit of " + std::to_string(limits_.body_bytes) + " bytes");
}

// Chunk extensions and trailers are head-like: they come whole or not at all, under the same limit.
void RequestParser::refuse_long_framing(bool too_long) {
  if (!too_long || refusal_) return;
  refuse(431, "a chunk's header or the trailers are longer than the limit of " + std::to_string(limits_.header_bytes) +
                  " bytes");
}

void RequestParser::finish_head() {
  const auto& head = grammar_->parser.get();
  head_done_ = true;
  request_.method = view(head.method_string());
  request_.target = view(head.target());
  request_.http_1_0 = head.version() == 10;
  for (const auto& field : head)
    request_.headers.add(std::string(view(field.name_string())), std::string(view(field.value())));
  keep_alive_ = request_.headers.has_token("connection", "close") ? false
                : request_.http_1_0 ? request_.headers.has_token("connection", "keep-alive")
                                    : true;
  expects_continue_ = !request_.http_1_0 && request_.headers.has_token("expect", "100-continue");

  size_t hosts = 0;
  size_t encodings = 0;
  for (const auto& [name, value] : request_.headers) {
    hosts += equal_ignoring_case(name, "host");
    encodings += equal_ignoring_case(name, "transfer-encoding");
  }
  if (hosts > 1 || (hosts == 0 && !request_.http_1_0)) return refuse(400, "an HTTP/1.1 request has exactly one Host");
  if (encodings != 0) {
    if (request_.headers.has("content-length")) {
      return refuse(400, "a request has either Content-Length or Transfer-Encoding, not both");
    }
    if (request_.http_1_0 || encodings > 1 ||
        !equal_ignoring_case(*request_.headers.find("transfer-encoding"), "chunked")) {
      return refuse(400, "the only Transfer-Encoding of requests that is supported is \"chunked\", in HTTP/1.1");
    }
  }

  const std::string_view target = origin_form(request_.target);
  const size_t question = target.find('?');
  auto path = percent_decode(target.substr(0, question));
  const bool query_is_good = question == std::string_view::npos ||
                             decode_query(target.substr(question + 1, target.find('#') - question - 1), request_.query);
  if (!path || !query_is_good) return refuse(400, "the request's target has a broken percent escape");
  if (!path->starts_with('/') && !(*path == "*" && request_.method == "OPTIONS")) {
    return refuse(400, "the request's target must be a path that begins with '/'");
  }
  request_.path = std::move(*path);
  if (const auto parent = request_.headers.find("traceparent")) {
    const auto state = request_.headers.find("tracestate").value_or("");
    request_.trace = observe::SpanContext::parse_traceparent(*parent, state).value_or(observe::SpanContext());
  }
}

void RequestParser::refuse(int status, std::string message) {
  refusal_ = Refusal{status, std::move(message)};
}

HttpRequest RequestParser::take() {
  return std::move(request_);
}

}  // namespace tidemill::wire
