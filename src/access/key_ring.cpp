#include "access/key_ring.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <openssl/crypto.h>

#include "access/prices.hpp"
#include "base/utf8.hpp"

namespace tidemill::access {

size_t KeyRing::DigestHash::operator()(const Digest& digest) const {
  size_t bits = 0;
  std::memcpy(&bits, digest.data(), sizeof(bits));
  return bits;
}

bool KeyRing::DigestEqual::operator()(const Digest& a, const Digest& b) const {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

KeyRing::KeyRing(std::vector<ApiKey> keys) {
  keys_.reserve(keys.size());
  for (ApiKey& key : keys) {
    const Digest digest = key.digest;
    keys_.insert_or_assign(digest, std::move(key));
  }
}

KeyRing::Found KeyRing::find(std::string_view secret, base::WallTime now) const {
  const auto refuse = [](std::string message) {
    return Found{nullptr, Denial{401, "invalid_api_key", std::move(message)}};
  };
  if (secret.empty()) return refuse("an API key is required: send it as 'Authorization: Bearer KEY'");
  const auto found = keys_.find(digest_of(secret));
  if (found == keys_.end()) return refuse("the API key is not known here: it is misspelt or was revoked");
  const ApiKey& key = found->second;
  if (key.disabled) return refuse(fmt::format("the API key {} was revoked", key.id));
  if (key.expires && *key.expires <= now) return refuse(fmt::format("the time of the API key {} is over", key.id));
  return {&key, std::nullopt};
}

std::optional<Denial> denied(const ApiKey& key, std::string_view scope, std::string_view model) {
  if (std::find(key.scopes.begin(), key.scopes.end(), scope) == key.scopes.end()) {
    return Denial{
        403, "insufficient_permissions",
        fmt::format("the API key {} may not '{}': its scopes are {}", key.id, scope, fmt::join(key.scopes, ", "))};
  }
  if (model.empty() || key.models.empty()) return std::nullopt;
  const bool allowed = std::any_of(key.models.begin(), key.models.end(),
                                   [&](const std::string& pattern) { return covers(pattern, model); });
  if (allowed) return std::nullopt;
  return Denial{403, "model_not_found",
                fmt::format("the API key {} may not call the model '{}': its models are {}", key.id,
                            base::utf8::prefix(model, 100), fmt::join(key.models, ", "))};
}

}  // namespace tidemill::access
