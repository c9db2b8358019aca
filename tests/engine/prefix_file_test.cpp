// Prefixes that are kept from one engine to the next, and prompts that stay.
#include "engine/prefix_file.hpp"

#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "engine/rig.hpp"
#include "temporary_folder.hpp"

namespace tidemill::engine {
namespace {

using test::prompt_of;
using test::request_of;
using test::Rig;

Request of_tenant(Request request, std::string tenant) {
  request.tenant = std::move(tenant);
  return request;
}

int cached(const test::Collected& collected) {
  return collected.usage->cached_tokens;
}

TEST(PrefixFile, ARestartFindsWhatWasComputed) {
  const tidemill::test::TemporaryFolder folder;
  const auto path = folder.path() / "prefixes";
  const Request request = request_of(prompt_of(100), 4);
  {
    Rig rig;
    rig.run_checked(request);
    rig.run_checked(of_tenant(request_of(prompt_of(50, 3), 4), "t"));
    const auto saved = rig.engine->save_prefixes(path, "a model");
    ASSERT_TRUE(saved) << saved.error().to_string();
    EXPECT_EQ(*saved, 6 + 3);
  }
  Rig rig;
  rig.start();
  const auto restored = rig.engine->restore_prefixes(path, "a model");
  ASSERT_TRUE(restored) << restored.error().to_string();
  EXPECT_EQ(*restored, 9);
  EXPECT_EQ(rig.engine->stats().kv_blocks_cached, 9);
  EXPECT_EQ(cached(rig.run_checked(request)), 96);
  // No tenant finds another's.
  EXPECT_EQ(cached(rig.run_checked(of_tenant(request, "t"))), 0);
  EXPECT_EQ(cached(rig.run_checked(of_tenant(request_of(prompt_of(50, 3), 4), "t"))), 48);
}

TEST(PrefixFile, TakesFreeBlocksOnlyAndTheLatestFirst) {
  const tidemill::test::TemporaryFolder folder;
  const auto path = folder.path() / "prefixes";
  {
    Rig rig;
    rig.run(request_of(prompt_of(64, 1), 1));
    rig.run(request_of(prompt_of(64, 2), 1));
    ASSERT_TRUE(rig.engine->save_prefixes(path, ""));
  }
  Rig rig(Rig::with_blocks(6), 80);
  rig.start();
  EXPECT_EQ(*rig.engine->restore_prefixes(path, ""), 6);
  EXPECT_TRUE(rig.checked());
  EXPECT_EQ(cached(rig.run_checked(request_of(prompt_of(64, 2), 1))), 48);
}

TEST(PrefixFile, IsRefusedWhereItDoesNotFit) {
  const tidemill::test::TemporaryFolder folder;
  const auto path = folder.path() / "prefixes";
  Rig rig;
  rig.run(request_of(prompt_of(64), 1));
  ASSERT_TRUE(rig.engine->save_prefixes(path, "a model"));
  const auto code = [&](std::string_view identity) {
    const auto restored = rig.engine->restore_prefixes(path, identity);
    return restored ? std::string("none") : std::string(base::to_string(restored.error().code()));
  };
  EXPECT_EQ(code("another"), "unsupported");
  EXPECT_EQ(code("a model"), "none");
  const std::string whole = *base::read_file(path);
  // Every damage is found: a flipped bit anywhere, a lost end, an empty file.
  for (size_t at = 0; at < whole.size(); at += 97) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    ASSERT_TRUE(base::write_file(path, damaged));
    EXPECT_NE(code("a model"), "none") << at;
  }
  for (const size_t size : {size_t{0}, size_t{7}, size_t{40}, whole.size() - 1}) {
    ASSERT_TRUE(base::write_file(path, whole.substr(0, size)));
    EXPECT_EQ(code("a model"), "corrupt") << size;
  }
  EXPECT_TRUE(rig.checked());
}

TEST(PrefixFile, LeavesNothingBehindWhereItCannotBeWritten) {
  Rig rig;
  rig.run(request_of(prompt_of(64), 1));
  const tidemill::test::TemporaryFolder folder;
  EXPECT_FALSE(rig.engine->save_prefixes(folder.path() / "absent" / "prefixes", ""));
  std::filesystem::create_directory(folder.path() / "taken");
  EXPECT_FALSE(rig.engine->save_prefixes(folder.path() / "taken", ""));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(PrefixFile, IsNeverWrittenOverWhatIsNone) {
  Rig rig;
  rig.run(request_of(prompt_of(64), 1));
  const tidemill::test::TemporaryFolder folder;
  const auto path = folder.path() / "notes";
  EXPECT_FALSE(*is_foreign_to_prefixes(path)) << "nothing stands there";
  EXPECT_TRUE(*is_foreign_to_prefixes(folder.path()));
  for (const std::string content : {"", "TMPREFIX", "notes", "TMPREFI"}) {
    ASSERT_TRUE(base::write_file(path, content));
    const bool foreign = content == "notes" || content == "TMPREFI";
    EXPECT_EQ(*is_foreign_to_prefixes(path), foreign) << content;
    EXPECT_EQ(rig.engine->save_prefixes(path, "").has_value(), !foreign) << content;
    if (foreign) {
      EXPECT_EQ(*base::read_file(path), content);
    }
  }
}

TEST(PinnedPrompt, StaysWhateverElseComes) {
  Rig rig(Rig::with_blocks(16), 160);
  Request pinned = request_of(prompt_of(64), 0);
  pinned.pin_prompt = true;
  EXPECT_FALSE(rig.run(pinned).error);
  for (int i = 1; i < 12; ++i)
    rig.run_checked(request_of(prompt_of(120, i), 4));
  auto again = prompt_of(64);
  again.push_back(5);
  EXPECT_EQ(cached(rig.run_checked(request_of(again, 2))), 64);
}

TEST(PinnedPrompt, LeavesRoomForAWholeContext) {
  Rig rig(Rig::with_blocks(16), 200);
  Request pinned = request_of(prompt_of(64), 0);
  pinned.pin_prompt = true;
  const auto refused = rig.run(pinned);
  ASSERT_TRUE(refused.error);
  EXPECT_EQ(refused.error->code(), base::ErrorCode::exhausted);
  rig.run_checked(request_of(prompt_of(190), 8));
  Request smaller = request_of(prompt_of(48), 0);
  smaller.pin_prompt = true;
  EXPECT_FALSE(rig.run(smaller).error);
  rig.run_checked(request_of(prompt_of(190), 8));
}

}  // namespace
}  // namespace tidemill::engine
