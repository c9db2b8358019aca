#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "session/redis_address.hpp"
#include "session/redis_connection.hpp"
#include "session/redis_server.hpp"
#include "session/session_store.hpp"
#include "session/shared_state_cases.hpp"

namespace tidemill::session {
namespace {

using base::ErrorCode;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Long enough for any machine where an answer is expected; short where none is.
constexpr base::Duration patient = seconds(60);
constexpr base::Duration short_deadline = milliseconds(200);

class RedisStore : public testing::Test {
 protected:
  void SetUp() override {
    if (!test::RedisServer::installed()) GTEST_SKIP() << "redis-server is not installed";
  }

  // The pauses between attempts pass with clock_.
  std::unique_ptr<Store> open(const std::string& url, StoreOptions options = {}) {
    options.path = url;
    if (options.deadline == StoreOptions().deadline) options.deadline = patient;
    auto store = open_store(options, clock_);
    EXPECT_TRUE(store) << store.error().to_string();
    return store ? std::move(*store) : nullptr;
  }
  static base::Result<void> put(Store& store, std::string id, std::string value) {
    const std::vector<Record> records = {{std::move(id), std::move(value)}};
    return store.put("t", records);
  }
  static std::string get(Store& store, std::string_view id) {
    auto value = store.get("t", id);
    EXPECT_TRUE(value) << value.error().to_string();
    return value ? value->value_or("(none)") : "(error)";
  }
  // Calls until it succeeds, passing over the pauses.
  template <typename Call>
  void eventually(const Call& call) {
    const auto deadline = std::chrono::steady_clock::now() + patient;
    while (true) {
      auto done = call();
      if (done) return;
      ASSERT_LT(std::chrono::steady_clock::now(), deadline) << done.error().to_string();
      clock_.advance(seconds(2));
    }
  }

  base::ManualClock clock_;
};

// Its password must not get into messages, as the path of a file would.
TEST(RedisAddress, AnotherSchemeIsNoFile) {
  for (const char* location : {"redsi://:hunter2@127.0.0.1:6379", "http://:hunter2@host"}) {
    const auto opened = open_store({.path = location});
    ASSERT_FALSE(opened) << location;
    EXPECT_EQ(opened.error().to_string().find("hunter2"), std::string::npos);
  }
}

TEST(RedisAddress, IsReadFromUrls) {
  const auto read = [](std::string_view text) {
    auto address = parse_redis_url(text);
    EXPECT_TRUE(address) << address.error().to_string();
    return address ? *address : RedisAddress();
  };
  EXPECT_EQ(read("redis://cache").name(), "redis://cache:6379/0");
  EXPECT_EQ(read("redis://cache/").name(), "redis://cache:6379/0");
  EXPECT_EQ(read("rediss://cache:1234/7").name(), "rediss://cache:1234/7");
  EXPECT_EQ(read("redis://[::1]:1234").name(), "redis://[::1]:1234/0");
  EXPECT_EQ(read("redis://[::1]").host, "::1");
  EXPECT_TRUE(read("rediss://cache").tls);
  EXPECT_EQ(read("redis://u%40x:p%3a%2F@h").user, "u@x");
  EXPECT_EQ(read("redis://u%40x:p%3a%2F@h").password, "p:/");
  EXPECT_EQ(read("redis://:p@ss@h:1").password, "p@ss");
  EXPECT_EQ(read("redis://:p@ss@h:1").user, "");
  for (const char* wrong : {"redis://", "redis:///1", "redis://h:", "redis://h:0", "redis://h:65536", "redis://h:x",
                            "redis://h/x", "redis://h/-1", "redis://u@h", "redis://u:@h", "redis://:p%4@h",
                            "redis://:p%zz@h", "redis://[::1", "redis://[::1]x", "http://h", ""}) {
    const auto address = parse_redis_url(wrong);
    ASSERT_FALSE(address) << wrong;
    EXPECT_EQ(address.error().code(), ErrorCode::invalid_argument);
  }
  EXPECT_EQ(parse_redis_url("redis://:hush@h:x").error().message().find("hush"), std::string::npos);
}

TEST_F(RedisStore, KeepsReplacesAndRemoves) {
  const test::RedisServer server;
  auto store = open(server.url());
  EXPECT_TRUE(store->check());
  EXPECT_EQ(get(*store, "a"), "(none)");
  const std::string bytes("\0x\r\n\xff{", 6);
  const std::vector<Record> records = {{"a", bytes}, {"b:\n", ""}, {"large", std::string(3'000'000, 'x')}};
  ASSERT_TRUE(store->put("t", records));
  EXPECT_EQ(get(*store, "a"), bytes);
  EXPECT_EQ(get(*store, "b:\n"), "");
  EXPECT_EQ(get(*store, "large").size(), 3'000'000U);
  ASSERT_TRUE(put(*store, "a", "two"));
  EXPECT_EQ(get(*store, "a"), "two");
  EXPECT_EQ(store->get("u", "a").value(), std::nullopt);
  EXPECT_FALSE(store->remove("u", "a").value());
  EXPECT_TRUE(store->remove("t", "a").value());
  EXPECT_FALSE(store->remove("t", "a").value());
  EXPECT_TRUE(store->put("t", {}));
  // "1:x" of tenant "" and "x" of tenant "..." are different things.
  const std::vector<Record> one = {{"b:c", "1"}};
  const std::vector<Record> two = {{"c", "2"}};
  ASSERT_TRUE(store->put("a", one));
  ASSERT_TRUE(store->put("a:b", two));
  EXPECT_EQ(store->get("a", "b:c").value(), "1");
  const auto large = open(server.url(), {.max_bytes = 100})->put("t", records);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), ErrorCode::too_large);
}

TEST_F(RedisStore, IsASharedState) {
  const test::RedisServer server;
  auto store = open(server.url());
  cases::counters_add_up(*store);
  cases::an_exchange_counts_once(*store);
  cases::blobs_change_from_the_version_they_had(*store);
  cases::all_buckets_or_none(*store);
}

TEST_F(RedisStore, BucketsFillByTheClockThatIsPassedIn) {
  const test::RedisServer server;
  auto store = open(server.url());
  const std::vector<BucketTake> all = {{"b", 10, 2, 10}};
  EXPECT_TRUE(cases::take(*store, all, TakeMode::if_enough).taken);
  clock_.advance(milliseconds(1500));
  const std::vector<BucketTake> four = {{"b", 10, 2, 4}};
  EXPECT_FALSE(cases::take(*store, four, TakeMode::if_enough).taken);
  clock_.advance(milliseconds(500));
  EXPECT_TRUE(cases::take(*store, four, TakeMode::if_enough).taken);
}

TEST_F(RedisStore, IsAtomicAcrossGateways) {
  const test::RedisServer server;
  auto one = open(server.url(), {.max_connections = 1});  // which its two threads must share
  auto two = open(server.url());
  cases::is_atomic({one.get(), two.get(), one.get(), two.get()});
}

TEST_F(RedisStore, RecordsAndCountersEnd) {
  const test::RedisServer server;
  auto store = open(server.url(), {.time_to_live = milliseconds(20)});
  ASSERT_TRUE(put(*store, "a", "1"));
  cases::add(*store, "c", 5, milliseconds(20));
  const auto deadline = std::chrono::steady_clock::now() + patient;
  while (get(*store, "a") != "(none)" || cases::read(*store, "c") != 0)
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
}

TEST_F(RedisStore, ALeaseIsOneHolders) {
  const test::RedisServer server;
  auto one = open(server.url());
  auto two = open(server.url());
  cases::a_lease_is_one_holders(*one, *two);
  cases::a_lease_is_never_two_holders({one.get(), two.get(), one.get(), two.get()});
}

// As of a process that was killed.
TEST_F(RedisStore, ALeaseThatIsNotKeptEnds) {
  const test::RedisServer server;
  auto store = open(server.url());
  EXPECT_TRUE(cases::take_lease(*store, "l", "a", milliseconds(20)));
  const auto deadline = std::chrono::steady_clock::now() + patient;
  while (!cases::take_lease(*store, "l", "b"))
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
  const std::vector<Lease> mine = {{"l", "a"}};
  EXPECT_TRUE(store->keep_leases(mine, milliseconds(1))) << "too late, and no error";
  EXPECT_FALSE(cases::take_lease(*store, "l", "c"));
  const std::vector<Lease> others = {{"l", "b"}};
  EXPECT_TRUE(store->keep_leases(others, milliseconds(20)));
  while (!cases::take_lease(*store, "l", "c"))
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
}

TEST_F(RedisStore, TenGatewaysServeOneConversationInTurn) {
  const test::RedisServer server;
  std::vector<std::unique_ptr<Store>> gateways;
  for (int i = 0; i < 10; ++i)
    gateways.push_back(open(server.url()));
  ASSERT_TRUE(put(*gateways[0], "turn-0", "0"));
  for (int turn = 1; turn <= 50; ++turn) {
    Store& gateway = *gateways[static_cast<size_t>(turn) % 10];
    const std::string before = get(gateway, "turn-" + std::to_string(turn - 1));
    ASSERT_TRUE(put(gateway, "turn-" + std::to_string(turn), before + "," + std::to_string(turn)));
  }
  // And all at once, each going on from the same turn.
  const std::string common = get(*gateways[3], "turn-50");
  std::vector<std::thread> threads;
  for (size_t i = 0; i < gateways.size(); ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 20; ++n) {
        EXPECT_EQ(get(*gateways[i], "turn-50"), common);
        const std::string id = "branch-" + std::to_string(i);
        const std::vector<Record> records = {{id, common + id}, {id + "-items", id}};
        EXPECT_TRUE(gateways[i]->put("t", records));
        EXPECT_EQ(get(*gateways[(i + 1) % 10], id), common + id);
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  for (size_t i = 0; i < gateways.size(); ++i)
    EXPECT_EQ(get(*gateways[0], "branch-" + std::to_string(i) + "-items"), "branch-" + std::to_string(i));
}

TEST_F(RedisStore, OneThatWasKilledIsFoundAgain) {
  test::RedisServer server;
  auto store = open(server.url());
  ASSERT_TRUE(put(*store, "a", "1"));
  server.kill();
  const auto down = put(*store, "a", "2");
  ASSERT_FALSE(down);
  EXPECT_EQ(down.error().code(), ErrorCode::unavailable) << down.error().to_string();
  EXPECT_NE(down.error().message().find(std::to_string(server.port())), std::string::npos);
  const auto paused = store->get("t", "a");
  ASSERT_FALSE(paused);
  EXPECT_EQ(paused.error().code(), ErrorCode::unavailable);
  EXPECT_NE(paused.error().message().find("tried again soon"), std::string::npos) << paused.error().message();
  server.restart();
  EXPECT_FALSE(store->check());  // within the pause it is not even asked
  clock_.advance(milliseconds(50));
  EXPECT_TRUE(store->check());
  ASSERT_TRUE(put(*store, "a", "3"));
  EXPECT_EQ(get(*store, "a"), "3");
  cases::add(*store, "c", 1);  // the new server does not know the scripts yet
}

TEST_F(RedisStore, OneThatRestartedWhileIdleIsNotNoticed) {
  test::RedisServer server;
  auto store = open(server.url());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] { EXPECT_TRUE(store->check()); });
  for (std::thread& thread : threads)
    thread.join();
  server.restart();
  EXPECT_TRUE(put(*store, "a", "1"));
  EXPECT_EQ(cases::add(*store, "c", 1), 1);
}

TEST_F(RedisStore, OneThatIsNotThereAtTheStartIsFoundLater) {
  test::RedisServer server;
  server.kill();
  auto store = open(server.url());
  EXPECT_EQ(store->check().error().code(), ErrorCode::unavailable);
  server.restart();
  eventually([&] { return store->check(); });
}

TEST_F(RedisStore, OneThatIsFrozenHoldsNobodyForLong) {
  test::RedisServer server;
  auto store = open(server.url(), {.deadline = short_deadline});
  eventually([&] { return put(*store, "a", "1"); });
  eventually([&] { return store->add(std::vector<CounterAdd>{{"c", 1, seconds(60)}}); });
  server.freeze();
  const std::vector<Record> both = {{"x", "1"}, {"y", "1"}};
  const auto frozen = store->put("t", both);
  ASSERT_FALSE(frozen);
  EXPECT_EQ(frozen.error().code(), ErrorCode::unavailable) << frozen.error().to_string();
  EXPECT_NE(frozen.error().message().find("in time"), std::string::npos) << frozen.error().message();
  // A crowd that comes now is told at once: were each to wait for its deadline, this would take 200 s.
  const auto before = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i)
    EXPECT_FALSE(store->get("t", "a"));
  EXPECT_LT(std::chrono::steady_clock::now() - before, seconds(100));
  server.thaw();
  eventually([&] { return store->check(); });
  EXPECT_EQ(get(*store, "a"), "1");
  EXPECT_EQ(get(*store, "x"), get(*store, "y"));  // late, or never, but whole
}

TEST_F(RedisStore, AnExchangeWhoseAnswerIsLateCountsOnce) {
  test::RedisServer server;
  auto store = open(server.url(), {.deadline = short_deadline});
  const std::vector<CounterAdd> five = {{"c", 5, seconds(60)}};
  const auto tell = [&](int64_t number) {
    return store->exchange({.gateway = "g", .number = number, .additions = five, .takes = {}});
  };
  eventually([&] { return tell(1); });
  eventually([&] { return store->add(five); });
  server.freeze();
  const auto nameless = store->add(five);
  ASSERT_FALSE(nameless);
  EXPECT_EQ(nameless.error().code(), ErrorCode::timeout) << nameless.error().to_string();
  clock_.advance(seconds(2));
  EXPECT_FALSE(tell(2));
  server.thaw();
  eventually([&] { return tell(2); });
  eventually([&] { return tell(2); });
  // The nameless one was sent before the freeze ended, and a Redis reads what it was sent.
  EXPECT_EQ(cases::read(*store, "c"), 20);
}

// What a Redis holds beside the store's own view.
class RedisInside {
 public:
  explicit RedisInside(const test::RedisServer& server) {
    auto opened = RedisConnection::open(*parse_redis_url(server.url()), nullptr, deadline());
    EXPECT_TRUE(opened) << opened.error().to_string();
    connection_ = *std::move(opened);
  }
  RedisReply ask(const RedisCommand& command) {
    std::unique_ptr<RedisFailure> failure;
    auto replies = connection_->exchange({command}, deadline(), failure);
    EXPECT_FALSE(failure);
    return replies.empty() ? RedisReply() : replies[0];
  }

 private:
  static Deadline deadline() { return std::chrono::steady_clock::now() + patient; }
  std::unique_ptr<RedisConnection> connection_;
};

// However many there are, and gateways that are gone for long leave nothing at all.
TEST_F(RedisStore, ExchangesLeaveOneKey) {
  const test::RedisServer server;
  auto store = open(server.url());
  RedisInside inside(server);
  for (int i = 1; i <= 100; ++i) {
    cases::exchange(*store, "a", i);
    cases::exchange(*store, "b", i);
  }
  EXPECT_EQ(inside.ask({"DBSIZE"}).number, 5);  // two counters, two buckets
  EXPECT_EQ(inside.ask({"TTL", "tidemill:exchanges"}).number, -1);
  inside.ask({"HSET", "tidemill:exchanges", "long ago", "12 1000"});
  cases::exchange(*store, "a", 101);
  EXPECT_EQ(inside.ask({"HLEN", "tidemill:exchanges"}).number, 3);
  cases::exchange(*store, "c", 1);
  EXPECT_EQ(inside.ask({"HEXISTS", "tidemill:exchanges", "long ago"}).number, 0);
  EXPECT_EQ(inside.ask({"HLEN", "tidemill:exchanges"}).number, 3);
  EXPECT_EQ(cases::exchange(*store, "a", 101).counters.at(0), 5 * 202);
}

// As a Redis that makes room drops what lives shortest.
TEST_F(RedisStore, ALeaseThatWasDroppedIsTakenAgain) {
  const test::RedisServer server;
  auto store = open(server.url());
  RedisInside inside(server);
  EXPECT_TRUE(cases::take_lease(*store, "l", "a"));
  EXPECT_EQ(inside.ask({"DEL", "tidemill:lease:l"}).number, 1);
  const std::vector<Lease> mine = {{"l", "a"}};
  EXPECT_TRUE(store->keep_leases(mine, seconds(60)));
  EXPECT_FALSE(cases::take_lease(*store, "l", "b"));
  EXPECT_GT(inside.ask({"PTTL", "tidemill:lease:l"}).number, 0);
  EXPECT_TRUE(store->end_lease({"l", "a"}));
  EXPECT_TRUE(cases::take_lease(*store, "l", "b"));
}

// As what was sent to a Redis that was frozen.
TEST_F(RedisStore, ALeaseThatWasEndedIsNotBroughtBackByWhatComesLate) {
  const test::RedisServer server;
  auto store = open(server.url());
  RedisInside inside(server);
  const std::vector<Lease> mine = {{"l", "a"}};
  EXPECT_TRUE(cases::take_lease(*store, "l", "a"));
  EXPECT_TRUE(store->end_lease({"l", "a"}));
  EXPECT_TRUE(store->keep_leases(mine, seconds(60)));
  EXPECT_FALSE(cases::take_lease(*store, "l", "a"));
  const int64_t left = inside.ask({"PTTL", "tidemill:lease:l"}).number;
  EXPECT_TRUE(left > 0 && left <= 15'000) << left;
  EXPECT_TRUE(cases::take_lease(*store, "l", "b"));
  EXPECT_TRUE(store->end_lease({"l", "b"}));
  EXPECT_TRUE(store->keep_leases(mine, seconds(60)));
  EXPECT_TRUE(cases::take_lease(*store, "l", "c"));
  // A lease may be ended before it is taken, where it was not told whether it is.
  EXPECT_TRUE(store->end_lease({"late", "a"}));
  EXPECT_FALSE(cases::take_lease(*store, "late", "a"));
  EXPECT_TRUE(cases::take_lease(*store, "late", "b"));
}

// One that is full takes no new lease; those that it has are kept, and can be ended.
TEST_F(RedisStore, LeasesLiveInARedisThatIsFull) {
  const test::RedisServer server;
  auto store = open(server.url());
  RedisInside inside(server);
  EXPECT_TRUE(cases::take_lease(*store, "l", "a", milliseconds(40'000)));
  inside.ask({"CONFIG", "SET", "maxmemory", "1"});
  const auto refused = store->take_lease({"m", "a"}, seconds(60));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::exhausted) << refused.error().to_string();
  const std::vector<Lease> held = {{"m", "a"}, {"l", "a"}};
  EXPECT_TRUE(store->keep_leases(held, seconds(80)));
  EXPECT_GT(inside.ask({"PTTL", "tidemill:lease:l"}).number, 40'000);
  EXPECT_TRUE(store->end_lease({"l", "a"}));
  inside.ask({"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_TRUE(cases::take_lease(*store, "l", "b"));
}

// A Redis that makes room forgets what has the shortest time to live, of which there is much here; not that an exchange
// was counted.
TEST_F(RedisStore, AnExchangeCountsOnceInARedisThatMakesRoom) {
  const test::RedisServer server({"--maxmemory", "4mb", "--maxmemory-policy", "volatile-ttl"});
  auto store = open(server.url(), {.time_to_live = std::chrono::hours(1)});
  RedisInside inside(server);
  const Exchange told{
      .gateway = "g", .number = 1, .additions = {{"spent", 5, std::chrono::hours(24 * 40)}}, .takes = {}};
  ASSERT_TRUE(store->exchange(told));
  for (int i = 0; i < 200; ++i)
    ASSERT_TRUE(put(*store, std::to_string(i), std::string(100'000, 'x')));
  EXPECT_EQ(get(*store, "0"), "(none)");
  EXPECT_EQ(get(*store, "199").size(), 100'000U);
  const auto again = store->exchange(told);
  ASSERT_TRUE(again) << again.error().to_string();
  EXPECT_EQ(again->counters.at(0), 5);
}

TEST_F(RedisStore, OneThatIsFullSaysSoAndLosesNothing) {
  const test::RedisServer server({"--maxmemory", "4mb", "--maxmemory-policy", "noeviction"});
  auto store = open(server.url());
  const std::string value(200'000, 'x');
  int kept = 0;
  base::Result<void> outcome;
  while (kept < 100) {
    const std::string id = std::to_string(kept);
    const std::vector<Record> records = {{id, value}, {id + "-items", "i"}};
    outcome = store->put("t", records);
    if (!outcome) break;
    ++kept;
  }
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.error().code(), ErrorCode::exhausted) << outcome.error().to_string();
  EXPECT_NE(outcome.error().message().find("maxmemory"), std::string::npos);
  ASSERT_GT(kept, 2);
  for (int i = 0; i < kept; ++i) {
    EXPECT_EQ(get(*store, std::to_string(i)), value);
    EXPECT_EQ(get(*store, std::to_string(i) + "-items"), "i");
  }
  EXPECT_EQ(get(*store, std::to_string(kept)), "(none)");
  EXPECT_EQ(get(*store, std::to_string(kept) + "-items"), "(none)");
  // What is smaller than that record may still fit; not for long.
  const auto fills_up = [](const auto& call) {
    for (int i = 0; i < 100'000; ++i) {
      const auto done = call(std::to_string(i));
      if (!done) return done.error().code();
    }
    return ErrorCode::internal;
  };
  EXPECT_EQ(fills_up([&](const std::string& n) {
              return store->add(std::vector<CounterAdd>{{"full-" + n, 1, seconds(60)}});
            }),
            ErrorCode::exhausted);
  EXPECT_EQ(fills_up([&](const std::string& n) {
              return store->take(std::vector<BucketTake>{{n, 1e6, 1, 1}}, TakeMode::in_debt);
            }),
            ErrorCode::exhausted);
  EXPECT_EQ(fills_up([&](const std::string& n) { return store->replace_blob(n, 0, "x"); }), ErrorCode::exhausted);
  const Exchange told{
      .gateway = "g", .number = 1, .additions = {{"told", 5, seconds(60)}}, .takes = {{"told", 10, 1e-6, 4}}};
  const auto refused = store->exchange(told);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::exhausted);
  for (int i = 0; i < 3; ++i) {
    const auto checked = store->check();
    ASSERT_FALSE(checked) << "it answers, but what has failed would fail again";
    EXPECT_EQ(checked.error().code(), ErrorCode::exhausted) << checked.error().to_string();
  }
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(store->remove("t", std::to_string(i)).value());
  EXPECT_TRUE(store->check());
  EXPECT_TRUE(put(*store, "again", "1"));
  EXPECT_EQ(cases::add(*store, "c", 1), 1);
  const auto counted = store->exchange(told);
  ASSERT_TRUE(counted) << counted.error().to_string();
  EXPECT_EQ(counted->counters.at(0), 5);
  EXPECT_NEAR(counted->levels.at(0), 6, 1e-3);
}

TEST_F(RedisStore, APasswordIsAskedFor) {
  const test::RedisServer server(
      {"--requirepass", "p@ss/word", "--user", "gate", "on", ">hush", "~tidemill:*", "+@all"});
  EXPECT_TRUE(open(server.url(":p%40ss%2Fword"))->check());
  auto named = open(server.url("gate:hush"));
  ASSERT_TRUE(put(*named, "a", "1"));
  EXPECT_EQ(cases::add(*named, "c", 1), 1);
  for (const char* wrong : {"", ":wrong", "gate:wrong"}) {
    const auto refused = open(server.url(wrong))->check();
    ASSERT_FALSE(refused) << wrong;
    EXPECT_EQ(refused.error().code(), ErrorCode::unavailable);
    EXPECT_NE(refused.error().message().find("refuses the user or the password"), std::string::npos)
        << refused.error().message();
    EXPECT_EQ(refused.error().message().find(":wrong"), std::string::npos);
  }
}

TEST_F(RedisStore, TlsProvesWhoTheServerIs) {
  const test::RedisServer server({}, true);
  if (!server.running()) GTEST_SKIP() << "this redis-server is built without TLS";
  const std::string place = ":" + std::to_string(server.port()) + "/0";
  auto store = open("rediss://localhost" + place, {.ca_file = server.certificate()});
  ASSERT_TRUE(put(*store, "a", std::string(1'000'000, 'x')));
  EXPECT_EQ(get(*store, "a").size(), 1'000'000U);
  EXPECT_EQ(cases::add(*store, "c", 1), 1);
  const auto unknown = open("rediss://localhost" + place)->check();
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code(), ErrorCode::unavailable);
  EXPECT_NE(unknown.error().message().find("certificate is not accepted"), std::string::npos)
      << unknown.error().message();
  const auto other = open("rediss://127.0.0.1" + place, {.ca_file = server.certificate()})->check();
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message().find("certificate is not accepted"), std::string::npos) << other.error().message();
  const auto no_file = open_store({.path = "rediss://h", .ca_file = "/no/such/file.pem"}, clock_);
  ASSERT_FALSE(no_file);
  EXPECT_EQ(no_file.error().code(), ErrorCode::io);
  EXPECT_FALSE(open("redis://127.0.0.1" + place)->check());
}

TEST(OpenStore, RefusesAnAddressThatIsNone) {
  const auto store = open_store({.path = "redis://h:port"});
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().code(), ErrorCode::invalid_argument);
  EXPECT_TRUE(open_store({}));
}

}  // namespace
}  // namespace tidemill::session
