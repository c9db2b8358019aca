#include <array>

#include <fmt/format.h>

#include "model/architectures/architecture.hpp"
#include "model/architectures/encoder_architecture.hpp"

namespace tidemill::model {

extern const Architecture kDeepseek2;
extern const Architecture kGemma2;
extern const Architecture kGemma3;
extern const Architecture kGptOss;
extern const Architecture kGranite;
extern const Architecture kLlama;
extern const Architecture kPhi3;
extern const Architecture kQwen2;
extern const Architecture kQwen2Moe;
extern const Architecture kQwen3;
extern const Architecture kQwen3Moe;
extern const EncoderArchitecture kBert;

namespace {

constexpr std::array kArchitectures = {
    &kLlama, &kQwen2, &kQwen3, &kGranite, &kPhi3, &kGemma2, &kGemma3, &kQwen2Moe, &kQwen3Moe, &kGptOss, &kDeepseek2,
};

constexpr std::array kEncoders = {
    &kBert,
};

}  // namespace

std::span<const Architecture* const> architectures() {
  return kArchitectures;
}

std::span<const EncoderArchitecture* const> encoder_architectures() {
  return kEncoders;
}

base::Result<const EncoderArchitecture*> find_encoder_architecture(const Metadata& file) {
  TM_TRY(const std::string_view name, file.get_string("general.architecture"));
  for (const EncoderArchitecture* architecture : kEncoders) {
    if (architecture->name == name) return architecture;
  }
  return nullptr;
}

base::Result<const Architecture*> find_architecture(const Metadata& file) {
  TM_TRY(const std::string_view name, file.get_string("general.architecture"));
  std::string known;
  for (const Architecture* architecture : kArchitectures) {
    if (architecture->name == name) return architecture;
    if (!known.empty()) known += ", ";
    known += architecture->name;
  }
  for (const EncoderArchitecture* architecture : kEncoders) {
    if (architecture->name == name) {
      return file.error(
          base::ErrorCode::unsupported,
          fmt::format("architecture '{}' is an encoder: it makes embeddings and generates no text", name));
    }
    known += ", ";
    known += architecture->name;
  }
  return file.error(base::ErrorCode::unsupported,
                    fmt::format("architecture '{}'; supported are {}", printable(name), known));
}

}  // namespace tidemill::model
