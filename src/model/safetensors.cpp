#include "model/safetensors.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {

namespace json = base::json;

static_assert(std::endian::native == std::endian::little, "safetensors are read in place, little-endian");

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr size_t kLengthBytes = 8;
constexpr int kMaxHeaderDepth = 4;  // the file's object, a tensor's, its lists
constexpr size_t kMaxRank = 8;

struct ElementType {
  std::string_view name;
  int64_t bytes;
  std::optional<tensor::DType> type;
};
constexpr std::array<ElementType, 16> kElementTypes = {{
    {"F32", 4, tensor::DType::f32},
    {"F16", 2, tensor::DType::f16},
    {"BF16", 2, tensor::DType::bf16},
    {"F64", 8, std::nullopt},
    {"F8_E4M3", 1, std::nullopt},
    {"F8_E5M2", 1, std::nullopt},
    {"F8_E8M0", 1, std::nullopt},
    {"I64", 8, std::nullopt},
    {"I32", 4, std::nullopt},
    {"I16", 2, std::nullopt},
    {"I8", 1, std::nullopt},
    {"U64", 8, std::nullopt},
    {"U32", 4, std::nullopt},
    {"U16", 2, std::nullopt},
    {"U8", 1, std::nullopt},
    {"BOOL", 1, std::nullopt},
}};

std::string element_type_names() {
  std::string names;
  for (const ElementType& type : kElementTypes)
    names.append(names.empty() ? "" : ", ").append(type.name);
  return names;
}

// A list of integers that are not negative; none for anything else.
std::optional<std::vector<int64_t>> integers(const json::value* value, size_t most) {
  const json::array* list = value == nullptr ? nullptr : value->if_array();
  if (list == nullptr || list->size() > most) return std::nullopt;
  std::vector<int64_t> numbers;
  for (const json::value& item : *list) {
    json::error_code failed;
    const auto number = item.is_int64() || item.is_uint64() ? item.to_number<int64_t>(failed) : -1;
    if (failed || number < 0) return std::nullopt;
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace

class SafetensorsFile::Parser {
 public:
  Parser(SafetensorsFile& file, std::span<const std::byte> bytes) : file_(file), bytes_(bytes) {}

  Result<void> run() {
    TM_TRY(const json::object header, read_header());
    for (const auto& [key, value] : header) {
      if (key != "__metadata__") TM_CHECK(read_tensor(key, value));
    }
    return check_ranges();
  }

 private:
  Error error(ErrorCode code, std::string_view message) const {
    return Error(code, fmt::format("{}: {}", file_.path_.string(), message));
  }
  Error corrupt(std::string_view message) const { return error(ErrorCode::corrupt, message); }

  Result<json::object> read_header() {
    if (bytes_.size() < kLengthBytes) {
      return corrupt(fmt::format("not a safetensors file: it has {} bytes, and the header's length alone takes {}",
                                 bytes_.size(), kLengthBytes));
    }
    uint64_t length = 0;
    std::memcpy(&length, bytes_.data(), kLengthBytes);
    const uint64_t left = bytes_.size() - kLengthBytes;
    if (length > kMaxSafetensorsHeader) {
      return corrupt(fmt::format("its header is said to have {} bytes; at most {} are read (is it a safetensors file?)",
                                 length, kMaxSafetensorsHeader));
    }
    if (length > left) {
      return corrupt(
          fmt::format("its header is said to have {} bytes, and {} are left in the file (truncated?)", length, left));
    }
    file_.header_bytes_ = kLengthBytes + static_cast<size_t>(length);
    data_ = bytes_.subspan(file_.header_bytes_);
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + kLengthBytes,
                                static_cast<size_t>(length));
    auto parsed = base::parse_json(text, kMaxHeaderDepth);
    if (!parsed) return corrupt("its header is no JSON object of tensors: " + parsed.error().message());
    if (!parsed->is_object()) return corrupt("its header is no JSON object of tensors");
    return std::move(parsed->as_object());
  }

  Result<void> read_tensor(std::string_view key, const json::value& value) {
    const std::string name = printable(key);
    const json::object* fields = value.if_object();
    const json::value* dtype = fields == nullptr ? nullptr : fields->if_contains("dtype");
    const auto shape = integers(fields == nullptr ? nullptr : fields->if_contains("shape"), kMaxRank);
    const auto offsets = integers(fields == nullptr ? nullptr : fields->if_contains("data_offsets"), 2);
    if (dtype == nullptr || !dtype->is_string() || !shape || !offsets || offsets->size() != 2) {
      return corrupt(
          fmt::format("tensor '{}' wants a text \"dtype\", a \"shape\" of at most {} extents, and two "
                      "\"data_offsets\"",
                      name, kMaxRank));
    }
    SafetensorsTensor tensor;
    tensor.name = key;
    tensor.dtype = std::string_view(dtype->get_string());
    tensor.shape = *shape;
    const auto* type = std::find_if(kElementTypes.begin(), kElementTypes.end(),
                                    [&](const ElementType& known) { return known.name == tensor.dtype; });
    if (type == kElementTypes.end()) {
      return error(ErrorCode::unsupported, fmt::format("tensor '{}' has elements of the type '{}'; known are {}", name,
                                                       printable(tensor.dtype), element_type_names()));
    }
    tensor.type = type->type;
    TM_CHECK(place(tensor, *type, static_cast<uint64_t>((*offsets)[0]), static_cast<uint64_t>((*offsets)[1])));
    file_.tensors_.push_back(std::move(tensor));
    return {};
  }

  Result<void> place(SafetensorsTensor& tensor, const ElementType& type, uint64_t begin, uint64_t end) const {
    const std::string name = printable(tensor.name);
    if (begin > end || end > data_.size()) {
      return corrupt(fmt::format("the data of tensor '{}' are said to lie from byte {} to {} of {} (truncated?)", name,
                                 begin, end, data_.size()));
    }
    int64_t size = type.bytes;
    for (const int64_t extent : tensor.shape) {
      if (extent < 1 || __builtin_mul_overflow(size, extent, &size)) {
        return corrupt(
            fmt::format("tensor '{}' has the shape [{}]: extents must be at least 1 and the tensor's bytes "
                        "fit 63 bits",
                        name, fmt::join(tensor.shape, ", ")));
      }
    }
    if (static_cast<uint64_t>(size) != end - begin) {
      return corrupt(
          fmt::format("tensor '{}' ({} [{}]) takes {} bytes, but its data lie from byte {} to {}, which are "
                      "{}",
                      name, type.name, fmt::join(tensor.shape, ", "), size, begin, end, end - begin));
    }
    tensor.data = data_.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    return {};
  }

  // Sorts the tensors by their data, which must fill the rest of the file.
  Result<void> check_ranges() {
    std::vector<SafetensorsTensor>& tensors = file_.tensors_;
    std::sort(tensors.begin(), tensors.end(),
              [](const SafetensorsTensor& a, const SafetensorsTensor& b) { return a.data.data() < b.data.data(); });
    const std::byte* at = data_.data();
    for (size_t i = 0; i < tensors.size(); ++i) {
      const SafetensorsTensor& tensor = tensors[i];
      if (tensor.data.data() < at) {
        return corrupt(fmt::format("the data of tensors '{}' and '{}' overlap", printable(tensors[i - 1].name),
                                   printable(tensor.name)));
      }
      if (tensor.data.data() > at) {
        return corrupt(fmt::format("{} bytes before the data of tensor '{}' belong to no tensor",
                                   tensor.data.data() - at, printable(tensor.name)));
      }
      at = tensor.data.data() + tensor.data.size();
      file_.index_.emplace(tensor.name, i);
    }
    const auto left = data_.data() + data_.size() - at;
    if (left > 0) return corrupt(fmt::format("the last {} bytes of the file belong to no tensor", left));
    return {};
  }

  SafetensorsFile& file_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
};

Result<SafetensorsFile> SafetensorsFile::open(const std::filesystem::path& path) {
  TM_TRY(base::MappedFile map, base::MappedFile::open(path));
  TM_TRY(SafetensorsFile file, parse(map.bytes(), path));
  file.map_ = std::make_shared<const base::MappedFile>(std::move(map));
  return file;
}

Result<SafetensorsFile> SafetensorsFile::parse(std::span<const std::byte> bytes, const std::filesystem::path& name) {
  SafetensorsFile file;
  file.path_ = name;
  file.file_bytes_ = bytes.size();
  TM_CHECK(Parser(file, bytes).run());
  return file;
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace tidemill::model
