#include "cli/config_flags.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include <fmt/core.h>

namespace tidemill::cli {

namespace {

constexpr const char* default_config_file = "tidemill.toml";

}  // namespace

void ConfigFlags::attach(CLI::App& command, const std::vector<std::string_view>& sections,
                         std::string_view positional) {
  command.add_option("--config", config_file_, "Configuration file (default: tidemill.toml here, if there is one)")
      ->type_name("FILE");
  command.add_flag("--print-config", print_config_, "Print the configuration in effect and leave");
  for (const base::ConfigOption& option : schema.options()) {
    const std::string_view section = std::string_view(option.key()).substr(0, option.key().find('.'));
    if (std::find(sections.begin(), sections.end(), section) != sections.end()) {
      add_flag(command, option, option.key() == positional);
    }
  }
}

void ConfigFlags::add_flag(CLI::App& command, const base::ConfigOption& option, bool positional) {
  std::string names;
  for (const std::string& name : option.flags()) {
    const bool taken = std::any_of(given_.begin(), given_.end(), [&](const Given& other) {
      const auto& others = other.option->flags();
      return std::find(others.begin(), others.end(), name) != others.end();
    });
    if (!taken) names += (names.empty() ? "" : ",") + name;
  }
  // The word after the dot stands for it in the usage line.
  if (positional) names += "," + option.key().substr(option.key().find('.') + 1);
  std::string help = option.help();
  const std::string fallback = option.default_text();
  help += fmt::format(" [{}{}]", option.requirement(), fallback.empty() ? "" : "; default " + fallback);
  CLI::Option* flag =
      command.add_option(names)->description(help)->group(option.key().substr(0, option.key().find('.')));
  flag->type_name("")->allow_extra_args(false);
  if (option.is_switch()) {
    flag->expected(0, 1);
  } else {
    flag->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  given_.push_back({&option, flag});
}

base::Error ConfigFlags::placed(base::Error error) const {
  const std::string key = error.param();
  if (key.find('.') == std::string::npos) return error;
  std::string where = schema.source(key);
  if (where.empty()) where = loaded_file_;
  if (where.empty() || where == "default") return error;
  const bool named = error.to_string().find(key) != std::string::npos;
  return std::move(error).wrap(named ? where : fmt::format("{}: {}", where, key));
}

std::vector<base::ConfigFlag> ConfigFlags::collect() const {
  std::vector<base::ConfigFlag> collected;
  for (const auto& [option, flag] : given_) {
    if (flag->count() == 0) continue;
    const std::string name = option->flags().front();
    if (flag->results().empty()) collected.push_back({name, std::nullopt});
    for (const std::string& value : flag->results()) {
      const bool bare = option->is_switch() && value.empty();
      collected.push_back({name, bare ? std::nullopt : std::optional(value)});
    }
  }
  return collected;
}

base::Result<void> ConfigFlags::load() {
  base::ConfigSources sources;
  const char* named = std::getenv("TIDEMILL_CONFIG");  // NOLINT(concurrency-mt-unsafe): nothing sets variables
  if (!config_file_.empty()) {
    sources.file = config_file_;
  } else if (named != nullptr && *named != '\0') {
    sources.file = named;
  } else if (std::filesystem::exists(default_config_file)) {
    sources.file = default_config_file;
  }
  loaded_file_ = sources.file ? sources.file->string() : "";
  sources.environment = base::config_environment();
  sources.flags = collect();
  return schema.load(sources);
}

}  // namespace tidemill::cli
