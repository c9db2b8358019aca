// What a store that takes its time does not hold up.
#include <atomic>
#include <chrono>
#include <memory>
#include <sqlite3.h>
#include <string>

#include <gtest/gtest.h>

#include "gateway/fleet_fixture.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {
namespace {

using namespace std::chrono_literals;

const std::string asked_of_slow_store = R"({"model":"m","messages":[{"role":"user","content":"hi"}]})";

// Keeps a file of SQLite's for itself while it lives: others that write wait for it, for some seconds.
class HeldFile {
 public:
  explicit HeldFile(const std::string& path) {
    EXPECT_EQ(sqlite3_open(path.c_str(), &file_), SQLITE_OK);
    sqlite3_busy_timeout(file_, 10'000);
    EXPECT_EQ(sqlite3_exec(file_, "BEGIN EXCLUSIVE", nullptr, nullptr, nullptr), SQLITE_OK);
  }
  ~HeldFile() { sqlite3_close(file_); }
  HeldFile(const HeldFile&) = delete;
  HeldFile& operator=(const HeldFile&) = delete;

 private:
  sqlite3* file_ = nullptr;
};

class SlowStore : public FleetFixture {
 protected:
  TemporaryFolder folder;
};

// The books are shared through a file that somebody else keeps, and what it knows has been read. Who waits in the queue
// meanwhile hears in time that it was in vain: before the gateway gives up on the file.
TEST_F(SlowStore, DoesNotHoldUpTheQueue) {
  std::atomic<bool> hangs = false;
  ScriptedBackend& backend = add_backend([&](const Received&) {
    return hangs ? Script{.bytes = "", .end = Script::End::hang}
                 : Script{.bytes = http_answer(200, "application/json", R"({"id":"x","choices":[]})")};
  });
  options.session.path = (folder.path() / "store.db").string();
  options.policy = folder.put("policy.toml", "[tenants.default]\nrequests_per_minute = 1000\n").string();
  options.slots = 1;
  options.longest_wait = 20ms;
  start();
  EXPECT_EQ(post("/v1/chat/completions", asked_of_slow_store).status, 200);
  hangs = true;
  testing::internal::CaptureStderr();
  {
    const HeldFile held(options.session.path);
    RawClient first(gateway->port());
    EXPECT_TRUE(first.send(raw_post("/v1/chat/completions", asked_of_slow_store)));
    EXPECT_TRUE(backend.wait_for_requests(2));
    for (int i = 0; i < 3; ++i) {
      const wire::HttpResponse response = post("/v1/chat/completions", asked_of_slow_store);
      EXPECT_EQ(response.status, 429);
      EXPECT_NE(response.body.find("waited for too long"), std::string::npos) << response.body;
    }
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_EQ(log.find("store"), std::string::npos) << log;
  }
}

}  // namespace
}  // namespace tidemill::test
