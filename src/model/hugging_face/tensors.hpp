// The tensors of a Hugging Face folder, under GGUF's names.
#pragma once

#include <deque>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "model/checkpoint.hpp"
#include "model/hugging_face/config.hpp"
#include "model/safetensors.hpp"

namespace tidemill::model {

// The folder's safetensors files, one or sharded.
class FolderWeights {
 public:
  // model.safetensors, or what model.safetensors.index.json names where there is no such file: an index beside it is an
  // old one, as transformers leaves it behind, and is passed over with a warning. Errors: `not_found` naming the file
  // that is missing, `corrupt` where index and files contradict each other, those of SafetensorsFile.
  static base::Result<FolderWeights> open(const std::filesystem::path& folder);
  // Of files that were read already.
  static base::Result<FolderWeights> of(std::vector<SafetensorsFile> files);
  FolderWeights() = default;
  FolderWeights(FolderWeights&&) = default;
  FolderWeights& operator=(FolderWeights&&) = default;
  FolderWeights(const FolderWeights&) = delete;  // what was found points into the files
  FolderWeights& operator=(const FolderWeights&) = delete;

  struct Found {
    const SafetensorsTensor* tensor = nullptr;
    const SafetensorsFile* file = nullptr;
  };

  std::span<const SafetensorsFile> files() const { return files_; }
  const std::filesystem::path& index() const { return index_; }  // empty: they were not read by one
  Found find(std::string_view name) const;                       // nulls if absent
  // By name, in the order of files and data.
  std::span<const Found> tensors() const { return tensors_; }

 private:
  base::Result<void> open_index(const std::filesystem::path& folder, const std::filesystem::path& path);
  base::Result<void> open_files(const std::filesystem::path& folder, const std::set<std::string>& names);
  base::Result<void> add_tensors();
  base::Result<void> add(const SafetensorsFile& file, const SafetensorsTensor& tensor);

  std::vector<SafetensorsFile> files_;
  std::filesystem::path index_;
  std::vector<Found> tensors_;
  std::unordered_map<std::string_view, size_t> by_name_;
};

// What translated tensors point into: it must live as long as they.
struct FolderTensors {
  FolderWeights weights;
  std::deque<std::string> texts;  // names and origins
  std::vector<GgufTensor> tensors;
};

// Adds a tensor as it is stored under GGUF's name, in the type that GGUF has it in. Errors: as of the next function.
base::Result<void> add_stored_tensor(FolderTensors& out, const FolderWeights::Found& found, std::string name);

// Every tensor that the architecture uses, in the order of the computation: matrices as they are stored (rows in
// another order where FolderForm says so), vectors in F32 as other readers of GGUF want them. Errors, each naming the
// file, the tensor and what would be right: `not_found` for one that is missing, `unsupported` for one that nothing
// uses and for other element types than F32, F16 and BF16, `corrupt` for shapes that cannot be.
base::Result<std::shared_ptr<FolderTensors>> translate_tensors(FolderWeights weights, const FolderShape& shape,
                                                               const std::filesystem::path& folder);

}  // namespace tidemill::model
