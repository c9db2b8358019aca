#include "model/split_gguf.hpp"

#include <charconv>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

constexpr size_t kShardDigits = 5;  // of a file's name
constexpr int64_t kMostShards = 99999;

std::string shard_file_name(const ShardName& shard, int64_t number) {
  return fmt::format("{}-{:05}-of-{:05}.gguf", shard.name, number, shard.count);
}

std::optional<int64_t> shard_number(std::string_view digits) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number < 1) return std::nullopt;
  return number;
}

// What a file says of the split: its own number from 0, and how many there are.
struct Place {
  int64_t number = 0;
  int64_t count = 0;
};

Result<Place> read_place(const GgufFile& file) {
  Place place;
  TM_TRY(place.count, file.get_int("split.count"));
  TM_TRY(place.number, file.get_int("split.no"));
  if (place.count >= 2 && place.count <= kMostShards && place.number >= 0 && place.number < place.count) return place;
  return file.error(ErrorCode::corrupt,
                    fmt::format("the file says that it is number {} (split.no, from 0) of {} (split.count)",
                                place.number, place.count));
}

Result<void> check_shard(const GgufFile& file, Place expected) {
  if (file.packed() != nullptr) {
    return file.error(ErrorCode::unsupported, "a packed file that is split; pack the whole model into one file");
  }
  TM_TRY(const Place found, read_place(file));
  if (found.number == expected.number && found.count == expected.count) return {};
  return file.error(ErrorCode::corrupt,
                    fmt::format("by its name this is file {} of {}, but it says that it is {} of {} (split.no, from 0, "
                                "and split.count); is it of another model?",
                                expected.number + 1, expected.count, found.number + 1, found.count));
}

Result<GgufFile> open_shard(const std::filesystem::path& named, const std::filesystem::path& path, Place place) {
  auto file = GgufFile::open(path);
  if (!file && file.error().code() == ErrorCode::not_found) {
    return base::Error(ErrorCode::not_found,
                       fmt::format("{}: the model is split over {} files, of which '{}' is missing", named.string(),
                                   place.count, path.string()));
  }
  if (!file) return std::move(file).error();
  TM_CHECK(check_shard(*file, place));
  return file;
}

}  // namespace

std::optional<ShardName> parse_shard_name(std::string_view file_name) {
  constexpr std::string_view ending = ".gguf";
  constexpr std::string_view between = "-of-";
  constexpr size_t tail = 1 + kShardDigits + between.size() + kShardDigits + ending.size();
  if (file_name.size() <= tail || !file_name.ends_with(ending)) return std::nullopt;
  const std::string_view name = file_name.substr(0, file_name.size() - tail);
  const std::string_view rest = file_name.substr(name.size());
  if (rest.front() != '-' || rest.substr(1 + kShardDigits, between.size()) != between) return std::nullopt;
  const auto number = shard_number(rest.substr(1, kShardDigits));
  const auto count = shard_number(rest.substr(1 + kShardDigits + between.size(), kShardDigits));
  if (!number || !count || *number > *count) return std::nullopt;
  return ShardName{.name = std::string(name), .number = *number, .count = *count};
}

bool is_split(const GgufFile& file) {
  // A count that cannot be is for join_split() to refuse: the file is a part of something, or damaged.
  const auto count = file.get_int_or("split.count", 1);
  return !count || *count != 1;
}

Result<Checkpoint> join_split(const GgufFile& named) {
  const std::filesystem::path& path = named.path();
  TM_TRY(const Place own, read_place(named));
  const std::optional<ShardName> name = parse_shard_name(path.filename().string());
  if (!name || name->count != own.count || name->number != own.number + 1) {
    return named.error(
        ErrorCode::corrupt,
        fmt::format("the model is split over {} files, and its other files cannot be found by this name; "
                    "name it '...-{:05}-of-{:05}.gguf', and the others likewise, in the same folder",
                    own.count, own.number + 1, own.count));
  }
  std::vector<GgufFile> shards;
  for (int64_t i = 0; i < own.count; ++i) {
    TM_TRY(GgufFile shard,
           open_shard(path, path.parent_path() / shard_file_name(*name, i + 1), {.number = i, .count = own.count}));
    shards.push_back(std::move(shard));
  }

  const GgufFile& first = shards.front();
  Metadata metadata(first.path());
  for (const GgufEntry& entry : first.metadata()) {
    if (!entry.key.starts_with("split.")) metadata.add(entry);
  }
  std::vector<GgufTensor> tensors;
  std::vector<CheckpointFile> files;
  auto origins = std::make_shared<std::vector<std::string>>();
  origins->reserve(shards.size());  // tensors look into it
  for (const GgufFile& shard : shards) {
    origins->push_back(fmt::format("in '{}'", printable(shard.path().filename().string())));
    for (GgufTensor tensor : shard.tensors()) {
      tensor.origin = origins->back();
      tensors.push_back(std::move(tensor));
    }
    files.insert(files.end(), shard.files().begin(), shard.files().end());
  }
  TM_TRY(const int64_t announced, first.get_int_or("split.tensors.count", static_cast<int64_t>(tensors.size())));
  if (announced != static_cast<int64_t>(tensors.size())) {
    return first.error(ErrorCode::corrupt,
                       fmt::format("the {} files that the model is split over have {} tensors in all, but "
                                   "split.tensors.count is {}",
                                   own.count, tensors.size(), announced));
  }
  return Checkpoint::assemble(std::move(metadata), std::move(tensors), std::move(files), std::move(origins),
                              first.version());
}

}  // namespace tidemill::model
