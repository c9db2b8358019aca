#include "model/hugging_face/folder.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/file.hpp"
#include "model/file_type.hpp"
#include "model/gguf.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/config.hpp"
#include "model/hugging_face/encoder.hpp"
#include "model/hugging_face/folder_files.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/hugging_face/tensors.hpp"
#include "model/hugging_face/tokenizer.hpp"
#include "model/hugging_face/tokenizer_files.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr size_t kMaxShapeBytes = size_t{1} << 20;

// What the checkpoint points into.
struct FolderContent {
  std::string header;  // the metadata, as a GGUF file without tensors has them
  std::shared_ptr<FolderTensors> tensors;
};

// The first GGUF file by name; empty if there is none.
std::string first_gguf(const std::filesystem::path& folder) {
  std::string first;
  std::error_code failed;
  for (std::filesystem::directory_iterator at(folder, failed), end; !failed && at != end; at.increment(failed)) {
    std::string name = at->path().filename().string();
    if (name.ends_with(".gguf") && (first.empty() || name < first)) first = std::move(name);
  }
  return first;
}

Result<JsonMembers> read_config(const std::filesystem::path& folder) {
  if (!is_absent(folder / "config.json")) return JsonMembers::read(folder / "config.json", kMaxShapeBytes);
  if (const std::string name = first_gguf(folder); !name.empty()) {
    return Error(ErrorCode::not_found,
                 fmt::format("{}: the folder has no 'config.json', but GGUF files; name one of them, such as '{}'",
                             folder.string(), (folder / name).string()));
  }
  return Error(ErrorCode::not_found,
               fmt::format("{}: the folder has no 'config.json'; a model is a GGUF file, or a Hugging Face folder with "
                           "config.json, safetensors and tokenizer.json",
                           folder.string()));
}

uint32_t file_type_of(std::span<const GgufTensor> tensors) {
  const auto has = [&](tensor::DType type) {
    return std::any_of(tensors.begin(), tensors.end(),
                       [type](const GgufTensor& tensor) { return tensor.rank == 2 && tensor.type == type; });
  };
  for (const tensor::DType type : {tensor::DType::q4_0, tensor::DType::q8_0, tensor::DType::bf16, tensor::DType::f16}) {
    if (has(type)) return file_type_number(type);
  }
  return file_type_number(tensor::DType::f32);
}

// The files that make the model, in an order that does not depend on the folder's. An index that nothing was read by
// is not one of them.
std::vector<CheckpointFile> list_files(const std::filesystem::path& folder, const FolderWeights& weights) {
  std::vector<CheckpointFile> files;
  for (const SafetensorsFile& file : weights.files()) {
    files.push_back(
        {.path = file.path(), .map = file.mapping(), .bytes = file.file_bytes(), .header_bytes = file.header_bytes()});
  }
  std::vector<std::filesystem::path> paths;
  const std::string tokenizer = tokenizer_file_name(folder);
  for (const std::string_view name : kFolderFiles) {
    if (name != kTiktokenFile || name == tokenizer) paths.push_back(folder / name);
  }
  if (!weights.index().empty()) paths.push_back(weights.index());
  if (const auto modules = base::read_regular_file(folder / kModulesFile, kMaxShapeBytes)) {
    const auto pooling = pooling_file(*modules, folder / kModulesFile);
    if (pooling && *pooling) paths.push_back(folder / **pooling);
  }
  for (const std::filesystem::path& path : paths) {
    std::error_code failed;
    const auto bytes = std::filesystem::file_size(path, failed);
    if (!failed) files.push_back({.path = path, .map = nullptr, .bytes = static_cast<size_t>(bytes)});
  }
  return files;
}

// As it is stored: what the checkpoint points into.
struct StoredContent {
  std::string header;
  FolderWeights weights;
};

// Numbers, texts and booleans as what they are, the rest as JSON.
void add_member(std::string_view name, const base::json::value& value, GgufWriter& metadata) {
  const std::string key = fmt::format("config.{}", name);
  if (value.is_bool()) return metadata.add_bool(key, value.get_bool());
  if (value.is_double()) return metadata.add_f32(key, static_cast<float>(value.get_double()));
  if (value.is_string()) return metadata.add_string(key, std::string_view(value.get_string()));
  const int64_t integer = value.is_int64() ? value.get_int64() : -1;
  if (integer >= 0 && integer <= std::numeric_limits<uint32_t>::max()) {
    return metadata.add_u32(key, static_cast<uint32_t>(integer));
  }
  metadata.add_string(key, base::json::serialize(value));
}

Result<GgufTensor> as_stored(const FolderWeights::Found& found) {
  const SafetensorsTensor& source = *found.tensor;
  GgufTensor tensor;
  if (source.shape.size() > tensor.shape.size()) {
    return Error(ErrorCode::unsupported, fmt::format("{}: tensor '{}' has {} dimensions; shown are tensors of up to {}",
                                                     found.file->path().string(), printable(source.name),
                                                     source.shape.size(), tensor.shape.size()));
  }
  tensor.name = source.name;
  if (source.type) {
    tensor.type = *source.type;
  } else {
    tensor.stored_type = source.dtype;
  }
  tensor.rank = std::max(1, static_cast<int>(source.shape.size()));
  std::copy(source.shape.rbegin(), source.shape.rend(), tensor.shape.begin());
  tensor.data = source.data;
  return tensor;
}

// "models/x/" without the slash, so that it has a name.
std::filesystem::path without_slash(const std::filesystem::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

Result<Checkpoint> open_stored_folder(const std::filesystem::path& path) {
  const std::filesystem::path folder = without_slash(path);
  TM_TRY(const JsonMembers config, read_config(folder));
  auto content = std::make_shared<StoredContent>();
  TM_TRY(content->weights, FolderWeights::open(folder));
  GgufWriter metadata;
  for (const auto& [name, value] : config.object())
    add_member(name, value, metadata);
  content->header = metadata.header();
  TM_TRY(const GgufFile header, GgufFile::parse(std::as_bytes(std::span(content->header)), folder));
  std::vector<GgufTensor> tensors;
  for (const FolderWeights::Found& found : content->weights.tensors()) {
    TM_TRY(GgufTensor tensor, as_stored(found));
    tensors.push_back(std::move(tensor));
  }
  std::vector<CheckpointFile> files = list_files(folder, content->weights);
  return Checkpoint::assemble(header, std::move(tensors), std::move(files), content, 0);
}

std::string folder_name(const std::filesystem::path& path) {
  std::error_code failed;
  std::filesystem::path real = std::filesystem::canonical(path, failed);
  if (failed) real = without_slash(path);
  constexpr std::string_view mark = "models--";
  const std::string repository = real.parent_path().parent_path().filename().string();
  const bool cached = real.parent_path().filename() == "snapshots" && repository.starts_with(mark);
  if (!cached || repository.size() == mark.size()) return real.filename().string();
  return repository.substr(repository.rfind("--") + 2);
}

Result<Checkpoint> open_folder(const std::filesystem::path& path) {
  const std::filesystem::path folder = without_slash(path);
  TM_TRY(const JsonMembers config, read_config(folder));
  auto content = std::make_shared<FolderContent>();

  GgufWriter metadata;
  TM_TRY(const std::optional<EncoderShape> encoder, translate_encoder_config(config, metadata));
  int64_t vocabulary = 0;
  if (encoder) {
    vocabulary = encoder->vocabulary;
    TM_TRY(FolderWeights weights, FolderWeights::open(folder));
    TM_TRY(content->tensors, translate_encoder_tensors(std::move(weights), *encoder));
    // A head that scores says how in its place.
    if (!encoder->ranks) TM_CHECK(translate_pooling(folder, encoder->architecture->name, encoder->width, metadata));
  } else {
    TM_TRY(const FolderShape shape, translate_config(config, metadata));
    vocabulary = shape.vocabulary;
    TM_TRY(FolderWeights weights, FolderWeights::open(folder));
    TM_TRY(content->tensors, translate_tensors(std::move(weights), shape, folder));
    TM_CHECK(translate_pooling(folder, shape.architecture->name, shape.width, metadata));
  }
  std::vector<CheckpointFile> files = list_files(folder, content->tensors->weights);
  std::vector<GgufTensor> tensors = std::move(content->tensors->tensors);

  metadata.add_string("general.type", "model");
  metadata.add_string("general.name", folder_name(folder));
  metadata.add_u32("general.file_type", file_type_of(tensors));
  metadata.add_u32("general.quantization_version", 2);
  TM_TRY(TokenizerFiles texts, read_tokenizer_files(folder));
  TM_CHECK(translate_tokenizer(std::move(texts), config, vocabulary, metadata));
  content->header = metadata.header();
  TM_TRY(const GgufFile header, GgufFile::parse(std::as_bytes(std::span(content->header)), folder));
  return Checkpoint::assemble(header, std::move(tensors), std::move(files), content, 0);
}

}  // namespace tidemill::model
