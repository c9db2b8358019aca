#include "engine/sequence.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

namespace tidemill::engine {

Sequence::Sequence(SequenceSpec spec, const Sequence* leader)
    : spec_(std::move(spec)),
      leader_(leader),
      prompt_size_(spec_.prompt.size()),
      given_size_(prompt_size_ + spec_.resumed.size()),
      tokens_(std::move(spec_.prompt)),
      harvested_(spec_.harvest_from) {
  assert(prompt_size_ > 0);
  tokens_.insert(tokens_.end(), spec_.resumed.begin(), spec_.resumed.end());
  spec_.resumed = {};
}

bool Sequence::wants_logits(int64_t position) const {
  if (position == size() - 1 && spec_.samples) return true;
  return spec_.harvest == Harvest::logits && position >= harvested_ && position < given_size() - 1;
}

bool Sequence::wants_hidden(int64_t position) const {
  return spec_.harvest == Harvest::hidden && position >= harvested_;
}

int64_t Sequence::reusable() const {
  const int64_t all_but_last = size() - 1;
  return spec_.harvest == Harvest::nothing ? all_but_last : std::min(harvested_, all_but_last);
}

bool Sequence::must_follow() const {
  return leader_ != nullptr && !leader_->prompt_done_ && leader_->state_ != State::finished;
}

std::optional<Sequence::FullyComputed> Sequence::advance(int64_t count) {
  assert(state_ == State::running && count > 0 && count <= pending());
  computed_ += count;
  harvested_ = std::max(harvested_, std::min(computed_, given_size()));
  prompt_done_ = prompt_done_ || computed_ >= prompt_size();
  if (pending() > 0) return std::nullopt;
  return FullyComputed{};
}

void Sequence::append(FullyComputed /*proof*/, std::span<const Token> tokens) {
  assert(pending() == 0 && !tokens.empty());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

}  // namespace tidemill::engine
