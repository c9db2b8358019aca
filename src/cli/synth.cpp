#include "model/synth.hpp"

#include <filesystem>
#include <optional>
#include <string>

#include <fmt/core.h>

#include "base/cpu_budget.hpp"
#include "base/json.hpp"
#include "base/progress.hpp"
#include "base/units.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/number_flags.hpp"

namespace tidemill::cli {

namespace {

struct SynthFlags {
  std::string shape;
  std::string output;
  std::string type = "q8_0";
  uint64_t seed = 1;
  std::optional<int64_t> layers;
  int64_t outlier_channels = 0;
  bool list = false;
  bool as_json = false;
};

std::string type_names() {
  std::string names;
  for (const tensor::DType type : tensor::all_dtypes()) {
    if (!names.empty()) names += ", ";
    names += tensor::info(type).name;
  }
  return names;
}

void list_shapes(bool as_json) {
  base::json::array list;
  for (const model::Shape& shape : model::shapes()) {
    list.push_back({{"name", shape.name}, {"architecture", shape.architecture}, {"parameters", shape.parameters()}});
    if (!as_json) {
      fmt::print("  {:<16} {:<8} {:>8.1f} M parameters\n", shape.name, shape.architecture,
                 static_cast<double>(shape.parameters()) / 1e6);
    }
  }
  if (as_json) fmt::print("{}\n", base::pretty_json(list));
}

base::Result<int> synth(const SynthFlags& flags) {
  if (flags.list) {
    list_shapes(flags.as_json);
    return exit_success;
  }
  if (flags.shape.empty() || flags.output.empty()) {
    return base::Error(base::ErrorCode::invalid_argument,
                       "synth needs a shape and a file to write: tidemill synth llama-3.2-1b model.gguf "
                       "(tidemill synth --list shows the shapes)");
  }
  TM_TRY(model::Shape shape, model::find_shape(flags.shape));
  if (flags.layers) {
    TM_TRY(shape, model::with_layers(shape, *flags.layers));
  }
  const auto type = tensor::dtype_from_name(flags.type);
  if (!type) {
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("unknown type '{}': use one of {}", flags.type, type_names()));
  }
  model::SynthOptions options;
  options.type = *type;
  options.seed = flags.seed;
  options.outlier_channels = flags.outlier_channels;
  options.threads = base::cpu_budget().threads;
  base::ReportedProgress bar("writing " + flags.output, base::Progress::Unit::bytes,
                             base::Progress::terminal(!flags.as_json));
  options.on_progress = bar.reporter();
  const Interrupt interrupt;  // so that what is half written is removed
  options.cancelled = [&] { return interrupt.raised(); };
  TM_CHECK(model::write_synthetic_model(shape, flags.output, options));
  bar.finish();
  std::error_code fault;
  const auto bytes = std::filesystem::file_size(flags.output, fault);
  if (flags.as_json) {
    fmt::print("{}\n", base::json::serialize(base::json::object{{"file", flags.output},
                                                                {"shape", shape.name},
                                                                {"type", tensor::info(*type).name},
                                                                {"parameters", shape.parameters()},
                                                                {"bytes", fault ? 0 : bytes}}));
  } else {
    fmt::print("{}: {} in {}, {}\n", flags.output, shape.name, tensor::info(*type).name,
               base::human_bytes(fault ? 0 : static_cast<double>(bytes)));
  }
  return exit_success;
}

}  // namespace

void add_synth(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("synth", "Write a model of a known shape with random weights, for benchmarks");
  auto flags = std::make_shared<SynthFlags>();
  command->add_option("--shape,shape", flags->shape, "The shape, such as llama-3.2-1b")->type_name("SHAPE");
  command->add_option("-o,--output,output", flags->output, "The GGUF file to write")->type_name("FILE");
  command->add_option("--type", flags->type, "Type of the matrices: " + type_names())->capture_default_str();
  add_seed_flag(
      *command, [flags](uint64_t seed) { flags->seed = seed; }, "The same seed gives the same file")
      ->default_str("1");
  command->add_option("--layers", flags->layers,
                      "So many of the shape's layers, and as large a part of its vocabulary, so that a step is made of "
                      "the same parts (default: all)");
  command
      ->add_option("--outlier-channels", flags->outlier_channels,
                   "So many channels of the hidden state are 50 times larger after every norm")
      ->check(at_least_zero())
      ->capture_default_str();
  command->add_flag("--list", flags->list, "List the shapes");
  command->add_flag("--json", flags->as_json, "Print JSON");
  command->callback([=, &chosen] { chosen.body = [flags] { return synth(*flags); }; });
}

}  // namespace tidemill::cli
