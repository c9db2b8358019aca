#include "tensor/isa.hpp"

#include <array>
#include <cpuid.h>
#include <cstdlib>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "tensor/kernels.hpp"

namespace tidemill::tensor {
namespace {

struct Registers {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
};

// All zero where the CPU has no such leaf.
Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool bit(unsigned word, int position) {
  return (word >> position & 1U) != 0;
}

// The kernel saves the registers of tiles only for processes that have asked for them: Linux
// Documentation/arch/x86/xstate.rst.
bool tiles_granted() {
  constexpr int request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int tile_data = 18;               // the XCR0 bit, XTILEDATA; 17 is XTILECFG
  unsigned low = 0;
  unsigned high = 0;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if (!bit(low, 17) || !bit(low, tile_data)) return false;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

bool made_by(std::string_view vendor) {
  const Registers r = cpuid(0, 0);
  const std::array<unsigned, 3> words = {r.ebx, r.edx, r.ecx};
  return vendor == std::string_view(reinterpret_cast<const char*>(words.data()), sizeof words);
}

CpuFeatures ask_cpu() {
  CpuFeatures found;
  // The compiler's run-time checks ask the operating system too (XGETBV): a CPU that has the registers while the kernel
  // does not save them counts as without. It is silent on F16C and AMX under clang 14, hence CPUID for those.
  __builtin_cpu_init();
  const Registers basic = cpuid(1, 0);
  const Registers extended = cpuid(7, 0);
  found.avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 && bit(basic.ecx, 29);
  found.avx512 = __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
                 __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0;
  found.avx512_vnni = found.avx512 && bit(extended.ecx, 11);
  found.avx512_bf16 = found.avx512 && bit(cpuid(7, 1).eax, 5);
  found.fast_bf16 = found.avx512_bf16 && (made_by("AuthenticAMD") || made_by("HygonGenuine"));
  found.reads_far_ahead = made_by("GenuineIntel");
  found.avx512_fp16 = found.avx512 && bit(extended.edx, 23);
  if (bit(basic.ecx, 27) && bit(extended.edx, 24) && tiles_granted()) {  // OSXSAVE: XGETBV exists; AMX-TILE
    found.amx_int8 = bit(extended.edx, 25);
    found.amx_bf16 = bit(extended.edx, 22);
  }
  return found;
}

std::vector<Isa> detect() {
  const CpuFeatures& cpu = cpu_features();
  std::vector<Isa> found = {Isa::scalar};
  if (cpu.avx2) found.push_back(Isa::avx2);
  if (cpu.avx2 && cpu.avx512_vnni) found.push_back(Isa::avx512_vnni);
  if (cpu.avx2 && cpu.avx512_vnni && cpu.avx512_bf16) found.push_back(Isa::avx512_bf16);
  if (found.back() == Isa::avx512_bf16 && !cpu.fast_bf16) std::swap(found.back(), found[found.size() - 2]);
  if (cpu.avx2 && cpu.avx512_vnni && cpu.amx_int8 && cpu.amx_bf16) found.push_back(Isa::amx);
  return found;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures found = ask_cpu();
  return found;
}

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512_vnni:
      return "avx512-vnni";
    case Isa::avx512_bf16:
      return "avx512-bf16";
    case Isa::amx:
      return "amx";
  }
  return "unknown";
}

std::span<const Isa> available_isas() {
  static const std::vector<Isa> found = detect();
  return found;
}

const Kernels& kernels_for(Isa isa) {
  switch (isa) {
    case Isa::amx:
      return amx_kernels();
    case Isa::avx512_bf16:
      return avx512_bf16_kernels();
    case Isa::avx512_vnni:
      return avx512_vnni_kernels();
    case Isa::avx2:
      return avx2_kernels();
    case Isa::scalar:
      break;
  }
  return scalar_kernels();
}

base::Result<Isa> choose_isa() {
  const std::span<const Isa> isas = available_isas();
  const char* wanted = std::getenv("TIDEMILL_ISA");  // NOLINT(concurrency-mt-unsafe)
  if (wanted == nullptr || *wanted == '\0') return isas.back();
  std::string list;
  for (const Isa isa : isas) {
    if (to_string(isa) == wanted) return isa;
    list += (list.empty() ? "" : ", ") + std::string(to_string(isa));
  }
  return base::Error(base::ErrorCode::invalid_argument,
                     "TIDEMILL_ISA is \"" + std::string(wanted) + "\", but this machine offers: " + list)
      .with_param("TIDEMILL_ISA");
}

}  // namespace tidemill::tensor
