#include "engine/prefix_file.hpp"

#include <bit>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "base/file.hpp"

namespace tidemill::engine {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "TMPREFIX";

// The content depends on these beside the identity.
std::string full_identity(std::string_view identity, const tensor::KvShape& shape) {
  const std::string latent = shape.latent > 0 ? fmt::format(", latents of {}", shape.latent) : "";
  return fmt::format("{}; {} layers, {} heads of {} keys and values, type {}{}", identity, shape.layers, shape.kv_heads,
                     shape.head_dim, static_cast<int>(shape.type), latent);
}

class ChecksummedWriter {
 public:
  explicit ChecksummedWriter(base::FileWriter writer) : writer_(std::move(writer)) {}

  Result<void> put(std::span<const std::byte> bytes) {
    checksum_.add(bytes);
    return writer_.write(bytes);
  }
  Result<void> put(std::string_view text) { return put(std::as_bytes(std::span(text))); }
  template <typename T>
  Result<void> put_number(T value) {
    return put(std::as_bytes(std::span(&value, 1)));
  }
  Result<void> finish() {
    const uint64_t sum = checksum_.finish();
    TM_CHECK(writer_.write(std::as_bytes(std::span(&sum, 1))));
    return writer_.finish();
  }

 private:
  base::FileWriter writer_;
  base::PiecewiseChecksum checksum_;
};

// Reads from the front; a read past the end gives nullopt or an empty span, and fails for good.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  std::span<const std::byte> take(uint64_t count) {
    if (count > rest_.size()) {
      failed_ = true;
      return {};
    }
    const auto taken = rest_.first(static_cast<size_t>(count));
    rest_ = rest_.subspan(static_cast<size_t>(count));
    return taken;
  }
  std::string_view text(uint64_t count) {
    const auto bytes = take(count);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  template <typename T>
  T number() {
    T value{};
    const auto bytes = take(sizeof value);
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  bool failed() const { return failed_; }
  size_t left() const { return rest_.size(); }

 private:
  std::span<const std::byte> rest_;
  bool failed_ = false;
};

struct Header {
  uint32_t version = 0;
  uint32_t tenants = 0;
  uint64_t blocks = 0;
  uint64_t block_bytes = 0;
  uint32_t block_tokens = 0;
  std::string_view identity;
};

Header read_header(Reader& reader) {
  Header header;
  header.version = reader.number<uint32_t>();
  header.tenants = reader.number<uint32_t>();
  header.blocks = reader.number<uint64_t>();
  header.block_bytes = reader.number<uint64_t>();
  header.block_tokens = reader.number<uint32_t>();
  header.identity = reader.text(reader.number<uint32_t>());
  return header;
}

// One block of the file.
struct Record {
  int64_t place = 0;
  std::vector<Token> tokens;
  std::span<const std::byte> content;
};

Record read_record(Reader& reader, const Header& header) {
  Record record;
  record.place = reader.number<int64_t>();
  const auto tokens = reader.take(uint64_t{header.block_tokens} * sizeof(Token));
  record.tokens.resize(tokens.size() / sizeof(Token));
  if (!tokens.empty()) std::memcpy(record.tokens.data(), tokens.data(), tokens.size());
  record.content = reader.take(header.block_bytes);
  return record;
}

Error corrupt(const std::filesystem::path& path, std::string_view what) {
  return Error(ErrorCode::corrupt, fmt::format("'{}' is no whole file of prefixes: {}", path.string(), what));
}

// Puts the file's blocks into free ones. They are held until all are in, for none may go while others hang below it.
class Restorer {
 public:
  Restorer(KvBlocks& blocks, tensor::KvCache& cache) : blocks_(blocks), cache_(cache) {}
  ~Restorer() {
    for (size_t i = held_.size(); i > 0; --i)
      blocks_.release(held_[i - 1]);
  }
  Restorer(const Restorer&) = delete;
  Restorer& operator=(const Restorer&) = delete;

  int64_t restored() const { return std::ssize(held_); }

  // False: there is no free block, or none above it was restored.
  bool add(const Record& record, const std::vector<std::string>& tenants) {
    std::optional<Block> above;
    if (record.place >= 0) above = held_of_record_[static_cast<size_t>(record.place)];
    const bool orphan = record.place >= 0 && !above;
    if (orphan || blocks_.free() == 0) {
      held_of_record_.emplace_back();
      return false;
    }
    const std::string tenant = record.place >= 0 ? tenant_of_record_[static_cast<size_t>(record.place)]
                                                 : tenants[static_cast<size_t>(-1 - record.place)];
    const Block fresh = *blocks_.allocate();
    cache_.write_block(fresh, record.content);
    const Block block = blocks_.publish(tenant, above, record.tokens, fresh);
    held_.push_back(block);
    held_of_record_.emplace_back(block);
    tenant_of_record_.resize(held_of_record_.size());
    tenant_of_record_.back() = tenant;
    return true;
  }

 private:
  KvBlocks& blocks_;
  tensor::KvCache& cache_;
  std::vector<Block> held_;  // in the order of restoring: released in the opposite one
  std::vector<std::optional<Block>> held_of_record_;
  std::vector<std::string> tenant_of_record_;
};

}  // namespace

Result<bool> is_foreign_to_prefixes(const std::filesystem::path& path) {
  std::error_code fault;
  const std::filesystem::file_status status = std::filesystem::status(path, fault);
  if (status.type() == std::filesystem::file_type::not_found) return false;
  if (fault) return Error(ErrorCode::io, fmt::format("cannot inspect '{}': {}", path.string(), fault.message()));
  if (!std::filesystem::is_regular_file(status)) return true;
  TM_TRY(const base::MappedFile map, base::MappedFile::open(path));
  return !map.bytes().empty() && Reader(map.bytes()).text(kMagic.size()) != kMagic;
}

Result<void> check_prefix_path(const std::filesystem::path& path) {
  TM_TRY([[maybe_unused]] const base::FileWriter probe, base::FileWriter::create(path));
  return {};
}

Result<int64_t> write_prefix_file(const std::filesystem::path& path, std::string_view identity, const KvBlocks& blocks,
                                  const tensor::KvCache& cache) {
  const std::vector<PrefixTree::Entry> entries = blocks.cached_entries();
  if (entries.empty()) return 0;  // an older file, perhaps another server's, is worth more
  std::map<std::string_view, int64_t> tenants;
  std::vector<std::string_view> names;
  for (const PrefixTree::Entry& entry : entries) {
    if (tenants.emplace(entry.tenant, std::ssize(names)).second) names.push_back(entry.tenant);
  }
  const size_t block_bytes = tensor::kv_block_bytes(cache.shape());
  const std::string whole = full_identity(identity, cache.shape());

  TM_TRY(const bool foreign, is_foreign_to_prefixes(path));
  if (foreign) {
    return Error(
        ErrorCode::invalid_argument,
        fmt::format("'{}' is no file of prefixes and will not be written over; give another path", path.string()));
  }
  TM_TRY(base::FileWriter file, base::FileWriter::create(path));
  ChecksummedWriter writer(std::move(file));
  TM_CHECK(writer.put(kMagic));
  TM_CHECK(writer.put_number(kPrefixFileVersion));
  TM_CHECK(writer.put_number(static_cast<uint32_t>(names.size())));
  TM_CHECK(writer.put_number(uint64_t{entries.size()}));
  TM_CHECK(writer.put_number(uint64_t{block_bytes}));
  TM_CHECK(writer.put_number(static_cast<uint32_t>(blocks.block_tokens())));
  TM_CHECK(writer.put_number(static_cast<uint32_t>(whole.size())));
  TM_CHECK(writer.put(whole));
  for (const std::string_view name : names) {
    TM_CHECK(writer.put_number(static_cast<uint32_t>(name.size())));
    TM_CHECK(writer.put(name));
  }
  std::unordered_map<Block, int64_t> numbers;
  std::vector<std::byte> content(block_bytes);
  for (const PrefixTree::Entry& entry : entries) {
    const int64_t place = entry.parent ? numbers.at(*entry.parent) : -1 - tenants.at(entry.tenant);
    TM_CHECK(writer.put_number(place));
    TM_CHECK(writer.put(std::as_bytes(entry.tokens)));
    cache.read_block(entry.block, content);
    TM_CHECK(writer.put(content));
    numbers.emplace(entry.block, std::ssize(numbers));
  }
  TM_CHECK(writer.finish());
  return std::ssize(entries);
}

Result<int64_t> read_prefix_file(const std::filesystem::path& path, std::string_view identity, KvBlocks& blocks,
                                 tensor::KvCache& cache) {
  TM_TRY(const base::MappedFile map, base::MappedFile::open(path));
  const std::span<const std::byte> all = map.bytes();
  if (all.size() < kMagic.size() + sizeof(uint64_t)) return corrupt(path, "it is too short");
  Reader trailer(all.last(sizeof(uint64_t)));
  const std::span<const std::byte> body = all.first(all.size() - sizeof(uint64_t));
  Reader reader(body);
  if (reader.text(kMagic.size()) != kMagic) return corrupt(path, "it does not begin as one");
  const Header header = read_header(reader);
  if (header.version != kPrefixFileVersion) {
    return Error(ErrorCode::unsupported, fmt::format("'{}' is a file of prefixes of version {}, this program knows {}",
                                                     path.string(), header.version, kPrefixFileVersion));
  }
  base::PiecewiseChecksum checksum;
  checksum.add(body);
  if (checksum.finish() != trailer.number<uint64_t>()) return corrupt(path, "its checksum is wrong");
  const std::string wanted = full_identity(identity, cache.shape());
  if (header.identity != wanted || header.block_bytes != tensor::kv_block_bytes(cache.shape()) ||
      int64_t{header.block_tokens} != blocks.block_tokens()) {
    return Error(ErrorCode::unsupported,
                 fmt::format("'{}' holds the prefixes of ({}), this is ({})", path.string(), header.identity, wanted));
  }
  std::vector<std::string> tenants;
  for (uint32_t i = 0; i < header.tenants && !reader.failed(); ++i)
    tenants.emplace_back(reader.text(reader.number<uint32_t>()));
  const uint64_t record_bytes = sizeof(int64_t) + uint64_t{header.block_tokens} * sizeof(Token) + header.block_bytes;
  if (reader.failed() || reader.left() / record_bytes != header.blocks || reader.left() % record_bytes != 0) {
    return corrupt(path, "its length is not what it says");
  }
  Restorer restorer(blocks, cache);
  for (uint64_t i = 0; i < header.blocks; ++i) {
    const Record record = read_record(reader, header);
    const bool known = record.place >= 0 ? static_cast<uint64_t>(record.place) < i
                                         : static_cast<uint64_t>(-1 - record.place) < tenants.size();
    if (!known) return corrupt(path, fmt::format("block {} hangs below what does not come before it", i));
    if (blocks.free() == 0) break;
    restorer.add(record, tenants);
  }
  return restorer.restored();
}

}  // namespace tidemill::engine
