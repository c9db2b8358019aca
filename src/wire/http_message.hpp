// HTTP messages as the rest of Tidemill sees them: plain values, free of Boost.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/lower_case.hpp"
#include "base/result.hpp"
#include "observe/trace.hpp"

namespace tidemill::wire {

// Header fields in the order they came; names compare without case (RFC 9110, section 5.1).
class Headers {
 public:
  using Field = std::pair<std::string, std::string>;

  Headers() = default;
  Headers(std::initializer_list<Field> fields) : fields_(fields) {}

  // The value of the first field of that name, if there is one.
  std::optional<std::string_view> find(std::string_view name) const;
  bool has(std::string_view name) const { return find(name).has_value(); }
  // Whether the comma-separated lists under `name` hold `token` (compared without case), as in "Connection: close".
  bool has_token(std::string_view name, std::string_view token) const;

  template <typename Name, typename Value>  // of what std::string is made from
  void add(Name&& name, Value&& value) {
    fields_.emplace_back(std::forward<Name>(name), std::forward<Value>(value));
  }
  // Replaces every field of that name.
  void set(std::string_view name, std::string value);
  void remove(std::string_view name);
  void reserve(size_t fields) { fields_.reserve(fields); }

  size_t size() const { return fields_.size(); }
  std::vector<Field>::const_iterator begin() const { return fields_.begin(); }
  std::vector<Field>::const_iterator end() const { return fields_.end(); }

 private:
  std::vector<Field> fields_;
};

using base::equal_ignoring_case;
// A field that says where a message ends and what becomes of its connection: for whoever writes the message to set.
bool is_framing(std::string_view name);

// "a%20b" -> "a b"; with `plus_is_space`, "a+b" too (query strings). nullopt for a broken escape or an escaped NUL.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

// What a server received.
struct HttpRequest {
  std::string method;                                      // upper case as sent: "GET"
  std::string target;                                      // as sent, without "http://host": "/v1/models/a%2Fb?x=1"
  std::string path;                                        // decoded, without the query: "/v1/models/a/b"
  std::vector<std::pair<std::string, std::string>> query;  // decoded, in order
  Headers headers;
  std::string body;       // whole, already de-chunked
  bool http_1_0 = false;  // HTTP/1.0 rather than 1.1
  std::string peer;       // "127.0.0.1:51234"
  // The route that matched, as it was registered ("/v1/models/*"), and what its `*` stands for ("a/b").
  std::string route;
  std::string path_rest;
  base::SteadyTime received;     // when the first byte of the request was there
  base::WallTime received_wall;  // the same
  // From `traceparent` and `tracestate`; invalid if the client sent none that is well-formed.
  observe::SpanContext trace;

  std::optional<std::string_view> query_param(std::string_view name) const;
  // The token of "Authorization: Bearer <token>"; empty without one.
  std::string_view bearer_token() const;
};

// What a server answers and a client gets. Content-Length, Transfer-Encoding, Connection and Date are the server's to
// set; a handler that sets them is overruled.
struct HttpResponse {
  int status = 200;
  Headers headers;
  std::string body;

  static HttpResponse json(int status, std::string body);
  static HttpResponse text(int status, std::string body, std::string content_type = "text/plain; charset=utf-8");
};

// "Not Found" for 404; "Unknown" for what RFC 9110 does not name.
std::string_view reason_phrase(int status);

}  // namespace tidemill::wire
