// Which model a command works on: a file or folder, or the one built into the program.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <CLI/App.hpp>

#include "base/result.hpp"
#include "model/checkpoint.hpp"

namespace tidemill::cli {

// The embedded model's bytes, 64-byte aligned, and the name it is served under.
std::span<const std::byte> embedded_model();
inline constexpr std::string_view embedded_model_name = "nano-coder";

// Adds "--model,-m PATH" to `command`, and "model" as a positional argument if wanted.
CLI::Option* add_model_flag(CLI::App& command, std::string& path, bool positional);

// Opens the file or folder, or the embedded model where `path` is empty.
base::Result<model::Checkpoint> open_model(const std::string& path);

}  // namespace tidemill::cli
