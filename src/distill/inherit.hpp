// What a student has from its teacher before it learns: the teacher's embeddings, in fewer dimensions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "distill/student.hpp"
#include "model/checkpoint.hpp"

namespace tidemill::distill {

// The rows of `table` [rows][from] in the `to` dimensions that keep most of them, each row weighted: the principal
// directions of their second moments. `to` <= `from`.
std::vector<float> project_rows(std::span<const float> table, int64_t from, std::span<const double> weights,
                                int64_t to);

// The teacher's embeddings for a student of `width`, with each token weighted by how often `text` has it. Where the
// student is wider than the teacher there is nothing to inherit: empty. Errors: those of Checkpoint::read, `not_found`.
base::Result<std::vector<NamedArray>> inherit_embeddings(const model::Checkpoint& teacher, int64_t width,
                                                         std::span<const int32_t> text);

}  // namespace tidemill::distill
