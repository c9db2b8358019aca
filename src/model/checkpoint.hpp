// A model as it lies on disk, whatever the form: metadata under GGUF's keys, and tensors under GGUF's names with their
// types, shapes and bytes. Everything above (tokenizer, chat template, hyper-parameters, loading, packing, inspecting)
// works on this. The forms:
//
//   gguf.hpp                  one GGUF file, plain or packed
//   split_gguf.hpp            a GGUF model in several files
//   hugging_face/folder.hpp   a Hugging Face folder: config.json, safetensors, tokenizer.json
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.hpp"
#include "base/memory.hpp"
#include "base/result.hpp"
#include "model/metadata.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::model {

struct GgufTensor {
  std::string_view name;
  tensor::DType type = tensor::DType::f32;
  int rank = 1;                                 // 1 to 4
  std::array<int64_t, 4> shape = {1, 1, 1, 1};  // innermost first, as in GGUF: a matrix is {cols, rows}
  std::span<const std::byte> data;              // as it lies in the file: the tensor itself, unless `make` is set
  // Where the files have it in pieces, those behind `data`, which is the first.
  std::vector<std::span<const std::byte>> more_data;
  // Null, or the file has the tensor in another order or type, or in pieces: writes its bytes() bytes. Any thread may
  // call it.
  std::function<void(std::span<std::byte>)> make;
  // Null, or what is wrong with what it is made of where one of its elements is this, NaN or an infinity: "the scale of
  // row 3 and group 0 in 'x.scales' is NaN". Empty: nothing beside the codes. Any thread may call it.
  std::function<std::string(float)> explain;
  // Where it lies, if the checkpoint's path does not say it: "'model.norm.weight' in 'model.safetensors'", "in
  // 'm-00002-of-00003.gguf'".
  std::string_view origin;
  bool panels = false;    // of a packed file: `data` are panels (tensor/packed_layout.hpp), not rows
  uint64_t checksum = 0;  // of a packed file: base::piecewise_checksum of `data`
  // Of a folder as it is stored, which is looked at and not computed with: what the file calls a type of elements that
  // this build has none for ("I32"). `type` means nothing then.
  std::string_view stored_type;

  int64_t cols() const { return shape[0]; }
  int64_t rows() const { return shape[1] * shape[2] * shape[3]; }
  int64_t elements() const { return cols() * rows(); }
  size_t bytes() const;
  std::string_view type_name() const { return stored_type.empty() ? tensor::info(type).name : stored_type; }
  // "[2048, 128256]", innermost first as GGUF tools print it.
  std::string shape_text() const;
  // For errors: "tensor 'output_norm.weight'", and its origin.
  std::string title() const;
};

// What a packed file (packed_file.hpp) says about itself.
struct PackedInfo {
  uint32_t layout = 0;      // of its panels
  std::string_view writer;  // program and version
  std::string_view source;  // file name
  uint64_t source_bytes = 0;
};

// A file that a checkpoint was read from.
struct CheckpointFile {
  std::filesystem::path path;
  std::shared_ptr<const base::MappedFile> map;  // null where its bytes were given, or were read and let go
  size_t bytes = 0;
  size_t header_bytes = 0;  // before the tensors' data
};

// Movable. Const calls are thread-safe.
class Checkpoint : public Metadata {
 public:
  // A GGUF file, alone or any one of those that a model is split over, or a Hugging Face folder. Errors: those of the
  // forms' headers.
  static base::Result<Checkpoint> open(const std::filesystem::path& path);
  // A GGUF file in memory; the bytes must outlive the result. `name` stands for the file in errors.
  static base::Result<Checkpoint> parse(std::span<const std::byte> bytes, const std::filesystem::path& name);

  // For the readers of forms. `keeps` holds what the metadata and tensors point into beside the files' maps; `version`
  // is as version() below. `corrupt` where two tensors have one name, naming both.
  static base::Result<Checkpoint> assemble(Metadata metadata, std::vector<GgufTensor> tensors,
                                           std::vector<CheckpointFile> files, std::shared_ptr<const void> keeps,
                                           uint32_t version);

  uint32_t version() const { return version_; }  // of GGUF; 0: not from GGUF files
  std::span<const CheckpointFile> files() const { return files_; }
  size_t file_bytes() const;  // of all files
  // Whether `path` is one of its files, by whatever name: to be written over by nothing that reads it.
  bool has_file(const std::filesystem::path& path) const;
  // What people call it: the file's name without its ending and shard number, or folder_name().
  std::string stem() const;
  // Null for all but a packed file, whose tensors have the types and shapes of its source.
  const PackedInfo* packed() const { return packed_ ? &*packed_ : nullptr; }
  // What keeps the bytes of a packed file's tensors alive beyond this object; null where they were given to parse().
  std::shared_ptr<const base::MappedFile> mapping() const { return files_.empty() ? nullptr : files_.front().map; }

  std::span<const GgufTensor> tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;  // null if absent
  size_t tensor_bytes() const;                                 // sum over all tensors
  int64_t parameters() const;                                  // elements of all tensors

  // The tensor's bytes: where they lie in the file, or made in `scratch`, which grows as needed and may be used again
  // when they are no longer wanted. `exhausted`, naming the tensor, when memory is short.
  base::Result<std::span<const std::byte>> read(const GgufTensor& tensor, base::Buffer& scratch) const;

  // Tells the kernel that a tensor's pages will not be read again (no effect on bytes in memory).
  void release(const GgufTensor& tensor) const;
  // The same for some of a tensor's bytes, as read() gives them where they lie in the file.
  void release(std::span<const std::byte> data) const;
  // The same for everything before the tensors' data.
  void release_header() const;

 protected:
  explicit Checkpoint(Metadata metadata) : Metadata(std::move(metadata)) {}
  // False, and nothing changes, if a tensor of that name is there already.
  bool add(const GgufTensor& tensor);
  using Metadata::add;

  uint32_t version_ = 0;
  std::vector<CheckpointFile> files_;
  std::optional<PackedInfo> packed_;
  std::vector<GgufTensor> tensors_;

 private:
  std::unordered_map<std::string_view, size_t> tensor_index_;
  std::shared_ptr<const void> keeps_;
};

}  // namespace tidemill::model
