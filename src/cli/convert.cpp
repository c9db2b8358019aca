#include "model/convert.hpp"

#include <filesystem>
#include <string>

#include <fmt/core.h>

#include "base/json.hpp"
#include "base/progress.hpp"
#include "base/units.hpp"
#include "base/utf8.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_source.hpp"

namespace tidemill::cli {

namespace {

struct ConvertFlags {
  std::string source;
  std::string output;
  std::string type = "keep";
  bool as_json = false;
};

base::Result<int> convert(const ConvertFlags& flags) {
  // Ctrl-C must leave no half-written file behind.
  const Interrupt interrupt;
  TM_TRY(const std::filesystem::path path, find_model(flags.source));
  TM_TRY(const model::Checkpoint source, model::Checkpoint::open(path));
  base::ReportedProgress bar("converting to " + base::utf8::printable(flags.output), base::Progress::Unit::bytes,
                             base::Progress::terminal(!flags.as_json));
  model::ConvertOptions options;
  options.type = tensor::dtype_from_name(flags.type);  // none for "keep"
  options.on_progress = bar.reporter();
  options.cancelled = [&] { return interrupt.raised(); };
  TM_TRY(const model::ConvertSummary summary, model::convert_model(source, flags.output, options));
  bar.finish();
  if (flags.as_json) {
    fmt::print("{}\n", base::json::serialize(base::json::object{{"file", base::utf8::sanitize(flags.output)},
                                                                {"source", base::utf8::sanitize(flags.source)},
                                                                {"source_files", source.files().size()},
                                                                {"tensors", summary.tensors},
                                                                {"converted", summary.converted},
                                                                {"source_bytes", source.file_bytes()},
                                                                {"bytes", summary.bytes}}));
  } else {
    fmt::print("{}: {} tensors, {} of them converted, {}\n", base::utf8::printable(flags.output), summary.tensors,
               summary.converted, base::human_bytes(static_cast<double>(summary.bytes)));
  }
  return exit_success;
}

}  // namespace

void add_convert(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("convert", "Write a Hugging Face folder, or a split model, as one GGUF file");
  auto flags = std::make_shared<ConvertFlags>();
  command
      ->add_option("--source,source", flags->source,
                   "The folder, a GGUF file (any of those of a split model), or hf:ORG/REPO that was fetched")
      ->type_name("PATH")
      ->required();
  command->add_option("-o,--output,output", flags->output, "The GGUF file to write")->type_name("FILE")->required();
  command->add_option("--type", flags->type, "Of the matrices: keep, f32, f16 or bf16")
      ->check(CLI::IsMember({"keep", "f32", "f16", "bf16"}))
      ->capture_default_str();
  command->add_flag("--json", flags->as_json, "Print JSON");
  command->footer(
      "A folder runs as it is (tidemill serve DIR); as a GGUF file, other programs read it too. Never more than one "
      "of\n"
      "its tensors is held in memory. Weights that are not finite are refused, and nothing is left behind.");
  command->callback([=, &chosen] { chosen.body = [flags] { return convert(*flags); }; });
}

}  // namespace tidemill::cli
