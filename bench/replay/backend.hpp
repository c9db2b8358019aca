// A simulated backend in simulated time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <queue>
#include <vector>

#include "replay/block_cache.hpp"

namespace tidemill::replay {

struct Hardware {
  double prefill_tokens_per_second = 6000;
  int64_t cache_tokens = 2'000'000;
  double overhead_seconds = 0.02;        // a prompt
  double stream_tokens_per_second = 30;  // of one answer
  double decode_weight = 4;              // a decoded token takes as much time as so many prefilled ones
};

// Prompts are prefilled one after another, in the order in which they came; what the cache holds when a prompt's turn
// comes is skipped, and its blocks are in the cache once it is done. Answers are decoded all at once beside that, and
// take their share of the time, up to three quarters, beyond which they slow down.
class Backend {
 public:
  using FirstToken = std::function<void(uint64_t id, int64_t cached_tokens, double at)>;
  using Finished = std::function<void(uint64_t id, double at)>;

  // With a `cache` of its own, or one that it shares with others.
  Backend(const Hardware& hardware, int64_t block_tokens, double window_seconds, std::shared_ptr<BlockCache> cache);

  void submit(uint64_t id, int64_t prompt_tokens, int64_t output_tokens, std::vector<route::BlockHash> blocks);
  // When something happens next; infinity if nothing does.
  double next_event() const;
  // Lets time pass. Events up to `to` happen, in order.
  void advance(double to, const FirstToken& first_token, const Finished& finished);
  // Ends and hands back everything that is open, and empties the cache.
  std::vector<uint64_t> crash();

  // Seconds of work done in each window of time.
  const std::vector<double>& work() const { return work_; }

 private:
  struct Prompt {
    uint64_t id = 0;
    int64_t tokens = 0;
    int64_t output_tokens = 0;
    int64_t cached = -1;  // -1: its turn has not come
    double left = 0;      // seconds of the whole backend
    std::vector<route::BlockHash> blocks;
  };
  struct Answer {
    double until;  // of decoded_
    uint64_t id;
    bool operator>(const Answer& other) const { return until != other.until ? until > other.until : id > other.id; }
  };
  void begin_head();
  double decode_share() const;
  double stream_speed() const;
  void account(double from, double to, double busy);

  Hardware hardware_;
  int64_t block_tokens_;
  double window_seconds_;
  std::shared_ptr<BlockCache> cache_;
  std::deque<Prompt> queue_;
  std::priority_queue<Answer, std::vector<Answer>, std::greater<>> answers_;
  double now_ = 0;
  double decoded_ = 0;  // tokens that a stream which was there from the beginning would have
  std::vector<double> work_;
};

}  // namespace tidemill::replay
