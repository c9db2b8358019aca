#include "model/checkpoint.hpp"

#include <algorithm>
#include <functional>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/gguf.hpp"
#include "model/hugging_face/folder.hpp"
#include "model/split_gguf.hpp"

namespace tidemill::model {

using base::ErrorCode;
using base::Result;

size_t GgufTensor::bytes() const {
  return make ? static_cast<size_t>(rows() * tensor::row_bytes(type, cols())) : data.size();
}

std::string GgufTensor::shape_text() const {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.begin() + rank, ", "));
}

std::string GgufTensor::title() const {
  return fmt::format("tensor '{}'{}{}{}", printable(name), origin.empty() ? "" : " (", origin,
                     origin.empty() ? "" : ")");
}

Result<Checkpoint> Checkpoint::open(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return open_folder(path);
  if (path.extension() == ".safetensors") {
    return base::Error(ErrorCode::unsupported,
                       fmt::format("{}: a safetensors file holds weights alone; name the folder in which it lies with "
                                   "config.json and tokenizer.json",
                                   path.string()));
  }
  TM_TRY(GgufFile file, GgufFile::open(path));
  if (is_split(file)) return join_split(file);
  return Checkpoint(std::move(file));
}

Result<Checkpoint> Checkpoint::parse(std::span<const std::byte> bytes, const std::filesystem::path& name) {
  TM_TRY(GgufFile file, GgufFile::parse(bytes, name));
  return Checkpoint(std::move(file));
}

Result<Checkpoint> Checkpoint::assemble(Metadata metadata, std::vector<GgufTensor> tensors,
                                        std::vector<CheckpointFile> files, std::shared_ptr<const void> keeps,
                                        uint32_t version) {
  Checkpoint checkpoint(std::move(metadata));
  checkpoint.files_ = std::move(files);
  checkpoint.keeps_ = std::move(keeps);
  checkpoint.version_ = version;
  checkpoint.tensors_.reserve(tensors.size());
  for (const GgufTensor& tensor : tensors) {
    if (!checkpoint.add(tensor)) {
      const GgufTensor& other = *checkpoint.find_tensor(tensor.name);
      return checkpoint.error(ErrorCode::corrupt, fmt::format("{} appears twice{}{}", tensor.title(),
                                                              other.origin.empty() ? "" : ", also ", other.origin));
    }
  }
  return checkpoint;
}

bool Checkpoint::add(const GgufTensor& tensor) {
  if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) return false;
  tensors_.push_back(tensor);
  return true;
}

size_t Checkpoint::file_bytes() const {
  size_t sum = 0;
  for (const CheckpointFile& file : files_)
    sum += file.bytes;
  return sum;
}

bool Checkpoint::has_file(const std::filesystem::path& path) const {
  return std::any_of(files_.begin(), files_.end(), [&path](const CheckpointFile& file) {
    std::error_code ignored;
    return std::filesystem::equivalent(file.path, path, ignored);
  });
}

std::string Checkpoint::stem() const {
  if (version_ == 0) return folder_name(path());
  if (auto shard = parse_shard_name(path().filename().string())) return std::move(shard->name);
  return path().stem().string();
}

const GgufTensor* Checkpoint::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

size_t Checkpoint::tensor_bytes() const {
  size_t sum = 0;
  for (const GgufTensor& tensor : tensors_)
    sum += tensor.bytes();
  return sum;
}

int64_t Checkpoint::parameters() const {
  int64_t sum = 0;
  for (const GgufTensor& tensor : tensors_)
    sum += tensor.elements();
  return sum;
}

Result<std::span<const std::byte>> Checkpoint::read(const GgufTensor& tensor, base::Buffer& scratch) const {
  if (!tensor.make) return tensor.data;
  const size_t bytes = tensor.bytes();
  if (scratch.size() < bytes) {
    scratch = base::Buffer();  // the old one goes first: there is never more than one
    auto buffer = base::Buffer::allocate(bytes);
    if (!buffer) {
      return error(buffer.error().code(), fmt::format("{}: {}", tensor.title(), buffer.error().to_string()));
    }
    scratch = std::move(buffer).value();
  }
  const std::span<std::byte> made(scratch.data(), bytes);
  tensor.make(made);
  return std::span<const std::byte>(made);
}

void Checkpoint::release(const GgufTensor& tensor) const {
  release(tensor.data);
  for (const std::span<const std::byte> piece : tensor.more_data)
    release(piece);
}

void Checkpoint::release(std::span<const std::byte> data) const {
  const std::less_equal<> before;
  for (const CheckpointFile& file : files_) {
    if (file.map == nullptr || data.empty()) continue;
    const std::span<const std::byte> all = file.map->bytes();
    const bool inside = before(all.data(), data.data()) && before(data.data() + data.size(), all.data() + all.size());
    if (inside) file.map->release(static_cast<size_t>(data.data() - all.data()), data.size());
  }
}

void Checkpoint::release_header() const {
  for (const CheckpointFile& file : files_) {
    if (file.map != nullptr) file.map->release(0, file.header_bytes);
  }
}

}  // namespace tidemill::model
