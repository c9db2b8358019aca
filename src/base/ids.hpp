// Random identifiers (not secrets: SplitMix64 seeded from the operating system, one stream a thread).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tidemill::base {

// A uniformly random 64-bit number.
uint64_t random_u64();

// `bytes` random bytes in lower-case hexadecimal: 16 for a trace id, 8 for a span id.
std::string random_hex(int bytes);

// "chatcmpl-" + 24 alphanumeric characters, in the manner of OpenAI's ids.
std::string random_id(std::string_view prefix);

}  // namespace tidemill::base
