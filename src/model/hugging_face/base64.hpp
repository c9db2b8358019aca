// Bytes as text (RFC 4648), as tokenizers' files have them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tidemill::model {

// With or without padding; none where the text is no base64.
std::optional<std::string> base64_bytes(std::string_view text);

}  // namespace tidemill::model
