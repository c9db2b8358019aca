#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "access/api_key.hpp"
#include "access/key_vault.hpp"
#include "base/clock.hpp"
#include "base/json.hpp"
#include "base/units.hpp"
#include "cli/command.hpp"
#include "cli/when.hpp"

namespace tidemill::cli {

namespace {

using access::ApiKey;
using base::Error;
using base::ErrorCode;
using base::Result;
using base::WallTime;

struct KeysFlags {
  std::string location = "keys.json";
  std::string ca_file;
  bool as_json = false;
  // of create
  std::string tenant;
  std::string name;
  std::vector<std::string> scopes;
  std::vector<std::string> models;
  std::string priority;
  std::string expires;
  // of show and revoke
  std::string id;
};

WallTime now() {
  return base::SystemClock::instance().wall_now();
}

std::string date_and_time(WallTime time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(std::chrono::floor<std::chrono::seconds>(time - day));
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", int(date.year()), unsigned(date.month()),
                     unsigned(date.day()), clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::string_view state_of(const ApiKey& key) {
  if (key.disabled) return "revoked";
  return key.expires && *key.expires <= now() ? "over" : "valid";
}

base::json::object as_json(const ApiKey& key) {
  base::json::object object = access::to_json(key);
  object.erase("sha256");  // of no use to anybody but a gateway
  object["state"] = state_of(key);
  return object;
}

void print_key(const ApiKey& key) {
  fmt::print("{}  {}\n", key.id, state_of(key));
  fmt::print("  tenant    {}\n  name      {}\n  secret    tm-...{}\n  scopes    {}\n  models    {}\n", key.tenant,
             key.name, key.hint, fmt::join(key.scopes, ", "),
             key.models.empty() ? "all" : fmt::format("{}", fmt::join(key.models, ", ")));
  fmt::print("  priority  {}\n", key.priority ? access::to_string(*key.priority) : "its tenant's");
  fmt::print("  created   {}\n  expires   {}\n", date_and_time(key.created),
             key.expires ? date_and_time(*key.expires) : "never");
}

// "90d" from now, or a point in time.
Result<WallTime> parse_expiry(const std::string& text) {
  if (auto length = base::parse_duration(text); length && length->count() > 0) return now() + *length;
  auto time = parse_when(text);
  if (time) return time;
  return Error(
      ErrorCode::invalid_argument,
      fmt::format("--expires '{}' is neither a length of time such as 90d nor a date such as 2027-01-31", text));
}

Error no_such_key(const std::string& id, const std::string& where) {
  return {ErrorCode::not_found,
          fmt::format("there is no key '{}' in {}: 'tidemill keys list' shows their ids", id, where)};
}

// The keys that are kept; a file that is not there is more likely misnamed than meant.
Result<std::vector<ApiKey>> kept_keys(access::KeyVault& vault) {
  TM_TRY(access::KeyDocument document, vault.read());
  if (!document.revision.empty()) return std::move(document.keys);
  return Error(ErrorCode::not_found,
               fmt::format("no key was ever kept in {0}: name the place with --keys, or make the first with 'tidemill "
                           "keys create --keys {0} --tenant NAME --name NAME'",
                           vault.where()));
}

Result<int> create(const KeysFlags& flags) {
  ApiKey wanted;
  wanted.tenant = flags.tenant;
  wanted.name = flags.name;
  wanted.scopes = flags.scopes;
  wanted.models = flags.models;
  if (!flags.priority.empty()) {
    TM_TRY(wanted.priority, access::parse_priority(flags.priority));
  }
  if (!flags.expires.empty()) {
    TM_TRY(wanted.expires, parse_expiry(flags.expires));
  }
  TM_TRY(const access::NewKey made, access::make_key(std::move(wanted), now()));
  TM_TRY(const auto vault, access::open_keys(flags.location, flags.ca_file));
  TM_CHECK(vault->update([&](std::vector<ApiKey>& keys) -> Result<void> {
    keys.push_back(made.key);
    return {};
  }));
  if (flags.as_json) {
    base::json::object object = as_json(made.key);
    object["secret"] = made.secret;
    fmt::print("{}\n", base::json::serialize(object));
  } else {
    print_key(made.key);
    fmt::print("\n{}\n\nKeep the secret now: it is not shown again.\n", made.secret);
  }
  return exit_success;
}

Result<int> list(const KeysFlags& flags) {
  TM_TRY(const auto vault, access::open_keys(flags.location, flags.ca_file));
  TM_TRY(std::vector<ApiKey> keys, kept_keys(*vault));
  std::erase_if(keys, [&](const ApiKey& key) { return !flags.tenant.empty() && key.tenant != flags.tenant; });
  if (flags.as_json) {
    base::json::array array;
    for (const ApiKey& key : keys)
      array.emplace_back(as_json(key));
    fmt::print("{}\n", base::json::serialize(array));
    return exit_success;
  }
  fmt::print("{:<20}  {:<7}  {:<16}  {:<16}  {:<20}  {}\n", "id", "state", "tenant", "name", "expires", "scopes");
  for (const ApiKey& key : keys) {
    fmt::print("{:<20}  {:<7}  {:<16}  {:<16}  {:<20}  {}\n", key.id, state_of(key), key.tenant, key.name,
               key.expires ? date_and_time(*key.expires) : "never", fmt::join(key.scopes, ","));
  }
  return exit_success;
}

Result<int> show(const KeysFlags& flags) {
  TM_TRY(const auto vault, access::open_keys(flags.location, flags.ca_file));
  TM_TRY(const std::vector<ApiKey> keys, kept_keys(*vault));
  for (const ApiKey& key : keys) {
    if (key.id != flags.id) continue;
    if (flags.as_json) {
      fmt::print("{}\n", base::json::serialize(as_json(key)));
    } else {
      print_key(key);
    }
    return exit_success;
  }
  return no_such_key(flags.id, vault->where());
}

Result<int> revoke(const KeysFlags& flags) {
  TM_TRY(const auto vault, access::open_keys(flags.location, flags.ca_file));
  ApiKey revoked;
  TM_CHECK(vault->update([&](std::vector<ApiKey>& keys) -> Result<void> {
    const auto found = std::find_if(keys.begin(), keys.end(), [&](const ApiKey& key) { return key.id == flags.id; });
    if (found == keys.end()) return no_such_key(flags.id, vault->where());
    found->disabled = true;
    revoked = *found;
    return {};
  }));
  if (flags.as_json) {
    fmt::print("{}\n", base::json::serialize(as_json(revoked)));
  } else {
    fmt::print("{} of '{}' ({}) is revoked\n", revoked.id, revoked.tenant, revoked.name);
  }
  return exit_success;
}

CLI::App* add_action(CLI::App& keys, Invocation& chosen, const std::shared_ptr<KeysFlags>& flags, const char* name,
                     const char* help, Result<int> (*action)(const KeysFlags&)) {
  auto* command = keys.add_subcommand(name, help);
  command
      ->add_option(
          "--keys", flags->location,
          "Where the keys are: a file, or the gateways' Redis as redis://[user:password@]host[:port][/database]")
      ->type_name("FILE|URL")
      ->capture_default_str();
  command->add_option("--ca-file", flags->ca_file, "Authorities (PEM) by which to verify a rediss:// server")
      ->type_name("FILE");
  command->add_flag("--json", flags->as_json, "Print JSON");
  command->callback([=, &chosen] { chosen.body = [flags, action] { return action(*flags); }; });
  return command;
}

}  // namespace

void add_keys(CLI::App& app, Invocation& chosen) {
  auto* keys = app.add_subcommand("keys", "Make, list and revoke the API keys that gateways accept");
  keys->require_subcommand(0, 1);  // so that a misspelt one is named
  keys->callback([keys, program = app.get_name(), &chosen] {
    if (!keys->get_subcommands().empty()) return;
    chosen.body = [keys, program]() -> Result<int> {
      fmt::print("{}", keys->help(program));
      return exit_usage;
    };
  });
  auto flags = std::make_shared<KeysFlags>();
  auto* creation = add_action(*keys, chosen, flags, "create", "Make a key and show its secret, once", create);
  creation->add_option("--tenant", flags->tenant, "Whose key it is; limits, budgets and shares are the tenant's")
      ->type_name("NAME")
      ->required();
  creation->add_option("--name", flags->name, "What the key is for, for people")->type_name("NAME")->required();
  creation
      ->add_option("--scope", flags->scopes,
                   "What it may do: generate, embed, read, feedback, admin; may be repeated (default: all but admin)")
      ->type_name("WORD")
      ->delimiter(',')
      ->allow_extra_args(false);
  creation
      ->add_option("--model", flags->models,
                   "Which model it may call, 'qwen3-*' for all that begin so; may be repeated (default: all)")
      ->type_name("MODEL")
      ->delimiter(',')
      ->allow_extra_args(false);
  creation->add_option("--priority", flags->priority, "low, normal or high (default: its tenant's)")->type_name("WORD");
  creation
      ->add_option("--expires", flags->expires, "A length of time (90d) or a date (2027-01-31, UTC); never if left out")
      ->type_name("WHEN");
  auto* listing = add_action(*keys, chosen, flags, "list", "List the keys", list);
  listing->add_option("--tenant", flags->tenant, "Only this tenant's")->type_name("NAME");
  auto* showing = add_action(*keys, chosen, flags, "show", "Show one key; its secret is not kept", show);
  showing->add_option("id", flags->id, "The key's id")->type_name("ID")->required();
  auto* revoking = add_action(*keys, chosen, flags, "revoke", "Make a key invalid for good", revoke);
  revoking->add_option("id", flags->id, "The key's id")->type_name("ID")->required();
  keys->footer("Only a digest of each secret is kept.");
}

}  // namespace tidemill::cli
