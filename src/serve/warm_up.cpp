#include "serve/warm_up.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <semaphore>
#include <system_error>
#include <utility>

#include <fmt/core.h>

#include "base/clock.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/utf8.hpp"
#include "base/version.hpp"
#include "engine/prefix_file.hpp"
#include "serve/generation.hpp"
#include "wire/openai_request.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace fs = std::filesystem;

namespace {

constexpr size_t max_file = size_t{64} << 20;

// At whether preloading is cancelled.
constexpr auto between_looks = std::chrono::milliseconds(50);

// Two things that a user may say, with different first letters.
constexpr std::string_view first_words = "A";
constexpr std::string_view other_words = "Z";

Result<wire::GenerateRequest> read_request(const fs::path& path, const LoadedModel& model) {
  TM_TRY(const std::string content, base::read_file(path, max_file));
  if (path.extension() == ".json") {
    TM_TRY(wire::GenerateRequest request, wire::parse_chat_request(content));
    if (model.answers_to(request.model)) return request;
    return Error(ErrorCode::not_found, fmt::format("its 'model' is \"{}\", and this server has \"{}\"",
                                                   base::utf8::prefix(request.model, 100), model.name()));
  }
  if (!base::utf8::is_valid(content)) {
    return Error(ErrorCode::invalid_argument, "it is no UTF-8: give the text of a system message, or a '.json' file");
  }
  wire::GenerateRequest request;
  request.messages.push_back({{"role", "system"}, {"content", content}});
  return request;
}

Result<std::vector<text::Token>> tokens_of(const LoadedModel& model, int64_t max_context, wire::GenerateRequest request,
                                           std::string_view words) {
  request.messages.push_back({{"role", "user"}, {"content", words}});
  request.output = {};
  request.tool_choice = {};
  TM_TRY(EngineWork work, engine_work(model, max_context, request, "preload"));
  return std::move(work.requests.front().prompt);
}

Result<SharedPrefix> read_prefix(const fs::path& path, const LoadedModel& model, int64_t max_context) {
  TM_TRY(const wire::GenerateRequest request, read_request(path, model));
  TM_TRY(std::vector<text::Token> tokens, tokens_of(model, max_context, request, first_words));
  TM_TRY(const std::vector<text::Token> others, tokens_of(model, max_context, request, other_words));
  const auto [end, ignored] = std::ranges::mismatch(tokens, others);
  tokens.erase(end, tokens.end());
  if (tokens.empty()) {
    return Error(ErrorCode::invalid_argument, "nothing of it comes before the user's words in a prompt");
  }
  return SharedPrefix{path, std::move(tokens)};
}

Result<std::vector<fs::path>> files_of(const fs::path& path) {
  std::error_code fault;
  const fs::file_status status = fs::status(path, fault);
  // Of others, as pipes, nobody knows when or whether they end.
  if (fs::exists(status) && !fs::is_regular_file(status) && !fs::is_directory(status)) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("cannot preload '{}': it is neither a file nor a folder", path.string()))
        .with_param("engine.preload");
  }
  if (!fs::is_directory(status)) return std::vector<fs::path>{path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(path, fault)) {
    const bool hidden = entry.path().filename().string().starts_with('.');
    if (entry.is_regular_file(fault) && !hidden) files.push_back(entry.path());
  }
  if (fault) return Error(ErrorCode::io, fmt::format("cannot list '{}': {}", path.string(), fault.message()));
  if (files.empty()) return Error(ErrorCode::not_found, fmt::format("the folder '{}' is empty", path.string()));
  std::ranges::sort(files);
  return files;
}

// A stream whose events are waited for a little at a time.
class Awaited {
 public:
  explicit Awaited(engine::Stream& stream) : stream_(stream) {
    stream_.on_ready([this] { ready_.release(); });
  }
  ~Awaited() { stream_.on_ready({}); }
  Awaited(const Awaited&) = delete;
  Awaited& operator=(const Awaited&) = delete;

  // nullopt: none has come within that time, or there are no more.
  std::optional<engine::Event> next(base::Duration limit) {
    auto event = stream_.try_next();
    if (event || stream_.ended() || !ready_.try_acquire_for(limit)) return event;
    return stream_.try_next();
  }

 private:
  engine::Stream& stream_;
  std::counting_semaphore<> ready_{0};
};

Result<void> compute(engine::Engine& engine, const SharedPrefix& prefix, const std::string& tenant,
                     const std::function<bool()>& cancelled) {
  engine::Request request;
  request.id = "preload " + prefix.source.string();
  request.prompt = prefix.tokens;
  request.max_tokens = 0;
  request.pin_prompt = true;
  request.tenant = tenant;
  TM_TRY(const auto stream, engine.submit(std::move(request)));
  Awaited awaited(*stream);
  while (!stream->ended()) {
    if (cancelled && cancelled()) {
      stream->cancel();
      return Error(ErrorCode::cancelled, "interrupted");
    }
    const auto event = awaited.next(between_looks);
    if (event && event->error) return *event->error;
  }
  return {};
}

}  // namespace

Result<std::vector<SharedPrefix>> read_prefixes(const fs::path& path, const LoadedModel& model, int64_t max_context) {
  TM_TRY(const std::vector<fs::path> files, files_of(path));
  std::vector<SharedPrefix> prefixes;
  for (const fs::path& file : files) {
    auto prefix = read_prefix(file, model, max_context);
    if (!prefix) {
      return std::move(prefix)
          .error()
          .wrap(fmt::format("cannot preload '{}'", file.string()))
          .with_param("engine.preload");
    }
    prefixes.push_back(std::move(*prefix));
  }
  return prefixes;
}

Result<void> preload(engine::Engine& engine, const std::vector<SharedPrefix>& prefixes,
                     const std::vector<std::string>& tenants, const std::function<bool()>& cancelled) {
  const base::Clock& clock = base::SystemClock::instance();
  for (const SharedPrefix& prefix : prefixes) {
    const base::SteadyTime begin = clock.now();
    for (const std::string& tenant : tenants) {
      if (auto computed = compute(engine, prefix, tenant, cancelled); !computed) {
        return std::move(computed)
            .error()
            .wrap(fmt::format("cannot preload '{}'", prefix.source.string()))
            .with_param("engine.preload");
      }
    }
    base::log::info("preloaded {} tokens of '{}' in {:.2f} s", prefix.tokens.size(), prefix.source.string(),
                    base::seconds(clock.now() - begin));
  }
  return {};
}

Result<std::string> prefix_identity(const LoadedModel& model) {
  TM_TRY(const uint64_t content, model.content_checksum());
  const bool floats = model.device().activations() == tensor::ActivationScheme::f32;
  return fmt::format("model {:016x}{}, {} arithmetic{}, tidemill {}", content,
                     model.hyper_parameters().for_short_contexts ? " for short contexts" : "",
                     tensor::to_string(model.isa()), floats ? " with F32 activations" : "", base::version());
}

Result<PrefixFileUse> check_prefix_file(const fs::path& path) {
  TM_TRY(const bool foreign, engine::is_foreign_to_prefixes(path));
  if (foreign) {
    base::log::warn(
        "'{}' is no file of prefixes: it is left as it is, and prefixes are neither taken from it nor kept; "
        "give --prefix-file another path",
        path.string());
    return PrefixFileUse::none;
  }
  auto writable = engine::check_prefix_path(path);
  if (writable) return PrefixFileUse::read_and_kept;
  std::error_code fault;
  if (!fs::exists(path, fault)) return std::move(writable).error().with_param("engine.prefix_file");
  base::log::warn("the prefixes of this run will not be kept in '{}': {}", path.string(), writable.error().to_string());
  return PrefixFileUse::read;
}

void restore_prefixes(engine::Engine& engine, const LoadedModel& model, const fs::path& path) {
  std::error_code fault;
  if (!fs::exists(path, fault)) return;
  const auto restored = [&]() -> Result<int64_t> {
    TM_TRY(const std::string identity, prefix_identity(model));
    return engine.restore_prefixes(path, identity);
  }();
  if (restored) {
    base::log::info("restored {} blocks of prefixes from '{}'", *restored, path.string());
  } else {
    base::log::warn("the prefixes kept by an earlier run are not used: {}", restored.error().to_string());
  }
}

void save_prefixes(engine::Engine& engine, const LoadedModel& model, const fs::path& path) {
  const auto saved = [&]() -> Result<int64_t> {
    TM_TRY(const std::string identity, prefix_identity(model));
    return engine.save_prefixes(path, identity);
  }();
  if (saved && *saved == 0) {
    base::log::info("there are no prefixes to keep; '{}' stays as it was", path.string());
  } else if (saved) {
    base::log::info("kept {} blocks of prefixes in '{}'", *saved, path.string());
  } else {
    base::log::error("the prefixes could not be kept: {}", saved.error().to_string());
  }
}

}  // namespace tidemill::serve
