#include "wire/proxy_tunnel.hpp"

#include <array>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "wire/http_head.hpp"

namespace tidemill::wire {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

// The head of the proxy's answer, with which nothing else may have come: the client speaks first in a tunnel.
asio::awaitable<Result<HttpResponse>> read_tunnel_answer(ClientConnection& connection, const Proxy& proxy, size_t limit,
                                                         base::SteadyTime deadline) {
  const auto corrupt = [&proxy](std::string_view what) {
    return Error(ErrorCode::corrupt, fmt::format("{} does not answer in HTTP/1.1: {}", proxy.text(), what));
  };
  std::string bytes;
  HeadScanner scanner;
  while (true) {
    const auto found = scanner.scan(bytes, limit);
    if (found == HeadScanner::Found::too_long) {
      co_return Error(ErrorCode::too_large,
                      fmt::format("the head of the answer of {} is longer than {} bytes", proxy.text(), limit));
    }
    if (found == HeadScanner::Found::bare_line_feed) co_return corrupt("a line of its head does not end in CR LF");
    if (found == HeadScanner::Found::head) {
      StatusLine line;
      HttpResponse answer;
      const char* const fault =
          read_answer_head(std::string_view(bytes).substr(0, scanner.length()), line, answer.headers);
      if (fault != nullptr) co_return corrupt(fault);
      bytes.erase(0, scanner.length());
      scanner.reset();
      if (line.status < 200) continue;
      answer.status = line.status;
      if (line.status < 300 && !bytes.empty()) co_return corrupt("more bytes follow before the tunnel is used");
      co_return answer;
    }
    std::array<char, 4096> piece;
    auto readable = co_await connection.wait_readable(deadline);
    if (!readable) co_return std::move(readable).error().wrap(proxy.text());
    const Progress progress = connection.read(piece.data(), piece.size());
    if (progress.kind == Progress::Kind::done) bytes.append(piece.data(), progress.bytes);
    if (progress.kind == Progress::Kind::ended) {
      co_return Error(ErrorCode::unavailable, fmt::format("{} has closed the connection unasked", proxy.text()));
    }
    if (progress.kind == Progress::Kind::failed) {
      co_return connection.failure("no tunnel to", progress.error).wrap(proxy.text());
    }
  }
}

}  // namespace

asio::awaitable<Result<void>> open_tunnel(ClientConnection& connection, const Proxy& proxy, size_t head_limit,
                                          base::SteadyTime deadline) {
  const Url& to = connection.to();
  const std::string peer = to.host_and_port();
  std::string head = fmt::format("CONNECT {} HTTP/1.1\r\nHost: {}\r\n", peer, peer);
  if (!proxy.authorization.empty()) head += fmt::format("Proxy-Authorization: {}\r\n", proxy.authorization);
  head += "\r\n";
  const Pieces pieces = {asio::buffer(head)};
  bool any = false;
  auto sent = co_await connection.write(pieces, deadline - Deadlines::now(), any);
  if (!sent) co_return std::move(sent).error().wrap(proxy.text());
  auto answer = co_await read_tunnel_answer(connection, proxy, head_limit, deadline);
  if (!answer) co_return std::move(answer).error();
  if (answer->status >= 300) co_return proxy.refusal(*answer, to);
  co_return Result<void>();
}

}  // namespace tidemill::wire
