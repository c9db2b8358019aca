#include "model/gguf.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "model/packed_file.hpp"

namespace tidemill::model {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Multiplies unless the product would pass int64's range.
bool multiply(int64_t& product, int64_t factor) {
  return !__builtin_mul_overflow(product, factor, &product);
}

constexpr int kMaxArrayNesting = 4;
constexpr uint64_t kMaxNameBytes = 65535;  // the specification's limit on keys
constexpr uint32_t kGgmlI8 = 24;
constexpr uint64_t kMaxAlignment = uint64_t{1} << 20;

}  // namespace

std::string_view ggml_type_name(uint32_t ggml_type) {
  constexpr std::array<std::string_view, 41> names = {
      "F32",        "F16",        "Q4_0",       "Q4_1",  "Q4_2",     "Q4_3",     "Q5_0",     "Q5_1",    "Q8_0",
      "Q8_1",       "Q2_K",       "Q3_K",       "Q4_K",  "Q5_K",     "Q6_K",     "Q8_K",     "IQ2_XXS", "IQ2_XS",
      "IQ3_XXS",    "IQ1_S",      "IQ4_NL",     "IQ3_S", "IQ2_S",    "IQ4_XS",   "I8",       "I16",     "I32",
      "I64",        "F64",        "IQ1_M",      "BF16",  "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0",   "TQ2_0",
      "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4", "NVFP4"};
  return ggml_type < names.size() ? names[ggml_type] : "unknown";
}

std::string supported_types_text() {
  std::string text;
  for (const tensor::DType type : tensor::all_dtypes()) {
    if (!text.empty()) text += ", ";
    text += tensor::info(type).name;
  }
  return text;
}

// Walks the file once from front to back. `at_` never passes the end: every step asks `need` first.
class GgufFile::Parser {
 public:
  // In a packed file, tensors of bytes under kPanelsPrefix are panels: named without the prefix, their types and shapes
  // still to be read.
  Parser(GgufFile& file, std::span<const std::byte> bytes, bool packed) : file_(file), bytes_(bytes), packed_(packed) {}

  Result<void> run() {
    TM_CHECK(read_header());
    TM_CHECK(read_metadata());
    TM_CHECK(read_alignment());
    TM_CHECK(read_tensors());
    return check_overlaps();
  }

 private:
  uint64_t left() const { return bytes_.size() - at_; }

  Error corrupt(std::string message) const { return file_.error(ErrorCode::corrupt, std::move(message)); }

  Result<void> need(uint64_t count, std::string_view what) const {
    if (count <= left()) return {};
    return corrupt(fmt::format("the file ends inside {}: at byte {} it wants {} more, and {} are left (truncated?)",
                               what, at_, count, left()));
  }

  template <typename T>
  Result<T> take(std::string_view what) {
    TM_CHECK(need(sizeof(T), what));
    const T value = load<T>(bytes_.data() + at_);
    at_ += sizeof(T);
    return value;
  }

  Result<std::string_view> take_string(std::string_view what, uint64_t limit) {
    TM_TRY(const auto length, take<uint64_t>(what));
    TM_CHECK(need(length, what));
    if (length > limit) {
      return corrupt(fmt::format("{} at byte {} has {} bytes; at most {} are allowed", what, at_, length, limit));
    }
    const auto text = as_text(bytes_.subspan(at_, length));
    at_ += length;
    return text;
  }

  Result<void> read_header() {
    if (bytes_.empty()) return corrupt("the file is empty; expected a GGUF file");
    TM_CHECK(need(4, "the magic number"));
    const auto magic = as_text(bytes_.first(4));
    if (magic != "GGUF") {
      constexpr std::array<std::string_view, 4> old = {"lmgg", "tjgg", "algg", "fmgg"};
      if (std::find(old.begin(), old.end(), magic) != old.end()) {
        return file_.error(ErrorCode::unsupported,
                           "this is a ggml file of before GGUF; convert the model to GGUF version 2 or 3");
      }
      if (magic == kUnfinishedMagic) {
        return file_.error(ErrorCode::corrupt,
                           "an unfinished file, which 'tidemill quantize' left; the command that began it goes on with "
                           "it");
      }
      return corrupt(fmt::format("not a GGUF file: it begins with '{}' instead of 'GGUF'", printable(magic)));
    }
    at_ = 4;
    TM_TRY(file_.version_, take<uint32_t>("the version"));
    const uint32_t version = file_.version_;
    if (version == 1) {
      return file_.error(ErrorCode::unsupported, "GGUF version 1 (32-bit counts); supported are versions 2 and 3");
    }
    if (version == 0x02000000 || version == 0x03000000) {
      return file_.error(ErrorCode::unsupported,
                         fmt::format("a big-endian GGUF file (version {}); only little-endian files "
                                     "are supported",
                                     version >> 24));
    }
    if (version != 2 && version != 3) {
      return file_.error(ErrorCode::unsupported,
                         fmt::format("GGUF version {}; supported are versions 2 and 3", version));
    }
    TM_TRY(tensor_count_, take<uint64_t>("the tensor count"));
    TM_TRY(entry_count_, take<uint64_t>("the metadata count"));
    // The smallest tensor record is 33 bytes (a name of one byte, one dimension), the smallest entry 13 (empty key, one
    // byte).
    if (tensor_count_ > left() / 32 || entry_count_ > left() / 13) {
      return corrupt(
          fmt::format("the header announces {} tensors and {} metadata entries, more than the file's {} bytes hold "
                      "(truncated?)",
                      tensor_count_, entry_count_, bytes_.size()));
    }
    return {};
  }

  Result<GgufType> take_type(std::string_view key) {
    TM_TRY(const auto number, take<uint32_t>("a metadata value's type"));
    if (number > static_cast<uint32_t>(GgufType::f64)) {
      return corrupt(fmt::format("metadata key '{}' has value type {}; types 0 to 12 exist", printable(key), number));
    }
    return static_cast<GgufType>(number);
  }

  // Steps over the elements of an array, checking them.
  Result<void> skip_elements(std::string_view key, GgufType element, uint64_t count, int nesting) {
    if (const uint64_t size = fixed_size(element); size > 0) {
      if (count > left() / size) {
        return corrupt(fmt::format(
            "metadata key '{}' announces an array of {} {}, more than the {} bytes left in the file hold (truncated?)",
            printable(key), count, to_string(element), left()));
      }
      at_ += count * size;
      return {};
    }
    // Each element takes at least eight bytes, so the loop below is bounded by the file's size.
    if (count > left() / 8) {
      return corrupt(fmt::format(
          "metadata key '{}' announces an array of {} {}s, more than the {} bytes left in the file hold (truncated?)",
          printable(key), count, to_string(element), left()));
    }
    if (element == GgufType::array && nesting >= kMaxArrayNesting) {
      return corrupt(fmt::format("metadata key '{}' nests arrays more than {} deep", printable(key), kMaxArrayNesting));
    }
    for (uint64_t i = 0; i < count; ++i) {
      if (element == GgufType::string) {
        TM_CHECK(take_string("a string of an array", std::numeric_limits<uint64_t>::max()));
      } else {
        TM_TRY(const GgufType inner, take_type(key));
        TM_TRY(const auto inner_count, take<uint64_t>("an array's length"));
        TM_CHECK(skip_elements(key, inner, inner_count, nesting + 1));
      }
    }
    return {};
  }

  Result<GgufValue> take_value(std::string_view key) {
    GgufValue value;
    TM_TRY(value.type, take_type(key));
    value.element = value.type;
    if (value.type == GgufType::string) {
      TM_TRY(const auto text, take_string("a metadata string", std::numeric_limits<uint64_t>::max()));
      value.payload = std::as_bytes(std::span(text));
      return value;
    }
    if (value.type == GgufType::array) {
      TM_TRY(value.element, take_type(key));
      TM_TRY(value.count, take<uint64_t>("an array's length"));
      const uint64_t start = at_;
      TM_CHECK(skip_elements(key, value.element, value.count, 1));
      value.payload = bytes_.subspan(start, at_ - start);
      return value;
    }
    const size_t size = fixed_size(value.type);
    TM_CHECK(need(size, "a metadata value"));
    value.payload = bytes_.subspan(at_, size);
    at_ += size;
    return value;
  }

  Result<void> read_metadata() {
    file_.reserve_entries(entry_count_);
    for (uint64_t i = 0; i < entry_count_; ++i) {
      GgufEntry entry;
      TM_TRY(entry.key, take_string("a metadata key", kMaxNameBytes));
      TM_TRY(entry.value, take_value(entry.key));
      if (!file_.add(entry)) return corrupt(fmt::format("metadata key '{}' appears twice", printable(entry.key)));
    }
    return {};
  }

  Result<void> read_alignment() {
    TM_TRY(const int64_t alignment, file_.get_int_or("general.alignment", 32));
    if (alignment < 8 || !std::has_single_bit(static_cast<uint64_t>(alignment)) ||
        static_cast<uint64_t>(alignment) > kMaxAlignment) {
      return corrupt(
          fmt::format("general.alignment is {}; it must be a power of two from 8 to {}", alignment, kMaxAlignment));
    }
    file_.alignment_ = static_cast<uint64_t>(alignment);
    return {};
  }

  // Name, shape and type of one tensor; its offset, still relative to the data section, goes to `offset`.
  Result<GgufTensor> take_tensor(uint64_t& offset) {
    GgufTensor tensor;
    TM_TRY(tensor.name, take_string("a tensor's name", kMaxNameBytes));
    const std::string name = printable(tensor.name);
    TM_TRY(const auto rank, take<uint32_t>("a tensor's rank"));
    if (rank < 1 || rank > 4)
      return corrupt(fmt::format("tensor '{}' has {} dimensions; 1 to 4 are possible", name, rank));
    tensor.rank = static_cast<int>(rank);
    int64_t elements = 1;
    for (uint32_t d = 0; d < rank; ++d) {
      TM_TRY(const auto extent, take<uint64_t>("a tensor's shape"));
      if (extent == 0 || extent > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
          !multiply(elements, static_cast<int64_t>(extent))) {
        return corrupt(
            fmt::format("tensor '{}' has dimension {} of extent {}: extents must be at least 1 and their product "
                        "must fit 63 bits",
                        name, d, extent));
      }
      tensor.shape[d] = static_cast<int64_t>(extent);
    }
    TM_TRY(const auto number, take<uint32_t>("a tensor's type"));
    const auto type = tensor::dtype_from_ggml(number);
    if (packed_ && number == kGgmlI8 && tensor.rank == 1 && tensor.name.starts_with(kPanelsPrefix)) {
      tensor.name.remove_prefix(kPanelsPrefix.size());
      tensor.panels = true;
    } else if (!type) {
      return file_.error(ErrorCode::unsupported, fmt::format("tensor '{}' has type {} ({}); supported are {}", name,
                                                             number, ggml_type_name(number), supported_types_text()));
    }
    tensor.type = type.value_or(tensor::DType::f32);
    TM_TRY(offset, take<uint64_t>("a tensor's offset"));
    return tensor;
  }

  Result<void> read_tensors() {
    std::vector<uint64_t> offsets;
    offsets.reserve(tensor_count_);
    file_.tensors_.reserve(tensor_count_);
    for (uint64_t i = 0; i < tensor_count_; ++i) {
      uint64_t offset = 0;
      TM_TRY(const GgufTensor tensor, take_tensor(offset));
      if (!file_.add(tensor)) return corrupt(fmt::format("tensor '{}' appears twice", printable(tensor.name)));
      offsets.push_back(offset);
    }
    const uint64_t padding = (file_.alignment_ - at_ % file_.alignment_) % file_.alignment_;
    file_.header_bytes_ = std::min<uint64_t>(at_ + padding, bytes_.size());
    for (size_t i = 0; i < offsets.size(); ++i)
      TM_CHECK(place(file_.tensors_[i], offsets[i], file_.header_bytes_));
    return {};
  }

  Result<void> place(GgufTensor& tensor, uint64_t offset, uint64_t data_start) const {
    constexpr tensor::DTypeInfo bytes = {"I8", kGgmlI8, 1, 1};
    const std::string name = printable(tensor.name);
    const tensor::DTypeInfo& type = tensor.panels ? bytes : tensor::info(tensor.type);
    if (tensor.cols() % type.block_elements != 0) {
      return corrupt(fmt::format("tensor '{}' has rows of {} elements, not a multiple of {}'s block of {}", name,
                                 tensor.cols(), type.name, type.block_elements));
    }
    int64_t size = tensor.elements() / type.block_elements;
    if (!multiply(size, type.block_bytes)) return corrupt(fmt::format("tensor '{}' is too large to address", name));
    if (offset % file_.alignment_ != 0) {
      return corrupt(fmt::format("tensor '{}' lies at offset {}, not a multiple of the file's alignment {}", name,
                                 offset, file_.alignment_));
    }
    const uint64_t section = bytes_.size() - data_start;
    if (offset > section || static_cast<uint64_t>(size) > section - offset) {
      return corrupt(
          fmt::format("tensor '{}' ({} {}, {} bytes at offset {}) passes the end of the file, whose data section has "
                      "{} bytes (truncated?)",
                      name, type.name, tensor.shape_text(), size, offset, section));
    }
    tensor.data = bytes_.subspan(data_start + offset, static_cast<size_t>(size));
    return {};
  }

  Result<void> check_overlaps() const {
    std::vector<const GgufTensor*> order;
    order.reserve(file_.tensors_.size());
    for (const GgufTensor& tensor : file_.tensors_)
      order.push_back(&tensor);
    std::sort(order.begin(), order.end(),
              [](const GgufTensor* a, const GgufTensor* b) { return a->data.data() < b->data.data(); });
    for (size_t i = 1; i < order.size(); ++i) {
      if (order[i - 1]->data.data() + order[i - 1]->data.size() > order[i]->data.data()) {
        return corrupt(fmt::format("the data of tensors '{}' and '{}' overlap", printable(order[i - 1]->name),
                                   printable(order[i]->name)));
      }
    }
    return {};
  }

  GgufFile& file_;
  std::span<const std::byte> bytes_;
  bool packed_;
  uint64_t at_ = 0;
  uint64_t tensor_count_ = 0;
  uint64_t entry_count_ = 0;
};

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
  TM_TRY(base::MappedFile map, base::MappedFile::open(path));
  TM_TRY(GgufFile file, parse(map.bytes(), path));
  file.files_.front().map = std::make_shared<const base::MappedFile>(std::move(map));
  return file;
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, const std::filesystem::path& name) {
  GgufFile file(name);
  const bool packed = begins_packed(bytes);
  if (packed) TM_CHECK(check_packed_header(bytes, name));
  auto parsed = Parser(file, bytes, packed).run();
  if (!parsed) return packed ? with_packing_advice(parsed.error()) : std::move(parsed).error();
  file.files_.push_back(
      {.path = name, .map = nullptr, .bytes = bytes.size(), .header_bytes = static_cast<size_t>(file.header_bytes_)});
  if (packed) {
    TM_TRY(file.packed_, read_packed_keys(file, file.tensors_));
  }
  return file;
}

}  // namespace tidemill::model
