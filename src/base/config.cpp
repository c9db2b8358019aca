#include "base/config.hpp"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <type_traits>
#include <unistd.h>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include "base/file.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/nearest.hpp"
#include "base/service_variables.hpp"
#include "base/utf8.hpp"

namespace tidemill::base {
namespace {

constexpr std::string_view variable_prefix = "TIDEMILL_";
constexpr size_t file_limit = size_t{1} << 20;

template <typename... Cases>
struct Match : Cases... {
  using Cases::operator()...;
};
template <typename... Cases>
Match(Cases...) -> Match<Cases...>;

template <typename T>
std::optional<T> parse_number(std::string_view text) {
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    std::string_view item = text.substr(0, comma);
    while (!item.empty() && item.front() == ' ')
      item.remove_prefix(1);
    while (!item.empty() && item.back() == ' ')
      item.remove_suffix(1);
    if (!item.empty()) items.emplace_back(item);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return items;
}

// A TOML basic string. JSON's escapes are TOML's too, but for DEL, which TOML wants escaped and JSON does not.
std::string quote(const std::string& text) {
  std::string quoted = json::serialize(json::string(text));
  for (size_t at = quoted.find('\x7f'); at != std::string::npos; at = quoted.find('\x7f', at)) {
    quoted.replace(at, 1, "\\u007f");
  }
  return quoted;
}

std::string to_toml(const ConfigValue& value) {
  return std::visit(Match{[](int64_t number) { return fmt::format("{}", number); },
                          [](double number) {
                            std::string text = fmt::format("{}", number);
                            // TOML tells 1.0 from 1; "1e+30" is a float as it stands.
                            if (text.find_first_of(".e") == std::string::npos) text += ".0";
                            return text;
                          },
                          [](bool on) { return std::string(on ? "true" : "false"); },
                          [](const std::string& text) { return quote(text); },
                          [](const std::vector<std::string>& items) {
                            std::vector<std::string> quoted;
                            quoted.reserve(items.size());
                            for (const std::string& item : items)
                              quoted.push_back(quote(item));
                            return fmt::format("[{}]", fmt::join(quoted, ", "));
                          },
                          [](Duration duration) { return quote(format_duration(duration)); },
                          [](ByteSize size) { return quote(format_bytes(size)); }},
                    value);
}

// As a bound is shown: durations and sizes without the quotes that TOML wants.
std::string plain(const ConfigValue& value) {
  if (const auto* duration = std::get_if<Duration>(&value)) return format_duration(*duration);
  if (const auto* size = std::get_if<ByteSize>(&value)) return format_bytes(*size);
  return to_toml(value);
}

bool within(const ConfigValue& low, const ConfigValue& value, const ConfigValue& high) {
  return low <= value && value <= high;
}

std::string as_variable(std::string_view key) {
  std::string name(variable_prefix);
  for (const char c : key)
    name += c == '.' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return name;
}

std::string as_flag(std::string_view key) {
  std::string name = "--" + std::string(key);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

// What a file holds where a value of another type was wanted.
std::string describe(const toml::node& node) {
  const auto text = [&node] { return node.value_or(std::string()); };
  switch (node.type()) {
    case toml::node_type::string:
      return fmt::format("the string {}", quote(std::string(utf8::prefix(text(), 64))));
    case toml::node_type::integer:
      return fmt::format("the integer {}", node.value_or(int64_t{0}));
    case toml::node_type::floating_point:
      return fmt::format("the number {}", node.value_or(0.0));
    case toml::node_type::boolean:
      return node.value_or(false) ? "true" : "false";
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    default:
      return "a date or time";
  }
}

Error wrong(const std::string& source, const ConfigOption& option, const std::string& found) {
  const bool hidden = option.is_secret() && found != quote("");
  const std::string shown = hidden ? "a value that is not shown" : found;
  return Error(ErrorCode::invalid_argument,
               fmt::format("{}: {} is {}, but must be {}", source, option.key(), shown, option.requirement()))
      .with_param(option.key());
}

Error unknown(const std::string& source, std::string_view kind, const std::string& name, const std::string& closest) {
  const std::string hint = closest.empty() ? "none is known" : fmt::format("the nearest known one is '{}'", closest);
  return Error(ErrorCode::invalid_argument,
               fmt::format("{}: unknown {} '{}'; {}", source, kind, utf8::prefix(name, 128), hint))
      .with_param(name);
}

}  // namespace

ConfigOption::ConfigOption(std::string key, Field field, std::string help)
    : key_(std::move(key)),
      field_(field),
      help_(std::move(help)),
      variable_(as_variable(key_)),
      flags_{as_flag(key_)},
      default_(load()) {
  assert(!key_.empty() && key_.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") == std::string::npos);
}

ConfigOption& ConfigOption::between(int64_t low, int64_t high) {
  if (std::holds_alternative<double>(default_)) return between(static_cast<double>(low), static_cast<double>(high));
  assert(std::holds_alternative<int64_t>(default_));
  bounds_.emplace(low, high);
  return *this;
}

ConfigOption& ConfigOption::between(double low, double high) {
  assert(std::holds_alternative<double>(default_));
  bounds_.emplace(low, high);
  return *this;
}

ConfigOption& ConfigOption::between(Duration low, Duration high) {
  assert(std::holds_alternative<Duration>(default_));
  bounds_.emplace(low, high);
  return *this;
}

ConfigOption& ConfigOption::between(ByteSize low, ByteSize high) {
  assert(std::holds_alternative<ByteSize>(default_));
  bounds_.emplace(low, high);
  return *this;
}

ConfigOption& ConfigOption::words(std::vector<std::string> allowed) {
  assert(std::holds_alternative<std::string>(default_) || is_list());
  words_ = std::move(allowed);
  return *this;
}

ConfigOption& ConfigOption::alias(std::string flag) {
  flags_.push_back(std::move(flag));
  return *this;
}

ConfigOption& ConfigOption::secret() {
  secret_ = true;
  return *this;
}

ConfigOption& ConfigOption::required() {
  required_ = true;
  return *this;
}

ConfigOption& ConfigOption::required_in_table() {
  required_in_table_ = true;
  return *this;
}

std::string ConfigOption::requirement() const {
  if (!words_.empty()) {
    const std::string choice = fmt::format("{}", fmt::join(words_, ", "));
    return is_list() ? "a list of: " + choice : "one of: " + choice;
  }
  constexpr std::array<std::string_view, std::variant_size_v<ConfigValue>> kinds = {
      "an integer",
      "a number",
      "true or false",
      "a string",
      "a list of strings that are not empty",
      "a duration with its unit, as in \"250ms\", \"30s\" or \"5m\"",
      "a size in bytes, as in \"512MB\" or \"4GiB\""};
  std::string text(kinds[default_.index()]);
  if (bounds_) text += fmt::format(" from {} to {}", plain(bounds_->first), plain(bounds_->second));
  return text;
}

std::string ConfigOption::value_text() const {
  return to_toml(load());
}

std::string ConfigOption::default_text() const {
  if (const auto* text = std::get_if<std::string>(&default_); text != nullptr && text->empty()) return {};
  if (const auto* list = std::get_if<std::vector<std::string>>(&default_); list != nullptr && list->empty()) return {};
  return to_toml(default_);  // what is built in is no secret
}

// Reads a value of the option's type from an environment variable, a flag or a string in the file.
Result<ConfigValue> ConfigOption::parse(std::string_view text) const {
  const Error bad(ErrorCode::invalid_argument, "malformed");  // the caller says what and where
  const auto or_bad = [&bad](const auto& parsed) -> Result<ConfigValue> {
    if (!parsed) return bad;
    return ConfigValue(*parsed);
  };
  return std::visit(Match{[&](int64_t) { return or_bad(parse_number<int64_t>(text)); },
                          [&](double) { return or_bad(parse_number<double>(text)); },
                          [&](bool) -> Result<ConfigValue> {
                            if (text == "true" || text == "1" || text == "on" || text == "yes")
                              return ConfigValue(true);
                            if (text == "false" || text == "0" || text == "off" || text == "no")
                              return ConfigValue(false);
                            return bad;
                          },
                          [&](const std::string&) -> Result<ConfigValue> { return ConfigValue(std::string(text)); },
                          [&](const std::vector<std::string>&) -> Result<ConfigValue> {
                            std::vector<std::string> items = split_list(text);
                            if (items.empty() && secret_)
                              return bad;  // a variable that was to hold a secret, and does not
                            return ConfigValue(std::move(items));
                          },
                          [&](Duration) { return or_bad(parse_duration(text)); },
                          [&](ByteSize) { return or_bad(parse_bytes(text)); }},
                    default_);
}

// What is wrong with a value of the right type, as it should be shown; nothing if it is fine.
std::optional<std::string> ConfigOption::fault(const ConfigValue& value) const {
  if (const auto* number = std::get_if<double>(&value); number != nullptr && !std::isfinite(*number)) {
    return to_toml(value);
  }
  if (std::holds_alternative<int*>(field_)) {
    const auto number = std::get<int64_t>(value);
    if (number < std::numeric_limits<int>::min() || number > std::numeric_limits<int>::max()) return to_toml(value);
  }
  if (bounds_ && !within(bounds_->first, value, bounds_->second)) return to_toml(value);
  const auto allowed = [this](const std::string& word) {
    return words_.empty() || std::find(words_.begin(), words_.end(), word) != words_.end();
  };
  if (const auto* text = std::get_if<std::string>(&value); text != nullptr && !allowed(*text)) return quote(*text);
  if (const auto* list = std::get_if<std::vector<std::string>>(&value)) {
    if (!std::all_of(list->begin(), list->end(), allowed)) return to_toml(value);
    if (std::find(list->begin(), list->end(), "") != list->end()) return to_toml(value);
  }
  return std::nullopt;
}

void ConfigOption::store(const ConfigValue& value) const {
  std::visit(Match{[&](int* field) { *field = static_cast<int>(std::get<int64_t>(value)); },
                   [&](auto* field) { *field = std::get<std::remove_pointer_t<decltype(field)>>(value); }},
             field_);
}

ConfigValue ConfigOption::load() const {
  return std::visit(Match{[](const int* field) { return ConfigValue(int64_t{*field}); },
                          [](const auto* field) { return ConfigValue(*field); }},
                    field_);
}

// The values of one load, before they go into the fields.
class ConfigSchema::Staging {
 public:
  explicit Staging(const ConfigSchema& schema) : schema_(schema) {
    for (const ConfigOption& option : schema.options_)
      settings_.push_back({option.default_, "default"});
  }

  Result<void> read_toml(const std::filesystem::path& path);
  Result<void> read_environment(const std::vector<std::pair<std::string, std::string>>& environment);
  Result<void> read_flags(const std::vector<ConfigFlag>& flags);

  std::vector<Setting>& settings() { return settings_; }

 private:
  Result<void> set(const ConfigOption& option, ConfigValue value, const std::string& source) {
    if (const auto fault = option.fault(value)) return wrong(source, option, *fault);
    settings_[index(option)] = {std::move(value), source};
    return {};
  }
  Result<void> set_text(const ConfigOption& option, std::string_view text, const std::string& source) {
    auto value = option.parse(text);
    if (!value) return wrong(source, option, quote(std::string(utf8::prefix(text, 64))));
    return set(option, std::move(value).value(), source);
  }
  Result<void> read_table(const toml::table& table, const std::string& prefix, const std::string& file);
  Result<void> read_rows(const Rows& rows, const toml::node& node, const std::string& file);
  Result<void> read_node(const ConfigOption& option, const toml::node& node, const std::string& source);

  size_t index(const ConfigOption& option) const {
    const auto& options = schema_.options_;
    return static_cast<size_t>(
        std::find_if(options.begin(), options.end(), [&](const auto& other) { return &other == &option; }) -
        options.begin());
  }

  const ConfigSchema& schema_;
  std::vector<Setting> settings_;
  std::map<std::string, std::string> tables_;  // of this file, by key: where they stand
};

Result<void> ConfigSchema::Staging::read_toml(const std::filesystem::path& path) {
  TM_TRY(const std::string text, read_file(path, file_limit));
  const std::string file = path.string();
  try {
    const toml::table root = toml::parse(text, file);
    return read_table(root, "", file);
  } catch (const toml::parse_error& error) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("{}:{}:{}: not valid TOML: {}", file, error.source().begin.line,
                             error.source().begin.column, error.description()));
  }
}

Result<void> ConfigSchema::Staging::read_table(const toml::table& table, const std::string& prefix,
                                               const std::string& file) {
  for (const auto& [name, node] : table) {
    const std::string key = prefix + std::string(name.str());
    const std::string source = fmt::format("{}:{}", file, name.source().begin.line);
    if (const ConfigOption* option = schema_.find_key(key)) {
      TM_CHECK(read_node(*option, node, source));
      continue;
    }
    const auto rows =
        std::find_if(schema_.rows_.begin(), schema_.rows_.end(), [&](const Rows& r) { return r.key == key; });
    if (rows != schema_.rows_.end()) {
      TM_CHECK(read_rows(*rows, node, file));
      continue;
    }
    if (node.is_table()) tables_.emplace(key, source);
    // The keys inside an unknown section say better than its name what was meant.
    if (const toml::table* inner = node.as_table(); inner != nullptr && !inner->empty()) {
      TM_CHECK(read_table(*inner, key + ".", file));
      continue;
    }
    std::vector<std::string> known;
    bool is_section = false;
    for (const ConfigOption& option : schema_.options_) {
      known.push_back(option.key());
      is_section = is_section || option.key().starts_with(key + ".");
    }
    for (const Rows& other : schema_.rows_) {
      known.push_back(other.key);
      is_section = is_section || other.key.starts_with(key + ".");
    }
    if (!(is_section && node.is_table())) return unknown(source, "key", key, nearest(key, known));
  }
  return {};
}

Result<void> ConfigSchema::Staging::read_rows(const Rows& rows, const toml::node& node, const std::string& file) {
  const toml::array* array = node.as_array();
  if (array == nullptr || !(array->empty() || array->is_homogeneous<toml::table>())) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("{}:{}: {} is {}, but must be tables, each under [[{}]]", file, node.source().begin.line,
                             rows.key, describe(node), rows.key))
        .with_param(rows.key);
  }
  for (const toml::node& element : *array) {
    ConfigSchema row;
    rows.append(row);
    Staging staging(row);
    TM_CHECK(staging.read_table(*element.as_table(), rows.key + ".", file));
    for (const ConfigOption& option : row.options_) {
      const Setting& setting = staging.settings_[staging.index(option)];
      if (option.required_ && setting.source == "default") {
        return wrong(fmt::format("{}:{}", file, element.source().begin.line), option, "missing");
      }
      const auto table = staging.tables_.find(option.key().substr(0, option.key().rfind('.')));
      if (option.required_in_table_ && setting.source == "default" && table != staging.tables_.end()) {
        return wrong(table->second, option, "missing, without which its table counts for nothing");
      }
      option.store(setting.value);
    }
    for (const Rows& inner : row.rows_)
      inner.commit();
  }
  return {};
}

Result<void> ConfigSchema::Staging::read_node(const ConfigOption& option, const toml::node& node,
                                              const std::string& source) {
  const auto reject = [&] { return wrong(source, option, describe(node)); };
  const ConfigValue& kind = option.default_;
  if (option.is_list()) {
    const toml::array* array = node.as_array();
    if (array == nullptr) return reject();
    std::vector<std::string> items;
    for (const toml::node& element : *array) {
      const auto* text = element.as_string();
      if (text == nullptr) return wrong(source, option, "an array with " + describe(element));
      items.push_back(text->get());
    }
    return set(option, std::move(items), source);
  }
  if (const auto* text = node.as_string()) {
    const bool wanted = std::holds_alternative<std::string>(kind) || std::holds_alternative<Duration>(kind) ||
                        std::holds_alternative<ByteSize>(kind);
    return wanted ? set_text(option, text->get(), source) : Result<void>(reject());
  }
  if (const auto* on = node.as_boolean()) {
    return option.is_switch() ? set(option, on->get(), source) : Result<void>(reject());
  }
  if (const auto* number = node.as_integer()) {
    const int64_t value = number->get();
    if (std::holds_alternative<int64_t>(kind)) return set(option, value, source);
    if (std::holds_alternative<double>(kind)) return set(option, static_cast<double>(value), source);
    if (std::holds_alternative<ByteSize>(kind) && value >= 0) {
      return set(option, ByteSize{static_cast<uint64_t>(value)}, source);
    }
    return reject();
  }
  if (const auto* number = node.as_floating_point(); number != nullptr && std::holds_alternative<double>(kind)) {
    return set(option, number->get(), source);
  }
  return reject();
}

Result<void> ConfigSchema::Staging::read_environment(
    const std::vector<std::pair<std::string, std::string>>& environment) {
  std::vector<std::string> known = schema_.ignored_variables_;
  for (const ConfigOption& option : schema_.options_)
    known.push_back(option.variable());
  const auto& ignored = schema_.ignored_variables_;
  for (const auto& [name, text] : environment) {
    if (!name.starts_with(variable_prefix) || std::find(ignored.begin(), ignored.end(), name) != ignored.end())
      continue;
    const auto option = std::find_if(schema_.options_.begin(), schema_.options_.end(),
                                     [&name = name](const auto& each) { return each.variable() == name; });
    if (is_service_variable(name, text, environment)) {
      if (option != schema_.options_.end())
        log::warn("{} is '{}', which Kubernetes writes for a Service of that name: it is passed over", name, text);
      continue;
    }
    if (option == schema_.options_.end()) return unknown("environment", "variable", name, nearest(name, known));
    TM_CHECK(set_text(*option, text, name));
  }
  return {};
}

Result<void> ConfigSchema::Staging::read_flags(const std::vector<ConfigFlag>& flags) {
  std::vector<bool> listed(schema_.options_.size(), false);
  std::vector<std::string> known;
  for (const ConfigOption& option : schema_.options_) {
    known.insert(known.end(), option.flags().begin(), option.flags().end());
  }
  for (const ConfigFlag& flag : flags) {
    const auto option = std::find_if(schema_.options_.begin(), schema_.options_.end(), [&flag](const auto& each) {
      return std::find(each.flags().begin(), each.flags().end(), flag.name) != each.flags().end();
    });
    if (option == schema_.options_.end()) return unknown("command line", "flag", flag.name, nearest(flag.name, known));
    if (!flag.value) {
      if (!option->is_switch()) return wrong(flag.name, *option, "missing");
      TM_CHECK(set(*option, true, flag.name));
      continue;
    }
    const size_t at = index(*option);
    if (option->is_list() && listed[at]) {
      auto items = std::get<std::vector<std::string>>(settings_[at].value);
      for (std::string& item : split_list(*flag.value))
        items.push_back(std::move(item));
      TM_CHECK(set(*option, std::move(items), flag.name));
      continue;
    }
    TM_CHECK(set_text(*option, *flag.value, flag.name));
    listed[at] = true;
  }
  return {};
}

ConfigOption& ConfigSchema::add(std::string key, ConfigOption::Field field, std::string help) {
  ConfigOption& option = options_.emplace_back(std::move(key), field, std::move(help));
  assert(std::count_if(options_.begin(), options_.end(),
                       [&](const auto& other) { return other.variable() == option.variable(); }) == 1);
  sources_.emplace_back("default");
  return option;
}

void ConfigSchema::ignore_variable(std::string name) {
  ignored_variables_.push_back(std::move(name));
}

const ConfigOption* ConfigSchema::find_key(std::string_view key) const {
  for (const ConfigOption& option : options_) {
    if (option.key() == key) return &option;
  }
  return nullptr;
}

Result<void> ConfigSchema::load(const ConfigSources& sources) {
  Staging staging(*this);
  for (const Rows& rows : rows_)
    rows.clear();
  if (sources.file) TM_CHECK(staging.read_toml(*sources.file));
  TM_CHECK(staging.read_environment(sources.environment));
  TM_CHECK(staging.read_flags(sources.flags));
  for (size_t i = 0; i < options_.size(); ++i) {
    options_[i].store(staging.settings()[i].value);
    sources_[i] = std::move(staging.settings()[i].source);
  }
  for (const Rows& rows : rows_)
    rows.commit();
  return {};
}

std::string ConfigSchema::source(std::string_view key) const {
  for (size_t i = 0; i < options_.size(); ++i) {
    if (options_[i].key() == key) return sources_[i];
  }
  return {};
}

std::string ConfigSchema::dump() const {
  // Keys without a section must stand first; sections follow in the order of their registration.
  std::vector<std::string> sections = {""};
  const auto section_of = [](const ConfigOption& option) {
    const size_t dot = option.key().rfind('.');
    return dot == std::string::npos ? std::string() : option.key().substr(0, dot);
  };
  for (const ConfigOption& option : options_) {
    const std::string section = section_of(option);
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) sections.push_back(section);
  }
  std::string out;
  for (const std::string& section : sections) {
    if (!section.empty()) out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
    for (size_t i = 0; i < options_.size(); ++i) {
      const ConfigOption& option = options_[i];
      if (section_of(option) != section) continue;
      const std::string name = section.empty() ? option.key() : option.key().substr(section.size() + 1);
      // A file's name could hold anything; a comment must stay on its line.
      std::string from = sources_[i];
      std::replace_if(
          from.begin(), from.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
      if (option.secret_) {
        out += fmt::format("# {} is secret  # {}\n", name, from);
      } else {
        out += fmt::format("{} = {}  # {}\n", name, to_toml(option.load()), from);
      }
    }
  }
  dump_rows(out);
  return out;
}

void ConfigSchema::dump_rows(std::string& out) const {
  for (const Rows& rows : rows_) {
    rows.for_each([&](ConfigSchema& row) {
      out += fmt::format("\n[[{}]]\n", rows.key);
      for (const ConfigOption& option : row.options_) {
        const std::string name = option.key().substr(rows.key.size() + 1);
        out += option.secret_ ? fmt::format("# {} is secret\n", name)
                              : fmt::format("{} = {}\n", name, to_toml(option.load()));
      }
      row.dump_rows(out);
    });
  }
}

std::vector<std::pair<std::string, std::string>> config_environment() {
  std::vector<std::pair<std::string, std::string>> found;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos || !text.starts_with(variable_prefix)) continue;
    found.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return found;
}

}  // namespace tidemill::base
