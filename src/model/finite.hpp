// Weights that are no numbers. One NaN or infinity is enough for every logit to be NaN, so that no model with one is
// served or written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/result.hpp"
#include "base/thread_team.hpp"
#include "model/checkpoint.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

struct NotFinite {
  int64_t element = 0;  // counted from the first of the bytes
  float value = 0;      // NaN or an infinity
};

// The first element of `bytes`, whole blocks of `type`, that is NaN or infinite as tensor::dequantize gives it; none:
// all are finite. Costs little more than reading the bytes once: of plain types eight bytes are looked at together, of
// quantised ones the scales alone. With all threads of `team`, if there is one.
std::optional<NotFinite> find_not_finite(tensor::DType type, std::span<const std::byte> bytes, base::ThreadTeam* team);

// `corrupt` naming the file, the tensor, the element, what it is and what it comes from (GgufTensor::explain), where
// one of `bytes` is not finite: a part of the tensor's bytes, as Checkpoint::read gives them, that begins at its
// element `first`.
base::Result<void> check_finite(const Checkpoint& file, const GgufTensor& tensor, std::span<const std::byte> bytes,
                                int64_t first, base::ThreadTeam* team);

}  // namespace tidemill::model
