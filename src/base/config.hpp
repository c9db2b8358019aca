// Configuration: options registered once, read from a TOML file, the environment and flags.
//
// An option named "server.max_body" is `max_body = ...` under [server] in the file, TIDEMILL_SERVER_MAX_BODY in the
// environment and --server.max-body on the command line. Later sources win: default, file, environment, flags. Every
// value is checked, also one that a later source overrides. Anything unknown is an error that names the nearest known
// thing, because a misspelt option that is silently ignored costs its owner a day. What Kubernetes writes for a Service
// whose name begins with "tidemill" is nobody's option, and passed over (base/service_variables.hpp).
//
// What there may be any number of stands in the file alone, as an array of tables: [[gateway.backend]].
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace tidemill::base {

using ConfigValue = std::variant<int64_t, double, bool, std::string, std::vector<std::string>, Duration, ByteSize>;

// One option. It is bound to a field, whose type is the option's type and whose value at registration is the default.
class ConfigOption {
 public:
  using Field =
      std::variant<int*, int64_t*, double*, bool*, std::string*, std::vector<std::string>*, Duration*, ByteSize*>;

  ConfigOption(std::string key, Field field, std::string help);

  // The least and the greatest value allowed; of the option's own type (for int64_t and int options, integers).
  ConfigOption& between(int low, int high) { return between(int64_t{low}, int64_t{high}); }
  ConfigOption& between(int64_t low, int64_t high);
  ConfigOption& between(double low, double high);
  ConfigOption& between(Duration low, Duration high);
  ConfigOption& between(ByteSize low, ByteSize high);
  // The only words allowed; for strings and lists of strings.
  ConfigOption& words(std::vector<std::string> allowed);
  // Another flag of the same meaning: "--port", "-p".
  ConfigOption& alias(std::string flag);
  // The value is shown neither in dumps nor in errors.
  ConfigOption& secret();
  // Has no default: a row that leaves it out is an error. For options of rows alone.
  ConfigOption& required();
  // A table of the row that stands in the file must have it, for without it the table would count for nothing:
  // [gateway.route.canary] without its target. For options of rows alone.
  ConfigOption& required_in_table();

  const std::string& key() const { return key_; }
  const std::string& help() const { return help_; }
  const std::string& variable() const { return variable_; }
  // "--server.max-body" first, then the aliases.
  const std::vector<std::string>& flags() const { return flags_; }
  const std::vector<std::string>& allowed_words() const { return words_; }
  // A flag that needs no value: alone it means true.
  bool is_switch() const { return std::holds_alternative<bool>(default_); }
  // A flag that may be repeated, and takes several values with commas between them.
  bool is_list() const { return std::holds_alternative<std::vector<std::string>>(default_); }
  bool is_secret() const { return secret_; }
  bool is_required() const { return required_; }
  bool is_required_in_table() const { return required_in_table_; }
  // What the value must be, to follow "must be": "an integer from 1 to 65535".
  std::string requirement() const;
  // The field's value as it is now, as TOML; also a secret's, so not to be shown.
  std::string value_text() const;
  // The default as TOML, or empty if the default is an empty string or list.
  std::string default_text() const;

 private:
  friend class ConfigSchema;

  Result<ConfigValue> parse(std::string_view text) const;
  std::optional<std::string> fault(const ConfigValue& value) const;
  void store(const ConfigValue& value) const;
  ConfigValue load() const;

  std::string key_;
  Field field_;
  std::string help_;
  std::string variable_;
  std::vector<std::string> flags_;
  ConfigValue default_;
  std::optional<std::pair<ConfigValue, ConfigValue>> bounds_;
  std::vector<std::string> words_;
  bool secret_ = false;
  bool required_ = false;
  bool required_in_table_ = false;
};

// A flag as it stood on the command line. Without a value it is a switch.
struct ConfigFlag {
  std::string name;  // "--server.port", "-p"
  std::optional<std::string> value;
};

struct ConfigSources {
  std::optional<std::filesystem::path> file;
  std::vector<std::pair<std::string, std::string>>
      environment;                // names that do not start with TIDEMILL_ are passed over, and kubelet's own
  std::vector<ConfigFlag> flags;  // of a repeated flag the last value counts; those of a list are joined
};

// The options of a program. Register those of all roles, so that one file can serve every command. The fields must
// outlive the schema. Not thread-safe.
class ConfigSchema {
 public:
  // `key` is lower-case words of letters, digits and underscores, joined by dots. Registering two options whose key,
  // variable or flag is the same is a bug in the program, and asserted.
  ConfigOption& add(std::string key, ConfigOption::Field field, std::string help);
  // An array of tables: each `[[key]]` of the file becomes a Row, whose options `describe` registers under their whole
  // keys ("gateway.backend.url"). `rows` holds those of the file that was loaded last, none without one. A row may have
  // rows of its own ([[gateway.route.target]] below [[gateway.route]]): `describe` adds them to a field of the row.
  template <typename Row>
  void add_rows(std::string key, std::vector<Row>* rows, void (*describe)(ConfigSchema&, Row&));
  // Names a variable that starts with TIDEMILL_ and is no option's, such as the one that names the file.
  void ignore_variable(std::string name);

  // For listing in --help and for registering with a command-line parser.
  const std::deque<ConfigOption>& options() const { return options_; }

  // Reads all sources and stores the outcome into the fields, or into none of them on the first error. An error says
  // where (file:line, variable or flag), the key (also as `param`), what was found and what would be right.
  Result<void> load(const ConfigSources& sources);

  // Where the value of `key` came from: "default", "tidemill.toml:12", "TIDEMILL_SERVER_PORT", "--port". Empty if there
  // is no such key.
  std::string source(std::string_view key) const;

  // The configuration in effect as a TOML file that `load` accepts, with the source of every value in a comment.
  std::string dump() const;

 private:
  struct Setting {
    ConfigValue value;
    std::string source;
  };
  class Staging;
  // An array of tables, its rows' type forgotten.
  struct Rows {
    std::string key;
    std::function<void()> clear;                                              // begins a load
    std::function<void(ConfigSchema&)> append;                                // a further row of it, to be filled
    std::function<void()> commit;                                             // ends it
    std::function<void(const std::function<void(ConfigSchema&)>&)> for_each;  // of those that were committed
  };

  const ConfigOption* find_key(std::string_view key) const;
  void dump_rows(std::string& out) const;

  std::deque<ConfigOption> options_;  // a deque keeps the references that `add` gave out
  std::vector<std::string> sources_;  // one for each option
  std::vector<Rows> rows_;
  std::vector<std::string> ignored_variables_;
};

template <typename Row>
void ConfigSchema::add_rows(std::string key, std::vector<Row>* rows, void (*describe)(ConfigSchema&, Row&)) {
  auto staged = std::make_shared<std::deque<Row>>();
  rows_.push_back({.key = std::move(key),
                   .clear = [staged] { staged->clear(); },
                   .append = [staged, describe](ConfigSchema& row) { describe(row, staged->emplace_back()); },
                   .commit =
                       [staged, rows] {
                         rows->assign(std::make_move_iterator(staged->begin()), std::make_move_iterator(staged->end()));
                         staged->clear();
                       },
                   .for_each =
                       [rows, describe](const std::function<void(ConfigSchema&)>& show) {
                         for (Row& each : *rows) {
                           ConfigSchema row;
                           describe(row, each);
                           show(row);
                         }
                       }});
}

// The variables of this process whose names start with TIDEMILL_.
std::vector<std::pair<std::string, std::string>> config_environment();

}  // namespace tidemill::base
