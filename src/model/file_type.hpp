// The number of general.file_type: llama.cpp's for a file whose matrices are mostly of one type.
#pragma once

#include <cstdint>

#include "tensor/dtype.hpp"

namespace tidemill::model {

uint32_t file_type_number(tensor::DType type);

}  // namespace tidemill::model
