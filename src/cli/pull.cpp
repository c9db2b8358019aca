#include "hub/pull.hpp"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/json.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/units.hpp"
#include "base/utf8.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_source.hpp"
#include "hub/cache.hpp"
#include "hub/model_name.hpp"
#include "wire/proxy.hpp"

namespace tidemill::cli {

namespace {

struct PullFlags {
  std::string model;
  bool dry_run = false;
  bool verify = false;
  bool offline = false;
  bool list = false;
  bool as_json = false;
};

std::string variable(const char* name) {
  const char* const value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing sets variables
  std::string text = value != nullptr ? value : "";
  // Tokens are often read from files, with the end of their line.
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
    text.pop_back();
  return text;
}

// As the hub's other clients read it.
bool is_offline(const PullFlags& flags) {
  std::string wish = variable("HF_HUB_OFFLINE");
  for (char& c : wish)
    c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return flags.offline || wish == "1" || wish == "TRUE" || wish == "YES" || wish == "ON";
}

std::string shown_bytes(uint64_t bytes) {
  return base::human_bytes(static_cast<double>(bytes));
}

std::string shown_count(size_t files) {
  return fmt::format("{} {}", files, files == 1 ? "file" : "files");
}

base::json::object file_to_json(const hub::RepoFile& file) {
  base::json::object object{{"path", file.path}, {"size", file.size}};
  if (file.digest) object[hub::to_string(file.digest->kind)] = file.digest->hex;
  return object;
}

class ModelPull {
 public:
  explicit ModelPull(const PullFlags& flags) : flags_(flags) {}

  base::Result<int> run() {
    TM_TRY(const hub::ModelName name, hub::ModelName::parse(flags_.model));
    TM_TRY(const hub::Cache cache, model_cache());
    if (is_offline(flags_)) return show_cached(name, cache);
    hub::PullOptions options;
    options.dry_run = flags_.dry_run;
    options.verify = flags_.verify;
    options.remote.token = variable("HF_TOKEN");
    if (std::string endpoint = variable("HF_ENDPOINT"); !endpoint.empty()) {
      options.remote.endpoint = std::move(endpoint);
    }
    options.remote.proxies = wire::ProxyRules::from_environment(variable);
    options.remote.stop = interrupt_.descriptor();
    base::ReportedProgress bar("fetching " + name.repository, base::Progress::Unit::bytes,
                               base::Progress::terminal(!flags_.as_json));
    options.remote.on_retry = [&bar](const base::Error& why, base::Duration wait) {
      bar.wipe();
      tell_retry(why, wait);
    };
    options.on_progress = bar.reporter();
    auto pulled = hub::pull(name, cache, options);
    if (pulled) bar.finish();
    if (!pulled) return failed(name, cache, std::move(pulled).error());
    if (flags_.as_json) {
      print_json(name, *pulled);
    } else {
      print_text(name, *pulled);
    }
    return exit_success;
  }

 private:
  static void tell_retry(const base::Error& why, base::Duration wait) {
    using std::chrono::ceil;
    using std::chrono::seconds;
    base::log::warn("{}; trying again in {} s", base::utf8::printable(why.to_string()), ceil<seconds>(wait).count());
  }

  base::Result<int> show_cached(const hub::ModelName& name, const hub::Cache& cache) const {
    TM_TRY(const std::filesystem::path path, cache.find(name));
    if (flags_.as_json) {
      fmt::print("{}\n", base::pretty_json(base::json::object{{"model", base::utf8::sanitize(name.text())},
                                                              {"path", base::utf8::sanitize(path.string())}}));
    } else {
      fmt::print("{}\n", base::utf8::printable(path.string()));
    }
    return exit_success;
  }

  // Who was here before can go on without the hub.
  static base::Error failed(const hub::ModelName& name, const hub::Cache& cache, base::Error error) {
    const bool away = error.code() == base::ErrorCode::unavailable || error.code() == base::ErrorCode::timeout;
    if (!away || !cache.find(name)) return error;
    return {error.code(),
            fmt::format("{}\nWhat was fetched before is there, and is used without the hub: tidemill serve {}",
                        error.to_string(), name.text())};
  }

  void print_text(const hub::ModelName& name, const hub::Pulled& pulled) const {
    if (flags_.dry_run) {
      for (const auto& [file, cached] : pulled.files) {
        fmt::print("  {:>10}  {}{}\n", shown_bytes(file.size), base::utf8::printable(file.path),
                   cached ? "  (in the cache)" : "");
      }
    }
    fmt::print("{} at commit {}: {} of {}, {} of it {}\n", base::utf8::printable(name.text()),
               pulled.commit.substr(0, 12), shown_count(pulled.files.size()), shown_bytes(pulled.bytes),
               shown_bytes(pulled.missing), flags_.dry_run ? "to be fetched" : "fetched now");
    if (flags_.dry_run) return;
    fmt::print("  {}\n  tidemill serve {}\n", base::utf8::printable(pulled.path.string()),
               base::utf8::printable(name.text()));
  }

  void print_json(const hub::ModelName& name, const hub::Pulled& pulled) const {
    base::json::array files;
    for (const auto& [file, cached] : pulled.files) {
      base::json::object object = file_to_json(file);
      object["cached"] = cached;
      files.push_back(std::move(object));
    }
    fmt::print("{}\n", base::pretty_json(base::json::object{{"model", base::utf8::sanitize(name.text())},
                                                            {"commit", pulled.commit},
                                                            {"path", base::utf8::sanitize(pulled.path.string())},
                                                            {"dry_run", flags_.dry_run},
                                                            {"bytes", pulled.bytes},
                                                            {"missing_bytes", pulled.missing},
                                                            {"files", std::move(files)}}));
  }

  const PullFlags& flags_;
  const Interrupt interrupt_;  // Ctrl-C leaves what the next pull goes on with
};

std::vector<std::string> revisions_of(const hub::Manifest& manifest) {
  std::vector<std::string> names;
  names.reserve(manifest.revisions.size());
  for (const auto& [revision, when] : manifest.revisions)
    names.push_back(revision);
  return names;
}

// What the cache holds.
base::Result<int> list_cache(bool as_json) {
  TM_TRY(const hub::Cache cache, model_cache());
  base::json::array models;
  for (const hub::Manifest& manifest : cache.manifests()) {
    base::json::array files;
    uint64_t bytes = 0;
    const std::vector<std::string> revisions = revisions_of(manifest);
    for (const hub::Manifest::File& entry : manifest.files) {
      bytes += entry.file.size;
      base::json::object object = file_to_json(entry.file);
      object["from"] = entry.from;
      files.push_back(std::move(object));
    }
    if (!as_json) {
      fmt::print("hf:{}  {} ({})  {}, {}\n", manifest.repository, manifest.commit.substr(0, 12),
                 base::utf8::printable(fmt::format("{}", fmt::join(revisions, ", "))),
                 shown_count(manifest.files.size()), shown_bytes(bytes));
      for (const hub::Manifest::File& entry : manifest.files) {
        if (entry.file.path.ends_with(".gguf")) fmt::print("  {}\n", base::utf8::printable(entry.file.path));
      }
    }
    models.push_back(base::json::object{{"repository", manifest.repository},
                                        {"commit", manifest.commit},
                                        {"revisions", base::json::array(revisions.begin(), revisions.end())},
                                        {"bytes", bytes},
                                        {"files", std::move(files)}});
  }
  if (as_json) {
    fmt::print("{}\n", base::pretty_json(base::json::object{{"cache", base::utf8::sanitize(cache.root().string())},
                                                            {"models", std::move(models)}}));
  } else if (models.empty()) {
    fmt::print("nothing in '{}'\n", base::utf8::printable(cache.root().string()));
  }
  return exit_success;
}

base::Result<int> pull_or_list(const PullFlags& flags) {
  if (flags.list) return list_cache(flags.as_json);
  if (!flags.model.empty()) return ModelPull(flags).run();
  return base::Error(base::ErrorCode::invalid_argument,
                     "no model is named: tidemill pull hf:ORG/REPO, or tidemill pull --list for what is there");
}

}  // namespace

void add_pull(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("pull", "Fetch a model from the Hugging Face hub into the cache");
  auto flags = std::make_shared<PullFlags>();
  auto* model =
      command
          ->add_option("--model,model", flags->model,
                       "hf:ORG/REPO, of several GGUF models hf:ORG/REPO:Q4_K_M or :FILE.gguf; hf:ORG/REPO@REVISION...")
          ->type_name("NAME");
  auto* list =
      command->add_flag("--list", flags->list, "Show what the cache holds, and fetch nothing")->excludes(model);
  command->add_flag("--dry-run", flags->dry_run, "Show what would be fetched, and fetch nothing")->excludes(list);
  command->add_flag("--verify", flags->verify, "Hash what is in the cache already, and fetch anew what is damaged")
      ->excludes(list);
  command->add_flag("--offline", flags->offline, "Ask nobody, and print where the cache has the model")->excludes(list);
  command->add_flag("--json", flags->as_json, "Print JSON");
  command->footer(
      "Every command takes the name as its model then, with or without a network. Stopped half-way, the same command\n"
      "goes on where it was; all that comes is checked against the hub's checksums. Variables: HF_TOKEN for private\n"
      "and gated models, HF_ENDPOINT for another hub, HF_HUB_OFFLINE=1 as --offline, TIDEMILL_CACHE for another place\n"
      "than ~/.cache/tidemill; HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY as curl reads them. docs/models.md");
  command->callback([=, &chosen] { chosen.body = [flags] { return pull_or_list(*flags); }; });
}

}  // namespace tidemill::cli
