// What every subcommand shares: how it is chosen, how it fails, and its exit codes.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <CLI/App.hpp>

#include "base/result.hpp"

namespace tidemill::cli {

// Exit codes, which scripts may rely on (`tidemill --help` lists them).
enum Exit : int {
  exit_success = 0,
  // What people wrote is right, but the work failed: a file, folder or model is missing, damaged or not of the kind
  // that is needed, the machine lacks memory, an address is in use, a peer does not answer, a program has a fault.
  exit_failure = 1,
  // What people wrote is wrong: the command line, the environment, the configuration, or a text that is the input
  // (a template, a prompt, a request).
  exit_usage = 2,
  exit_interrupted = 130,  // Ctrl-C, as shells number it; of a server: a second signal cut requests
};

// The most that a flag which counts tokens takes.
constexpr int max_count = 1 << 30;

// A subcommand's body: does the work and reports success, or the error that ends it.
using Body = std::function<base::Result<int>()>;

// The subcommand that the command line chose.
struct Invocation {
  Body body;
};

// Prints "tidemill: <error>" to standard error and returns the exit code that fits it.
int report(const base::Error& error);

// Each registers one subcommand with its flags and help; parsing it stores its body in `chosen`.
void add_serve(CLI::App& app, Invocation& chosen);
void add_up(CLI::App& app, Invocation& chosen);
void add_gateway(CLI::App& app, Invocation& chosen);
void add_chat(CLI::App& app, Invocation& chosen);
void add_complete(CLI::App& app, Invocation& chosen);
void add_tokenize(CLI::App& app, Invocation& chosen);
void add_template(CLI::App& app, Invocation& chosen);
void add_inspect(CLI::App& app, Invocation& chosen);
void add_bench(CLI::App& app, Invocation& chosen);
void add_eval(CLI::App& app, Invocation& chosen);
void add_keys(CLI::App& app, Invocation& chosen);
void add_convert(CLI::App& app, Invocation& chosen);
void add_pack(CLI::App& app, Invocation& chosen);
void add_quantize(CLI::App& app, Invocation& chosen);
void add_distill(CLI::App& app, Invocation& chosen);
void add_train(CLI::App& app, Invocation& chosen);
void add_synth(CLI::App& app, Invocation& chosen);
void add_version(CLI::App& app, Invocation& chosen);

// Runs the whole program on a command line; returns its exit code.
int run(int argc, const char* const* argv);

}  // namespace tidemill::cli
