#include "model/gguf.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "model/packed_file.hpp"

namespace tidemill::model {

static_assert(std::endian::native == std::endian::little, "GGUF values are read in place, little-endian");

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

// Bytes of a value of fixed size; 0 for strings and arrays.
size_t fixed_size(GgufType type) {
  switch (type) {
    case GgufType::u8:
    case GgufType::i8:
    case GgufType::boolean:
      return 1;
    case GgufType::u16:
    case GgufType::i16:
      return 2;
    case GgufType::u32:
    case GgufType::i32:
    case GgufType::f32:
      return 4;
    case GgufType::u64:
    case GgufType::i64:
    case GgufType::f64:
      return 8;
    case GgufType::string:
    case GgufType::array:
      return 0;
  }
  return 0;
}

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// An integer element as int64; no value if the type is not an integer or the value does not fit.
std::optional<int64_t> integer_at(GgufType type, const std::byte* at) {
  switch (type) {
    case GgufType::u8:
    case GgufType::boolean:
      return load<uint8_t>(at);
    case GgufType::i8:
      return load<int8_t>(at);
    case GgufType::u16:
      return load<uint16_t>(at);
    case GgufType::i16:
      return load<int16_t>(at);
    case GgufType::u32:
      return load<uint32_t>(at);
    case GgufType::i32:
      return load<int32_t>(at);
    case GgufType::i64:
      return load<int64_t>(at);
    case GgufType::u64: {
      const auto value = load<uint64_t>(at);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> number_at(GgufType type, const std::byte* at) {
  if (type == GgufType::f32) return load<float>(at);
  if (type == GgufType::f64) return load<double>(at);
  if (type == GgufType::boolean) return std::nullopt;
  if (auto value = integer_at(type, at)) return static_cast<double>(*value);
  return std::nullopt;
}

std::string type_text(const GgufValue& value) {
  if (value.type != GgufType::array) return std::string(to_string(value.type));
  return fmt::format("array of {} {}", value.count, to_string(value.element));
}

std::string scalar_text(GgufType type, const std::byte* at) {
  if (type == GgufType::f32 || type == GgufType::f64) return fmt::format("{}", *number_at(type, at));
  if (type == GgufType::boolean) return load<uint8_t>(at) != 0 ? "true" : "false";
  if (type == GgufType::u64) return fmt::format("{}", load<uint64_t>(at));
  return fmt::format("{}", *integer_at(type, at));
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

std::string_view to_string(GgufType type) {
  constexpr std::array<std::string_view, 13> names = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                      "bool", "string", "array", "u64", "i64", "f64"};
  const auto number = static_cast<size_t>(type);
  return number < names.size() ? names[number] : "unknown";
}

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

std::string printable(std::string_view text, size_t limit) {
  return base::utf8::printable(text, limit);
}

std::string GgufValue::describe(size_t limit) const {
  if (type == GgufType::string) return '"' + printable(as_text(payload), limit) + '"';
  if (type != GgufType::array) return scalar_text(type, payload.data());
  std::string out = type_text(*this);
  if (element == GgufType::array) return out;
  out += " [";
  const std::byte* at = payload.data();
  for (uint64_t i = 0; i < count; ++i) {
    if (i > 0) out += ", ";
    if (i == 8 || out.size() > limit) {
      out += "...";
      break;
    }
    if (element == GgufType::string) {
      const auto length = load<uint64_t>(at);
      out += '"' + printable({reinterpret_cast<const char*>(at + 8), length}, 24) + '"';
      at += 8 + length;
    } else {
      out += scalar_text(element, at);
      at += fixed_size(element);
    }
  }
  return out + "]";
}

std::string GgufTensor::shape_text() const {
  return fmt::format("[{}]", fmt::join(shape.begin(), shape.begin() + rank, ", "));
}

// Walks the file once from front to back. `at_` never passes the end: every step asks `need` first.
class GgufFile::Parser {
 public:
  // In a packed file, tensors of bytes under kPanelsPrefix are panels: named without the prefix, their types and shapes
  // still to be read.
  Parser(GgufFile& file, bool packed) : file_(file), bytes_(file.bytes_), packed_(packed) {}

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
    file_.entries_.reserve(entry_count_);
    file_.entry_index_.reserve(entry_count_);
    for (uint64_t i = 0; i < entry_count_; ++i) {
      GgufEntry entry;
      TM_TRY(entry.key, take_string("a metadata key", kMaxNameBytes));
      TM_TRY(entry.value, take_value(entry.key));
      if (!file_.entry_index_.emplace(entry.key, file_.entries_.size()).second) {
        return corrupt(fmt::format("metadata key '{}' appears twice", printable(entry.key)));
      }
      file_.entries_.push_back(entry);
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
    file_.tensor_index_.reserve(tensor_count_);
    for (uint64_t i = 0; i < tensor_count_; ++i) {
      uint64_t offset = 0;
      TM_TRY(const GgufTensor tensor, take_tensor(offset));
      if (!file_.tensor_index_.emplace(tensor.name, file_.tensors_.size()).second) {
        return corrupt(fmt::format("tensor '{}' appears twice", printable(tensor.name)));
      }
      file_.tensors_.push_back(tensor);
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
  file.map_ = std::make_shared<const base::MappedFile>(std::move(map));
  return file;
}

Result<GgufFile> GgufFile::parse(std::span<const std::byte> bytes, const std::filesystem::path& name) {
  GgufFile file;
  file.path_ = name;
  file.bytes_ = bytes;
  const bool packed = begins_packed(bytes);
  if (packed) TM_CHECK(check_packed_header(bytes, name));
  auto parsed = Parser(file, packed).run();
  if (!parsed) return packed ? with_packing_advice(parsed.error()) : std::move(parsed).error();
  if (packed) {
    TM_TRY(file.packed_, read_packed_keys(file, file.tensors_));
  }
  return file;
}

Error GgufFile::error(ErrorCode code, std::string message) const {
  return Error(code, fmt::format("{}: {}", path_.string(), message));
}

size_t GgufFile::tensor_bytes() const {
  size_t sum = 0;
  for (const GgufTensor& tensor : tensors_)
    sum += tensor.data.size();
  return sum;
}

int64_t GgufFile::parameters() const {
  int64_t sum = 0;
  for (const GgufTensor& tensor : tensors_)
    sum += tensor.elements();
  return sum;
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = entry_index_.find(key);
  return found == entry_index_.end() ? nullptr : &entries_[found->second].value;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Result<const GgufValue*> GgufFile::require(std::string_view key) const {
  if (const GgufValue* value = find(key)) return value;
  return error(ErrorCode::not_found, fmt::format("metadata key '{}' is missing", printable(key)));
}

Result<const GgufValue*> GgufFile::require_array(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type == GgufType::array) return value;
  return error(ErrorCode::corrupt,
               fmt::format("metadata key '{}' is of type {}; expected an array", printable(key), type_text(*value)));
}

Result<int64_t> GgufFile::get_int(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type != GgufType::boolean && value->type != GgufType::array) {
    if (const auto integer = integer_at(value->type, value->payload.data())) return *integer;
  }
  return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {} ({}); expected an integer", printable(key),
                                               value->describe(), type_text(*value)));
}

Result<uint32_t> GgufFile::get_u32(std::string_view key) const {
  TM_TRY(const int64_t value, get_int(key));
  if (value >= 0 && value <= std::numeric_limits<uint32_t>::max()) return static_cast<uint32_t>(value);
  return error(ErrorCode::corrupt,
               fmt::format("metadata key '{}' is {}; expected 0 to 4294967295", printable(key), value));
}

Result<double> GgufFile::get_float(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type != GgufType::array) {
    if (const auto number = number_at(value->type, value->payload.data())) return *number;
  }
  return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {} ({}); expected a number", printable(key),
                                               value->describe(), type_text(*value)));
}

Result<bool> GgufFile::get_bool(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type != GgufType::array) {
    const auto integer = integer_at(value->type, value->payload.data());
    if (integer && (*integer == 0 || *integer == 1)) return *integer == 1;
  }
  return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {} ({}); expected true or false", printable(key),
                                               value->describe(), type_text(*value)));
}

Result<std::string_view> GgufFile::get_string(std::string_view key) const {
  TM_TRY(const GgufValue* value, require(key));
  if (value->type == GgufType::string) return as_text(value->payload);
  return error(ErrorCode::corrupt,
               fmt::format("metadata key '{}' is of type {}; expected a string", printable(key), type_text(*value)));
}

Result<std::vector<std::string_view>> GgufFile::get_strings(std::string_view key) const {
  TM_TRY(const GgufValue* value, require_array(key));
  if (value->element != GgufType::string) {
    return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is an {}; expected an array of strings",
                                                 printable(key), type_text(*value)));
  }
  std::vector<std::string_view> strings;
  strings.reserve(value->count);
  for (const std::byte* at = value->payload.data(); strings.size() < value->count;) {
    const auto length = load<uint64_t>(at);
    strings.emplace_back(reinterpret_cast<const char*>(at + 8), length);
    at += 8 + length;
  }
  return strings;
}

Result<std::vector<float>> GgufFile::get_floats(std::string_view key) const {
  TM_TRY(const GgufValue* value, require_array(key));
  std::vector<float> floats;
  const size_t size = fixed_size(value->element);
  if (size > 0) floats.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto number = size > 0 ? number_at(value->element, value->payload.data() + i * size) : std::nullopt;
    if (!number) {
      return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is an {}; expected an array of numbers",
                                                   printable(key), type_text(*value)));
    }
    floats.push_back(static_cast<float>(*number));
  }
  return floats;
}

Result<std::vector<int32_t>> GgufFile::get_ints(std::string_view key) const {
  TM_TRY(const GgufValue* value, require_array(key));
  std::vector<int32_t> integers;
  const size_t size = fixed_size(value->element);
  if (size > 0) integers.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const auto integer = size > 0 ? integer_at(value->element, value->payload.data() + i * size) : std::nullopt;
    if (!integer || *integer < std::numeric_limits<int32_t>::min() || *integer > std::numeric_limits<int32_t>::max()) {
      return error(ErrorCode::corrupt,
                   fmt::format("metadata key '{}' is an {}; expected an array of integers of at most 32 bits",
                               printable(key), type_text(*value)));
    }
    integers.push_back(static_cast<int32_t>(*integer));
  }
  return integers;
}

Result<std::vector<uint64_t>> GgufFile::get_u64s(std::string_view key) const {
  TM_TRY(const GgufValue* value, require_array(key));
  if (value->element != GgufType::u64) {
    return error(ErrorCode::corrupt, fmt::format("metadata key '{}' is an {}; expected an array of u64", printable(key),
                                                 type_text(*value)));
  }
  std::vector<uint64_t> numbers(value->count);
  if (!numbers.empty()) std::memcpy(numbers.data(), value->payload.data(), value->payload.size());
  return numbers;
}

Result<int64_t> GgufFile::get_int_or(std::string_view key, int64_t fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_int(key);
}

Result<double> GgufFile::get_float_or(std::string_view key, double fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_float(key);
}

Result<bool> GgufFile::get_bool_or(std::string_view key, bool fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_bool(key);
}

Result<std::string_view> GgufFile::get_string_or(std::string_view key, std::string_view fallback) const {
  if (find(key) == nullptr) return fallback;
  return get_string(key);
}

void GgufFile::release(const GgufTensor& tensor) const {
  if (map_) map_->release(static_cast<size_t>(tensor.data.data() - bytes_.data()), tensor.data.size());
}

void GgufFile::release_header() const {
  if (map_) map_->release(0, header_bytes_);
}

}  // namespace tidemill::model
