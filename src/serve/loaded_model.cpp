#include "serve/loaded_model.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/checksum.hpp"
#include "base/clock.hpp"
#include "base/cpu_budget.hpp"
#include "base/file.hpp"
#include "base/log.hpp"
#include "base/utf8.hpp"
#include "model/checkpoint.hpp"
#include "model/load.hpp"
#include "model/vocabulary.hpp"
#include "tensor/cpu_device.hpp"
#include "tensor/isa.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr size_t max_template_bytes = size_t{1} << 20;

Result<tensor::Isa> resolve_isa(const std::string& wanted) {
  if (wanted.empty() || wanted == "auto") return tensor::choose_isa();
  std::vector<std::string_view> available;
  for (const tensor::Isa isa : tensor::available_isas()) {
    if (tensor::to_string(isa) == wanted) return isa;
    available.push_back(tensor::to_string(isa));
  }
  return Error(ErrorCode::invalid_argument, fmt::format("the instruction set '{}' is not one this machine has: {}",
                                                        wanted, fmt::join(available, ", ")))
      .with_param("model.isa");
}

Result<std::string> template_source(const ModelOptions& options, const model::Checkpoint& file) {
  if (options.chat_template_file.empty()) return model::read_chat_template(file);
  auto source = base::read_file(options.chat_template_file, max_template_bytes);
  if (!source) return std::move(source).error().wrap("the chat template");
  if (source->empty()) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("the chat template '{}' is empty", options.chat_template_file.string()));
  }
  return source;
}

// The formats that the options name instead of the template's own.
Result<void> override_format(const ModelOptions& options, ChatPrompt& chat) {
  chat::Format format = chat.format();
  if (!options.tool_format.empty()) {
    auto named = chat::format_by_name(options.tool_format);
    if (!named) return std::move(named).error().with_param("model.tool_format");
    named->reasoning_open = std::move(format.reasoning_open);
    named->reasoning_close = std::move(format.reasoning_close);
    format = std::move(*named);
  }
  if (!options.reasoning_format.empty()) {
    auto set = chat::set_reasoning(format, options.reasoning_format);
    if (!set) return std::move(set).error().with_param("model.reasoning_format");
  }
  chat.set_format(std::move(format));
  return {};
}

// Reads at most a mebibyte of each file.
uint64_t sample(std::span<const std::byte> bytes) {
  constexpr size_t pieces = 256;
  constexpr size_t piece = 4096;
  std::vector<uint64_t> sums = {bytes.size()};
  const size_t step = std::max(piece, bytes.size() / pieces);
  for (size_t begin = 0; begin < bytes.size(); begin += step)
    sums.push_back(base::checksum(bytes.subspan(begin, std::min(piece, bytes.size() - begin))));
  return base::checksum(std::as_bytes(std::span(sums)));
}

Result<uint64_t> sample_files(std::span<const std::filesystem::path> paths) {
  std::vector<uint64_t> samples;
  for (const std::filesystem::path& path : paths) {
    TM_TRY(const base::MappedFile mapped, base::MappedFile::open(path));
    samples.push_back(sample(mapped.bytes()));
  }
  return samples.size() == 1 ? samples.front() : base::checksum(std::as_bytes(std::span(samples)));
}

}  // namespace

LoadedModel::~LoadedModel() = default;

Result<std::unique_ptr<LoadedModel>> LoadedModel::load(const ModelOptions& options, OnProgress on_progress,
                                                       std::function<bool()> cancelled) {
  const base::SteadyTime begin = base::SystemClock::instance().now();
  std::unique_ptr<LoadedModel> loaded(new LoadedModel());
  const bool from_file = !options.path.empty();
  if (!from_file && options.embedded.empty()) {
    return Error(ErrorCode::invalid_argument, "no model: give the path of a GGUF file or a Hugging Face folder")
        .with_param("model.path");
  }
  TM_TRY(const model::Checkpoint file, from_file ? model::Checkpoint::open(options.path)
                                                 : model::Checkpoint::parse(options.embedded, options.embedded_name));
  if (from_file) {
    for (const model::CheckpointFile& part : file.files())
      loaded->paths_.push_back(part.path);
  }
  loaded->embedded_ = options.embedded;
  loaded->stem_ = base::utf8::printable(from_file ? file.stem() : options.embedded_name);
  loaded->name_ = options.name.empty() ? loaded->stem_ : options.name;
  if (const std::string shown = base::utf8::printable(loaded->name_); shown != loaded->name_) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("the model's name '{}' holds control characters or is not UTF-8", shown))
        .with_param("model.name");
  }
  loaded->file_bytes_ = file.file_bytes();
  loaded->mapped_bytes_ = file.packed() != nullptr ? file.tensor_bytes() : 0;

  // What is cheap to refuse is read before the weights.
  TM_TRY(const std::string source, template_source(options, file));
  TM_TRY(text::Vocabulary vocabulary, model::read_vocabulary(file));
  auto tokenizer = text::Tokenizer::create(std::move(vocabulary));
  if (!tokenizer) return std::move(tokenizer).error().wrap(file.path().string());
  loaded->tokenizer_ = std::move(tokenizer).value();
  loaded->chat_ = std::make_unique<ChatPrompt>(
      *loaded->tokenizer_, source, base::SystemClock::instance(),
      options.chat_template_file.empty()
          ? fmt::format("the chat template of '{}'", loaded->name_)
          : fmt::format("the chat template '{}'",
                        base::utf8::printable(options.chat_template_file.filename().string())));
  if (!source.empty() && !loaded->chat_->available()) {
    if (!options.chat_template_file.empty()) {
      return Error(loaded->chat_->fault())
          .wrap(fmt::format("the chat template '{}'", options.chat_template_file.string()));
    }
    base::log::warn("{}: {}", loaded->name_, loaded->chat_->fault().to_string());
  }

  if (loaded->chat_->probed_in_part()) {
    base::log::warn(
        "{}: the chat template is too slow to find out all of how it writes tool calls and reasoning; "
        "model.tool_format and model.reasoning_format can say it",
        loaded->name_);
  }

  TM_CHECK(override_format(options, *loaded->chat_));
  loaded->grammars_ = std::make_unique<GrammarCache>(*loaded->tokenizer_);

  TM_TRY(loaded->isa_, resolve_isa(options.isa));
  const base::CpuBudget budget = base::cpu_budget();
  loaded->threads_ = options.threads > 0 ? options.threads : budget.threads;
  loaded->threads_source_ = options.threads > 0 ? "as configured; here are " + budget.source() : budget.source();
  loaded->device_ = tensor::make_cpu_device(loaded->isa_, loaded->threads_, options.activations);
  const model::LoadOptions load_options{.context = options.max_context,
                                        .max_batch_rows = options.max_batch_rows,
                                        .on_progress = std::move(on_progress),
                                        .cancelled = std::move(cancelled),
                                        .threads = loaded->threads_};
  TM_TRY(const bool encodes, model::holds_encoder(file));
  if (encodes) {
    TM_TRY(loaded->encoder_, model::load_encoder(file, *loaded->device_, load_options));
  } else {
    TM_TRY(loaded->model_, model::load_model(file, *loaded->device_, load_options));
  }
  file.release_header();
  if (from_file) {
    TM_TRY(loaded->content_sample_, sample_files(loaded->paths_));
  } else {
    loaded->content_sample_ = sample(options.embedded);
  }
  loaded->load_time_ = base::SystemClock::instance().now() - begin;
  return loaded;
}

Result<uint64_t> LoadedModel::content_checksum() const {
  base::PiecewiseChecksum sum;
  if (paths_.empty()) sum.add(embedded_);
  for (const std::filesystem::path& path : paths_) {
    TM_TRY(const base::MappedFile file, base::MappedFile::open(path));
    sum.add(file.bytes());
  }
  return sum.finish();
}

Result<std::vector<text::Token>> LoadedModel::encode_prompt(std::string_view text) const {
  TM_TRY(auto tokens, tokenizer_->encode(text, {.add_special = true, .parse_special = true, .literal = {}}));
  const text::Vocabulary& vocabulary = tokenizer_->vocabulary();
  const bool doubled = vocabulary.add_bos && vocabulary.bos && tokens.size() >= 2 && tokens[0] == *vocabulary.bos &&
                       tokens[1] == *vocabulary.bos;
  if (doubled) tokens.erase(tokens.begin());
  return tokens;
}

}  // namespace tidemill::serve
