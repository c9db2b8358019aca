// A model that teaches: reads windows, or writes them, and says what it expects behind each token. It is run by
// Tidemill's own decoder, so it may be any model that runs, quantised ones too.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "base/thread_team.hpp"
#include "distill/lessons.hpp"
#include "evaluate/subject.hpp"
#include "tensor/device.hpp"

namespace tidemill::distill {

struct TaughtWindow {
  std::vector<Token> tokens;  // [length + 1]
  Expectations expectations;
};

// Not thread-safe.
class Teacher {
 public:
  // Of windows of `length` tokens; both must outlive it. `invalid_argument` where the teacher's context is shorter or
  // its vocabulary smaller than `kept`; `exhausted`.
  static base::Result<Teacher> create(evaluate::Subject& subject, tensor::Device& device, int64_t length, int64_t kept,
                                      int threads);

  // What it expects behind each but the last of length + 1 tokens. `corrupt` where its logits are no distribution.
  base::Result<TaughtWindow> read(std::vector<Token> tokens);

  // Windows that go on from one token each, side by side: every next one is drawn from what the teacher expects, by
  // (seed, number, position), where `first_number` is that of the first window. What it writes for one depends on its
  // beginning and number alone. At most side_by_side() of them.
  base::Result<std::vector<TaughtWindow>> write(std::span<const Token> beginnings, uint64_t seed, int64_t first_number);
  int64_t side_by_side() const;

 private:
  Teacher(evaluate::Subject& subject, evaluate::Reader reader, int64_t length, int64_t kept, int threads);

  base::Result<void> expect(tensor::ConstMatrix logits, std::span<TaughtWindow*> windows, std::span<const int64_t> at,
                            std::vector<float>& probabilities);
  tensor::ConstMatrix step(std::span<const Token> tokens, int32_t position, tensor::KvCache& cache);

  evaluate::Subject* subject_;
  evaluate::Reader reader_;
  int64_t length_;
  int64_t kept_;
  std::unique_ptr<base::ThreadTeam> team_;
  tensor::Device* device_ = nullptr;
  std::unique_ptr<tensor::KvCache> writing_;  // of side_by_side() windows, once any are written
  std::vector<int32_t> blocks_;               // theirs
};

}  // namespace tidemill::distill
