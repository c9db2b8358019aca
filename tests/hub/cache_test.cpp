#include "hub/cache.hpp"

#include <cstdlib>
#include <map>
#include <string>

#include <gtest/gtest.h>

#include "expect_says.hpp"
#include "temporary_folder.hpp"

namespace tidemill::hub {
namespace {

using base::ErrorCode;
using namespace std::chrono_literals;

const std::string kCommit(40, 'a');

std::string root_with(const std::map<std::string, std::string>& variables) {
  const auto cache = Cache::standard([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found != variables.end() ? found->second.c_str() : nullptr;
  });
  return cache ? cache->root().string() : "error: " + cache.error().message();
}

TEST(HubCache, ItsPlace) {
  EXPECT_EQ(root_with({{"TIDEMILL_CACHE", "/models"}, {"XDG_CACHE_HOME", "/x"}, {"HOME", "/h"}}), "/models");
  EXPECT_EQ(root_with({{"TIDEMILL_CACHE", ""}, {"XDG_CACHE_HOME", "/x"}, {"HOME", "/h"}}), "/x/tidemill");
  EXPECT_EQ(root_with({{"XDG_CACHE_HOME", "relative"}, {"HOME", "/h"}}), "/h/.cache/tidemill");
  EXPECT_EQ(root_with({{"TIDEMILL_CACHE", "relative"}}), (std::filesystem::current_path() / "relative").string());
  EXPECT_SAYS(root_with({}), "TIDEMILL_CACHE");
}

TEST(HubCache, ManifestsAreReadAsTheyWereWritten) {
  Manifest manifest;
  manifest.repository = "acme/tiny";
  manifest.commit = kCommit;
  manifest.revisions = {{"main", base::WallTime(1700000000123ms)}, {"v1", base::WallTime(1600000000000ms)}};
  manifest.add({.file = {.path = "a.gguf", .size = 1, .digest = std::nullopt}, .from = "old"});
  manifest.add({.file = {.path = "a.gguf",
                         .size = 5'000'000'000,
                         .digest = Digest{.kind = DigestKind::sha256, .hex = std::string(64, 'b')}},
                .from = "https://hub/a"});
  manifest.add(
      {.file = {.path = "c", .size = 0, .digest = Digest{.kind = DigestKind::git_sha1, .hex = kCommit}}, .from = ""});
  manifest.looked_for = {"config.json", "modules.json"};
  const auto read = Manifest::parse(manifest.to_json());
  ASSERT_TRUE(read) << read.error().to_string();
  EXPECT_EQ(read->to_json(), manifest.to_json());
  EXPECT_EQ(read->revisions, manifest.revisions);
  EXPECT_EQ(read->looked_for, manifest.looked_for);
  ASSERT_EQ(read->files.size(), 2);
  EXPECT_EQ(read->files[0].file.size, 5'000'000'000);
  EXPECT_EQ(read->files[0].file.digest, manifest.files[0].file.digest);
  EXPECT_EQ(read->files[0].from, "https://hub/a");
  EXPECT_EQ(read->fetched_as(kCommit), base::WallTime(1700000000123ms));
  EXPECT_EQ(read->fetched_as("v1"), base::WallTime(1600000000000ms));
  EXPECT_EQ(read->fetched_as("v2"), std::nullopt);
  for (const char* text :
       {"", "[]", "{}", R"({"version": 2})", R"({"version": 1, "revisions_unix_ms": {"main": -1}, "files": []})",
        R"({"version": 1, "revisions_unix_ms": {}, "files": [{"path": "../x", "size": 1}]})",
        R"({"version": 1, "revisions_unix_ms": {}, "files": [], "looked_for": [1]})"})
    EXPECT_FALSE(Manifest::parse(text)) << text;
}

TEST(HubCache, WhatIsNotThereComesWithACommand) {
  const test::TemporaryFolder folder;
  const Cache cache(folder.path());
  const auto name = ModelName::parse("hf:acme/tiny@v1:Q4_K_M");
  const auto found = cache.find(*name);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), ErrorCode::not_found);
  EXPECT_SAYS(found.error().message(), "tidemill pull hf:acme/tiny@v1:Q4_K_M");
  EXPECT_TRUE(cache.manifests().empty());
}

TEST(HubCache, WhatIsNoManifestIsPassedOver) {
  const test::TemporaryFolder folder;
  const Cache cache(folder.path());
  folder.put("models--acme--tiny/manifests/" + kCommit + ".json", "half a");
  folder.put("models--acme--tiny/manifests/other.txt", "");
  folder.put("models--x/manifests/a.json", "");
  folder.put("else", "");
  EXPECT_TRUE(cache.manifests().empty());
  EXPECT_FALSE(cache.find(*ModelName::parse("hf:acme/tiny")));
  Manifest manifest;
  manifest.repository = "acme/tiny";
  manifest.commit = kCommit;
  manifest.revisions["main"] = base::WallTime(1s);
  ASSERT_TRUE(cache.write(manifest));
  ASSERT_EQ(cache.manifests().size(), 1);
  EXPECT_EQ(cache.manifests()[0].commit, kCommit);
}

TEST(HubCache, LinksStayBelowTheSnapshotAndMoveWithTheCache) {
  const test::TemporaryFolder folder;
  const Cache cache(folder.path() / "cache");
  ASSERT_TRUE(cache.lock("acme/tiny"));
  const RepoFile file{.path = "sub/a.gguf", .size = 4, .digest = Digest{.kind = DigestKind::git_sha1, .hex = kCommit}};
  folder.put("cache/models--acme--tiny/blobs/" + kCommit, "four");
  ASSERT_TRUE(cache.link("acme/tiny", file, kCommit));
  ASSERT_TRUE(cache.link("acme/tiny", file, kCommit));
  Manifest manifest;
  manifest.repository = "acme/tiny";
  manifest.commit = kCommit;
  manifest.revisions["main"] = base::WallTime(1s);
  manifest.add({.file = file, .from = ""});
  ASSERT_TRUE(cache.write(manifest));
  std::filesystem::rename(folder.path() / "cache", folder.path() / "moved");
  const Cache moved(folder.path() / "moved");
  const auto found = moved.find(*ModelName::parse("hf:acme/tiny"));
  ASSERT_TRUE(found) << found.error().to_string();
  EXPECT_EQ(std::filesystem::file_size(*found), 4);
  EXPECT_EQ(*found, folder.path() / "moved/models--acme--tiny/snapshots" / kCommit / "sub/a.gguf");
  // Of another size it is not the file that was fetched.
  folder.put("moved/models--acme--tiny/blobs/" + kCommit, "five.");
  EXPECT_SAYS(moved.find(*ModelName::parse("hf:acme/tiny")).error().message(), "another size");
}

}  // namespace
}  // namespace tidemill::hub
