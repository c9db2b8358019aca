// Received bytes that are not used up yet. Empty, it holds no memory: ten thousand idle connections cost nothing here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

namespace tidemill::wire {

// Not thread-safe. Blocks of the usual size are kept for reuse, thread by thread.
class InputBuffer {
 public:
  static constexpr size_t block_size = size_t{16} << 10;

  InputBuffer() = default;
  ~InputBuffer() { release(); }
  InputBuffer(InputBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        capacity_(std::exchange(other.capacity_, 0)),
        begin_(std::exchange(other.begin_, 0)),
        end_(std::exchange(other.end_, 0)) {}
  InputBuffer(const InputBuffer&) = delete;
  InputBuffer& operator=(const InputBuffer&) = delete;
  InputBuffer& operator=(InputBuffer&&) = delete;

  std::string_view view() const { return {data_ + begin_, end_ - begin_}; }
  size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  char* data() { return data_ + begin_; }
  // Takes bytes off the front. They stay where they are until `prepare`, `release` or `release_if_empty`.
  void consume(size_t count) { begin_ += count; }

  // Room for at least one more byte behind what is there, up to `limit` bytes in all; returns where and how much. No
  // room: the limit is reached.
  struct Room {
    char* at;
    size_t size;
  };
  Room prepare(size_t limit);
  void commit(size_t count) { end_ += count; }

  void release_if_empty() {
    if (empty()) release();
  }
  void release();

 private:
  char* data_ = nullptr;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace tidemill::wire
