// Bytes as text (RFC 4648), as tokenizers' files have them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tidemill::model {

// With all of its padding or with none. None where the text is no base64: for other characters, for lengths that no
// bytes have, and for bits behind the last byte that are not 0.
std::optional<std::string> base64_bytes(std::string_view text);

}  // namespace tidemill::model
