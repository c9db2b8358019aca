// Small blocks of memory, kept for whoever asks next: `operator new` and `operator delete` of the program.
//
// Whoever relays requests makes and frees some seventy small things for each, the frames of coroutines among them. The
// C library looks after their size, their neighbours and the arena that they are of, and keeps few of one size at hand:
// 130 instructions each, three times what it takes to keep those that were freed in lists by their size, one for each
// thread. Blocks come from malloc and go back to it, so that everything else about memory is as it was; sanitizers see
// all of it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <malloc.h>
#include <new>
#include <utility>

namespace {

// malloc's blocks hold 24 bytes, or 16, 32 ... more.
constexpr size_t step = 16;
constexpr size_t least = 24;
constexpr size_t kinds = 256;                      // up to four kilobytes
constexpr uint32_t most_kept = uint32_t{1} << 20;  // bytes, of a thread

struct Block {
  Block* next;
};

// Of the thread. Made of zeros, so that reaching it takes no more than an address.
struct Kept {
  Block* first[kinds];
  uint32_t bytes;
  bool attended;  // somebody gives it all back at the thread's end
  bool ended;
};
constinit thread_local Kept kept{};

// The smallest whose blocks hold so many bytes.
constexpr size_t kind_of(size_t bytes) {
  return bytes <= least ? 0 : (bytes - least + step - 1) / step;
}
constexpr size_t bytes_of(size_t kind) {
  return least + kind * step;
}

struct Attendant {
  ~Attendant() {
    kept.ended = true;
    for (Block*& first : kept.first) {
      while (first != nullptr)
        std::free(std::exchange(first, first->next));
    }
  }
  void attend() { kept.attended = true; }
};
thread_local Attendant attendant;

[[gnu::noinline]] void* make(size_t bytes) {
  if (!kept.attended && !kept.ended) attendant.attend();
  while (true) {
    if (void* const block = std::malloc(bytes)) return block;
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
}

void keep(void* memory, size_t kind) {
  if (kept.bytes >= most_kept || !kept.attended || kept.ended) return std::free(memory);
  auto* const block = static_cast<Block*>(memory);
  block->next = kept.first[kind];
  kept.first[kind] = block;
  kept.bytes += static_cast<uint32_t>(bytes_of(kind));
}

}  // namespace

void* operator new(size_t bytes) {
  const size_t kind = kind_of(bytes);
  if (kind >= kinds) return make(bytes);
  Block* const block = kept.first[kind];
  if (block == nullptr) return make(bytes_of(kind));
  kept.first[kind] = block->next;
  kept.bytes -= static_cast<uint32_t>(bytes_of(kind));
  return block;
}

void operator delete(void* memory) noexcept {
  if (memory == nullptr) return;
  const size_t kind = (::malloc_usable_size(memory) - least) / step;
  if (kind >= kinds) return std::free(memory);
  keep(memory, kind);
}

void operator delete(void* memory, size_t bytes) noexcept {
  if (memory == nullptr) return;
  const size_t kind = kind_of(bytes);
  if (kind >= kinds) return std::free(memory);
  keep(memory, kind);
}

void* operator new[](size_t bytes) {
  return ::operator new(bytes);
}
void operator delete[](void* memory) noexcept {
  ::operator delete(memory);
}
void operator delete[](void* memory, size_t bytes) noexcept {
  ::operator delete(memory, bytes);
}
