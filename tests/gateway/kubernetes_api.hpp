// An HTTPS server on loopback that plays the API server of Kubernetes: it answers from a script, connection by
// connection, and remembers what it was asked.
#pragma once

#include <string>
#include <sys/socket.h>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <fmt/format.h>

#include "wire/tls_certificate.hpp"

namespace tidemill::test {

namespace ssl = boost::asio::ssl;

class KubernetesApi {
 public:
  struct Answer {
    int status = 200;
    std::vector<std::string> pieces;  // of the body, each a chunk
    bool stay = false;                // leave the body open until the client hangs up
  };
  struct Asked {
    std::string target;
    std::string token;
  };

  explicit KubernetesApi(std::vector<Answer> script)
      : certificate_(TlsCertificate::for_localhost()), acceptor_(io_, {tcp::v4(), 0}), script_(std::move(script)) {
    tls_.use_certificate_chain(boost::asio::buffer(certificate_.certificate_pem));
    tls_.use_private_key(boost::asio::buffer(certificate_.key_pem), ssl::context::pem);
    thread_ = std::thread([this] { serve(); });
  }
  ~KubernetesApi() { stop(); }
  KubernetesApi(const KubernetesApi&) = delete;
  KubernetesApi& operator=(const KubernetesApi&) = delete;

  // Waits for the connection that is open, and accepts no other.
  void stop() {
    if (!thread_.joinable()) return;
    ::shutdown(acceptor_.native_handle(), SHUT_RDWR);
    thread_.join();
  }
  std::string url() { return fmt::format("https://localhost:{}", acceptor_.local_endpoint().port()); }
  const std::string& ca() const { return certificate_.certificate_pem; }
  // After stop().
  const std::vector<Asked>& asked() const { return asked_; }

 private:
  using tcp = boost::asio::ip::tcp;
  template <typename T>
  using Stream = boost::asio::ssl::stream<T>;

  void serve() {
    for (const Answer& answer : script_) {
      boost::system::error_code failed;
      Stream<tcp::socket> stream(io_, tls_);
      acceptor_.accept(stream.next_layer(), failed);
      stream.handshake(ssl::stream_base::server, failed);
      std::string head;
      if (!failed) boost::asio::read_until(stream, boost::asio::dynamic_buffer(head), "\r\n\r\n", failed);
      if (failed) {
        asked_.push_back({"(" + failed.message() + ")", ""});
        continue;
      }
      asked_.push_back({between(head, "GET ", " HTTP"), between(head, "Authorization: Bearer ", "\r\n")});
      std::string out = fmt::format("HTTP/1.1 {} Whatever\r\nTransfer-Encoding: chunked\r\n\r\n", answer.status);
      for (const std::string& piece : answer.pieces)
        out += fmt::format("{:x}\r\n{}\r\n", piece.size(), piece);
      if (!answer.stay) out += "0\r\n\r\n";
      boost::asio::write(stream, boost::asio::buffer(out), failed);
      char byte = 0;  // the client hangs up once it has what it wants
      while (!failed)
        stream.read_some(boost::asio::buffer(&byte, 1), failed);
    }
  }
  static std::string between(const std::string& text, std::string_view begin, std::string_view end) {
    const size_t from = text.find(begin);
    if (from == std::string::npos) return "";
    return text.substr(from + begin.size(), text.find(end, from) - from - begin.size());
  }

  TlsCertificate certificate_;
  boost::asio::io_context io_;
  ssl::context tls_{ssl::context::tls_server};
  tcp::acceptor acceptor_;
  std::vector<Answer> script_;
  std::vector<Asked> asked_;
  std::thread thread_;
};

}  // namespace tidemill::test
