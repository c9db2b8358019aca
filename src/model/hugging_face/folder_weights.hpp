// The safetensors files of a Hugging Face folder, one or sharded.
#pragma once

#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "model/safetensors.hpp"

namespace tidemill::model {

// All tensors of the files, by name.
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

}  // namespace tidemill::model
