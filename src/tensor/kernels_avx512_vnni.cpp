// AVX-512 (F, BW, DQ, VL) with VNNI. Compiled with those flags: nothing here may be called before the CPU has been
// asked.
#include "tensor/kernels.hpp"
#include "tensor/vector_avx512.hpp"
#include "tensor/vector_kernels.hpp"

namespace tidemill::tensor {

const Kernels& avx512_vnni_kernels() {
  static constexpr Kernels kernels = make_kernels<Avx512>(Isa::avx512_vnni);
  return kernels;
}

}  // namespace tidemill::tensor
