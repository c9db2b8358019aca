#include "tensor/amx_emulator.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#include <unistd.h>

namespace tidemill::tensor::test {
namespace {

struct Tile {
  int rows = 0;
  int row_bytes = 0;
  uint8_t data[16][64] = {};
};

struct TileUnit {
  bool configured = false;
  Tile tiles[8];
};

thread_local TileUnit unit;
std::atomic<long> emulated = 0;

[[noreturn]] void fault(const char* what) {
  // In a signal handler: no streams, no allocation.
  static constexpr char kPrefix[] = "amx emulator: ";
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, kPrefix, sizeof kPrefix - 1);
  written = write(STDERR_FILENO, what, std::strlen(what));
  written = write(STDERR_FILENO, "\n", 1);
  std::abort();
}

void configure(const uint8_t* memory) {
  if (memory[0] != 1) fault("LDTILECFG: palette is not 1");
  if (memory[1] != 0) fault("LDTILECFG: start row is not 0");
  for (int i = 2; i < 16; ++i) {
    if (memory[i] != 0) fault("LDTILECFG: a reserved byte is set");
  }
  unit = {};
  for (int t = 0; t < 16; ++t) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, memory + 16 + 2 * t, sizeof row_bytes);
    const int rows = memory[48 + t];
    if (t >= 8) {
      if (row_bytes != 0 || rows != 0) fault("LDTILECFG: more than eight tiles");
      continue;
    }
    if (row_bytes > 64 || rows > 16) fault("LDTILECFG: a tile is larger than 16 rows of 64 bytes");
    if ((row_bytes == 0) != (rows == 0)) fault("LDTILECFG: a tile has rows or columns but not both");
    unit.tiles[t].rows = rows;
    unit.tiles[t].row_bytes = row_bytes;
  }
  unit.configured = true;
}

Tile& tile(int number) {
  if (!unit.configured) fault("a tile is used while none is configured");
  if (number > 7) fault("there is no such tile");
  Tile& t = unit.tiles[number];
  if (t.rows == 0) fault("a tile is used that has no shape");
  return t;
}

void clear(Tile& t) {
  std::memset(t.data, 0, sizeof t.data);
}

void check_product(const char* complaint, const Tile& sums, const Tile& a, const Tile& b) {
  const bool different = &sums != &a && &sums != &b && &a != &b;
  if (!different || sums.rows != a.rows || sums.row_bytes != b.row_bytes || a.row_bytes != b.rows * 4 ||
      a.row_bytes % 4 != 0 || b.row_bytes % 4 != 0) {
    fault(complaint);
  }
}

void clear_outside(Tile& t) {
  for (int row = 0; row < t.rows; ++row)
    std::memset(&t.data[row][t.row_bytes], 0, static_cast<size_t>(64 - t.row_bytes));
  for (int row = t.rows; row < 16; ++row)
    std::memset(t.data[row], 0, 64);
}

// TDPBSSD and its like: A and B are the types of the bytes of the two operands.
template <typename A, typename B>
void multiply(Tile& sums, const Tile& a, const Tile& b) {
  check_product("TDPB[SU][SU]D: shapes do not match, or operands are not three different tiles", sums, a, b);
  for (int m = 0; m < sums.rows; ++m) {
    for (int n = 0; n < sums.row_bytes / 4; ++n) {
      int32_t sum;
      std::memcpy(&sum, &sums.data[m][4 * n], sizeof sum);
      for (int k = 0; k < a.row_bytes / 4; ++k) {
        for (int i = 0; i < 4; ++i)
          sum += static_cast<A>(a.data[m][4 * k + i]) * static_cast<B>(b.data[k][4 * n + i]);
      }
      std::memcpy(&sums.data[m][4 * n], &sum, sizeof sum);
    }
  }
  clear_outside(sums);
}

// Subnormal operands and results are zero, whatever MXCSR says.
float flush(float v) {
  return __builtin_fabsf(v) < 0x1p-126F ? __builtin_copysignf(0.0F, v) : v;
}

float bf16_at(const Tile& t, int row, int element) {
  uint32_t bits = 0;
  std::memcpy(reinterpret_cast<uint8_t*>(&bits) + 2, &t.data[row][2 * element], 2);
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return flush(value);
}

void multiply_bf16(Tile& sums, const Tile& a, const Tile& b) {
  check_product("TDPBF16PS: shapes do not match, or operands are not three different tiles", sums, a, b);
  for (int m = 0; m < sums.rows; ++m) {
    for (int n = 0; n < sums.row_bytes / 4; ++n) {
      float even = 0;
      float odd = 0;
      for (int k = 0; k < a.row_bytes / 4; ++k) {
        even = flush(__builtin_fmaf(bf16_at(a, m, 2 * k), bf16_at(b, k, 2 * n), even));
        odd = flush(__builtin_fmaf(bf16_at(a, m, 2 * k + 1), bf16_at(b, k, 2 * n + 1), odd));
      }
      float sum;
      std::memcpy(&sum, &sums.data[m][4 * n], sizeof sum);
      sum = flush(flush(sum) + flush(even + odd));
      std::memcpy(&sums.data[m][4 * n], &sum, sizeof sum);
    }
  }
  clear_outside(sums);
}

// General registers by their number in an instruction.
uint64_t general(const ucontext_t& context, int number) {
  static constexpr int kPlaces[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return static_cast<uint64_t>(context.uc_mcontext.gregs[kPlaces[number]]);
}

// An instruction C4 RXB.mmmmm W.vvvv.L.pp opcode ModRM [SIB] [displacement], taken apart.
struct Instruction {
  int map;
  int prefix;  // pp: none, 66, F3, F2
  int opcode;
  int mod;
  int reg;
  int rm;
  int vvvv;
  uint64_t base = 0;    // effective address without the index, where there is one
  uint64_t stride = 0;  // index register times scale; 0 without an index
  int length;
};

Instruction decode(const ucontext_t& context, const uint8_t* code) {
  Instruction in{};
  if (code[0] != 0xc4) fault("an invalid instruction that is no AMX");
  const bool r = (code[1] & 0x80) == 0;
  const bool x = (code[1] & 0x40) == 0;
  const bool b = (code[1] & 0x20) == 0;
  in.map = code[1] & 31;
  in.vvvv = ~code[2] >> 3 & 15;
  in.prefix = code[2] & 3;
  if ((code[2] & 0x84) != 0) fault("an AMX instruction has W or L set");
  in.opcode = code[3];
  in.mod = code[4] >> 6;
  in.reg = (code[4] >> 3 & 7) + (r ? 8 : 0);
  in.rm = (code[4] & 7) + (b ? 8 : 0);
  in.length = 5;
  if (in.mod == 3) return in;
  const uint8_t* next = code + 5;
  if ((code[4] & 7) == 4) {
    const uint8_t sib = *next++;
    const int index = (sib >> 3 & 7) + (x ? 8 : 0);
    if ((sib & 7) == 5 && in.mod == 0) fault("an address form that the emulator does not know");
    in.base = general(context, (sib & 7) + (b ? 8 : 0));
    if (index != 4) in.stride = general(context, index) << (sib >> 6);
  } else {
    if ((code[4] & 7) == 5 && in.mod == 0) {
      int32_t displacement;
      std::memcpy(&displacement, next, sizeof displacement);
      in.length = static_cast<int>(next - code) + 4;
      in.base = reinterpret_cast<uint64_t>(code) + static_cast<uint64_t>(in.length) +
                static_cast<uint64_t>(int64_t{displacement});
      return in;
    }
    in.base = general(context, in.rm);
  }
  if (in.mod == 1) in.base += static_cast<uint64_t>(int64_t{static_cast<int8_t>(*next++)});
  if (in.mod == 2) {
    int32_t displacement;
    std::memcpy(&displacement, next, sizeof displacement);
    in.base += static_cast<uint64_t>(int64_t{displacement});
    next += 4;
  }
  in.length = static_cast<int>(next - code);
  return in;
}

uint8_t* row_address(const Instruction& in, int row) {
  return reinterpret_cast<uint8_t*>(in.base + in.stride * static_cast<uint64_t>(row));
}

void load(Tile& t, const Instruction& in) {
  clear(t);
  for (int row = 0; row < t.rows; ++row)
    std::memcpy(t.data[row], row_address(in, row), static_cast<size_t>(t.row_bytes));
}

void store(const Tile& t, const Instruction& in) {
  for (int row = 0; row < t.rows; ++row)
    std::memcpy(row_address(in, row), t.data[row], static_cast<size_t>(t.row_bytes));
}

void run(const Instruction& in, const uint8_t* code) {
  enum Prefix { none, x66, xf3, xf2 };
  if (in.map != 2) fault("an invalid instruction that is no AMX");
  if (in.opcode == 0x49 && in.prefix == none && in.mod != 3) return configure(reinterpret_cast<uint8_t*>(in.base));
  if (in.opcode == 0x49 && in.prefix == none && code[4] == 0xc0) {
    unit = {};
    return;
  }
  if (in.opcode == 0x49 && in.prefix == xf2 && in.mod == 3 && in.rm == 0) return clear(tile(in.reg));
  if (in.opcode == 0x4b && in.prefix == xf2 && in.mod != 3) return load(tile(in.reg), in);
  if (in.opcode == 0x4b && in.prefix == xf3 && in.mod != 3) return store(tile(in.reg), in);
  if (in.opcode == 0x5e && in.mod == 3 && in.prefix != none) {
    Tile& sums = tile(in.reg);
    const Tile& a = tile(in.rm);
    const Tile& b = tile(in.vvvv);
    if (in.prefix == xf2) return multiply<int8_t, int8_t>(sums, a, b);
    if (in.prefix == xf3) return multiply<int8_t, uint8_t>(sums, a, b);
    return multiply<uint8_t, int8_t>(sums, a, b);
  }
  if (in.opcode == 0x5c && in.prefix == xf3 && in.mod == 3) {
    return multiply_bf16(tile(in.reg), tile(in.rm), tile(in.vvvv));
  }
  fault("an instruction that the emulator does not know");
}

void on_invalid_opcode(int /*signal*/, siginfo_t* /*info*/, void* opaque) {
  auto& context = *static_cast<ucontext_t*>(opaque);
  const auto* code = reinterpret_cast<const uint8_t*>(context.uc_mcontext.gregs[REG_RIP]);
  const Instruction in = decode(context, code);
  run(in, code);
  context.uc_mcontext.gregs[REG_RIP] += in.length;
  emulated.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

AmxEmulator::AmxEmulator() {
  struct sigaction action {};
  action.sa_sigaction = on_invalid_opcode;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  sigaction(SIGILL, &action, &before_);
}

AmxEmulator::~AmxEmulator() {
  sigaction(SIGILL, &before_, nullptr);
}

long AmxEmulator::instructions() {
  return emulated.load();
}

}  // namespace tidemill::tensor::test
