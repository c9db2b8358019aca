// A GGUF model that is split over several files, as llama-gguf-split writes them: NAME-00001-of-00003.gguf and so on.
// Each file says which it is (split.no, from 0), how many there are (split.count) and how many tensors they have in all
// (split.tensors.count); the first has the model's metadata.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "model/gguf.hpp"

namespace tidemill::model {

struct ShardName {
  std::string name;    // of the model
  int64_t number = 0;  // from 1
  int64_t count = 0;
};

// The parts of "NAME-00001-of-00003.gguf"; none for other names.
std::optional<ShardName> parse_shard_name(std::string_view file_name);

// Whether the file says that it is one of several, or of a number that cannot be.
bool is_split(const GgufFile& file);

// The whole model: the first file's metadata without the keys "split.*", and the tensors of all, which
// tell in errors in which they lie. `named` is any one of
// the files; all are opened beside it. Errors, each naming the file: `not_found` for one that is missing, `corrupt`
// where names, numbers or counts contradict each other, `unsupported` for packed files (packing joins, so no writer
// makes them), and those of GgufFile::open.
base::Result<Checkpoint> join_split(const GgufFile& named);

}  // namespace tidemill::model
