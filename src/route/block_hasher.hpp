// What identifies a prompt's beginnings: chained hashes of its blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"

namespace tidemill::route {

// Stands for one block and all blocks before it (XXH3, 64 bits, seeded with the hash of the block before). Two prompts
// share blocks 0 .. i exactly if their hashes i are equal, up to collisions, which mislead a choice and nothing else.
using BlockHash = uint64_t;

inline constexpr size_t kBlockBytes = 256;

// Hashes a text that comes in pieces. Where it is cut does not matter. Copyable: a copy goes on from the same place, so
// that an answer can be added to its prompt. Only whole blocks count; the rest waits for more text.
//
// Not thread-safe.
class BlockHasher {
 public:
  // Prompts under different salts (tenant, model, adapter) share nothing.
  explicit BlockHasher(std::string_view salt, size_t block_bytes = kBlockBytes);

  void add(std::string_view text);

  std::span<const BlockHash> blocks() const { return blocks_; }
  uint64_t bytes() const { return bytes_; }  // all that was added
  size_t block_bytes() const { return block_bytes_; }

 private:
  void close_block(std::string_view block);

  size_t block_bytes_;
  BlockHash last_;
  std::vector<BlockHash> blocks_;
  std::string open_;  // of the block that is not whole yet
  uint64_t bytes_ = 0;
};

// Adds a request's prompt in the order in which chat templates render it, as far as anybody can tell without the
// template: tools, system, then turn by turn, so that a conversation's next turn begins with all of the turn before.
// Reads OpenAI's chat completions, completions and responses and Anthropic's messages; what does not reach the prompt
// (sampling, metadata, cache marks) is left out, and a content of one text reads the same as a string and as a part.
// A body of none of these shapes adds nothing of it. Never fails.
void add_prompt(BlockHasher& hasher, const base::json::object& body);

// One more turn, as add_prompt would have added it: the answer, once it is there.
void add_turn(BlockHasher& hasher, std::string_view role, std::string_view text);

}  // namespace tidemill::route
