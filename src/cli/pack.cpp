#include "model/pack.hpp"

#include <filesystem>
#include <string>

#include <fmt/core.h>

#include "base/cpu_budget.hpp"
#include "base/json.hpp"
#include "base/progress.hpp"
#include "base/units.hpp"
#include "base/utf8.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_source.hpp"
#include "tensor/packed_layout.hpp"

namespace tidemill::cli {

namespace {

struct PackFlags {
  std::string source;
  std::string output;
  int threads = 0;
  bool as_json = false;
};

base::Result<int> pack(const PackFlags& flags) {
  // Ctrl-C must leave no half-written file behind.
  const Interrupt interrupt;
  TM_TRY(const std::filesystem::path path, find_model(flags.source));
  TM_TRY(const model::Checkpoint source, model::Checkpoint::open(path));
  base::ReportedProgress bar("packing " + base::utf8::printable(flags.output), base::Progress::Unit::bytes,
                             base::Progress::terminal(!flags.as_json));
  model::PackOptions options;
  options.threads = flags.threads > 0 ? flags.threads : base::cpu_budget().threads;
  options.on_progress = bar.reporter();
  options.cancelled = [&] { return interrupt.raised(); };
  TM_TRY(const model::PackSummary summary, model::pack_model(source, flags.output, options));
  bar.finish();
  if (flags.as_json) {
    fmt::print("{}\n", base::json::serialize(base::json::object{{"file", base::utf8::sanitize(flags.output)},
                                                                {"source", base::utf8::sanitize(flags.source)},
                                                                {"matrices", summary.matrices},
                                                                {"layout", tensor::kPackedLayoutVersion},
                                                                {"source_bytes", source.file_bytes()},
                                                                {"bytes", summary.bytes}}));
  } else {
    fmt::print("{}: {} matrices packed (layout {}), {}\n", base::utf8::printable(flags.output), summary.matrices,
               tensor::kPackedLayoutVersion, base::human_bytes(static_cast<double>(summary.bytes)));
  }
  return exit_success;
}

}  // namespace

void add_pack(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand(
      "pack",
      "Write a model file with its weights as the kernels want them, so that it loads in a fraction of a second");
  auto flags = std::make_shared<PackFlags>();
  command
      ->add_option("--source,source", flags->source,
                   "The GGUF file or Hugging Face folder to pack, or hf:ORG/REPO that was fetched")
      ->type_name("PATH")
      ->required();
  command->add_option("-o,--output,output", flags->output, "The packed file to write")->type_name("FILE")->required();
  command->add_option("-t,--threads", flags->threads, "Threads (default: as many cores as this process may use)")
      ->check(CLI::Range(0, 1024));
  command->add_flag("--json", flags->as_json, "Print JSON");
  command->footer(
      "Every command takes a packed file as its model. It is used through a memory map and verified against its\n"
      "checksums at each load. After an update of Tidemill that changes the layout of the weights, it is refused; "
      "pack\n"
      "the source again then.");
  command->callback([=, &chosen] { chosen.body = [flags] { return pack(*flags); }; });
}

}  // namespace tidemill::cli
