// Phi 3, 3.5 and 4 (dense): query, key and value in one matrix, and gate and up in one; LongRoPE; a part of each head
// may be rotated. Phi 3's first models have a window in every layer.
#include <array>
#include <string_view>

#include "model/architectures/architecture.hpp"
#include "model/read_hyper_parameters.hpp"

namespace tidemill::model {
namespace {

base::Result<HyperParameters> read_phi3(const Checkpoint& file) {
  TM_TRY(HyperParameters hyper, read_hyper_parameters(file, "phi3", tensor::Rope::Pairing::halves));
  TM_CHECK(read_windows(KeyReader(file, "phi3"), {.period = 0}, hyper));
  return hyper;
}

constexpr std::array<std::string_view, 1> kPhi3ModelTypes = {"phi3"};

}  // namespace

extern const Architecture kPhi3;
const Architecture kPhi3 = {
    .name = "phi3",
    .read_hyper_parameters = read_phi3,
    .parts = {.apart = Presence::absent, .joined = Presence::required},
    .names = {},
    .folder = {.model_types = kPhi3ModelTypes, .keeps_window = true, .rotates_parts = true},
};

}  // namespace tidemill::model
