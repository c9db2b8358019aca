// What a server has computed before the first request comes: the prompts of --preload, and the prefixes that an earlier
// run left behind.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "engine/engine.hpp"
#include "serve/loaded_model.hpp"
#include "serve/serve_options.hpp"

namespace tidemill::serve {

// The beginning that prompts share.
struct SharedPrefix {
  std::filesystem::path source;
  std::vector<text::Token> tokens;
};

// The prefixes of a file, or of all files of a folder in the order of their names. A file *.json is the body of a chat
// request, of which messages and tools count; any other is the text of a system message. The prefix is what the prompts
// of requests that go on from there with a user's words have in common. `max_context` is the engine's. Errors name the
// file: what is neither a file nor a folder, text that is no UTF-8, and a body for another model are some.
base::Result<std::vector<SharedPrefix>> read_prefixes(const std::filesystem::path& path, const LoadedModel& model,
                                                      int64_t max_context);

// Computes them for each tenant, and has them stay. Says in the log what was computed. Errors name the file;
// `cancelled`, within a moment of `cancelled` saying so.
base::Result<void> preload(engine::Engine& engine, const std::vector<SharedPrefix>& prefixes,
                           const std::vector<std::string>& tenants, const std::function<bool()>& cancelled = {});

// What the content of KV blocks depends on, besides their tokens.
base::Result<std::string> prefix_identity(const LoadedModel& model);

enum class PrefixFileUse : uint8_t { none, read, read_and_kept };

// What the file at `path` is good for; the log warns where that is not all. A file that is not ours is good for nothing
// and left as it is, for its path may have been mistyped; one that is there where none can be written is read. Error,
// with param "engine.prefix_file": there is none, and none can be made.
base::Result<PrefixFileUse> check_prefix_file(const std::filesystem::path& path);

// Takes back and keeps the prefix cache, at a path that was found fit. A file that is absent is nothing to speak of;
// one that cannot be used is ignored with a warning; one that cannot be written is an error in the log. Where there is
// nothing to keep, an older file stays.
void restore_prefixes(engine::Engine& engine, const LoadedModel& model, const std::filesystem::path& path);
void save_prefixes(engine::Engine& engine, const LoadedModel& model, const std::filesystem::path& path);

}  // namespace tidemill::serve
