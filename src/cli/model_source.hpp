// Which model a command works on: a file or folder, one that was fetched from the hub, or the one built into the
// program.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include <CLI/App.hpp>

#include "base/result.hpp"
#include "hub/cache.hpp"
#include "model/checkpoint.hpp"

namespace tidemill::cli {

// The embedded model's bytes, 64-byte aligned, and the name it is served under.
std::span<const std::byte> embedded_model();
inline constexpr std::string_view embedded_model_name = "nano-coder";

// Adds "--model,-m PATH" to `command`, and "model" as a positional argument if wanted.
CLI::Option* add_model_flag(CLI::App& command, std::string& path, bool positional);

// Where fetched models lie, by the variables of this process.
base::Result<hub::Cache> model_cache();

// The file or folder that is meant: of "hf:ORG/REPO" that which `tidemill pull` has fetched (`not_found`, with the
// command to type, where it has not), of anything else the path itself.
base::Result<std::filesystem::path> find_model(const std::string& named);

// Opens what is meant, or the embedded model where `named` is empty.
base::Result<model::Checkpoint> open_model(const std::string& named);

}  // namespace tidemill::cli
