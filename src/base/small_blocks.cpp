// Small blocks of memory, kept for whoever asks next: `operator new` and `operator delete` of the program.
//
// Whoever relays requests makes and frees some seventy small things for each, the frames of coroutines among them. The
// C library looks after their size, their neighbours and the arena that they are of, and keeps few of one size at hand:
// 130 instructions each, three times what it takes to keep those that were freed in lists by their size, one for each
// thread. Blocks come from malloc and go back to it, so that everything else about memory is as it was; sanitizers see
// all of it.
//
// Threads hand things to each other, and one that frees more of a size than it makes would keep what nobody asks for.
// So each looks through its lists whenever they have grown by some kilobytes, and gives back what has lain in them
// since the last time: it keeps little more than what it hands out again between two looks.
#include <algorithm>
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
constexpr size_t kinds = 256;                            // up to four kilobytes
constexpr uint32_t most_kept = uint32_t{1} << 20;        // bytes, of a thread
constexpr uint32_t growth_to_look = uint32_t{32} << 10;  // bytes that it keeps more
constexpr uint32_t full_looks = 1024;  // one that keeps all it may looks each time that it was given so many more

struct Block {
  Block* next;
  uint32_t kept_since;  // how many looks there had been
};
static_assert(sizeof(Block) <= least);

// Of the thread. Made of zeros, so that reaching it takes no more than an address.
struct Kept {
  Block* first[kinds];  // those that were kept last come first
  uint32_t bytes;
  uint32_t next_look;  // when there are so many
  uint32_t looks;
  uint32_t declined;  // blocks
  bool attended;      // somebody gives it all back at the thread's end
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

// A list. Returns how many there were.
uint32_t give_back(Block* first) {
  uint32_t blocks = 0;
  for (; first != nullptr; ++blocks)
    std::free(std::exchange(first, first->next));
  return blocks;
}

struct Attendant {
  ~Attendant() {
    kept.ended = true;
    kept.next_look = 0;
    for (Block*& first : kept.first)
      give_back(std::exchange(first, nullptr));
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

// Gives back what nobody has asked for since the last look. Says whether there is room for more.
[[gnu::noinline]] bool look_through() {
  if (!kept.attended || kept.ended) return false;
  if (kept.bytes >= most_kept && ++kept.declined % full_looks != 0) return false;
  for (size_t kind = 0; kind < kinds; ++kind) {
    Block** older = &kept.first[kind];
    while (*older != nullptr && (*older)->kept_since == kept.looks)
      older = &(*older)->next;
    kept.bytes -= give_back(std::exchange(*older, nullptr)) * static_cast<uint32_t>(bytes_of(kind));
  }
  ++kept.looks;
  kept.next_look = std::min(kept.bytes + growth_to_look, most_kept);
  return kept.bytes < most_kept;
}

void keep(void* memory, size_t kind) {
  if (kept.bytes >= kept.next_look && !look_through()) return std::free(memory);
  auto* const block = static_cast<Block*>(memory);
  block->next = kept.first[kind];
  block->kept_since = kept.looks;
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
