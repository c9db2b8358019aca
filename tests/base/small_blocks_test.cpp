// Of base/small_blocks.cpp, which this program is linked with where no sanitizer looks after its memory.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <malloc.h>
#include <memory>
#include <random>
#include <semaphore>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace {

struct Written {
  std::unique_ptr<uint8_t[]> memory;
  size_t bytes;
  uint8_t with;
};

TEST(SmallBlocks, AreNobodyElses) {
  std::minstd_rand random(1);
  std::vector<Written> all;
  for (int i = 0; i < 100'000; ++i) {
    if (all.size() < 200 || random() % 2 == 0) {
      const size_t bytes = 1 + random() % (random() % 8 == 0 ? 6000 : 200);
      all.push_back({std::make_unique<uint8_t[]>(bytes), bytes, static_cast<uint8_t>(random())});
      std::memset(all.back().memory.get(), all.back().with, bytes);
    } else {
      std::swap(all[random() % all.size()], all.back());
      const Written& last = all.back();
      ASSERT_EQ(std::count(last.memory.get(), last.memory.get() + last.bytes, last.with), last.bytes);
      all.pop_back();
    }
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

size_t in_use() {
  return ::mallinfo2().uordblks;
}

// Hands what one new thread makes to another one: `rounds` times `make` and then `take`. New threads have nothing kept
// yet. Returns how much more is in use after the last round than after the first one, while both threads live.
template <typename Make, typename Take>
int64_t growth_between(int rounds, const Make& make, const Take& take) {
  std::binary_semaphore given(0);
  std::binary_semaphore taken(0);
  std::binary_semaphore measured(0);
  size_t before = 0;
  size_t after = 0;
  std::thread taker([&] {
    for (int round = 0; round < rounds; ++round) {
      given.acquire();
      take();
      taken.release();
    }
    measured.acquire();
  });
  std::thread([&] {
    for (int round = 0; round < rounds; ++round) {
      make();
      given.release();
      taken.acquire();
      (round == 0 ? before : after) = in_use();
    }
    measured.release();
  }).join();
  taker.join();
  return static_cast<int64_t>(after) - static_cast<int64_t>(before);
}

// A thread keeps little of what it frees and never asks for.
TEST(SmallBlocks, AreNotHoardedByWhoOnlyFrees) {
  std::vector<std::unique_ptr<std::byte[]>> handed;
  const auto make = [&] {
    for (size_t i = 0; i < 1000; ++i)
      handed.push_back(std::make_unique<std::byte[]>(64 + i % 64));
  };
  const auto take = [&] {
    const auto something = std::make_unique<int>();  // who never makes anything keeps nothing
    handed.clear();
  };
  EXPECT_LT(growth_between(100, make, take), 128 * 1024);
}

// Also when it makes and frees much by itself meanwhile.
TEST(SmallBlocks, AreNotHoardedByWhoFreesMoreThanItMakes) {
  std::vector<std::unique_ptr<std::byte[]>> handed;
  const auto make = [&] {
    for (size_t i = 0; i < 4; ++i)
      handed.push_back(std::make_unique<std::byte[]>(200));
  };
  const auto take = [&] {
    std::vector<std::unique_ptr<std::byte[]>> own;
    for (size_t i = 0; i < 70; ++i)
      own.push_back(std::make_unique<std::byte[]>(16 + 3 * i));
    handed.clear();
  };
  EXPECT_LT(growth_between(20'000, make, take), 256 * 1024);
}

// Nor does one keep what it wanted once, and does not want again.
TEST(SmallBlocks, AreGivenBackWhenTheyAreNoLongerWanted) {
  size_t before = 0;
  size_t after = 0;
  std::thread([&] {
    before = in_use();
    for (size_t bytes = 100; bytes <= 4000; bytes += 100) {
      std::vector<std::unique_ptr<std::byte[]>> many;
      for (size_t i = 0; i < (size_t{1} << 19) / bytes; ++i)
        many.push_back(std::make_unique<std::byte[]>(bytes));
    }
    after = in_use();
  }).join();
  EXPECT_LT(after, before + 256 * 1024);
}

#endif

}  // namespace
