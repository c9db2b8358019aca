#include "wire/tls_context.hpp"

#include <cerrno>
#include <string_view>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

namespace tidemill::wire {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

// ALPN's list of protocols: each with its length before it.
constexpr std::string_view protocols = "\x08http/1.1";

std::string openssl_reason() {
  const unsigned long code = ERR_peek_last_error();
  const char* const reason = code != 0 ? ERR_reason_error_string(code) : nullptr;
  std::string text = reason != nullptr ? reason : "no reason given";
  ERR_clear_error();
  return text;
}

Result<void> check_readable(std::string_view what, const std::string& path) {
  if (::access(path.c_str(), R_OK) == 0) return {};
  const int reason = errno;
  return Error(reason == ENOENT ? ErrorCode::not_found : ErrorCode::io,
               fmt::format("cannot read the {} '{}': {}", what, path, std::generic_category().message(reason)));
}

Error not_pem(std::string_view what, const std::string& path) {
  return {ErrorCode::corrupt,
          fmt::format("the {} '{}' is not a PEM file of that kind: {}", what, path, openssl_reason())};
}

Result<void> use_pair(SSL_CTX* context, const std::string& certificate, const std::string& key) {
  TM_CHECK(check_readable("TLS certificate", certificate));
  TM_CHECK(check_readable("TLS key", key));
  ERR_clear_error();
  if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1) {
    return not_pem("TLS certificate", certificate);
  }
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1) {
    const unsigned long code = ERR_peek_last_error();
    if (ERR_GET_LIB(code) != ERR_LIB_X509) return not_pem("TLS key", key);
  }
  if (SSL_CTX_check_private_key(context) == 1) return {};
  ERR_clear_error();
  return Error(ErrorCode::corrupt,
               fmt::format("the TLS key '{}' is not the key of the certificate '{}'", key, certificate));
}

Result<void> trust(SSL_CTX* context, std::string_view what, const std::string& path) {
  TM_CHECK(check_readable(what, path));
  ERR_clear_error();
  if (SSL_CTX_load_verify_file(context, path.c_str()) != 1) return not_pem(what, path);
  return {};
}

Result<TlsContext> make_context(const SSL_METHOD* method) {
  TlsContext context(SSL_CTX_new(method), SSL_CTX_free);
  if (!context) return Error(ErrorCode::internal, "OpenSSL has no context to give: " + openssl_reason());
  // A key under a passphrase is refused rather than asked for on the terminal.
  SSL_CTX_set_default_passwd_cb(context.get(), [](char*, int, int, void*) { return -1; });
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  return context;
}

int choose_protocol(SSL* /*ssl*/, const unsigned char** chosen, unsigned char* length, const unsigned char* offered,
                    unsigned int offered_length, void* /*unused*/) {
  const auto* const ours = reinterpret_cast<const unsigned char*>(protocols.data());
  unsigned char* found = nullptr;
  const int verdict =
      SSL_select_next_proto(&found, length, ours, static_cast<unsigned int>(protocols.size()), offered, offered_length);
  *chosen = found;
  // A client that speaks none of ours is told so, instead of an answer that it would not understand.
  return verdict == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

}  // namespace

Result<TlsContext> load_server_tls(const TlsServerFiles& files) {
  TM_TRY(TlsContext context, make_context(TLS_server_method()));
  TM_CHECK(use_pair(context.get(), files.certificate, files.key));
  SSL_CTX_set_options(context.get(), SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
  static constexpr std::string_view sessions = "tidemill";
  SSL_CTX_set_session_id_context(context.get(), reinterpret_cast<const unsigned char*>(sessions.data()),
                                 static_cast<unsigned int>(sessions.size()));
  if (!files.client_ca.empty()) {
    TM_CHECK(trust(context.get(), "client authorities", files.client_ca));
    SSL_CTX_set_client_CA_list(context.get(), SSL_load_client_CA_file(files.client_ca.c_str()));
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  }
  return context;
}

Result<TlsContext> load_client_tls(const TlsClientFiles& files) {
  TM_TRY(TlsContext context, make_context(TLS_client_method()));
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_alpn_protos(context.get(), reinterpret_cast<const unsigned char*>(protocols.data()),
                          static_cast<unsigned int>(protocols.size()));
  if (files.ca.empty()) {
    SSL_CTX_set_default_verify_paths(context.get());
  } else {
    TM_CHECK(trust(context.get(), "authorities", files.ca));
  }
  if (!files.certificate.empty()) TM_CHECK(use_pair(context.get(), files.certificate, files.key));
  return context;
}

}  // namespace tidemill::wire
