#include "cli/model_source.hpp"

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
                  "GGUF file or Hugging Face folder of the model (default: the built-in nano-coder)")
      ->type_name("PATH");
}

base::Result<model::Checkpoint> open_model(const std::string& path) {
  if (!path.empty()) return model::Checkpoint::open(path);
  return model::Checkpoint::parse(embedded_model(), std::string(embedded_model_name) + " (built in)");
}

}  // namespace tidemill::cli
