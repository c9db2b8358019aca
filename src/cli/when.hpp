// Times on the command line.
#pragma once

#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace tidemill::cli {

// "2026-01-15", "2026-01-15T12:30:00" or "2026-01-15 12:30:00", in UTC; seconds since the epoch; empty: now.
base::Result<base::WallTime> parse_when(std::string_view text);

}  // namespace tidemill::cli
