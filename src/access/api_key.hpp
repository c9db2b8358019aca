// API keys: who calls, and what a key allows.
//
// A key is "tm-" and 256 random bits in base64url. Only its SHA-256 is kept. A slow, salted hash (as for passwords)
// would add nothing: those slow down guessing, and 256 random bits cannot be guessed at any speed, while every request
// would pay for it.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::access {

using Digest = std::array<unsigned char, 32>;

// Urgency of a tenant's or a key's requests in the queue (access/admission.hpp).
enum class Priority { low, normal, high };

std::string_view to_string(Priority priority);
// Errors: `invalid_argument`, which lists the words.
base::Result<Priority> parse_priority(std::string_view word);

struct ApiKey {
  std::string id{};    // "key_..." of 16 digits: public, names the key in logs and commands
  std::string name{};  // for people
  std::string tenant{};
  Digest digest{};                     // SHA-256 of the secret
  std::string hint{};                  // its last four characters
  std::vector<std::string> scopes{};   // what it may do: words of known_scopes()
  std::vector<std::string> models{};   // which it may call, "qwen3-*" for those that begin so; empty: all
  std::optional<Priority> priority{};  // its tenant's if there is none
  base::WallTime created{};
  std::optional<base::WallTime> expires{};
  bool disabled = false;
};

// generate, embed, read (lists of models, kept responses), feedback, admin.
const std::vector<std::string>& known_scopes();

// The digest under which a secret is kept.
Digest digest_of(std::string_view secret);

struct NewKey {
  ApiKey key;
  std::string secret;  // to be shown once
};

// Fills in id, digest, hint and created; without scopes the key gets all but admin. The secret comes from the operating
// system's generator (OpenSSL). Errors: `invalid_argument` for a tenant or a name that is empty, too long (over 128
// bytes) or not printable, an unknown scope, an expiry that is over; `internal` if there is no randomness.
base::Result<NewKey> make_key(ApiKey wanted, base::WallTime now);

// A key as JSON, as files and stores keep it. The secret is nowhere in it.
base::json::object to_json(const ApiKey& key);
// Errors: `corrupt`, naming the field.
base::Result<ApiKey> parse_key(const base::json::value& value);

}  // namespace tidemill::access
