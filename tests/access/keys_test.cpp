#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "access/api_key.hpp"
#include "access/key_ring.hpp"
#include "access/key_vault.hpp"
#include "session/session_store.hpp"
#include "temporary_folder.hpp"

namespace tidemill::access {
namespace {

using base::ErrorCode;
using std::chrono::hours;
using std::chrono::seconds;

const base::WallTime now{seconds(1'700'000'000)};

NewKey make(ApiKey wanted = {}) {
  if (wanted.tenant.empty()) wanted.tenant = "acme";
  if (wanted.name.empty()) wanted.name = "test";
  auto made = make_key(std::move(wanted), now);
  EXPECT_TRUE(made) << made.error().to_string();
  return made ? *made : NewKey();
}

TEST(ApiKey, AreRandomAndKeptAsDigests) {
  const NewKey one = make();
  const NewKey two = make();
  EXPECT_EQ(one.secret.size(), 3 + 43U);  // 256 bits of six each
  EXPECT_TRUE(one.secret.starts_with("tm-"));
  EXPECT_EQ(one.secret.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"),
            std::string::npos);
  EXPECT_NE(one.secret, two.secret);
  EXPECT_NE(one.key.id, two.key.id);
  EXPECT_EQ(base::json::serialize(to_json(one.key)).find(one.secret.substr(3, 20)), std::string::npos);
}

// The digest of FIPS 180-2's first example.
TEST(ApiKey, TheDigestIsSha256) {
  const Digest digest = digest_of("abc");
  EXPECT_EQ(digest[0], 0xba);
  EXPECT_EQ(digest[1], 0x78);
  EXPECT_EQ(digest[31], 0xad);
}

TEST(ApiKey, GoesThroughJson) {
  ApiKey wanted;
  wanted.tenant = "team \"ü\"";
  wanted.name = "ci";
  wanted.scopes = {"read", "admin"};
  wanted.models = {"qwen3-*", "nano"};
  wanted.priority = Priority::high;
  wanted.expires = now + hours(1);
  ApiKey key = make(wanted).key;
  key.disabled = true;
  const auto again = parse_key(to_json(key));
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(to_json(*again), to_json(key));
  EXPECT_EQ(again->digest, key.digest);
  EXPECT_EQ(again->tenant, wanted.tenant);
  EXPECT_EQ(again->models, wanted.models);
  EXPECT_EQ(again->priority, Priority::high);
  EXPECT_EQ(again->expires, wanted.expires);
  EXPECT_TRUE(again->disabled);
}

TEST(ApiKey, RefusesWhatItCannotKeep) {
  const auto code = [](ApiKey key) {
    auto made = make_key(std::move(key), now);
    return made ? std::string() : made.error().message();
  };
  EXPECT_NE(code({.name = "x", .tenant = ""}).find("tenant"), std::string::npos);
  EXPECT_NE(code({.name = "", .tenant = "t"}).find("name"), std::string::npos);
  EXPECT_NE(code({.name = "x\n", .tenant = "t"}).find("name"), std::string::npos);
  EXPECT_NE(code({.name = "x", .tenant = "t", .scopes = {"generat"}}).find("did you mean 'generate'"),
            std::string::npos);
  EXPECT_NE(code({.name = "x", .tenant = "t", .expires = now}).find("expiry"), std::string::npos);
  base::json::object broken = to_json(make().key);
  broken["sha256"] = "00";
  EXPECT_EQ(parse_key(broken).error().code(), ErrorCode::corrupt);
  EXPECT_NE(parse_key(broken).error().message().find("sha256"), std::string::npos);
  EXPECT_FALSE(parse_key(base::json::value(3)));
}

TEST(KeyRing, FindsKeysAndSaysWhyNot) {
  const NewKey good = make();
  NewKey ended = make({.expires = now + seconds(10)});
  NewKey revoked = make();
  revoked.key.disabled = true;
  const KeyRing ring({good.key, ended.key, revoked.key});
  EXPECT_EQ(ring.find(good.secret, now).key->id, good.key.id);
  EXPECT_EQ(ring.find(ended.secret, now).key->id, ended.key.id);
  EXPECT_EQ(ring.find(ended.secret, now + seconds(10)).denial->status, 401);
  EXPECT_EQ(ring.find(revoked.secret, now).denial->code, "invalid_api_key");
  EXPECT_EQ(ring.find("", now).denial->status, 401);
  EXPECT_EQ(ring.find("tm-wrong", now).denial->status, 401);
  EXPECT_EQ(ring.find(good.secret.substr(0, 45), now).key, nullptr);
  EXPECT_EQ(KeyRing({}).find(good.secret, now).key, nullptr);
}

TEST(KeyRing, ScopesAndModelsAreHeldTo) {
  const ApiKey key = make({.scopes = {"generate"}, .models = {"qwen3-*", "nano"}}).key;
  EXPECT_FALSE(denied(key, "generate", "qwen3-8b"));
  EXPECT_FALSE(denied(key, "generate", "nano"));
  EXPECT_FALSE(denied(key, "generate"));
  EXPECT_EQ(denied(key, "generate", "nano2")->status, 403);
  EXPECT_EQ(denied(key, "generate", "qwen2")->code, "model_not_found");
  EXPECT_EQ(denied(key, "admin")->code, "insufficient_permissions");
  EXPECT_FALSE(denied(make().key, "generate", "anything"));
  EXPECT_TRUE(denied(make().key, "admin"));
}

class KeyVaults : public testing::Test {
 protected:
  static void add_from_many_threads(KeyVault& one, KeyVault& two) {
    std::vector<std::thread> threads;
    for (KeyVault* vault : {&one, &two, &one, &two}) {
      threads.emplace_back([vault] {
        for (int i = 0; i < 5; ++i) {
          const auto added = vault->update([](std::vector<ApiKey>& keys) -> base::Result<void> {
            keys.push_back(make().key);
            return {};
          });
          EXPECT_TRUE(added) << added.error().to_string();
        }
      });
    }
    for (std::thread& thread : threads)
      thread.join();
    const auto document = two.read();
    ASSERT_TRUE(document) << document.error().to_string();
    std::set<std::string> ids;
    for (const ApiKey& key : document->keys)
      ids.insert(key.id);
    EXPECT_EQ(ids.size(), 20U);
  }
  static void tells_of_changes(KeyVault& vault) {
    EXPECT_EQ(vault.read()->revision, "");
    EXPECT_FALSE(vault.changed("").value());
    const auto add = [](std::vector<ApiKey>& keys) -> base::Result<void> {
      keys.push_back(make().key);
      return {};
    };
    ASSERT_TRUE(vault.update(add));
    EXPECT_TRUE(vault.changed("").value());
    const std::string revision = vault.read()->revision;
    EXPECT_FALSE(vault.changed(revision).value());
    const auto fail = [](std::vector<ApiKey>& keys) -> base::Result<void> {
      keys.clear();
      return base::Error(ErrorCode::not_found, "no such key");
    };
    EXPECT_EQ(vault.update(fail).error().code(), ErrorCode::not_found);
    EXPECT_EQ(vault.read()->keys.size(), 1U);
    EXPECT_FALSE(vault.changed(revision).value());
    ASSERT_TRUE(vault.update(add));
    EXPECT_TRUE(vault.changed(revision).value());
  }
  tidemill::test::TemporaryFolder folder_;
};

TEST_F(KeyVaults, AFileTellsOfChanges) {
  tells_of_changes(*keys_in_file(folder_.path() / "keys.json"));
}

TEST_F(KeyVaults, AStoreTellsOfChanges) {
  auto store = session::open_sqlite_store({});
  ASSERT_TRUE(store);
  tells_of_changes(*keys_in_store(**store, "memory"));
}

TEST_F(KeyVaults, NoChangeIsLostInAFileOfItsOwner) {
  const std::string path = folder_.path() / "keys.json";
  add_from_many_threads(*keys_in_file(path), *keys_in_file(path));
  using std::filesystem::perms;
  EXPECT_EQ(std::filesystem::status(path).permissions(), perms::owner_read | perms::owner_write);
}

TEST_F(KeyVaults, NoChangeIsLostInAStore) {
  auto store = session::open_sqlite_store({.path = folder_.path() / "store.db"});
  ASSERT_TRUE(store) << store.error().to_string();
  add_from_many_threads(*keys_in_store(**store, "one"), *keys_in_store(**store, "two"));
}

TEST_F(KeyVaults, ADamagedFileIsNamed) {
  const std::string path = folder_.put("keys.json", R"({"version": 1, "keys": [{"id": 3}]})");
  const auto broken = keys_in_file(path)->read();
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code(), ErrorCode::corrupt);
  EXPECT_NE(broken.error().to_string().find(path), std::string::npos);
  folder_.put("keys.json", "{");
  EXPECT_EQ(keys_in_file(path)->read().error().code(), ErrorCode::corrupt);
  folder_.put("keys.json", "[]");
  EXPECT_EQ(keys_in_file(path)->read().error().code(), ErrorCode::corrupt);
}

}  // namespace
}  // namespace tidemill::access
