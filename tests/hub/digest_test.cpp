#include "hub/digest.hpp"

#include <algorithm>
#include <span>
#include <string>

#include <gtest/gtest.h>

namespace tidemill::hub {
namespace {

// Golden: FIPS 180-4's example, and what `git hash-object` says.
TEST(HubDigest, IsTheOneThatGitAndLfsHave) {
  EXPECT_EQ(digest_of(DigestKind::sha256, "abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest_of(DigestKind::git_sha1, "hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
  EXPECT_EQ(digest_of(DigestKind::git_sha1, ""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

TEST(HubDigest, DoesNotDependOnPortions) {
  const std::string text(1000, 'x');
  for (const DigestKind kind : {DigestKind::sha256, DigestKind::git_sha1}) {
    RunningDigest digest(kind, text.size());
    for (size_t at = 0; at < text.size(); at += 300)
      digest.add(std::as_bytes(std::span(text).subspan(at, std::min<size_t>(300, text.size() - at))));
    EXPECT_EQ(digest.finish(), digest_of(kind, text));
  }
}

TEST(HubDigest, OnlyHexadecimalOfTheRightLengthIsOne) {
  EXPECT_TRUE((Digest{DigestKind::sha256, std::string(64, 'a')}.valid()));
  EXPECT_FALSE((Digest{DigestKind::sha256, std::string(40, 'a')}.valid()));
  EXPECT_TRUE((Digest{DigestKind::git_sha1, std::string(40, '0')}.valid()));
  EXPECT_FALSE((Digest{DigestKind::git_sha1, std::string(39, '0') + "G"}.valid()));
  EXPECT_FALSE((Digest{DigestKind::git_sha1, std::string(37, '0') + "/.."}.valid()));
}

}  // namespace
}  // namespace tidemill::hub
