#include "wire/input_buffer.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

namespace tidemill::wire {

namespace {

constexpr size_t kept_blocks = 64;

// Not inlined into coroutines, which may go on in another thread than they began in while the compiler believes the
// address of a thread-local to be fixed.
[[gnu::noinline]] std::vector<std::unique_ptr<char[]>>& spare_blocks() {
  static thread_local std::vector<std::unique_ptr<char[]>> blocks;
  return blocks;
}

[[gnu::noinline]] char* take_block() {
  auto& spare = spare_blocks();
  if (spare.empty()) return new char[InputBuffer::block_size];
  char* const block = spare.back().release();
  spare.pop_back();
  return block;
}

}  // namespace

InputBuffer::Room InputBuffer::prepare(size_t limit) {
  if (size() >= limit) return {nullptr, 0};
  if (data_ == nullptr) {
    data_ = take_block();
    capacity_ = block_size;
  }
  if (empty()) begin_ = end_ = 0;
  if (end_ == capacity_ && begin_ != 0) {
    std::memmove(data_, data_ + begin_, size());
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == capacity_) {
    const size_t larger = capacity_ * 2;
    char* const grown = new char[larger];
    std::memcpy(grown, data_, end_);
    const size_t used = end_;
    release();
    data_ = grown;
    capacity_ = larger;
    end_ = used;
  }
  return {data_ + end_, std::min(capacity_ - end_, limit - size())};
}

[[gnu::noinline]] void InputBuffer::release() {
  if (data_ == nullptr) return;
  std::unique_ptr<char[]> block(data_);
  auto& spare = spare_blocks();
  if (capacity_ == block_size && spare.size() < kept_blocks) spare.push_back(std::move(block));
  data_ = nullptr;
  capacity_ = begin_ = end_ = 0;
}

}  // namespace tidemill::wire
