// A gateway that is asked for more than its backends can do. `make overload` measures the same in time.
#include <deque>
#include <string>

#include <gtest/gtest.h>

#include "access/api_key.hpp"
#include "access/key_vault.hpp"
#include "gateway/fleet_fixture.hpp"
#include "gateway/held_backend.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

class Overload : public FleetFixture {
 protected:
  static inline const std::string question =
      R"({"model":"m","max_tokens":100,"messages":[{"role":"user","content":"hi"}]})";

  Overload() {
    options.backends.push_back({.url = backend.url()});
    options.longest_wait = std::chrono::hours(1);
  }

  // Sends a request and does not wait for its answer.
  RawClient& send(const std::string& tenant = {}, const std::string& key = {}) {
    RawClient& client = clients.emplace_back(gateway->port());
    EXPECT_TRUE(client.send(raw_post("/v1/chat/completions", question,
                                     "X-Tenant: " + tenant + "\r\nAuthorization: Bearer " + key + "\r\n")));
    return client;
  }
  void wait_for_queue(int waiting) {
    while (metric("tidemill_gateway_requests_queued") != waiting) {
    }
  }
  std::string make_key(const std::string& tenant) {
    const auto made = access::make_key({.name = tenant, .tenant = tenant}, base::SystemClock::instance().wall_now());
    EXPECT_TRUE(made);
    options.keys = (folder.path() / "keys.json").string();
    EXPECT_TRUE(
        access::keys_in_file(options.keys)->update([&](std::vector<access::ApiKey>& keys) -> base::Result<void> {
          keys.push_back(made->key);
          return {};
        }));
    return made->secret;
  }

  TemporaryFolder folder;
  HeldBackend backend{R"({"id":"1","usage":{"prompt_tokens":10,"completion_tokens":10}})"};
  std::deque<RawClient> clients;
};

TEST_F(Overload, AReloadChangesTheQueue) {
  options.slots = 1;
  options.max_queued = 1;
  start();
  for (int i = 0; i < 2; ++i)
    send();
  backend.wait_for(1);
  wait_for_queue(1);
  EXPECT_EQ(post("/v1/chat/completions", question).status, 429);
  options.slots = 3;
  options.max_queued = 2;
  ASSERT_TRUE(gateway->reload(options));
  backend.wait_for(2);  // the one that waited goes at once
  for (int i = 0; i < 3; ++i)
    send();
  backend.wait_for(3);
  wait_for_queue(2);
  EXPECT_EQ(post("/v1/chat/completions", question).status, 429);
}

// Four slots and a queue of four, and three times as many requests as have a place: those are told at once when to come
// back, while all that were let in are answered, and the backend is as busy as it can be and never busier.
TEST_F(Overload, WhatHasNoPlaceIsRefusedAtOnceAndTheRestIsServed) {
  options.slots = 4;
  options.max_queued = 4;
  start();
  for (int i = 0; i < 8; ++i)
    send();
  backend.wait_for(4);
  wait_for_queue(4);
  for (int i = 0; i < 16; ++i) {
    // While the backend holds what it has: nothing else could end these.
    const wire::HttpResponse refused = post("/v1/chat/completions", question);
    EXPECT_EQ(refused.status, 429);
    EXPECT_GE(std::stoi(std::string(refused.headers.find("retry-after").value_or("0"))), 1);
  }
  for (int left = 8; left > 0; --left) {
    backend.wait_for(std::min<size_t>(4, static_cast<size_t>(left)));
    backend.release();
  }
  for (RawClient& client : clients)
    EXPECT_TRUE(client.read_answer().starts_with("HTTP/1.1 200 "));
  EXPECT_EQ(backend.most_at_once(), 4U);
}

TEST_F(Overload, NoBackendIsAskedForMoreThanItsBound) {
  options.max_open = 2;
  options.patience = std::chrono::seconds(0);
  start();
  send();
  send();
  backend.wait_for(2);
  const wire::HttpResponse refused = post("/v1/chat/completions", question);
  EXPECT_EQ(refused.status, 503);
  EXPECT_NE(refused.body.find("1 full"), std::string::npos) << refused.body;
  backend.release();
  EXPECT_TRUE(clients.front().read_answer().starts_with("HTTP/1.1 200 "));
  send();
  backend.wait_for(2);
  backend.release();
  backend.release();
}

// Of eight slots one is spared for who has less than a fair share: a tenant that asks for little finds it free, and the
// next that becomes free is its too, however many requests of the other wait before it.
TEST_F(Overload, AFloodOfOneTenantLeavesAPlaceForAnother) {
  options.slots = 8;
  const std::string flooding = make_key("flooding");
  const std::string modest = make_key("modest");
  start();
  for (int i = 0; i < 30; ++i)
    send("flooding", flooding);
  backend.wait_for(7);
  wait_for_queue(23);
  send("modest", modest);
  EXPECT_EQ(backend.wait_for(8).back(), "modest");
  send("modest", modest);
  wait_for_queue(24);
  backend.release();  // one of the flood's
  EXPECT_EQ(backend.wait_for(8).back(), "modest");
  for (int left = 31; left > 0; --left) {
    backend.wait_for(std::min<size_t>(7, static_cast<size_t>(left)));
    backend.release();
  }
  for (RawClient& client : clients)
    EXPECT_TRUE(client.read_answer().starts_with("HTTP/1.1 200 "));
}

}  // namespace
}  // namespace tidemill::test
