// Lines of standard input that an interrupt can end the wait for.
#pragma once

#include <optional>
#include <string>

#include "base/result.hpp"
#include "cli/interrupt.hpp"

namespace tidemill::cli {

// Reads the descriptor alone: nobody else may read standard input beside it. Used by one thread.
class LineInput {
 public:
  // The next line without its end, which the last one may lack; nullopt at the end of the input, or when the interrupt
  // is raised.
  base::Result<std::optional<std::string>> next(Interrupt& interrupt);

 private:
  std::string received_;  // and not yet given as a line
  bool ended_ = false;
};

}  // namespace tidemill::cli
