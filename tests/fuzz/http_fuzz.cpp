// Any bytes as what a client sends: requests one behind the other, whole and in pieces cut anywhere, come out the same
// or are refused for the same reason, within the limits; and a request written out again from what was read reads the
// same.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/invariant.hpp"
#include "wire/request_parser.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using test::require;

namespace {

struct Outcome {
  wire::HttpRequest request;
  bool head_done = false;
  bool done = false;
  bool keep_alive = false;
  bool expects_continue = false;
  int refusal = 0;  // the status; 0: none
  std::string reason;
  size_t taken = 0;
};

// Reads one request as a connection does: what is not taken stays in front of what comes next. `cuts` are the sizes of
// the pieces, used in turn.
Outcome read(std::string_view bytes, wire::RequestParser::Limits limits, const std::vector<size_t>& cuts) {
  wire::RequestParser parser(limits);
  Outcome outcome;
  std::string input;
  for (size_t next = 0, turn = 0; next < bytes.size() && !parser.done() && !parser.refusal(); ++turn) {
    const std::string_view piece = bytes.substr(next, cuts[turn % cuts.size()]);
    next += piece.size();
    input += piece;
    const size_t taken = parser.feed(input);
    require(taken <= input.size(), "no more is taken than was given");
    input.erase(0, taken);
    outcome.taken += taken;
  }
  require(!(parser.done() && parser.refusal()), "a request is complete or refused, not both");
  require(parser.head_done() || !parser.done(), "a complete request has a complete head");
  if (parser.done()) require(parser.feed("GET / HTTP/1.1\r\n") == 0, "nothing is taken behind the end");
  outcome.head_done = parser.head_done();
  outcome.done = parser.done();
  outcome.keep_alive = parser.keep_alive();
  outcome.expects_continue = parser.expects_continue();
  if (parser.refusal()) {
    outcome.refusal = parser.refusal()->status;
    outcome.reason = parser.refusal()->message;
    require(outcome.refusal >= 400 && outcome.refusal < 500 && !parser.refusal()->message.empty(),
            "a refusal is the client's fault and says why");
  }
  outcome.request = parser.take();
  return outcome;
}

bool same_headers(const wire::Headers& a, const wire::Headers& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

void require_same(const Outcome& whole, const Outcome& pieces) {
  require(whole.done == pieces.done, "pieces are accepted where the whole is");
  require(whole.head_done == pieces.head_done, "pieces have a head where the whole has one");
  require(whole.refusal == pieces.refusal && whole.reason == pieces.reason, "pieces are refused where the whole is");
  require(whole.taken == pieces.taken, "pieces end where the whole does");
  if (!whole.done) return;
  require(whole.keep_alive == pieces.keep_alive && whole.expects_continue == pieces.expects_continue,
          "pieces ask for what the whole asks for");
  require(whole.request.method == pieces.request.method && whole.request.target == pieces.request.target &&
              whole.request.path == pieces.request.path && whole.request.query == pieces.request.query,
          "pieces have the whole's target");
  require(same_headers(whole.request.headers, pieces.request.headers), "pieces have the whole's headers");
  require(whole.request.body == pieces.request.body, "pieces have the whole's body");
}

void require_sound(const Outcome& outcome, wire::RequestParser::Limits limits) {
  if (!outcome.done) return;
  const wire::HttpRequest& request = outcome.request;
  require(!request.method.empty(), "a request has a method");
  require(request.path.starts_with('/') || request.path == "*", "a request has a path");
  require(request.body.size() <= limits.body_bytes, "a body is within its limit");
  require(!(request.headers.has("transfer-encoding") && request.headers.has("content-length")),
          "a body has one length");
  require(request.headers.has("host") || request.http_1_0, "a request names its host");
  if (const auto length = request.headers.find("content-length")) {
    require(std::stoull(std::string(*length)) == request.body.size(), "a body has the length that was declared");
  }
}

// The request as another program would send it on.
std::string write(const wire::HttpRequest& request) {
  std::string text = request.method + " " + request.target + (request.http_1_0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
  for (const auto& [name, value] : request.headers) {
    if (wire::equal_ignoring_case(name, "transfer-encoding") || wire::equal_ignoring_case(name, "content-length")) {
      continue;
    }
    text.append(name).append(": ").append(value).append("\r\n");
  }
  text += "Content-Length: " + std::to_string(request.body.size()) + "\r\n\r\n";
  return text + request.body;
}

void require_round_trip(const Outcome& outcome) {
  const Outcome again = read(write(outcome.request), {size_t{1} << 20, size_t{1} << 20}, {size_t{1} << 30});
  require(again.done && again.refusal == 0, "a request that was accepted can be sent on");
  require(again.request.target == outcome.request.target && again.request.path == outcome.request.path &&
              again.request.query == outcome.request.query && again.request.method == outcome.request.method &&
              again.request.body == outcome.request.body && again.keep_alive == outcome.keep_alive,
          "a request that was sent on reads the same");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const wire::RequestParser::Limits limits = {size_t{64} << (data[0] % 8), size_t{16} << (data[1] % 8)};
  const std::vector<size_t> cuts = {size_t{1} + data[2] % 16, size_t{1} + data[3], 1};
  std::string_view bytes(reinterpret_cast<const char*>(data + 4), size - 4);
  for (int requests = 0; requests < 4 && !bytes.empty(); ++requests) {
    const Outcome whole = read(bytes, limits, {size_t{1} << 30});
    require_same(whole, read(bytes, limits, cuts));
    require_sound(whole, limits);
    if (!whole.done) break;
    require_round_trip(whole);
    bytes.remove_prefix(whole.taken);
  }
  return 0;
}
