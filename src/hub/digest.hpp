// What a file of the hub must hash to. Git LFS names a file by its content's SHA-256; Git names what it keeps itself by
// the SHA-1 of "blob <size>\0" and the content (gitformat-pack; git-hash-object).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tidemill::hub {

enum class DigestKind : uint8_t { sha256, git_sha1 };
// "sha256", "git-sha1"
std::string_view to_string(DigestKind kind);

// Whether `text` is so many digits of lower-case hexadecimal: what may become a part of a file's name here.
bool is_hex(std::string_view text, size_t digits);

struct Digest {
  DigestKind kind = DigestKind::sha256;
  std::string hex;  // 64 digits or 40

  // Whether `hex` is what its kind asks for.
  bool valid() const { return is_hex(hex, kind == DigestKind::sha256 ? 64 : 40); }
  friend bool operator==(const Digest&, const Digest&) = default;
};

// The digest of content that comes in portions. Not thread-safe.
class RunningDigest {
 public:
  // `size`: of the whole content, with which Git's digest begins.
  RunningDigest(DigestKind kind, uint64_t size);
  ~RunningDigest();
  RunningDigest(const RunningDigest&) = delete;
  RunningDigest& operator=(const RunningDigest&) = delete;

  void add(std::span<const std::byte> bytes);
  // In hexadecimal, once, at the end. Empty where OpenSSL does not have the kind (a FIPS build without SHA-1).
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Of a text that is whole.
std::string digest_of(DigestKind kind, std::string_view content);

}  // namespace tidemill::hub
