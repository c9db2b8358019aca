// Matrices that GGUF has in F32 whatever type the others take: readers of the format add them to rows of F32 as they
// are. llama.cpp's converter keeps the same ones.
#pragma once

#include <string_view>

namespace tidemill::model {

// Whether the tensor of this name in GGUF is such a one, of any architecture.
bool is_always_f32(std::string_view name);

}  // namespace tidemill::model
