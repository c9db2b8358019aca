#include "hub/listing.hpp"

#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "expect_says.hpp"

namespace tidemill::hub {
namespace {

using base::ErrorCode;

const std::string kSha1(40, '1');
const std::string kSha256(64, '2');

TEST(HubListing, Files) {
  std::vector<RepoFile> files;
  const auto added = add_files(fmt::format(R"([
    {{"type": "directory", "oid": "{0}", "size": 0, "path": "sub"}},
    {{"type": "file", "oid": "{0}", "size": 12, "path": "config.json"}},
    {{"type": "file", "oid": "{0}", "size": 134, "path": "sub/a.gguf",
      "lfs": {{"oid": "{1}", "size": 5000000000, "pointerSize": 134}}, "xetHash": "x"}},
    {{"type": "file", "size": 3, "path": "plain"}}])",
                                           kSha1, kSha256),
                               files);
  ASSERT_TRUE(added) << added.error().to_string();
  ASSERT_EQ(files.size(), 3);
  EXPECT_EQ(files[0].path, "config.json");
  EXPECT_EQ(files[0].size, 12);
  EXPECT_EQ(files[0].digest, (Digest{DigestKind::git_sha1, kSha1}));
  // Of what lies in LFS, the pointer's size and name mean nothing.
  EXPECT_EQ(files[1].size, 5'000'000'000);
  EXPECT_EQ(files[1].digest, (Digest{DigestKind::sha256, kSha256}));
  EXPECT_EQ(files[2].digest, std::nullopt);
}

TEST(HubListing, NamesThatLeadOutOfTheFolderAreRefused) {
  for (const char* path : {"../evil", "a/../../evil", "/etc/passwd", "a//b", "./a", "a/.", "", "..", "a\\u0000b"}) {
    std::vector<RepoFile> files;
    const auto added = add_files(fmt::format(R"([{{"type": "file", "size": 1, "path": "{}"}}])", path), files);
    ASSERT_FALSE(added) << path;
    EXPECT_EQ(added.error().code(), ErrorCode::corrupt);
    EXPECT_TRUE(files.empty());
  }
  EXPECT_TRUE(is_safe_path("a..b/...c/d.gguf"));
  EXPECT_FALSE(is_safe_path(std::string(251, 'a')));
}

TEST(HubListing, OddAnswersAreRefused) {
  for (const std::string& text :
       {std::string("{}"), std::string("[1]"), std::string("nonsense"),
        std::string(R"([{"type": "file", "path": "a"}])"),
        std::string(R"([{"type": "file", "path": "a", "size": -1}])"),
        std::string(R"([{"type": "file", "path": "a", "size": 9000000000000000000}])"),
        std::string(R"([{"type": "file", "path": "a", "size": 1, "oid": "../x"}])"),
        std::string(R"([{"type": "file", "path": "a", "size": 1, "lfs": {"size": 1, "oid": "abc"}}])")}) {
    std::vector<RepoFile> files;
    const auto added = add_files(text, files);
    ASSERT_FALSE(added) << text;
    EXPECT_EQ(added.error().code(), ErrorCode::corrupt) << text;
  }
}

TEST(HubListing, Commit) {
  EXPECT_EQ(*parse_commit(fmt::format(R"({{"id": "a/b", "sha": "{}"}})", kSha1)), kSha1);
  for (const char* text :
       {"{}", "[]", R"({"sha": "main"})", R"({"sha": "../../x"})", R"({"sha": 1})", "nonsense", ""}) {
    const auto commit = parse_commit(text);
    ASSERT_FALSE(commit) << text;
    EXPECT_EQ(commit.error().code(), ErrorCode::corrupt) << text;
  }
}

}  // namespace
}  // namespace tidemill::hub
