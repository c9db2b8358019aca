// What is refused for its size, and in which words; and what is remembered of writes that failed.
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "expect_says.hpp"
#include "session/kept_conversations.hpp"
#include "session/refused_writes.hpp"
#include "session/session_store.hpp"
#include "session/state_checks.hpp"

namespace tidemill::session {
namespace {

namespace json = base::json;
using base::ErrorCode;

json::array items_of(size_t count, const std::string& text = "x") {
  json::array items;
  for (size_t i = 0; i < count; ++i)
    items.push_back(json::object{{"role", "user"}, {"content", text}});
  return items;
}

TEST(Limits, RecordsAreCountedWithWhatStandsBesideThem) {
  const std::vector<Record> records = {{"a", "12345"}, {"b", ""}};
  for (const Keeps keeps : {Keeps::response, Keeps::conversation}) {
    EXPECT_EQ(check_size(records, 10, 25, keeps).value(), 25U);
    EXPECT_EQ(check_size(records, 0, 5, keeps).value(), 5U);
    EXPECT_EQ(check_size({}, 10, 0, keeps).value(), 0U);
    const auto refused = check_size(records, 10, 24, keeps);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::too_large);
  }
  // A response may go without being kept, a change of a conversation may not.
  EXPECT_EQ(check_size(records, 10, 24, Keeps::response).error().message(),
            "the conversation takes 25 bytes, the session store 24 at most: set session.max_size, or send 'store': "
            "false");
  EXPECT_EQ(check_size(records, 10, 24, Keeps::conversation).error().message(),
            "the records take 25 bytes, the session store 24 at most: set session.max_size");
}

TEST(Limits, BlobsHaveOne) {
  EXPECT_TRUE(check_blob("key", std::string(SharedState::max_blob_bytes, 'x')));
  const auto refused = check_blob("key", std::string(SharedState::max_blob_bytes + 1, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::too_large);
  EXPECT_EQ(refused.error().message(), "the blob 'key' takes 16777217 bytes, of 16777216 at most");
}

TEST(Limits, ConversationsSayWhichAndWhatHelps) {
  auto opened = open_store({});
  ASSERT_TRUE(opened) << opened.error().to_string();
  const auto create = [&](json::array items) {
    return answer_conversation(**opened, "t", {.items = std::move(items)}, 0);
  };
  const auto made = create(items_of(most_conversation_items));
  ASSERT_TRUE(made) << made.error().to_string();
  const auto many = create(items_of(most_conversation_items + 1));
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().code(), ErrorCode::invalid_argument);
  EXPECT_EQ(many.error().param(), "items");
  EXPECT_EQ(many.error().message(),
            "the conversation has 0 items; with these it would have over 16384: delete some, or begin a new one");
  const auto large = create(items_of(1, std::string(most_conversation_bytes, 'x')));
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), ErrorCode::invalid_argument);
  EXPECT_EQ(large.error().param(), "items");
  EXPECT_SAYS(large.error().message(), "bytes; at most 16777216 are kept: delete some, or begin a new one");
  const std::string id(made->at("id").as_string());
  const auto kept = read_conversation(**opened, "t", id);
  ASSERT_TRUE(kept) << kept.error().to_string();
  EXPECT_TRUE(check_turn(*kept, {}));
  const auto full = check_turn(*kept, items_of(1));
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), ErrorCode::invalid_argument);
  EXPECT_EQ(full.error().param(), "conversation");
  EXPECT_SAYS(full.error().message(), "the conversation is full: it has 16384 items of ");
  EXPECT_SAYS(full.error().message(), "delete some, or begin a new one");
}

TEST(RefusedWrites, AreRememberedUntilAsMuchWasWritten) {
  RefusedWrites refused;
  EXPECT_FALSE(refused.any());
  EXPECT_EQ(refused.probe_bytes(4, 100), 4U);
  refused.note(0);
  EXPECT_TRUE(refused.any());
  EXPECT_EQ(refused.probe_bytes(4, 100), 4U);
  refused.note(50);
  refused.note(7);
  EXPECT_EQ(refused.probe_bytes(4, 100), 50U) << "as much as the largest";
  refused.note(5000);
  EXPECT_EQ(refused.probe_bytes(4, 100), 100U);
  refused.forget();
  EXPECT_FALSE(refused.any());
  EXPECT_EQ(refused.probe_bytes(4, 100), 4U);
}

TEST(RefusedWrites, KeepTheLargestOfThoseThatComeAtOnce) {
  RefusedWrites refused;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&refused, t] {
      for (uint64_t i = 0; i < 1000; ++i)
        refused.note(i * 4 + t);
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_TRUE(refused.any());
  EXPECT_EQ(refused.probe_bytes(0, 1'000'000), 3999U);
}

}  // namespace
}  // namespace tidemill::session
