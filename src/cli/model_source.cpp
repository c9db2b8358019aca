#include "cli/model_source.hpp"

#include <cstdlib>

#include "hub/model_name.hpp"

extern "C" {
extern const std::byte tidemill_embedded_model_begin[];
extern const std::byte tidemill_embedded_model_end[];
}

namespace tidemill::cli {

std::span<const std::byte> embedded_model() {
  return {tidemill_embedded_model_begin, tidemill_embedded_model_end};
}

CLI::Option* add_model_flag(CLI::App& command, std::string& path, bool positional) {
  return command
      .add_option(positional ? "-m,--model,model" : "-m,--model", path,
                  "GGUF file or Hugging Face folder of the model, or hf:ORG/REPO that `tidemill pull` has fetched "
                  "(default: the built-in nano-coder)")
      ->type_name("PATH");
}

base::Result<hub::Cache> model_cache() {
  return hub::Cache::standard([](const char* name) {
    return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing sets variables
  });
}

base::Result<std::filesystem::path> find_model(const std::string& named) {
  if (!hub::ModelName::is_one(named)) return std::filesystem::path(named);
  TM_TRY(const hub::ModelName name, hub::ModelName::parse(named));
  TM_TRY(const hub::Cache cache, model_cache());
  return cache.find(name);
}

base::Result<model::Checkpoint> open_model(const std::string& named) {
  TM_TRY(const std::filesystem::path path, find_model(named));
  if (!path.empty()) return model::Checkpoint::open(path);
  return model::Checkpoint::parse(embedded_model(), std::string(embedded_model_name) + " (built in)");
}

}  // namespace tidemill::cli
