// References to URIs from within others, as $id and $ref have them (RFC 3986).
#pragma once

#include <string>
#include <string_view>

namespace tidemill::grammar {

// What `reference` means within `base` (section 5.2.2, strictly): its parts that are missing are those of `base`, and
// its path goes on from the folder of that. Neither has a fragment. `base` may be relative itself, or empty; what comes
// of that compares with what else comes of it. Texts that are no URI references give some text.
std::string resolved_uri(std::string_view base, std::string_view reference);

}  // namespace tidemill::grammar
