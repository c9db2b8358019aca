#include "hub/digest.hpp"

#include <algorithm>
#include <array>

#include <openssl/evp.h>

#include "observe/hex.hpp"

namespace tidemill::hub {

std::string_view to_string(DigestKind kind) {
  return kind == DigestKind::sha256 ? "sha256" : "git-sha1";
}

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

struct RunningDigest::State {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
  bool good = false;
};

RunningDigest::RunningDigest(DigestKind kind, uint64_t size) : state_(std::make_unique<State>()) {
  const EVP_MD* const method = kind == DigestKind::sha256 ? EVP_sha256() : EVP_sha1();
  state_->good = state_->context && EVP_DigestInit_ex(state_->context.get(), method, nullptr) == 1;
  if (kind == DigestKind::sha256) return;
  const std::string header = "blob " + std::to_string(size) + '\0';
  add(std::as_bytes(std::span(header)));
}

RunningDigest::~RunningDigest() = default;

void RunningDigest::add(std::span<const std::byte> bytes) {
  state_->good = state_->good && EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1;
}

std::string RunningDigest::finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> value{};
  unsigned int length = 0;
  if (!state_->good || EVP_DigestFinal_ex(state_->context.get(), value.data(), &length) != 1) return {};
  return observe::to_hex(std::span(value.data(), length));
}

std::string digest_of(DigestKind kind, std::string_view content) {
  RunningDigest digest(kind, content.size());
  digest.add(std::as_bytes(std::span(content)));
  return digest.finish();
}

}  // namespace tidemill::hub
