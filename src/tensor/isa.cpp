#include "tensor/isa.hpp"

#include <cpuid.h>
#include <cstdlib>
#include <string>
#include <vector>

#include "tensor/kernels.hpp"

namespace tidemill::tensor {
namespace {

// What __builtin_cpu_supports("f16c") says under GCC; clang 14 does not know the word. Half-precision conversions use
// the registers of AVX, so who asks has asked for those.
bool has_f16c() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

std::vector<Isa> detect() {
  // The compiler's run-time checks ask the operating system too (XGETBV): a CPU that has the registers while the kernel
  // does not save them counts as without.
  __builtin_cpu_init();
  std::vector<Isa> found = {Isa::scalar};
  if (__builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 && has_f16c()) {
    found.push_back(Isa::avx2);
    if (__builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
        __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
        __builtin_cpu_supports("avx512vnni") != 0) {
      found.push_back(Isa::avx512_vnni);
    }
  }
  return found;
}

}  // namespace

std::string_view to_string(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return "scalar";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512_vnni:
      return "avx512-vnni";
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
