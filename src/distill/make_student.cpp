#include <cstdlib>
#include <dlfcn.h>
#include <filesystem>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "base/version.hpp"
#include "distill/student.hpp"
#include "tensor/isa.hpp"

namespace tidemill::distill {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace fs = std::filesystem;

namespace {

constexpr const char* kModuleFile = "tidemill_torch.so";

// Beside the program.
fs::path module_path() {
  std::error_code fault;
  const fs::path program = fs::read_symlink("/proc/self/exe", fault);
  return fault ? fs::path(kModuleFile) : program.parent_path() / kModuleFile;
}

Error cannot_train(std::string_view why) {
  return {ErrorCode::unsupported,
          fmt::format("this build of Tidemill cannot train: {}. Training needs Debian's packages libtorch-dev and "
                      "libopenblas0-openmp: `make distill` installs them and builds again",
                      why)};
}

// What libtorch's libraries ask the environment for as they are loaded; whoever has set something has their way.
// OpenBLAS of Debian 12 does not know processors that came after it and multiplies on those as on the first Pentium 4:
// on Emerald Rapids a step took twice as long. And members of OpenMP's teams wait for each other by spinning, which
// takes the processor away from what they wait for when others want it too.
void prepare_environment() {
  const tensor::CpuFeatures& cpu = tensor::cpu_features();
  // NOLINTBEGIN(concurrency-mt-unsafe): nothing else reads them yet
  if (cpu.avx512 || cpu.avx2) ::setenv("OPENBLAS_CORETYPE", cpu.avx512 ? "SkylakeX" : "Haswell", 0);
  ::setenv("OMP_WAIT_POLICY", "passive", 0);
  // NOLINTEND(concurrency-mt-unsafe)
}

// Loaded once, and never let go: what libtorch has started does not stop cleanly.
Result<const StudentModule*> load_module() {
  const fs::path path = module_path();
  if (!trainer_is_there()) return cannot_train(fmt::format("there is no '{}'", path.string()));
  prepare_environment();
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return cannot_train(::dlerror());  // NOLINT(concurrency-mt-unsafe)
  const auto* module = static_cast<const StudentModule*>(::dlsym(handle, kStudentModuleSymbol));
  if (module == nullptr || module->interface != kStudentInterface || base::version() != module->program_version) {
    return cannot_train(fmt::format("'{}' is of another build", path.string()));
  }
  return module;
}

Result<const StudentModule*> student_module() {
  static const StudentModule* loaded = nullptr;
  if (loaded == nullptr) {
    TM_TRY(loaded, load_module());
  }
  return loaded;
}

}  // namespace

bool trainer_is_there() {
  std::error_code ignored;
  return fs::exists(module_path(), ignored);
}

Result<std::unique_ptr<Student>> make_student(const StudentPlan& plan) {
  TM_TRY(const StudentModule* module, student_module());
  return module->make(plan);
}

Result<std::string> trainer_version() {
  TM_TRY(const StudentModule* module, student_module());
  return std::string(module->library);
}

}  // namespace tidemill::distill
