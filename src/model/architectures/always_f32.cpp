#include "model/architectures/always_f32.hpp"

#include <algorithm>
#include <array>

namespace tidemill::model {

bool is_always_f32(std::string_view name) {
  // Positions and token types of encoders, and of a layer's experts what chooses them, and their biases.
  constexpr std::array<std::string_view, 2> names = {"position_embd.weight", "token_types.weight"};
  constexpr std::array<std::string_view, 5> endings = {".ffn_gate_inp.weight", ".ffn_gate_inp_shexp.weight",
                                                       ".ffn_gate_exps.bias", ".ffn_up_exps.bias",
                                                       ".ffn_down_exps.bias"};
  return std::find(names.begin(), names.end(), name) != names.end() ||
         std::any_of(endings.begin(), endings.end(), [&](std::string_view ending) { return name.ends_with(ending); });
}

}  // namespace tidemill::model
