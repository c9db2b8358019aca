// Experts that lie together in a folder, as gpt-oss's do: one tensor for all matrices of a kind in a layer.
//
//   plain   NAME         F32, F16 or BF16 [experts][cols][rows]: the other way round than GGUF has matrices
//   MXFP4   NAME_blocks  U8 [experts][rows][groups][16]: 32 codes of a row, two a byte, the first in its low half
//           NAME_scales  U8 [experts][rows][groups]: each group's power of two, plus 127
//   either  NAME_bias    F32, F16 or BF16 [experts][rows]
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/hugging_face/folder_weights.hpp"

namespace tidemill::model {

// Every `step`-th row, from `first` on: those of gate and up take turns.
struct TakenRows {
  int64_t first = 0;
  int64_t step = 1;
};

// The tensors of one kind; those that are not there are null.
struct JoinedExperts {
  FolderWeights::Found plain;
  FolderWeights::Found blocks;
  FolderWeights::Found scales;
  FolderWeights::Found bias;

  // Of the weights' forms, one is whole.
  bool complete() const { return plain.tensor != nullptr || (blocks.tensor != nullptr && scales.tensor != nullptr); }
};

JoinedExperts find_joined_experts(const FolderWeights& weights, const std::string& name);

// What GGUF has of them, in their form and order, names and origins aside: all experts' matrices, MXFP4 or of the type
// that they are stored in, and all their biases in F32. The folder's weights must outlive what points into them.
// Errors: `unsupported` for other element types, `corrupt` for other shapes, naming the file and the tensor.
base::Result<GgufTensor> joined_weights(const JoinedExperts& found, int64_t experts, const TakenRows& taken);
base::Result<GgufTensor> joined_biases(const JoinedExperts& found, int64_t experts, const TakenRows& taken);

}  // namespace tidemill::model
