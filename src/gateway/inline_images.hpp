// Images that stand in a prompt itself, as base64: what they take of a model has nothing to do with their bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tidemill::gateway {

struct InlineImages {
  int64_t count = 0;
  size_t bytes = 0;  // of their data, as they stand there
};

// Those of `prompt`, which is the JSON of messages or of an input: data URLs as `url` or `image_url` (chats,
// Responses), and sources of the type base64 (Anthropic's messages). Found without parsing; what stands within a text,
// whose quotes are escaped, is none.
InlineImages inline_images(std::string_view prompt);

}  // namespace tidemill::gateway
