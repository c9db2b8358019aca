#include <csignal>
#include <exception>

#include <fmt/core.h>

#include "base/map_faults.hpp"
#include "cli/command.hpp"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that goes away is an error of that write, not the program's end
  std::signal(SIGXFSZ, SIG_IGN);  // nor is a file that may not grow any further (ulimit -f)
  tidemill::base::explain_map_faults();
  try {
    return tidemill::cli::run(argc, argv);
  } catch (const std::exception& fault) {
    fmt::print(stderr, "tidemill: internal error: {}\n", fault.what());
    return tidemill::cli::exit_failure;
  }
}
