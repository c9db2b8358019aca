// The configuration of a subcommand that runs a role: its options as flags, in a file and in the environment.
#pragma once

#include <string>
#include <string_view>
#include <utility>
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
  // The file that was read last; empty: none was.
  const std::string& loaded_file() const { return loaded_file_; }
  // An error of a setting (base::Error::param) that was found only when it was used, with where that stands: file and
  // line, variable or flag, or the file of a row's key; and with its key, if it does not say that itself. As it is
  // where the setting has its default, or there is none.
  base::Error placed(base::Error error) const;
  template <typename T>
  base::Result<T> placed(base::Result<T> result) const {
    if (result) return result;
    return placed(std::move(result).error());
  }

 private:
  struct Given {
    const base::ConfigOption* option;
    CLI::Option* flag;
  };
  void add_flag(CLI::App& command, const base::ConfigOption& option, bool positional);
  std::vector<base::ConfigFlag> collect() const;

  std::vector<Given> given_;
  std::string config_file_;
  std::string loaded_file_;
  bool print_config_ = false;
};

}  // namespace tidemill::cli
