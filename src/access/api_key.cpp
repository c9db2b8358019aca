#include "access/api_key.hpp"

#include <algorithm>

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include "base/ids.hpp"
#include "base/nearest.hpp"
#include "base/utf8.hpp"

namespace tidemill::access {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

constexpr std::string_view prefix = "tm-";
constexpr size_t most_name_bytes = 128;

std::string base64url(const Digest& bytes) {
  std::array<unsigned char, 48> text{};  // 44 characters and a zero
  const int size = EVP_EncodeBlock(text.data(), bytes.data(), static_cast<int>(bytes.size()));
  std::string encoded(reinterpret_cast<const char*>(text.data()), static_cast<size_t>(size));
  encoded.erase(encoded.find_last_not_of('=') + 1);
  std::replace(encoded.begin(), encoded.end(), '+', '-');
  std::replace(encoded.begin(), encoded.end(), '/', '_');
  return encoded;
}

std::string hex(const Digest& digest) {
  std::string text;
  for (const unsigned char byte : digest)
    text += fmt::format("{:02x}", byte);
  return text;
}

std::optional<Digest> parse_hex(std::string_view text) {
  Digest digest{};
  if (text.size() != digest.size() * 2) return std::nullopt;
  const std::string_view digits = "0123456789abcdef";
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t digit = digits.find(text[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    digest[i / 2] = static_cast<unsigned char>((digest[i / 2] << 4) | static_cast<unsigned char>(digit));
  }
  return digest;
}

Result<void> check_name(std::string_view what, std::string_view text) {
  const bool plain = std::none_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
  if (!text.empty() && text.size() <= most_name_bytes && plain && base::utf8::is_valid(text)) return {};
  return Error(ErrorCode::invalid_argument, fmt::format("the {} must be 1 to {} bytes of printable text, not {} bytes",
                                                        what, most_name_bytes, text.size()));
}

Result<void> check_scopes(const std::vector<std::string>& scopes) {
  for (const std::string& scope : scopes) {
    const std::vector<std::string>& known = known_scopes();
    if (std::find(known.begin(), known.end(), scope) != known.end()) continue;
    return Error(ErrorCode::invalid_argument,
                 fmt::format("there is no scope '{}' (did you mean '{}'?): the scopes are {}", scope,
                             base::nearest(scope, known), fmt::join(known, ", ")));
  }
  return {};
}

int64_t unix_seconds(base::WallTime time) {
  return base::unix_nanos(time) / 1'000'000'000;
}

base::WallTime wall_time_of(int64_t seconds) {
  return base::WallTime(std::chrono::seconds(seconds));
}

json::array words(const std::vector<std::string>& list) {
  json::array made;
  for (const std::string& word : list)
    made.emplace_back(word);
  return made;
}

// Reads the fields of a key; the first that is wrong is remembered.
class Fields {
 public:
  explicit Fields(const json::object& object) : object_(object) {}

  std::string text(const char* name) {
    const json::value* field = object_.if_contains(name);
    if (field != nullptr && field->is_string()) return std::string(field->get_string());
    fail(name, "a string");
    return {};
  }
  std::vector<std::string> list(const char* name) {
    std::vector<std::string> words;
    const json::value* field = object_.if_contains(name);
    if (field == nullptr) return words;
    if (!field->is_array()) {
      fail(name, "a list of strings");
      return words;
    }
    for (const json::value& word : field->get_array()) {
      if (word.is_string()) {
        words.emplace_back(word.get_string());
      } else {
        fail(name, "a list of strings");
      }
    }
    return words;
  }
  std::optional<base::WallTime> time(const char* name) {
    const json::value* field = object_.if_contains(name);
    if (field == nullptr) return std::nullopt;
    constexpr int64_t most_seconds = int64_t{1} << 33;  // year 2242; nanoseconds in 64 bits end in 2262
    if (field->is_int64() && field->get_int64() >= 0 && field->get_int64() < most_seconds) {
      return wall_time_of(field->get_int64());
    }
    fail(name, "seconds since 1970");
    return std::nullopt;
  }
  bool truth(const char* name) {
    const json::value* field = object_.if_contains(name);
    if (field == nullptr) return false;
    if (!field->is_bool()) fail(name, "true or false");
    return field->is_bool() && field->get_bool();
  }
  void fail(std::string_view name, std::string_view wanted) {
    if (fault_.empty()) fault_ = fmt::format("the key's '{}' must be {}", name, wanted);
  }
  const std::string& fault() const { return fault_; }

 private:
  const json::object& object_;
  std::string fault_;
};

}  // namespace

std::string_view to_string(Priority priority) {
  switch (priority) {
    case Priority::low:
      return "low";
    case Priority::normal:
      return "normal";
    case Priority::high:
      return "high";
  }
  return "normal";
}

Result<Priority> parse_priority(std::string_view word) {
  for (const Priority priority : {Priority::low, Priority::normal, Priority::high}) {
    if (word == to_string(priority)) return priority;
  }
  return Error(ErrorCode::invalid_argument, fmt::format("'{}' is no priority: use low, normal or high", word));
}

const std::vector<std::string>& known_scopes() {
  static const std::vector<std::string> scopes = {"generate", "embed", "read", "feedback", "admin"};
  return scopes;
}

Digest digest_of(std::string_view secret) {
  Digest digest{};
  SHA256(reinterpret_cast<const unsigned char*>(secret.data()), secret.size(), digest.data());
  return digest;
}

Result<NewKey> make_key(ApiKey wanted, base::WallTime now) {
  TM_CHECK(check_name("tenant", wanted.tenant));
  TM_CHECK(check_name("name", wanted.name));
  TM_CHECK(check_scopes(wanted.scopes));
  for (const std::string& model : wanted.models)
    TM_CHECK(check_name("model", model));
  if (wanted.expires && *wanted.expires <= now) {
    return Error(ErrorCode::invalid_argument, "the key would be over before its first use: give a later expiry");
  }
  Digest bits{};
  if (RAND_bytes(bits.data(), static_cast<int>(bits.size())) != 1) {
    return Error(ErrorCode::internal, "the operating system gives no random numbers");
  }
  if (wanted.scopes.empty()) wanted.scopes = {"generate", "embed", "read", "feedback"};
  NewKey made{std::move(wanted), std::string(prefix) + base64url(bits)};
  made.key.id = "key_" + base::random_hex(8);
  made.key.digest = digest_of(made.secret);
  made.key.hint = made.secret.substr(made.secret.size() - 4);
  made.key.created = now;
  return made;
}

json::object to_json(const ApiKey& key) {
  json::object object{{"id", key.id},
                      {"name", key.name},
                      {"tenant", key.tenant},
                      {"sha256", hex(key.digest)},
                      {"hint", key.hint},
                      {"scopes", words(key.scopes)},
                      {"models", words(key.models)}};
  if (key.priority) object["priority"] = to_string(*key.priority);
  object["created"] = unix_seconds(key.created);
  if (key.expires) object["expires"] = unix_seconds(*key.expires);
  object["disabled"] = key.disabled;
  return object;
}

Result<ApiKey> parse_key(const json::value& value) {
  if (!value.is_object()) return Error(ErrorCode::corrupt, "a key must be a JSON object");
  Fields fields(value.get_object());
  ApiKey key;
  key.id = fields.text("id");
  key.name = fields.text("name");
  key.tenant = fields.text("tenant");
  key.hint = fields.text("hint");
  key.scopes = fields.list("scopes");
  key.models = fields.list("models");
  key.created = fields.time("created").value_or(base::WallTime());
  key.expires = fields.time("expires");
  key.disabled = fields.truth("disabled");
  if (const std::optional<Digest> digest = parse_hex(fields.text("sha256"))) {
    key.digest = *digest;
  } else {
    fields.fail("sha256", "64 hexadecimal digits");
  }
  if (value.get_object().contains("priority")) {
    auto priority = parse_priority(fields.text("priority"));
    if (priority) {
      key.priority = *priority;
    } else {
      fields.fail("priority", "low, normal or high");
    }
  }
  if (!fields.fault().empty()) return Error(ErrorCode::corrupt, fmt::format("{} (key '{}')", fields.fault(), key.id));
  return key;
}

}  // namespace tidemill::access
