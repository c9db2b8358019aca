// Certificates and keys from PEM files, as OpenSSL wants them: TLS 1.2 and newer, HTTP/1.1 by ALPN.
#pragma once

#include <memory>
#include <string>

#include "base/result.hpp"

using SSL_CTX = struct ssl_ctx_st;

namespace tidemill::wire {

using TlsContext = std::shared_ptr<SSL_CTX>;

// What a server shows. All are PEM files; the certificate's file holds its chain, the server's own first.
struct TlsServerFiles {
  std::string certificate;
  std::string key;
  // Authorities of clients. If set, a client without a certificate of theirs is refused (mutual TLS).
  std::string client_ca;
};
// Errors name the file and what is wrong with it: `not_found` or `io` where it cannot be read, `corrupt` where it is
// not PEM or a key of another certificate.
base::Result<TlsContext> load_server_tls(const TlsServerFiles& files);

struct TlsClientFiles {
  std::string ca;           // authorities to trust; empty: the system's
  std::string certificate;  // shown to servers that ask; with `key`, or empty
  std::string key;
};
base::Result<TlsContext> load_client_tls(const TlsClientFiles& files);

}  // namespace tidemill::wire
