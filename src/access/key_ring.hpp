// The keys in force, as a gateway looks them up.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "access/api_key.hpp"

namespace tidemill::access {

// Why a key does not let a request through, as OpenAI's API would put it.
struct Denial {
  int status = 401;  // 401: who are you; 403: you may not
  std::string code;  // "invalid_api_key", "insufficient_permissions", "model_not_found"
  std::string message;
};

// A set of keys. Immutable, so it may be read from any thread; a reload builds another one and swaps the pointer to it.
// A look-up costs one SHA-256 and one probe of a hash table, however many keys there are; digests are compared in
// constant time, so that time tells nothing of those that are kept.
class KeyRing {
 public:
  // Of two keys with one digest the last counts.
  explicit KeyRing(std::vector<ApiKey> keys);

  struct Found {
    const ApiKey* key = nullptr;  // lives as long as the ring; nullptr if denied
    std::optional<Denial> denial;
  };
  // Whose `secret` this is. Denied: none given, unknown, disabled, over.
  Found find(std::string_view secret, base::WallTime now) const;

  size_t size() const { return keys_.size(); }

 private:
  struct DigestHash {
    // The digest's own bits: whoever could choose them would have broken SHA-256.
    size_t operator()(const Digest& digest) const;
  };
  struct DigestEqual {
    bool operator()(const Digest& a, const Digest& b) const;
  };
  std::unordered_map<Digest, ApiKey, DigestHash, DigestEqual> keys_;
};

// Whether the key allows an action (a word of known_scopes()), and the model if there is one; nullopt: it does.
std::optional<Denial> denied(const ApiKey& key, std::string_view scope, std::string_view model = {});

}  // namespace tidemill::access
