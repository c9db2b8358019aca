#include "text/piece_table.hpp"

#include <algorithm>
#include <bit>

namespace tidemill::text {

PieceTable::PieceTable(size_t expected)
    : slots_(std::bit_ceil(std::max<size_t>(16, expected * 2))), mask_(slots_.size() - 1) {}

bool PieceTable::insert(std::string_view text, int32_t id) {
  if ((used_ + 1) * 2 > slots_.size()) grow();
  size_t at = hash(text) & mask_;
  for (; slots_[at].id >= 0; at = (at + 1) & mask_) {
    if (slots_[at].text == text) return false;
  }
  slots_[at] = {text, id};
  ++used_;
  return true;
}

void PieceTable::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  mask_ = slots_.size() - 1;
  used_ = 0;
  for (const Slot& slot : old) {
    if (slot.id >= 0) insert(slot.text, slot.id);
  }
}

}  // namespace tidemill::text
