// The configuration of a subcommand that runs a role: its options as flags, in a file and in the environment.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <CLI/App.hpp>

#include "base/config.hpp"
#include "base/result.hpp"

namespace tidemill::cli {

// Register the options of every role in `schema`, those of the subcommand's own first: one file serves all subcommands,
// and a name that several options claim as a flag belongs to the first.
class ConfigFlags {
 public:
  base::ConfigSchema schema;

  // Adds --config, --print-config, and a flag for each option of these sections ("server" for server.port).
  // The option `positional`, if there is one, needs no flag: `tidemill serve PATH`.
  void attach(CLI::App& command, const std::vector<std::string_view>& sections, std::string_view positional = {});

  // Reads file, environment and flags into the fields of the schema's options. May be called again, to reload.
  base::Result<void> load();
  bool print_wanted() const { return print_config_; }

 private:
  struct Given {
    const base::ConfigOption* option;
    CLI::Option* flag;
  };
  void add_flag(CLI::App& command, const base::ConfigOption& option, bool positional);
  std::vector<base::ConfigFlag> collect() const;

  std::vector<Given> given_;
  std::string config_file_;
  bool print_config_ = false;
};

}  // namespace tidemill::cli
