#include "model/hugging_face/folder_weights.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr size_t kMaxIndexBytes = size_t{64} << 20;
constexpr std::string_view kSingleFile = "model.safetensors";
constexpr std::string_view kIndexFile = "model.safetensors.index.json";

// What the index says where each tensor is, checked as far as it can be without the files.
Result<std::vector<std::pair<std::string, std::string>>> read_index(const JsonMembers& index) {
  TM_TRY(const JsonMembers map, index.members("weight_map"));
  if (!map.exists()) return index.error(ErrorCode::corrupt, "'weight_map' is missing");
  std::vector<std::pair<std::string, std::string>> places;
  for (const auto& [tensor, file] : map.object()) {
    TM_TRY(std::string name, map.get_string_or(tensor, ""));
    const bool plain = !name.empty() && std::filesystem::path(name).filename() == name && name != "." && name != "..";
    const bool shown = std::none_of(name.begin(), name.end(), [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; });
    if (!plain || !shown) {
      return index.error(ErrorCode::corrupt, fmt::format("'{}' is '{}'; expected the name of a file in the same folder",
                                                         printable(map.name(tensor)), printable(name)));
    }
    places.emplace_back(tensor, std::move(name));
  }
  return places;
}

}  // namespace

Result<void> FolderWeights::add(const SafetensorsFile& file, const SafetensorsTensor& tensor) {
  if (by_name_.emplace(tensor.name, tensors_.size()).second) {
    tensors_.push_back({&tensor, &file});
    return {};
  }
  return Error(ErrorCode::corrupt, fmt::format("{}: tensor '{}' is in '{}' as well", file.path().string(),
                                               printable(tensor.name), find(tensor.name).file->path().string()));
}

FolderWeights::Found FolderWeights::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? Found() : tensors_[found->second];
}

Result<FolderWeights> FolderWeights::open(const std::filesystem::path& folder) {
  FolderWeights weights;
  const std::filesystem::path index = folder / kIndexFile;
  if (!is_absent(folder / kSingleFile)) {
    if (!is_absent(index)) {
      base::log::warn("{}: passed over, since '{}' is there, which transformers reads before it", index.string(),
                      kSingleFile);
    }
    TM_CHECK(weights.open_files(folder, {std::string(kSingleFile)}));
    return weights;
  }
  if (is_absent(index)) {
    return Error(ErrorCode::not_found,
                 fmt::format("{}: neither '{}' nor '{}' is there; of weights, only safetensors are read",
                             folder.string(), kSingleFile, kIndexFile));
  }
  TM_CHECK(weights.open_index(folder, index));
  return weights;
}

Result<void> FolderWeights::open_index(const std::filesystem::path& folder, const std::filesystem::path& path) {
  TM_TRY(const JsonMembers index, JsonMembers::read(path, kMaxIndexBytes));
  index_ = path;
  TM_TRY(const auto places, read_index(index));
  std::set<std::string> names;
  for (const auto& [tensor, file] : places)
    names.insert(file);
  for (const std::string& name : names) {
    if (!is_absent(folder / name)) continue;
    return index.error(ErrorCode::not_found, fmt::format("it names the file '{}', which is missing", printable(name)));
  }
  TM_CHECK(open_files(folder, names));
  for (const auto& [tensor, file] : places) {
    const Found found = find(tensor);
    if (found.tensor != nullptr && found.file->path().filename() == file) continue;
    return index.error(
        ErrorCode::corrupt,
        fmt::format("it says that tensor '{}' is in '{}', but it is {}", printable(tensor), printable(file),
                    found.tensor == nullptr ? "in none of the files"
                                            : fmt::format("in '{}'", found.file->path().filename().string())));
  }
  return {};
}

Result<void> FolderWeights::open_files(const std::filesystem::path& folder, const std::set<std::string>& names) {
  for (const std::string& name : names) {
    TM_TRY(SafetensorsFile file, SafetensorsFile::open(folder / name));
    files_.push_back(std::move(file));
  }
  return add_tensors();
}

Result<FolderWeights> FolderWeights::of(std::vector<SafetensorsFile> files) {
  FolderWeights weights;
  weights.files_ = std::move(files);
  TM_CHECK(weights.add_tensors());
  return weights;
}

Result<void> FolderWeights::add_tensors() {
  for (const SafetensorsFile& file : files_) {
    for (const SafetensorsTensor& tensor : file.tensors())
      TM_CHECK(add(file, tensor));
  }
  return {};
}

}  // namespace tidemill::model
