#include <array>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"

namespace tidemill::model {

extern const Architecture kLlama;
extern const Architecture kQwen2;
extern const Architecture kQwen3;

namespace {

constexpr std::array kArchitectures = {
    &kLlama,
    &kQwen2,
    &kQwen3,
};

}  // namespace

std::span<const Architecture* const> architectures() {
  return kArchitectures;
}

base::Result<const Architecture*> find_architecture(const Metadata& file) {
  TM_TRY(const std::string_view name, file.get_string("general.architecture"));
  std::string known;
  for (const Architecture* architecture : kArchitectures) {
    if (architecture->name == name) return architecture;
    if (!known.empty()) known += ", ";
    known += architecture->name;
  }
  return file.error(base::ErrorCode::unsupported,
                    fmt::format("architecture '{}'; supported are {}", printable(name), known));
}

}  // namespace tidemill::model
