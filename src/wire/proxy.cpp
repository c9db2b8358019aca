#include "wire/proxy.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <utility>

#include <fmt/format.h>
#include <openssl/evp.h>

#include "wire/http_head.hpp"

namespace tidemill::wire {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
using boost::asio::ip::address;

constexpr std::string_view kProxyForm = "http://HOST:PORT or http://USER:PASSWORD@HOST:PORT";

std::string base64_of(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // OpenSSL ends it with a NUL
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(length));
  return text;
}

// The value of a variable. Nothing of it but scheme, host and port is repeated in what is said: the rest may be secret.
Result<Proxy> parse_proxy(std::string_view value, const std::string& variable) {
  const auto bad = [&variable](std::string_view why) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("{} does not name a proxy: {}; it should look like {}", variable, why, kProxyForm));
  };
  if (const size_t end = value.find("://"); end != std::string_view::npos) {
    const std::string_view scheme = value.substr(0, end);
    if (equal_ignoring_case(scheme, "https")) {
      return bad(
          "proxies that are themselves spoken to over TLS (https://) are not supported, and one of http:// "
          "carries https as well");
    }
    if (!equal_ignoring_case(scheme, "http")) {
      const bool plain = scheme.size() <= 16 && std::all_of(scheme.begin(), scheme.end(), [](char c) {
                           return is_token_character(static_cast<unsigned char>(c));
                         });
      return bad(fmt::format("proxies of the scheme '{}' are not supported, only those of http",
                             plain ? scheme : std::string_view("...")));
    }
    value.remove_prefix(end + 3);
  }
  value = value.substr(0, value.find_first_of("/?#", value.rfind('@') == value.npos ? 0 : value.rfind('@')));
  Proxy proxy;
  proxy.variable = variable;
  if (const size_t at = value.rfind('@'); at != std::string_view::npos) {
    const std::string_view account = value.substr(0, at);
    const size_t colon = std::min(account.find(':'), account.size());
    const auto user = percent_decode(account.substr(0, colon));
    const auto password = percent_decode(account.substr(std::min(colon + 1, account.size())));
    if (!user || !password) return bad("a '%' in its user or password is not followed by two hexadecimal digits");
    if (user->size() + password->size() > 4096) return bad("its user and password are longer than 4096 bytes");
    if (user->find(':') != std::string::npos) return bad("its user has a colon, which basic authentication cannot say");
    proxy.authorization = "Basic " + base64_of(*user + ":" + *password);
    value.remove_prefix(at + 1);
  }
  const size_t name_end = value.starts_with('[') ? value.find(']') : 0;
  const bool has_port = name_end != std::string_view::npos && value.find(':', name_end) != std::string_view::npos;
  auto parsed = Url::parse(fmt::format("http://{}{}/", value, has_port ? "" : ":1080"));
  if (!parsed) return bad("its host or its port is none");
  proxy.address = *std::move(parsed);
  return proxy;
}

std::string_view without_last_dot(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  return name;
}

std::optional<address> as_address(std::string_view text) {
  boost::system::error_code none;
  const address found = boost::asio::ip::make_address(std::string(text), none);
  return none ? std::nullopt : std::optional(found);
}

// Its bytes in the form of IPv6, so that 10.0.0.1 and ::ffff:10.0.0.1 are one.
std::array<unsigned char, 16> bytes_of(const address& of) {
  if (of.is_v6()) return of.to_v6().to_bytes();
  return boost::asio::ip::make_address_v6(boost::asio::ip::v4_mapped, of.to_v4()).to_bytes();
}

bool read_number(std::string_view text, unsigned most, unsigned& number) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && stop == text.data() + text.size() && number <= most;
}

}  // namespace

// ---- one proxy

std::string Proxy::text() const {
  return fmt::format("the proxy {} ({})", address.host_and_port(), variable);
}

Error Proxy::refusal(const HttpResponse& answer, const Url& to) const {
  if (answer.status == 407) {
    const bool basic = std::any_of(answer.headers.begin(), answer.headers.end(), [](const auto& field) {
      return equal_ignoring_case(field.first, "proxy-authenticate") && field.second.size() >= 5 &&
             equal_ignoring_case(std::string_view(field.second).substr(0, 5), "basic");
    });
    if (!basic && answer.headers.has("proxy-authenticate")) {
      return {ErrorCode::invalid_argument,
              fmt::format("{} asks for a kind of authentication that is not supported (407): only Basic is", text())};
    }
    const std::string form = "http://USER:PASSWORD@" + address.host_and_port();
    return {ErrorCode::invalid_argument,
            authorization.empty()
                ? fmt::format("{} asks for a user and a password (407): set {} to {}, with what is special in them "
                              "percent-encoded",
                              text(), variable, form)
                : fmt::format("{} does not accept the user and the password that {} has (407): it should be {}, with "
                              "what is special in them percent-encoded",
                              text(), variable, form)};
  }
  const int status = answer.status;
  const bool passing = status == 408 || status == 429 || (status >= 500 && status != 501 && status != 505);
  return {passing ? ErrorCode::unavailable : ErrorCode::not_found,
          fmt::format("{} does not connect to {}: it answers {} {}{}", text(), to.authority(), status,
                      reason_phrase(status),
                      passing ? "" : "; where the host is to be reached without it, name it in NO_PROXY")};
}

// ---- the rules

ProxyRules ProxyRules::from_environment(const std::function<std::string(const char*)>& variable) {
  const auto first = [&variable](std::initializer_list<const char*> names) -> std::optional<Result<Proxy>> {
    for (const char* const name : names) {
      if (const std::string value = variable(name); !value.empty()) return parse_proxy(value, name);
    }
    return std::nullopt;
  };
  ProxyRules rules;
  rules.http_ = first({"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"});
  rules.https_ = first({"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"});
  std::string list = variable("no_proxy");
  if (list.empty()) list = variable("NO_PROXY");
  std::string_view rest = list;
  constexpr std::string_view between = ", \t";
  while (true) {
    rest.remove_prefix(std::min(rest.find_first_not_of(between), rest.size()));
    if (rest.empty()) return rules;
    const std::string_view entry = rest.substr(0, rest.find_first_of(between));
    if (auto exception = read_exception(entry)) rules.exceptions_.push_back(*std::move(exception));
    rest.remove_prefix(entry.size());
  }
}

// None: nothing that a host could be.
std::optional<ProxyRules::Exception> ProxyRules::read_exception(std::string_view text) {
  Exception exception;
  unsigned number = 0;
  if (text == "*") return exception;
  if (text.starts_with('[')) {  // an address of IPv6, with a port or without
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    std::string_view port = text.substr(end + 1);
    if (!port.empty() && (!port.starts_with(':') || !read_number(port.substr(1), 65535, number))) return std::nullopt;
    exception.port = static_cast<uint16_t>(number);
    text = text.substr(1, end - 1);
  } else if (const size_t colon = text.find(':'); colon != std::string_view::npos && colon == text.rfind(':')) {
    if (!read_number(text.substr(colon + 1), 65535, number)) return std::nullopt;
    exception.port = static_cast<uint16_t>(number);
    text = text.substr(0, colon);
  }
  const size_t slash = text.find('/');
  exception.address = as_address(text.substr(0, slash));
  if (exception.address) {
    const unsigned bits = exception.address->is_v4() ? 32 : 128;
    unsigned prefix = bits;
    if (slash != std::string_view::npos && !read_number(text.substr(slash + 1), bits, prefix)) return std::nullopt;
    exception.prefix_bits = prefix + 128 - bits;
    return exception;
  }
  if (text.starts_with("*.")) text.remove_prefix(1);
  if (text.starts_with('.')) text.remove_prefix(1);
  exception.host = without_last_dot(text);
  return exception.host.empty() ? std::nullopt : std::optional(exception);
}

bool ProxyRules::Exception::holds_for(const Url& to) const {
  if (port != 0 && port != to.port) return false;
  if (address) {
    const auto other = as_address(to.host);
    if (!other) return false;
    const auto a = bytes_of(*address);
    const auto b = bytes_of(*other);
    for (unsigned bit = 0; bit < prefix_bits; ++bit) {
      if (((a[bit / 8] ^ b[bit / 8]) >> (7 - bit % 8) & 1) != 0) return false;
    }
    return true;
  }
  if (host.empty()) return true;
  const std::string_view name = without_last_dot(to.host);
  if (as_address(name)) return false;
  if (name.size() < host.size() || !equal_ignoring_case(name.substr(name.size() - host.size()), host)) return false;
  return name.size() == host.size() || name[name.size() - host.size() - 1] == '.';
}

Result<const Proxy*> ProxyRules::find(const Url& to) const {
  const auto& proxy = to.https ? https_ : http_;
  const auto excepts = [&to](const Exception& exception) { return exception.holds_for(to); };
  if (!proxy || std::any_of(exceptions_.begin(), exceptions_.end(), excepts)) return nullptr;
  if (!*proxy) return proxy->error();
  return &**proxy;
}

}  // namespace tidemill::wire
