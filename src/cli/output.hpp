// Standard output, where a full disk or a reader that has gone away must not pass unnoticed.
#pragma once

#include <string_view>

#include "base/result.hpp"

namespace tidemill::cli {

// Writes the text and flushes. False if standard output takes no more: then there is no use in going on.
bool print_now(std::string_view text);

// Flushes. An error of code `io` if anything that was printed is lost, but for one reason: a reader such as `head` that
// has closed its end has had all it wanted.
base::Result<void> finish_output();

}  // namespace tidemill::cli
