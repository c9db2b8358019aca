#include "serve/tenants.hpp"

#include <array>

#include <fmt/core.h>
#include <openssl/sha.h>

namespace tidemill::serve {

std::string tenant_of(std::string_view api_key) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(api_key.data()), api_key.size(), digest.data());
  std::string name = "key-";
  for (const unsigned char byte : digest)
    name += fmt::format("{:02x}", byte);
  return name;
}

std::vector<std::string> tenants_of(const std::vector<std::string>& api_keys) {
  if (api_keys.empty()) return {""};
  std::vector<std::string> tenants;
  tenants.reserve(api_keys.size());
  for (const std::string& key : api_keys)
    tenants.push_back(tenant_of(key));
  return tenants;
}

}  // namespace tidemill::serve
