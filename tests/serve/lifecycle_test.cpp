// Loading, full queues, vanishing clients, draining.
#include <atomic>
#include <chrono>
#include <filesystem>
#include <future>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "base/log.hpp"
#include "live_server.hpp"
#include "temporary_folder.hpp"
#include "wire/raw_client.hpp"

namespace tidemill {
namespace {

using test::parse_object;

// Runs until it is cut or the context is full.
const std::string endless =
    R"({"prompt":"import os\n","max_tokens":4000,"temperature":0,"ignore_eos":true,"stream":true})";

// Of more tokens than a block of the cache holds.
const std::string long_prompt =
    R"({"prompt":"import os, sys, re, json\nfor a, b in zip([1, 2, 3], [4, 5, 6]):\n  print(a + b)\n","max_tokens":1})";

bool all_blocks_back(engine::Engine& engine) {
  const engine::EngineStats stats = engine.stats();
  return stats.running == 0 && stats.waiting == 0 && stats.kv_blocks_free + stats.kv_blocks_cached == stats.kv_blocks;
}

TEST(Loading, IsAnsweredWith503UntilTheModelIsThere) {
  base::log::set_level(base::log::Level::warn);
  const auto options = test::small_options();
  auto server = serve::Server::start(options);
  ASSERT_TRUE(server) << server.error().to_string();
  test::Client client((*server)->url());
  EXPECT_EQ(client.get("/health").status, 200);
  const auto ready = client.get("/ready");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(parse_object(ready).at("status"), "loading");
  EXPECT_EQ(ready.headers.find("x-tidemill-unready"), "loading");
  const auto early = client.post("/v1/completions", R"({"prompt":"x"})");
  EXPECT_EQ(early.status, 503);
  EXPECT_TRUE(early.headers.has("retry-after"));
  EXPECT_EQ(early.headers.find("x-tidemill-unready"), "loading");
  EXPECT_EQ(client.get("/v1/models").status, 503);
  EXPECT_EQ(client.get("/metrics").status, 200);
  ASSERT_TRUE((*server)->serve(test::load_nano_coder(options)));
  const auto loaded = client.get("/ready");
  EXPECT_EQ(loaded.status, 200);
  EXPECT_FALSE(loaded.headers.has("x-tidemill-unready"));
  EXPECT_EQ(client.post("/v1/completions", R"({"prompt":"x","max_tokens":1})").status, 200);
}

TEST(Loading, EndsWhileItPreloads) {
  test::TemporaryFolder folder;
  auto options = test::small_options();
  options.preload = folder.put("system.txt", "You write code.").string();
  auto server = serve::Server::start(options);
  ASSERT_TRUE(server) << server.error().to_string();
  const auto served = (*server)->serve(test::load_nano_coder(options), [] { return true; });
  ASSERT_FALSE(served);
  EXPECT_EQ(served.error().code(), base::ErrorCode::cancelled);
  EXPECT_EQ(test::Client((*server)->url()).get("/ready").status, 503);
  EXPECT_TRUE((*server)->stop(base::Duration(0)));
}

TEST(Starting, FailsWithAReasonWhereThePortIsTaken) {
  test::LiveServer live;
  auto options = test::small_options();
  options.port = live.server().port();
  const auto second = serve::Server::start(options);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().to_string().find(std::to_string(options.port)), std::string::npos);
}

TEST(Starting, TellsAnAddressThatIsNoneAsTheOptionThatItIs) {
  auto options = test::small_options();
  options.host = "nowhere.example";
  const auto server = serve::Server::start(options);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().param(), "server.host");
  EXPECT_NE(server.error().message().find("'nowhere.example' is not an IP address"), std::string::npos);
}

TEST(Disconnect, InMidStreamFreesEveryBlock) {
  test::LiveServer live;
  const auto events = live.client().stream("/v1/completions", endless, [](const std::string&) { return false; });
  EXPECT_EQ(events.size(), 1U);
  test::wait_until([&] { return all_blocks_back(live.engine()); }, "the blocks of a client that went away");
  EXPECT_LT(live.engine().stats().generated_tokens, 4000U);
}

TEST(Disconnect, CountsWhatWasComputedAllTheSame) {
  test::LiveServer live;
  test::Client client = live.client();
  (void)client.stream("/v1/completions", endless, [](const std::string&) { return false; });
  std::string traces;
  test::wait_until(
      [&] {
        traces = client.get("/debug/traces").body;
        return traces.find("\"POST /v1/completions\"") != std::string::npos;
      },
      "the span of a stream that nobody reads any more");
  test::wait_until([&] { return live.engine().idle(); }, "the engine to give it up");
  const auto computed = static_cast<int64_t>(live.engine().stats().generated_tokens);
  const auto parsed = base::parse_json(traces);
  ASSERT_TRUE(parsed);
  for (const auto& span : parsed->as_array().at(0).at("spans").as_array()) {
    if (span.at("name") != "POST /v1/completions") continue;
    const auto& attributes = span.at("attributes").as_object();
    ASSERT_TRUE(attributes.contains("gen_ai.usage.output_tokens")) << traces;
    EXPECT_GE(attributes.at("gen_ai.usage.output_tokens").as_int64(), 1);
    EXPECT_LE(attributes.at("gen_ai.usage.output_tokens").as_int64(), computed);
    EXPECT_GE(attributes.at("gen_ai.usage.input_tokens").as_int64(), 1);
  }
}

TEST(Disconnect, BeforeAnAnswerThatIsNotStreamedFreesEveryBlock) {
  test::LiveServer live;
  wire::HttpClientOptions hasty;
  hasty.idle_timeout = std::chrono::milliseconds(50);  // hangs up long before 4000 tokens are there
  wire::HttpClient client(hasty);
  const auto response = client.fetch(
      {.method = "POST",
       .url = live.server().url() + "/v1/completions",
       .headers = {},
       .body = R"({"prompt":["import os\n","class A:"],"n":4,"max_tokens":4000,"temperature":0,"ignore_eos":true})"});
  EXPECT_FALSE(response);
  test::wait_until([&] { return all_blocks_back(live.engine()) && live.engine().idle(); },
                   "the blocks of a client that went away");
  EXPECT_LT(live.engine().stats().generated_tokens, 8U * 4000U);
}

// The events in the bytes of a stream that came in chunks of whole events.
std::vector<std::string> events_in(std::string_view bytes) {
  std::vector<std::string> events;
  for (size_t at = 0; (at = bytes.find("data: ", at)) != std::string_view::npos;) {
    const size_t end = bytes.find("\n\n", at);
    events.emplace_back(bytes.substr(at + 6, end - at - 6));
    at = end;
  }
  return events;
}

TEST(SlowReader, LetsItsRequestRestAndHoldsUpNobodyElse) {
  auto options = test::small_options();
  options.write_timeout = std::chrono::minutes(10);
  test::LiveServer live(options);
  // Two megabytes, of which the kernel and the server hold a part.
  const std::string body =
      R"({"messages":[{"role":"user","content":"x = "}],"n":16,"max_tokens":100,"logprobs":true,"top_logprobs":20,)"
      R"("temperature":1,"seed":7,"ignore_eos":true,"stream":true})";
  const auto expected = live.client().stream("/v1/chat/completions", body);
  test::RawClient slow(live.server().port(), 4096);
  ASSERT_TRUE(slow.send(test::raw_post("/v1/chat/completions", body, "Connection: close\r\n")));
  test::wait_until([&] { return live.engine().stats().resting == 1; }, "the request to rest");
  EXPECT_EQ(live.client().post("/v1/completions", R"({"prompt":"x","max_tokens":4})").status, 200);
  const std::string metrics = live.client().get("/metrics").body;
  const size_t gauge = metrics.find("\ntidemill_requests_resting{");
  ASSERT_NE(gauge, std::string::npos) << metrics;
  const std::string line = metrics.substr(gauge + 1, metrics.find('\n', gauge + 1) - gauge - 1);
  EXPECT_TRUE(line.ends_with("} 1")) << line;
  const auto events = events_in(slow.read_all());
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back(), "[DONE]");
  for (const int choice : {0, 7, 15})
    EXPECT_EQ(test::streamed_text(events, choice), test::streamed_text(expected, choice)) << choice;
}

TEST(SlowReader, ThatReadsNothingIsCutAndItsBlocksAreFreed) {
  auto options = test::small_options();
  options.write_timeout = std::chrono::milliseconds(50);
  test::LiveServer live(options);
  base::log::set_level(base::log::Level::info);
  testing::internal::CaptureStderr();
  test::RawClient silent(live.server().port(), 4096);
  const std::string body =
      R"({"prompt":"import os\n","n":16,"max_tokens":4000,"logprobs":5,"ignore_eos":true,"stream":true})";
  ASSERT_TRUE(silent.send(test::raw_post("/v1/completions", body)));
  test::wait_until([&] { return live.engine().stats().generated_tokens > 0; }, "the stream to begin");
  test::wait_until([&] { return all_blocks_back(live.engine()) && live.engine().idle(); },
                   "the blocks of a client that does not read");
  EXPECT_LT(live.engine().stats().generated_tokens, 16U * 4000U);
  test::wait_until(
      [&] {
        return live.client()
                   .get("/metrics")
                   .body.find("tidemill_http_requests_total{route=\"/v1/completions\",status=\"499\"} 1") !=
               std::string::npos;
      },
      "the answer to be counted as one that nobody read to its end");
  base::log::set_level(base::log::Level::warn);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_NE(log.find("POST /v1/completions 200 "), std::string::npos) << log;
  EXPECT_NE(log.find("error=\"the client took nothing of its answer for 0.05 s and was cut off\""), std::string::npos)
      << log;
  EXPECT_NE(live.client().get("/debug/traces").body.find("took nothing of its answer"), std::string::npos);
}

TEST(QueueFull, Is429WithRetryAfter) {
  auto options = test::small_options();
  options.max_running = 1;
  options.max_waiting = 1;
  test::LiveServer live(options);
  std::promise<void> running;
  std::atomic<bool> over{false};
  std::thread first([&] {
    bool told = false;
    live.client().stream("/v1/completions", endless, [&](const std::string&) {
      if (!std::exchange(told, true)) running.set_value();
      return !over;
    });
  });
  running.get_future().wait();
  std::thread second(
      [&] { live.client().stream("/v1/completions", endless, [&](const std::string&) { return !over; }); });
  test::wait_until([&] { return live.engine().stats().waiting == 1; }, "the second request to wait");
  const auto refused = live.client().post("/v1/completions", R"({"prompt":"x"})");
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(test::error_of(refused).type, "rate_limit_error");
  ASSERT_TRUE(refused.headers.has("retry-after"));
  const int seconds = std::stoi(std::string(*refused.headers.find("retry-after")));
  EXPECT_GE(seconds, 1);
  EXPECT_LE(seconds, 60);
  EXPECT_EQ(live.client().post("/v1/completions", R"({"prompt":["x","y"]})").status, 429);
  over = true;
  first.join();
  second.join();
  test::wait_until([&] { return all_blocks_back(live.engine()); }, "the queue to empty");
  EXPECT_EQ(live.client().post("/v1/completions", R"({"prompt":"x","max_tokens":1})").status, 200);
}

TEST(Drain, FinishesWhatRunsAndRefusesWhatComes) {
  test::LiveServer live;
  test::Client client = live.client();
  const auto events = client.stream(
      "/v1/completions",
      R"({"prompt":"import os\n","max_tokens":120,"temperature":0,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true}})",
      [&, first = true](const std::string&) mutable {
        if (!std::exchange(first, false)) return true;
        live.server().drain();
        test::Client other = live.client();
        const auto refused = other.post("/v1/completions", R"({"prompt":"x"})");
        EXPECT_EQ(refused.status, 503);
        EXPECT_TRUE(refused.headers.has("retry-after"));
        EXPECT_EQ(refused.headers.find("x-tidemill-unready"), "draining");
        const auto ready = other.get("/ready");
        EXPECT_EQ(ready.status, 503);
        EXPECT_EQ(parse_object(ready).at("status"), "draining");
        EXPECT_EQ(ready.headers.find("x-tidemill-unready"), "draining");
        EXPECT_EQ(other.get("/health").status, 200);
        return true;
      });
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back(), "[DONE]");
  EXPECT_EQ(parse_object(events[events.size() - 2]).at("usage").at("completion_tokens"), 120);
  EXPECT_TRUE(live.server().stop(std::chrono::seconds(30)));
}

// A path that was mistyped must not cost the file that stands there.
TEST(PrefixFile, LeavesWhatIsNotItsOwn) {
  const test::TemporaryFolder folder;
  const auto notes = folder.path() / "notes.txt";
  ASSERT_TRUE(base::write_file(notes, "years of work"));
  std::filesystem::create_directory(folder.path() / "papers");
  for (const auto& path : {notes, folder.path() / "papers"}) {
    auto options = test::small_options();
    options.prefix_file = path.string();
    test::LiveServer live(options);
    EXPECT_EQ(live.client().post("/v1/completions", R"({"prompt":"import os\n","max_tokens":1})").status, 200);
    EXPECT_TRUE(live.server().stop(std::chrono::seconds(30)));
  }
  EXPECT_EQ(*base::read_file(notes), "years of work");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path() / "papers"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2) << "nothing was left behind";
}

TEST(PrefixFile, ReplacesWhatIsItsOwnOrEmpty) {
  const test::TemporaryFolder folder;
  const auto path = folder.path() / "prefixes";
  for (const std::string content : {"", "TMPREFIX of another time"}) {
    ASSERT_TRUE(base::write_file(path, content));
    auto options = test::small_options();
    options.prefix_file = path.string();
    test::LiveServer live(options);
    EXPECT_EQ(live.client().post("/v1/completions", long_prompt).status, 200);
    EXPECT_TRUE(live.server().stop(std::chrono::seconds(30)));
    const std::string kept = *base::read_file(path);
    EXPECT_TRUE(kept.starts_with("TMPREFIX"));
    EXPECT_NE(kept, content);
  }
}

TEST(PrefixFile, StaysWhereThereIsNothingToKeep) {
  const test::TemporaryFolder folder;
  auto options = test::small_options();
  options.prefix_file = (folder.path() / "prefixes").string();
  {
    test::LiveServer live(options);
    EXPECT_EQ(live.client().post("/v1/completions", long_prompt).status, 200);
    EXPECT_TRUE(live.server().stop(std::chrono::seconds(30)));
  }
  const std::string kept = *base::read_file(options.prefix_file);
  EXPECT_TRUE(kept.starts_with("TMPREFIX"));
  options.kv_type = "int8";
  {
    test::LiveServer other(options);
    EXPECT_TRUE(other.server().stop(std::chrono::seconds(30)));
  }
  EXPECT_EQ(*base::read_file(options.prefix_file), kept);
}

TEST(PrefixFile, StopsTheStartWhereNoneCanBeMade) {
  auto options = test::small_options();
  options.prefix_file = "/no/such/folder/prefixes";
  auto server = serve::Server::start(options);
  ASSERT_TRUE(server) << server.error().to_string();
  const auto served = (*server)->serve(test::load_nano_coder(options));
  ASSERT_FALSE(served);
  EXPECT_EQ(served.error().param(), "engine.prefix_file");
  EXPECT_NE(served.error().to_string().find("/no/such/folder"), std::string::npos);
}

TEST(Stop, WaitsForARunningStream) {
  test::LiveServer live;
  std::future<bool> stopped;
  const auto events = live.client().stream(
      "/v1/completions", R"({"prompt":"import os\n","max_tokens":60,"ignore_eos":true,"stream":true})",
      [&, first = true](const std::string&) mutable {
        if (std::exchange(first, false)) {
          stopped = std::async(std::launch::async, [&] { return live.server().stop(std::chrono::seconds(60)); });
        }
        return true;
      });
  EXPECT_EQ(events.back(), "[DONE]");
  EXPECT_TRUE(stopped.get());
}

// Runs until the server ends it; there once it runs.
class EndlessStream {
 public:
  explicit EndlessStream(test::LiveServer& live)
      : thread_([this, &live] {
          events_ = live.client().stream("/v1/completions", endless, [this, first = true](const std::string&) mutable {
            if (std::exchange(first, false)) running_.set_value();
            return true;
          });
        }) {
    running_.get_future().wait();
  }
  ~EndlessStream() {
    if (thread_.joinable()) thread_.join();
  }
  EndlessStream(const EndlessStream&) = delete;
  EndlessStream& operator=(const EndlessStream&) = delete;

  void expect_to_be_told_of_the_stop() {
    thread_.join();
    ASSERT_FALSE(events_.empty());
    const auto last = parse_object(events_.back());
    ASSERT_TRUE(last.contains("error")) << events_.back();
    EXPECT_EQ(last.at("error").at("message"), "the server has stopped before the answer ended");
  }

 private:
  std::promise<void> running_;
  std::vector<std::string> events_;
  std::thread thread_;  // last: it uses the others
};

TEST(Stop, ThatIsHurriedGivesNoMoreTime) {
  test::LiveServer live;
  EndlessStream stream(live);
  auto stopped = std::async(std::launch::async, [&] { return live.server().stop(std::chrono::hours(1)); });
  test::wait_until([&] { return live.client().get("/ready").status == 503; }, "the server to drain");
  live.server().hurry();
  EXPECT_FALSE(stopped.get());
  stream.expect_to_be_told_of_the_stop();
}

TEST(Stop, TellsWhatRunsPastTheLimitThatTheServerHasStopped) {
  test::LiveServer live;
  EndlessStream stream(live);
  wire::HttpResponse whole;
  std::thread waiter([&] {
    whole = live.client().post("/v1/completions",
                               R"({"prompt":"import re\n","max_tokens":4000,"temperature":0,"ignore_eos":true})");
  });
  test::wait_until([&] { return live.engine().stats().running == 2; }, "both requests to run");
  EXPECT_FALSE(live.server().stop(base::Duration(0)));
  waiter.join();
  stream.expect_to_be_told_of_the_stop();
  EXPECT_EQ(whole.status, 503) << whole.body;
}

}  // namespace
}  // namespace tidemill
