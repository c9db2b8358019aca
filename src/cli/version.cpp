#include "base/version.hpp"

#include <fmt/core.h>

#include "base/cpu_budget.hpp"
#include "base/json.hpp"
#include "cli/command.hpp"
#include "distill/student.hpp"
#include "tensor/isa.hpp"

namespace tidemill::cli {

namespace {

base::Result<int> print_version(bool as_json) {
  TM_TRY(const tensor::Isa isa, tensor::choose_isa());
  const base::CpuBudget budget = base::cpu_budget();
  if (as_json) {
    fmt::print("{}\n", base::pretty_json(base::json::object{{"version", base::version()},
                                                            {"compiler", __VERSION__},
                                                            {"isa", tensor::to_string(isa)},
                                                            {"threads", budget.threads},
                                                            {"threads_from", budget.source()},
                                                            {"trains", distill::trainer_is_there()}}));
  } else {
    fmt::print("tidemill {} (compiler {}; instruction set {}; {} {}: {}; {})\n", base::version(), __VERSION__,
               tensor::to_string(isa), budget.threads, budget.threads == 1 ? "thread" : "threads", budget.source(),
               distill::trainer_is_there() ? "trains with libtorch" : "built without training");
  }
  return exit_success;
}

}  // namespace

void add_version(CLI::App& app, Invocation& chosen) {
  auto* command =
      app.add_subcommand("version", "Print version, compiler, the instruction set in use, and whether it can train");
  auto as_json = std::make_shared<bool>(false);
  command->add_flag("--json", *as_json, "Print JSON");
  command->callback([=, &chosen] { chosen.body = [as_json] { return print_version(*as_json); }; });
}

}  // namespace tidemill::cli
