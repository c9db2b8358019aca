#include <cstdio>
#include <string>
#include <system_error>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "base/nearest.hpp"
#include "base/utf8.hpp"
#include "cli/command.hpp"
#include "cli/output.hpp"

namespace tidemill::cli {

namespace {

constexpr std::string_view footer = R"(
Exit codes: 0 success; 2 what you wrote is wrong (the command line, the environment, the configuration, or a template,
prompt or request that is the input); 1 the work failed (a file or model is missing, damaged or of another kind, the
machine or a peer does not play along); 130 interrupted.
Without a model named, serve, chat and complete use the one that is built in: a small model of Python source.
The environment variable TIDEMILL_ISA (scalar, avx2, avx512-vnni, avx512-bf16, amx) overrides the choice of instruction set.)";

// What the app knows that the word could have been meant for: a flag, or a subcommand.
std::string suggestion(const CLI::App& app, const std::string& word) {
  std::vector<std::string> known;
  if (word.starts_with("-")) {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames())
        known.push_back("--" + name);
    }
  } else {
    for (const CLI::App* command : app.get_subcommands({}))
      known.push_back(command->get_name());
  }
  const std::string best = base::nearest(word, known);
  if (best.empty() || base::edit_distance(word, best) > 1 + word.size() / 3) return {};
  return fmt::format("; did you mean '{}'?", best);
}

// The word that nothing took, and whose it was: of the subcommand if there is one.
std::string describe_extras(const CLI::App& app) {
  const CLI::App* owner = &app;
  std::string path = "tidemill";
  while (!owner->get_subcommands().empty()) {
    owner = owner->get_subcommands().back();
    path += " " + owner->get_name();
  }
  const std::vector<std::string> extras = owner->remaining();
  const std::vector<std::string> all = extras.empty() ? app.remaining() : extras;
  if (all.empty()) return "unexpected arguments";
  const std::string word = all.front().substr(0, all.front().find('='));
  const bool is_flag = word.starts_with("-");
  const bool has_commands = !owner->get_subcommands({}).empty();
  const std::string kind = is_flag ? "flag" : has_commands ? "command" : "argument";
  return fmt::format("unknown {} '{}'{} (see '{} --help')", kind, word, suggestion(*owner, word), path);
}

// The body, and the end of what it printed.
base::Result<int> run_body(const Body& body) {
  base::Result<int> outcome = exit_success;
  try {
    outcome = body();
  } catch (const std::system_error& fault) {
    // fmt throws when standard output takes no more.
    if (std::ferror(stdout) == 0) throw;
    if (fault.code() == std::errc::broken_pipe) return exit_success;
    return base::Error(base::ErrorCode::io, fmt::format("cannot write to standard output: {}", fault.code().message()));
  }
  if (!outcome) return outcome;
  TM_CHECK(finish_output());
  return outcome;
}

// Fit for a terminal, line by line.
std::string printable_lines(std::string_view text) {
  std::string lines;
  for (size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    lines.append(base::utf8::printable(text.substr(0, end))).append("\n");
    text.remove_prefix(end + 1);
  }
  return lines + base::utf8::printable(text);
}

}  // namespace

int report(const base::Error& error) {
  // Errors quote file names and what files hold.
  fmt::print(stderr, "tidemill: {}\n", printable_lines(error.to_string()));
  switch (error.code()) {
    case base::ErrorCode::invalid_argument:
    case base::ErrorCode::too_large:
      return exit_usage;
    case base::ErrorCode::cancelled:
      return exit_interrupted;
    default:
      return exit_failure;
  }
}

int run(int argc, const char* const* argv) {
  CLI::App app("Tidemill serves language models: engine, HTTP API and tools in one program.", "tidemill");
  app.require_subcommand(0, 1);
  app.footer(std::string(footer));
  app.get_formatter()->column_width(36);
  Invocation chosen;
  add_up(app, chosen);
  add_serve(app, chosen);
  add_gateway(app, chosen);
  add_chat(app, chosen);
  add_complete(app, chosen);
  add_tokenize(app, chosen);
  add_template(app, chosen);
  add_inspect(app, chosen);
  add_bench(app, chosen);
  add_eval(app, chosen);
  add_keys(app, chosen);
  add_convert(app, chosen);
  add_pack(app, chosen);
  add_quantize(app, chosen);
  add_distill(app, chosen);
  add_train(app, chosen);
  add_synth(app, chosen);
  add_version(app, chosen);
  bool version = false;
  app.add_flag("-V,--version", version, "Print the version");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& fault) {
    if (fault.get_exit_code() == 0) {  // --help
      const auto help = run_body([&] { return base::Result<int>(app.exit(fault)); });
      return help ? *help : report(help.error());
    }
    // A misspelt flag is said before what is missing for want of it.
    const bool has_extras = !app.remaining(true).empty();
    fmt::print(stderr, "tidemill: {}\n", has_extras ? describe_extras(app) : fault.what());
    return exit_usage;
  }
  if (version) {
    const char* const arguments[] = {"tidemill", "version"};
    return run(2, arguments);
  }
  if (!chosen.body) {
    chosen.body = [&app] {
      fmt::print("{}", app.help());
      return base::Result<int>(exit_usage);
    };
  }
  const base::Result<int> outcome = run_body(chosen.body);
  return outcome ? *outcome : report(outcome.error());
}

}  // namespace tidemill::cli
