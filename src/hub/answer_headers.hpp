// What the hub and the servers that it redirects to say in headers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "wire/http_message.hpp"

namespace tidemill::hub {

// What `Link: <...>; rel="next"` leads to (RFC 8288); none on the last page.
std::optional<std::string> next_page(const wire::Headers& headers);

// How long to wait before asking again: Retry-After in seconds (RFC 9110, section 10.2.3), or the `t` of the hub's
// `RateLimit: "api";r=0;t=55`, the seconds until it counts anew. None where neither says so.
std::optional<base::Duration> asked_wait(const wire::Headers& headers);

// "bytes 5-9/10" (RFC 9110, section 14.4).
struct ContentRange {
  uint64_t first = 0;
  uint64_t last = 0;
  std::optional<uint64_t> total;  // none: "*"
};
std::optional<ContentRange> parse_content_range(std::string_view text);

// How many bytes the whole has, as an answer says it: Content-Length of 200, and of 206 and 416 what is behind the '/'
// of Content-Range ("bytes */10"). None where it does not say so.
std::optional<uint64_t> whole_size(int status, const wire::Headers& headers);

// The entity tag, if it is a strong one, as If-Range wants it. Empty: none.
std::string strong_tag(const wire::Headers& headers);

}  // namespace tidemill::hub
