#include "rollout/chance.hpp"

#include <span>

#include "base/checksum.hpp"

namespace tidemill::rollout {
namespace {

uint64_t hash(std::string_view text) {
  return base::checksum(std::as_bytes(std::span(text)));
}

}  // namespace

uint64_t unit_of(std::string_view salt, std::string_view key) {
  return mix(hash(key) + mix(hash(salt) + 0x9E3779B97F4A7C15));
}

}  // namespace tidemill::rollout
