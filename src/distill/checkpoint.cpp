#include "distill/checkpoint.hpp"

#include <cassert>
#include <cstring>
#include <exception>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "base/file.hpp"
#include "base/json.hpp"

namespace tidemill::distill {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace json = base::json;

namespace {

constexpr std::string_view kMagic = "tidemill checkpoint 1\n";
constexpr size_t kMostBytes = size_t{64} << 30;

// The file: the magic, the header's length, the header as JSON, the arrays' floats end to end, and the checksum of all
// that. Numbers are of eight bytes in this machine's order.
std::string header_of(const TrainingState& state) {
  json::array arrays;
  for (const NamedArray& array : state.arrays)
    arrays.push_back(json::object{{"name", array.name}, {"shape", json::value_from(array.shape)}});
  return json::serialize(json::object{{"fingerprint", state.fingerprint},
                                      {"step", state.step},
                                      {"seconds", state.seconds},
                                      {"arrays", std::move(arrays)}});
}

void append(std::string& out, uint64_t number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

uint64_t number_at(std::string_view bytes) {
  uint64_t number = 0;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

size_t elements_of(const NamedArray& array) {
  size_t elements = 1;
  for (const int64_t extent : array.shape)
    elements *= static_cast<size_t>(extent);
  return elements;
}

// Of a header that our own checksum has vouched for; what is not as it should be throws.
TrainingState parse_header(const json::value& header) {
  TrainingState state;
  state.fingerprint = header.at("fingerprint").to_number<uint64_t>();
  state.step = header.at("step").to_number<int64_t>();
  state.seconds = header.at("seconds").to_number<double>();
  for (const json::value& array : header.at("arrays").as_array()) {
    state.arrays.push_back(
        {std::string(array.at("name").as_string()), json::value_to<std::vector<int64_t>>(array.at("shape")), {}});
  }
  return state;
}

Error corrupt(const std::filesystem::path& path) {
  return {ErrorCode::corrupt,
          fmt::format("'{}' is damaged: its checksum is wrong. Remove it to begin anew", path.string())};
}

Error in_the_way(const std::filesystem::path& path) {
  return {ErrorCode::invalid_argument,
          fmt::format("'{}' is in the way, and no checkpoint; move it, or write to another name", path.string())};
}

}  // namespace

Result<void> check_place(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return {};
  std::string begin(kMagic.size(), '\0');
  std::ifstream(path, std::ios::binary).read(begin.data(), static_cast<std::streamsize>(begin.size()));
  if (begin != kMagic) return in_the_way(path);
  return {};
}

Result<void> save_state(const TrainingState& state, const std::filesystem::path& path) {
  const std::string header = header_of(state);
  std::string bytes(kMagic);
  append(bytes, header.size());
  bytes += header;
  for (const NamedArray& array : state.arrays) {
    assert(array.values.size() == elements_of(array));
    bytes.append(reinterpret_cast<const char*>(array.values.data()), array.values.size() * sizeof(float));
  }
  append(bytes, base::checksum(std::as_bytes(std::span(bytes))));
  TM_TRY(base::FileWriter file, base::FileWriter::create(path));
  TM_CHECK(file.write(std::as_bytes(std::span(bytes))));
  return file.finish();
}

Result<TrainingState> load_state(const std::filesystem::path& path, uint64_t fingerprint) {
  TM_TRY(const std::string content, base::read_file(path, kMostBytes));
  std::string_view bytes = content;
  if (!bytes.starts_with(kMagic)) {
    return Error(
        ErrorCode::invalid_argument,
        fmt::format("'{}' is in the way, and no checkpoint; move it, or write to another name", path.string()));
  }
  if (bytes.size() < kMagic.size() + 2 * sizeof(uint64_t)) return corrupt(path);
  const uint64_t sum = number_at(bytes.substr(bytes.size() - sizeof(uint64_t)));
  bytes.remove_suffix(sizeof(uint64_t));
  if (base::checksum(std::as_bytes(std::span(bytes))) != sum) return corrupt(path);
  bytes.remove_prefix(kMagic.size());
  const uint64_t header_bytes = number_at(bytes);
  bytes.remove_prefix(sizeof(uint64_t));
  if (header_bytes > bytes.size()) return corrupt(path);
  TM_TRY(const json::value header, base::parse_json(bytes.substr(0, header_bytes)));
  bytes.remove_prefix(header_bytes);
  TrainingState state;
  try {
    state = parse_header(header);
  } catch (const std::exception&) {
    return corrupt(path);
  }
  for (NamedArray& array : state.arrays) {
    array.values.resize(elements_of(array));
    const size_t size = array.values.size() * sizeof(float);
    if (size > bytes.size()) return corrupt(path);
    std::memcpy(array.values.data(), bytes.data(), size);
    bytes.remove_prefix(size);
  }
  if (state.fingerprint == fingerprint) return state;
  return Error(
      ErrorCode::invalid_argument,
      fmt::format("'{}' is the checkpoint of another training, after {} steps: of another text, teacher, shape "
                  "or other options. Finish that with the command that began it, remove it, or throw it away "
                  "with --restart",
                  path.string(), state.step));
}

}  // namespace tidemill::distill
