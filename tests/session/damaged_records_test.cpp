// Records that cannot be read: whoever asks is told so, and can delete them.
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "session/kept_conversations.hpp"
#include "session/kept_responses.hpp"
#include "session/session_store.hpp"

namespace tidemill::session {
namespace {

namespace json = base::json;
using base::ErrorCode;

class DamagedRecords : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = open_store({});
    ASSERT_TRUE(opened) << opened.error().to_string();
    store_ = std::move(*opened);
  }

  void put(std::string id, std::string value) {
    const std::vector<Record> records = {{std::move(id), std::move(value)}};
    ASSERT_TRUE(store_->put("t", records));
  }
  bool holds(std::string_view id) { return store_->get("t", id)->has_value(); }
  std::string value_of(std::string_view id) { return store_->get("t", id)->value_or(""); }
  base::Result<json::object> ask(ConversationAsked::Kind kind, std::string_view id) {
    return answer_conversation(*store_, "t", {.kind = kind, .id = id}, 0);
  }

  std::unique_ptr<Store> store_;
};

TEST_F(DamagedRecords, OfConversationsAreTheStoresFaultAndCanBeDeleted) {
  using Kind = ConversationAsked::Kind;
  const auto made = ask(Kind::create, "");
  ASSERT_TRUE(made) << made.error().to_string();
  const std::string id(made->at("id").as_string());
  std::string value = value_of(id);
  value.replace(value.find(R"("items":[])"), 10, R"("items":[Infinity])");
  put(id, value);
  for (const Kind kind : {Kind::retrieve, Kind::list_items, Kind::update}) {
    const auto refused = ask(kind, id);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::corrupt) << refused.error().to_string();
  }
  const auto deleted = ask(Kind::remove, id);
  ASSERT_TRUE(deleted) << deleted.error().to_string();
  EXPECT_EQ(deleted->at("deleted"), true);
  EXPECT_FALSE(holds(id));
  EXPECT_EQ(ask(Kind::remove, id).error().code(), ErrorCode::not_found);
}

TEST_F(DamagedRecords, OfResponsesAreTheStoresFaultAndCanBeDeleted) {
  put("resp_1", R"({"response":{"id":"resp_1","output":[],"tools":[{"maximum":Infinity}]},"items":[]})");
  const auto read = answer_get(*store_, "t", {.rest = "resp_1", .stream = false, .page = {}});
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::corrupt) << read.error().to_string();
  const auto deleted = answer_delete(*store_, "t", "resp_1");
  ASSERT_TRUE(deleted) << deleted.error().to_string();
  EXPECT_FALSE(holds("resp_1"));
  EXPECT_EQ(answer_delete(*store_, "t", "resp_1").error().code(), ErrorCode::not_found);
}

// What is no response stays where a response is to be deleted, whether it can be read or not.
TEST_F(DamagedRecords, OfOtherKindsAreNotDeletedAsResponses) {
  put("msg_1", R"({"id":"msg_1","n":Infinity})");
  EXPECT_EQ(answer_delete(*store_, "t", "msg_1").error().code(), ErrorCode::not_found);
  EXPECT_TRUE(holds("msg_1"));
  EXPECT_EQ(ask(ConversationAsked::Kind::remove, "msg_1").error().code(), ErrorCode::not_found);
  EXPECT_TRUE(holds("msg_1"));
}

// A record holds what a request has said some levels deeper than that.
TEST_F(DamagedRecords, AreNotWhatWasAsDeepAsARequestMayBe) {
  json::value deep = json::object{{"type", "object"}};
  for (int level = 1; level < 61; ++level)
    deep = json::object{{"not", std::move(deep)}};
  const json::object response{
      {"id", "resp_1"}, {"output", json::array()}, {"tools", json::array{json::object{{"parameters", deep}}}}};
  ASSERT_TRUE(store_->put("t", records_of(response, {})));
  const auto read = answer_get(*store_, "t", {.rest = "resp_1", .stream = false, .page = {}});
  ASSERT_TRUE(read) << read.error().to_string();
  EXPECT_EQ(read->at("tools"), response.at("tools"));
}

}  // namespace
}  // namespace tidemill::session
