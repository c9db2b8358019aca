// What looks at an answer on its way to the client, and may change it.
#pragma once

#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "wire/http_message.hpp"

namespace tidemill::gateway {

namespace asio = boost::asio;

// One request's. An error fails the answer: the client is told it in place of what was filtered. `unavailable` is the
// session store's.
class AnswerFilter {
 public:
  virtual ~AnswerFilter() = default;

  // Whole events, in order; each goes on once. Appends what the client gets to `out`.
  virtual asio::awaitable<base::Result<void>> events(std::string_view events, std::string& out) = 0;
  // An answer that is no stream.
  virtual asio::awaitable<base::Result<void>> whole(wire::HttpResponse& response) = 0;
};

}  // namespace tidemill::gateway
