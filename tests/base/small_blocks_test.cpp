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

// A thread that only frees keeps next to nothing of what it will never ask for.
TEST(SmallBlocks, AreNotHoardedByWhoOnlyFrees) {
  constexpr int rounds = 100;
  std::vector<std::unique_ptr<std::byte[]>> handed;
  std::binary_semaphore given(0);
  std::binary_semaphore freed(0);
  size_t before = 0;
  size_t after = 0;
  std::thread maker([&] {  // new threads have nothing kept yet
    for (int round = 0; round < rounds; ++round) {
      for (size_t i = 0; i < 1000; ++i)
        handed.push_back(std::make_unique<std::byte[]>(64 + i % 64));
      given.release();
      freed.acquire();
      (round == 0 ? before : after) = in_use();
    }
  });
  std::thread other([&] {
    const auto something = std::make_unique<int>();  // who never makes anything keeps nothing
    for (int round = 0; round < rounds; ++round) {
      given.acquire();
      handed.clear();
      freed.release();
    }
  });
  maker.join();
  other.join();
  EXPECT_LT(after, before + 128 * 1024);
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
