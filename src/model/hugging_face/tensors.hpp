// The tensors of a Hugging Face folder, under GGUF's names.
#pragma once

#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/hugging_face/config.hpp"
#include "model/hugging_face/folder_weights.hpp"
#include "model/hugging_face/stored_tensor.hpp"

namespace tidemill::model {

// What translated tensors point into: it must live as long as they.
struct FolderTensors {
  FolderWeights weights;
  std::deque<std::string> texts;  // names and origins
  std::vector<GgufTensor> tensors;
};

// Adds what GGUF has of a tensor of `out.weights` under this name.
void add_stored_tensor(FolderTensors& out, const StoredTensor& stored, std::string name, const RowChange& change = {});

// Every tensor that the architecture uses, in the order of the computation: matrices as they are stored (rows in
// another order where FolderForm says so), vectors in F32 as other readers of GGUF want them. Errors, each naming the
// file, the tensor and what would be right: `not_found` for one that is missing, `unsupported` for one that nothing
// uses and for other element types (stored_tensor.hpp), `corrupt` for shapes that cannot be.
base::Result<std::shared_ptr<FolderTensors>> translate_tensors(FolderWeights weights, const FolderShape& shape,
                                                               const std::filesystem::path& folder);

}  // namespace tidemill::model
