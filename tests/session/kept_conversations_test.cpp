// Conversations of the Conversations API, in SQLite and in Redis alike.
#include "session/kept_conversations.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "expect_says.hpp"
#include "session/redis_server.hpp"
#include "session/session_store.hpp"
#include "temporary_folder.hpp"

namespace tidemill::session {
namespace {

namespace json = base::json;
using base::ErrorCode;
using base::Result;

json::object parse(std::string_view text) {
  auto parsed = base::parse_json(text);
  EXPECT_TRUE(parsed) << text;
  return parsed && parsed->is_object() ? parsed->get_object() : json::object();
}

json::object message(std::string_view id) {
  return {{"id", id}, {"role", "user"}, {"content", "x"}};
}

json::object response(std::string_view id, std::string_view output) {
  return {{"id", id}, {"output", json::array{message(output)}}};
}

std::string id_at(const json::array& items, size_t at) {
  return std::string(items.at(at).at("id").as_string());
}

class KeptConversations : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == "sqlite") {
      path_ = (folder_.path() / "sessions.db").string();
    } else {
      if (!test::RedisServer::installed()) GTEST_SKIP() << "redis-server is not installed";
      path_ = redis_.emplace().url();
    }
    store_ = open();
  }

  std::unique_ptr<Store> open(StoreOptions options = {}) {
    options.path = path_;
    options.deadline = options.lock_wait = std::chrono::seconds(60);  // long enough for any machine
    auto store = open_store(options);
    EXPECT_TRUE(store) << store.error().to_string();
    return store ? std::move(*store) : nullptr;
  }

  Result<json::object> ask(std::string_view method, std::string_view rest, std::string_view body = "{}",
                           std::string_view tenant = "t") {
    const auto param = [this](std::string_view name) -> std::optional<std::string_view> {
      const auto found = params_.find(name);
      if (found == params_.end()) return std::nullopt;
      return found->second;
    };
    TM_TRY(ConversationAsked asked, ConversationAsked::from(method, rest, param));
    const json::object given = parse(body);
    if (const json::value* items = given.if_contains("items")) asked.items = items->as_array();
    if (const json::value* metadata = given.if_contains("metadata")) asked.metadata = metadata->as_object();
    return answer_conversation(*store_, tenant, asked, 1000);
  }
  json::object done(std::string_view method, std::string_view rest, std::string_view body = "{}") {
    auto answer = ask(method, rest, body);
    EXPECT_TRUE(answer) << method << " " << rest << ": " << answer.error().to_string();
    return answer ? *answer : json::object();
  }
  // The parameter that a 404 names; "(none)" where there is no such error.
  std::string missing(std::string_view method, std::string_view rest, std::string_view tenant = "t") {
    const auto answer = ask(method, rest, R"({"items":[{"role":"user","content":"x"}]})", tenant);
    return !answer && answer.error().code() == ErrorCode::not_found ? answer.error().param() : "(none)";
  }
  std::string create(std::string_view body = "{}") { return std::string(done("POST", "", body).at("id").as_string()); }
  json::array items_of(const std::string& id) {
    auto kept = read_conversation(*store_, "t", id);
    EXPECT_TRUE(kept) << kept.error().to_string();
    return kept ? kept->items : json::array();
  }
  std::string get(std::string_view id) {
    auto value = store_->get("t", id);
    EXPECT_TRUE(value) << value.error().to_string();
    return value ? value->value_or("(none)") : "(error)";
  }

  test::TemporaryFolder folder_;
  std::optional<test::RedisServer> redis_;
  std::string path_;
  std::unique_ptr<Store> store_;
  std::map<std::string, std::string, std::less<>> params_;
};

INSTANTIATE_TEST_SUITE_P(In, KeptConversations, testing::Values("sqlite", "redis"),
                         [](const auto& each) { return each.param; });

TEST_P(KeptConversations, RecordsChangeFromWhatTheyWereAlone) {
  const std::string was("1:\0x", 4);
  const std::vector<Record> before = {{"a", was}};
  ASSERT_TRUE(store_->put("t", before));
  const std::vector<Record> after = {{"b", "beside"}, {"a", "2:"}};
  const auto changes = [&](std::string_view tenant, std::string_view id, std::string_view begins) {
    const auto changed = store_->put_if(tenant, {.id = id, .begins = begins}, after);
    EXPECT_TRUE(changed) << changed.error().to_string();
    return changed && *changed;
  };
  EXPECT_FALSE(changes("t", "a", "2:"));
  EXPECT_FALSE(changes("t", "a", was + "y"));
  EXPECT_FALSE(changes("t", "none", "1:"));
  EXPECT_FALSE(changes("u", "a", "1:"));
  EXPECT_EQ(get("a"), was);
  EXPECT_EQ(get("b"), "(none)");
  EXPECT_TRUE(changes("t", "a", was.substr(0, 3)));
  EXPECT_EQ(get("a"), "2:");
  EXPECT_EQ(get("b"), "beside");
  EXPECT_FALSE(changes("t", "a", "1:"));
  const auto large = open({.max_bytes = 1})->put_if("t", {.id = "a", .begins = "2:"}, after);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), ErrorCode::too_large);
}

TEST_P(KeptConversations, AreMadeReadChangedAndDeleted) {
  const json::object made = done("POST", "", R"({"metadata":{"k":"v"},"items":[{"role":"user","content":"a"},
      {"role":"assistant","content":"b"},{"type":"function_call_output","call_id":"c","output":"1"}]})");
  const std::string id(made.at("id").as_string());
  EXPECT_TRUE(id.starts_with("conv_"));
  EXPECT_EQ(made.at("object"), "conversation");
  EXPECT_EQ(made.at("created_at"), 1000);
  EXPECT_EQ(done("GET", id), made);
  const json::array items = items_of(id);
  ASSERT_EQ(items.size(), 3U);
  EXPECT_EQ(items[0].at("type"), "message");
  EXPECT_EQ(items[0].at("status"), "completed");
  EXPECT_EQ(items[0].at("content").at(0).at("type"), "input_text");
  EXPECT_EQ(items[1].at("content").at(0).at("type"), "output_text");
  EXPECT_EQ(items[1].at("content").at(0).at("text"), "b");
  EXPECT_EQ(items[2].at("output"), "1");

  EXPECT_EQ(done("POST", id, R"({"metadata":{"k":"w"}})").at("metadata").at("k"), "w");
  EXPECT_EQ(done("GET", id).at("metadata").at("k"), "w");

  const json::object added = done("POST", id + "/items", R"({"items":[{"role":"user","content":"c"},
      {"id":"mine","role":"user","content":"d"}]})");
  EXPECT_EQ(added.at("object"), "list");
  EXPECT_EQ(added.at("has_more"), false);
  EXPECT_EQ(added.at("data").as_array().size(), 2U);
  EXPECT_EQ(added.at("last_id"), "mine");
  EXPECT_EQ(done("GET", id + "/items/mine"), added.at("data").at(1).as_object());
  const std::string fourth(added.at("first_id").as_string());
  EXPECT_EQ(done("DELETE", id + "/items/" + fourth).at("id"), json::value(id));
  EXPECT_EQ(missing("GET", id + "/items/" + fourth), "item_id");
  EXPECT_EQ(missing("DELETE", id + "/items/" + fourth), "item_id");
  EXPECT_EQ(items_of(id).size(), 4U);

  const json::object deleted = done("DELETE", id);
  EXPECT_EQ(deleted.at("object"), "conversation.deleted");
  EXPECT_EQ(deleted.at("deleted"), true);
  for (const char* method : {"GET", "POST", "DELETE"})
    EXPECT_EQ(missing(method, id), "conversation") << method;
  EXPECT_EQ(missing("GET", id + "/items"), "conversation");
  EXPECT_EQ(missing("POST", id + "/items"), "conversation");
  EXPECT_EQ(missing("GET", id + "/items/mine"), "conversation");
}

TEST_P(KeptConversations, AreTheirTenantsAndNoResponses) {
  const std::string id = create();
  for (const char* method : {"GET", "POST", "DELETE"})
    EXPECT_EQ(missing(method, id, "u"), "conversation") << method;
  EXPECT_EQ(missing("POST", id + "/items", "u"), "conversation");
  EXPECT_TRUE(items_of(id).empty());
  ASSERT_TRUE(store_->put("t", records_of(response("resp_1", "msg_1"), {})));
  for (const char* other : {"resp_1", "msg_1"}) {
    EXPECT_EQ(missing("DELETE", other), "conversation");
    EXPECT_NE(get(other), "(none)");
  }
  EXPECT_FALSE(*forget_response(*store_, "t", id));
  EXPECT_FALSE(read_response(*store_, "t", id)->has_value());
}

TEST_P(KeptConversations, AreListedPageByPage) {
  const std::string id = create(R"({"items":[{"id":"a","role":"user","content":"x"},
      {"id":"b","role":"user","content":"x"},{"id":"c","role":"user","content":"x"}]})");
  EXPECT_EQ(done("GET", id + "/items").at("first_id"), "c") << "the latest first";
  params_ = {{"limit", "2"}, {"order", "asc"}};
  const json::object first = done("GET", id + "/items");
  EXPECT_EQ(first.at("last_id"), "b");
  EXPECT_EQ(first.at("has_more"), true);
  params_["after"] = "b";
  const json::object second = done("GET", id + "/items");
  EXPECT_EQ(second.at("first_id"), "c");
  EXPECT_EQ(second.at("has_more"), false);
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"limit", "101"}, {"after", "d"}, {"order", "up"}}) {
    params_ = {{name, value}};
    const auto refused = ask("GET", id + "/items");
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().param(), name);
  }
}

TEST_P(KeptConversations, HaveEachIdOnce) {
  const std::string id = create(R"({"items":[{"id":"a","role":"user","content":"x"}]})");
  for (const char* body :
       {R"({"items":[{"role":"user","content":"x"},{"id":"a","role":"user","content":"x"}]})",
        R"({"items":[{"id":"b","role":"user","content":"x"},{"id":"b","role":"user","content":"x"}]})"}) {
    const auto refused = ask("POST", id + "/items", body);
    ASSERT_FALSE(refused) << body;
    EXPECT_EQ(refused.error().code(), ErrorCode::invalid_argument);
    EXPECT_EQ(refused.error().param(), "items[1].id");
  }
  const auto doubled = ask("POST", "", R"({"items":[{"id":"b","role":"user","content":"x"},
      {"id":"b","role":"user","content":"x"}]})");
  ASSERT_FALSE(doubled);
  EXPECT_NE(doubled.error().message().find("as 'items[0].id' is"), std::string::npos) << doubled.error().message();
  EXPECT_EQ(items_of(id).size(), 1U);
  const auto kept = read_conversation(*store_, "t", id);
  ASSERT_TRUE(kept);
  const auto again = check_turn(*kept, json::array{message("b"), message("a")});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().param(), "input[1].id");
  const json::object reference{{"type", "item_reference"}, {"id", "a"}};
  EXPECT_TRUE(check_turn(*kept, json::array{reference, message("b")}));
}

TEST_P(KeptConversations, GrowByWhatIsNewOfATurn) {
  const std::string id = create(R"({"items":[{"id":"a","role":"user","content":"x"}]})");
  json::array items = items_of(id);
  items.push_back(json::object{{"role", "user"}, {"content", "y"}});
  ASSERT_TRUE(keep_turn(*store_, "t", response("resp_1", "msg_1"), items, {.conversation = id, .known = 1}));
  json::array now = items_of(id);
  ASSERT_EQ(now.size(), 3U);
  EXPECT_EQ(id_at(now, 0), "a");
  EXPECT_EQ(id_at(now, 2), "msg_1");
  const auto kept = read_response(*store_, "t", "resp_1");
  ASSERT_TRUE(kept);
  ASSERT_TRUE(*kept);
  ASSERT_EQ((*kept)->items.size(), 2U);
  EXPECT_EQ(id_at((*kept)->items, 1), id_at(now, 1)) << "one item has one id";

  // One that is not kept by itself is of its conversation all the same; a backend that gives an id twice does no harm.
  ASSERT_TRUE(
      keep_turn(*store_, "t", response("resp_2", "msg_1"), now, {.conversation = id, .store = false, .known = 3}));
  EXPECT_FALSE(read_response(*store_, "t", "resp_2")->has_value());
  now = items_of(id);
  ASSERT_EQ(now.size(), 4U);
  EXPECT_NE(id_at(now, 3), "msg_1");

  // Both or neither.
  done("DELETE", id);
  const auto late = keep_turn(*store_, "t", response("resp_3", "msg_3"), {}, {.conversation = id});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ErrorCode::not_found);
  EXPECT_FALSE(read_response(*store_, "t", "resp_3")->has_value());
  EXPECT_EQ(get("msg_3"), "(none)");
}

// Several gateways, each with turns of its own, while the metadata changes.
TEST_P(KeptConversations, LoseNothingOfWhatComesAtTheSameTime) {
  constexpr int gateways = 4;
  constexpr int turns = 10;
  const std::string id = create();
  std::vector<std::unique_ptr<Store>> stores;
  for (int g = 0; g < gateways; ++g)
    stores.push_back(open());
  std::vector<std::thread> threads;
  for (int g = 0; g < gateways; ++g) {
    threads.emplace_back([&, g] {
      Store& own = *stores[static_cast<size_t>(g)];
      for (int i = 0; i < turns; ++i) {
        const std::string name = std::to_string(g) + "-" + std::to_string(i);
        const auto kept = keep_turn(own, "t", response("resp-" + name, "out-" + name),
                                    json::array{message("in-" + name)}, {.conversation = id, .store = i % 2 == 0});
        EXPECT_TRUE(kept) << kept.error().to_string();
      }
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < turns; ++i)
      done("POST", id, R"({"metadata":{"k":")" + std::to_string(i) + "\"}}");
  });
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(done("GET", id).at("metadata").at("k"), json::value(std::to_string(turns - 1)));
  const json::array items = items_of(id);
  ASSERT_EQ(items.size(), size_t{2} * gateways * turns);
  std::map<std::string, int> next;  // of each gateway
  for (size_t at = 0; at < items.size(); at += 2) {
    const std::string name = id_at(items, at).substr(3);
    EXPECT_EQ(id_at(items, at + 1), "out-" + name) << "a turn stays together";
    EXPECT_EQ(name.substr(2), std::to_string(next[name.substr(0, 1)]++)) << "and in order";
  }
  EXPECT_TRUE(read_response(*store_, "t", "resp-3-8")->has_value());
  EXPECT_FALSE(read_response(*store_, "t", "resp-3-9")->has_value());
}

TEST_P(KeptConversations, ThatAreTooLargeSaySo) {
  store_ = open({.max_bytes = 2000});
  const std::string id = create();
  const std::string large = R"({"items":[{"role":"user","content":")" + std::string(2000, 'x') + "\"}]}";
  for (const std::string& rest : {std::string(), id + "/items"}) {
    const auto refused = ask("POST", rest, large);
    ASSERT_FALSE(refused) << rest;
    EXPECT_EQ(refused.error().code(), ErrorCode::too_large);
    EXPECT_EQ(refused.error().param(), "conversation");
    EXPECT_SAYS(refused.error().message(),
                "would take more than the session store keeps: delete items, begin a new one");
  }
  json::array items = {message("in")};
  items.front().as_object()["content"] = std::string(2000, 'x');
  const auto turn = keep_turn(*store_, "t", response("resp_1", "msg_1"), items, {.conversation = id});
  ASSERT_FALSE(turn);
  EXPECT_EQ(turn.error().code(), ErrorCode::too_large);
  EXPECT_SAYS(turn.error().message(), "the conversation \"" + id + "\" would take more than the session store keeps");
  const auto alone = keep_turn(*store_, "t", response("resp_1", "msg_1"), items, {});
  ASSERT_FALSE(alone);
  EXPECT_EQ(alone.error().code(), ErrorCode::too_large);
  EXPECT_SAYS(alone.error().message(), "2000 at most: set session.max_size, or send 'store': false");
  EXPECT_EQ(get("resp_1"), "(none)");
  EXPECT_TRUE(items_of(id).empty());
  const KeptConversation full{.object = {}, .items = {}, .bytes = most_conversation_bytes};
  EXPECT_EQ(check_turn(full, {}).error().param(), "conversation");
  const json::array many(most_conversation_items + 1, message("a"));
  EXPECT_EQ(check_turn({}, many).error().param(), "conversation");
}

TEST(KeptConversationsInSqlite, LiveFromTheirLastChange) {
  base::ManualClock clock;
  auto opened = open_store({.time_to_live = std::chrono::seconds(10)}, clock);
  ASSERT_TRUE(opened) << opened.error().to_string();
  Store& store = **opened;
  const auto made = answer_conversation(store, "t", {}, 0);
  ASSERT_TRUE(made) << made.error().to_string();
  const std::string id(made->at("id").as_string());
  clock.advance(std::chrono::seconds(9));
  EXPECT_TRUE(answer_conversation(store, "t", {.kind = ConversationAsked::Kind::update, .id = id}, 0));
  clock.advance(std::chrono::seconds(9));
  ASSERT_TRUE(read_conversation(store, "t", id));
  const std::string value = store.get("t", id)->value_or("");
  clock.advance(std::chrono::seconds(1));
  EXPECT_EQ(read_conversation(store, "t", id).error().code(), ErrorCode::not_found);
  const std::vector<Record> records = {{id, value}};
  EXPECT_FALSE(*store.put_if("t", {.id = id, .begins = "{"}, records)) << "what has ended is not changed";
}

TEST(ConversationAskedOf, KnowsItsEndpoints) {
  const auto none = [](std::string_view) -> std::optional<std::string_view> { return std::nullopt; };
  const std::vector<std::pair<const char*, const char*>> unknown = {
      {"GET", ""},         {"DELETE", ""},      {"DELETE", "c/items"}, {"POST", "c/items/i"},
      {"GET", "c/itemsx"}, {"GET", "c/items/"}, {"GET", "c/"},         {"POST", "/items"}};
  for (const auto& [method, rest] : unknown) {
    const auto asked = ConversationAsked::from(method, rest, none);
    ASSERT_FALSE(asked) << method << " " << rest;
    EXPECT_EQ(asked.error().code(), ErrorCode::not_found);
  }
  const auto item = ConversationAsked::from("HEAD", "c/items/a/b", none);
  ASSERT_TRUE(item);
  EXPECT_EQ(item->kind, ConversationAsked::Kind::retrieve_item);
  EXPECT_EQ(item->id, "c");
  EXPECT_EQ(item->item, "a/b");
}

}  // namespace
}  // namespace tidemill::session
