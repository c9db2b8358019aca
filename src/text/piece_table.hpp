// Finds a piece's number by its text: an open-addressing hash table that keeps views, not copies.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace tidemill::text {

// Reading is thread-safe. The texts inserted must stay where they are for as long as the table is used.
class PieceTable {
 public:
  explicit PieceTable(size_t expected);

  // False, and nothing changes, if the text is there already.
  bool insert(std::string_view text, int32_t id);

  // The number given to `text`, or -1.
  int32_t find(std::string_view text) const {
    for (size_t at = hash(text) & mask_;; at = (at + 1) & mask_) {
      const Slot& slot = slots_[at];
      if (slot.id < 0 || slot.text == text) return slot.id;
    }
  }

 private:
  struct Slot {
    std::string_view text;
    int32_t id = -1;
  };

  static size_t hash(std::string_view text) { return std::hash<std::string_view>{}(text); }
  void grow();

  std::vector<Slot> slots_;  // a power of two, at most half full
  size_t mask_;
  size_t used_ = 0;
};

}  // namespace tidemill::text
