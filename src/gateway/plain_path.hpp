// Whether a path means the same to everybody on its way.
#pragma once

#include <string_view>

namespace tidemill::gateway {

// What goes to a backend goes on as it came, but scopes and dialects were told by its path as it is here: a server that
// resolves "/v1/x/../admin", merges slashes, cuts ";a=b" off or decodes "%2F" would answer something else than what was
// allowed. Such a target ("/path?query", as sent) is not passed on. nullptr: it is plain; else what is wrong with it.
const char* why_not_plain(std::string_view target);

}  // namespace tidemill::gateway
