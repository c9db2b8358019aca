// What any shared state must do, to be tried with each kind of store.
#pragma once

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "session/session_store.hpp"

namespace tidemill::session::cases {

using std::chrono::milliseconds;
using std::chrono::seconds;

inline int64_t add(SharedState& state, std::string key, int64_t amount, base::Duration lives = seconds(60)) {
  const std::vector<CounterAdd> additions = {{std::move(key), amount, lives}};
  auto values = state.add(additions);
  EXPECT_TRUE(values) << values.error().to_string();
  return values ? values->at(0) : -1;
}

inline int64_t read(SharedState& state, std::string key) {
  const std::vector<std::string> keys = {std::move(key)};
  auto values = state.read(keys);
  EXPECT_TRUE(values) << values.error().to_string();
  return values ? values->at(0) : -1;
}

inline BucketLevels take(SharedState& state, std::span<const BucketTake> takes, TakeMode mode) {
  auto levels = state.take(takes, mode);
  EXPECT_TRUE(levels) << levels.error().to_string();
  return levels ? *levels : BucketLevels{};
}

inline void counters_add_up(SharedState& state) {
  EXPECT_EQ(read(state, "c"), 0);
  EXPECT_EQ(add(state, "c", 5), 5);
  EXPECT_EQ(add(state, "c", -7), -2);
  EXPECT_EQ(read(state, "c"), -2);
  const int64_t large = int64_t{1} << 60;  // past what a double holds
  EXPECT_EQ(add(state, "large", large + 1), large + 1);
  EXPECT_EQ(add(state, "large", 2), large + 3);
  const std::vector<CounterAdd> both = {{"d", 1, seconds(60)}, {"c", 2, seconds(60)}, {"d", 10, seconds(60)}};
  const auto after = state.add(both);
  ASSERT_TRUE(after) << after.error().to_string();
  EXPECT_EQ(*after, (std::vector<int64_t>{1, 0, 11}));
  EXPECT_TRUE(state.add({}));
  EXPECT_TRUE(state.read({}));
}

inline bool take_lease(Leases& store, std::string key, std::string holder, base::Duration lives = seconds(60)) {
  auto taken = store.take_lease({std::move(key), std::move(holder)}, lives);
  EXPECT_TRUE(taken) << taken.error().to_string();
  return taken && *taken;
}

inline void a_lease_is_one_holders(Store& one, Store& two) {
  EXPECT_TRUE(take_lease(one, "l", "a"));
  EXPECT_FALSE(take_lease(two, "l", "b"));
  EXPECT_TRUE(take_lease(two, "l", "a")) << "whoever sends it again";
  EXPECT_TRUE(take_lease(two, "other", "b"));
  EXPECT_TRUE(two.end_lease({"l", "b"})) << "which it is not";
  EXPECT_FALSE(take_lease(two, "l", "b"));
  EXPECT_TRUE(one.end_lease({"l", "a"}));
  EXPECT_TRUE(one.end_lease({"l", "a"}));
  EXPECT_TRUE(take_lease(two, "l", "b"));
  EXPECT_FALSE(take_lease(one, "l", "a"));
  // What is another's is not kept; what is nobody's was lost, and is.
  const std::vector<Lease> kept = {{"l", "a"}, {"none", "a"}};
  EXPECT_TRUE(one.keep_leases(kept, seconds(60)));
  EXPECT_TRUE(one.keep_leases({}, seconds(60)));
  EXPECT_FALSE(take_lease(one, "l", "a"));
  EXPECT_TRUE(take_lease(two, "l", "b"));
  EXPECT_FALSE(take_lease(two, "none", "c"));
  EXPECT_TRUE(one.end_lease({"none", "a"}));
  EXPECT_TRUE(take_lease(two, "none", "c"));
  EXPECT_TRUE(two.end_lease({"none", "c"}));
  EXPECT_TRUE(take_lease(one, "none", "d"));
}

// Of many who want it at the same time one has it, each time.
inline void a_lease_is_never_two_holders(const std::vector<Store*>& stores) {
  std::atomic<int> holders = 0;
  std::atomic<int> taken = 0;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < stores.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string holder = std::to_string(t) + "-" + std::to_string(i);
        if (!take_lease(*stores[t], "contended", holder)) continue;
        EXPECT_EQ(++holders, 1);
        ++taken;
        --holders;
        EXPECT_TRUE(stores[t]->end_lease({"contended", holder}));
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_GE(taken, 1);
}

inline Exchanged exchange(SharedState& state, std::string gateway, int64_t number) {
  const Exchange told{.gateway = std::move(gateway),
                      .number = number,
                      .additions = {{"o", 5, seconds(60)}, {"p", -1, seconds(60)}},
                      .takes = {{"ob", 100, 1e-6, 4}, {"pb", 100, 1e-6, 0}}};
  auto exchanged = state.exchange(told);
  EXPECT_TRUE(exchanged) << exchanged.error().to_string();
  return exchanged ? *exchanged : Exchanged{{-1, -1}, {-1, -1}};
}

inline void an_exchange_counts_once(SharedState& state) {
  const auto expect = [](const Exchanged& exchanged, int64_t times) {
    EXPECT_EQ(exchanged.counters, (std::vector<int64_t>{5 * times, -times}));
    ASSERT_EQ(exchanged.levels.size(), 2U);
    EXPECT_NEAR(exchanged.levels[0], 100.0 - 4.0 * static_cast<double>(times), 1e-3);
    EXPECT_NEAR(exchanged.levels[1], 100, 1e-3);
  };
  expect(exchange(state, "a", 1), 1);
  expect(exchange(state, "a", 1), 1);
  expect(exchange(state, "a", 2), 2);
  expect(exchange(state, "a", 1), 2);  // on its way for long
  expect(exchange(state, "b", 1), 3);
  expect(exchange(state, "a", 2), 3);
  expect(exchange(state, "a", 10), 4);
  expect(exchange(state, "a", 9), 4);
  const auto empty = state.exchange({.gateway = "a", .number = 11, .additions = {}, .takes = {}});
  ASSERT_TRUE(empty) << empty.error().to_string();
  EXPECT_TRUE(empty->counters.empty() && empty->levels.empty());
  EXPECT_FALSE(state.exchange({.gateway = "a", .number = 12, .additions = {}, .takes = {{"z", 4, 0, 1}}}));
}

inline void blobs_change_from_the_version_they_had(SharedState& state) {
  auto blob = state.read_blob("b");
  ASSERT_TRUE(blob) << blob.error().to_string();
  EXPECT_EQ(blob->version, 0);
  const std::string bytes("\0one\r\n\xff", 7);
  EXPECT_EQ(state.replace_blob("b", 0, bytes).value(), 1);
  EXPECT_EQ(state.replace_blob("b", 0, "late").value(), std::nullopt);
  EXPECT_EQ(state.replace_blob("b", 2, "early").value(), std::nullopt);
  EXPECT_EQ(state.read_blob("b")->value, bytes);
  EXPECT_EQ(state.replace_blob("b", 1, "").value(), 2);
  EXPECT_EQ(state.read_blob("b")->version, 2);
  EXPECT_EQ(state.read_blob("b")->value, "");
  const auto large = state.replace_blob("b", 2, std::string(SharedState::max_blob_bytes + 1, 'x'));
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), base::ErrorCode::too_large);
}

inline void all_buckets_or_none(SharedState& state) {
  const std::vector<BucketTake> takes = {{"x", 10, 1e-6, 3}, {"y", 4, 1e-6, 2}};
  EXPECT_TRUE(take(state, takes, TakeMode::if_enough).taken);
  EXPECT_TRUE(take(state, takes, TakeMode::if_enough).taken);
  const BucketLevels refused = take(state, takes, TakeMode::if_enough);
  EXPECT_FALSE(refused.taken);
  ASSERT_EQ(refused.levels.size(), 2U);
  EXPECT_NEAR(refused.levels[0], 4, 1e-3);
  EXPECT_NEAR(refused.levels[1], 0, 1e-3);
  const BucketLevels debt = take(state, takes, TakeMode::in_debt);
  EXPECT_TRUE(debt.taken);
  EXPECT_NEAR(debt.levels[0], 1, 1e-3);
  EXPECT_NEAR(debt.levels[1], -2, 1e-3);
  const std::vector<BucketTake> much = {{"y", 4, 1e-6, 100}};
  EXPECT_NEAR(take(state, much, TakeMode::in_debt).levels[0], -4, 1e-3);  // no deeper than its capacity
  const std::vector<BucketTake> give = {{"y", 4, 1e-6, -100}};
  EXPECT_NEAR(take(state, give, TakeMode::in_debt).levels[0], 4, 1e-3);
  const std::vector<BucketTake> unsound = {{"z", 4, 0, 1}};
  const auto error = state.take(unsound, TakeMode::if_enough);
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error().code(), base::ErrorCode::invalid_argument);
}

// Of many that take at once, exactly as many succeed as the bucket holds; each blob version is written once.
inline void is_atomic(const std::vector<SharedState*>& clients) {
  std::atomic<int> taken = 0;
  std::atomic<int> written = 0;
  std::vector<std::thread> threads;
  for (SharedState* client : clients) {
    threads.emplace_back([&taken, &written, client] {
      for (int i = 0; i < 20; ++i) {
        const std::vector<BucketTake> one = {{"atomic", 50, 1e-6, 1}};
        if (take(*client, one, TakeMode::if_enough).taken) ++taken;
        add(*client, "atomic-count", 1);
        auto blob = client->read_blob("atomic-blob");
        ASSERT_TRUE(blob) << blob.error().to_string();
        auto replaced = client->replace_blob("atomic-blob", blob->version, "x");
        ASSERT_TRUE(replaced) << replaced.error().to_string();
        if (*replaced) ++written;
      }
    });
  }
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(taken, std::min<int>(50, static_cast<int>(clients.size()) * 20));
  EXPECT_EQ(read(*clients[0], "atomic-count"), static_cast<int64_t>(clients.size()) * 20);
  EXPECT_EQ(clients[0]->read_blob("atomic-blob")->version, written);
}

}  // namespace tidemill::session::cases
