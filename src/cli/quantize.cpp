#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/cpu_budget.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/progress.hpp"
#include "base/units.hpp"
#include "base/utf8.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_source.hpp"
#include "cli/number_flags.hpp"
#include "model/gguf_writer.hpp"
#include "quantize/calibration.hpp"
#include "quantize/mixture.hpp"
#include "quantize/plan.hpp"
#include "quantize/quantize_model.hpp"
#include "quantize/widen.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::cli {

namespace {

struct QuantizeFlags {
  std::string source;
  std::string output;
  std::string type = "int8";
  double bits = 0;  // 0: all of `type`
  bool per_channel = false;
  std::vector<std::string> rules;
  std::string calibrate;
  int64_t calibration_tokens = 16384;
  int64_t calibration_window = 512;
  bool no_smoothing = false;
  bool no_compensation = false;
  bool restart = false;
  int threads = 0;
  bool as_json = false;
};

class Quantization {
 public:
  explicit Quantization(const QuantizeFlags& flags) : flags_(flags) {}

  base::Result<int> run() {
    quantize::QuantizeOptions options;
    const auto type = quantize::type_from_name(flags_.type);
    if (!type) {
      return base::Error(base::ErrorCode::invalid_argument,
                         fmt::format("unknown type '{}': use one of {}", flags_.type, quantize::type_names()));
    }
    options.type = *type;
    options.bits = flags_.bits;
    options.per_channel = flags_.per_channel;
    if (flags_.per_channel && options.type != tensor::DType::q8_0) {
      return base::Error(base::ErrorCode::invalid_argument,
                         fmt::format("--per-channel is of int8 (Q8_0), not of {}", tensor::info(options.type).name));
    }
    for (const std::string& rule : flags_.rules) {
      TM_TRY(quantize::TensorRule parsed, quantize::parse_rule(rule));
      options.rules.push_back(std::move(parsed));
    }
    options.threads = threads();
    options.restart = flags_.restart;
    options.smooth = !flags_.no_smoothing;
    options.compensate = !flags_.no_compensation;
    options.cancelled = [this] { return interrupt_.raised(); };
    TM_TRY(const std::filesystem::path path, find_model(flags_.source));
    TM_TRY(const model::Checkpoint opened, model::Checkpoint::open(path));
    widened_ = quantize::widen(opened, flags_.bits > 0 ? tensor::DType::q8_0 : options.type, options.rules);
    const model::Checkpoint& source = widened_ ? widened_->checkpoint : opened;
    std::string text;
    quantize::CalibrationOptions reading;
    if (!flags_.calibrate.empty()) {
      TM_TRY(text, base::read_file(flags_.calibrate, text::Tokenizer::max_text_bytes));
      TM_TRY(reading, calibration_options());
      options.inputs = {flags_.calibrate};
      options.calibration_fingerprint = quantize::fingerprint_of(text, reading);
    }
    TM_CHECK(quantize::check_quantization(source, flags_.output, options));
    std::unique_ptr<quantize::Calibration> calibration;
    if (!flags_.calibrate.empty()) {
      TM_TRY(calibration, calibrate(source, text, std::move(reading), options));
      options.calibration = calibration.get();
      warn_of_few_tokens(calibration->tokens());
    }
    if (flags_.bits > 0 && calibration != nullptr) TM_CHECK(mix(source, *calibration, options));
    options.on_smoothing = part_of(smoothing_);
    base::ReportedProgress bar("quantising to " + flags_.output, base::Progress::Unit::bytes, terminal());
    options.on_progress = bar.reporter();
    TM_TRY(const quantize::QuantizeSummary summary, quantize::quantize_model(source, flags_.output, options));
    bar.finish();
    print(opened, options.type, summary);
    return exit_success;
  }

 private:
  int threads() const { return flags_.threads > 0 ? flags_.threads : base::cpu_budget().threads; }

  base::Result<quantize::CalibrationOptions> calibration_options() {
    quantize::CalibrationOptions options;
    options.tokens = flags_.calibration_tokens;
    options.window = flags_.calibration_window;
    TM_TRY(options.isa, tensor::choose_isa());
    options.threads = threads();
    options.influences = flags_.bits > 0;
    options.on_read = part_of(reading_);
    options.cancelled = [this] { return interrupt_.raised(); };
    return options;
  }

  base::Result<std::unique_ptr<quantize::Calibration>> calibrate(const model::Checkpoint& source,
                                                                 const std::string& text,
                                                                 quantize::CalibrationOptions options,
                                                                 const quantize::QuantizeOptions& then) const {
    TM_TRY(const auto tensors, quantize::compensated_tensors(source, then));
    options.compensated = [tensors](std::string_view tensor) { return tensors.contains(tensor); };
    // Beside the output, whose disk has room for something as large.
    TM_TRY(const std::filesystem::path target, model::target_of(flags_.output));
    options.folder = target.has_parent_path() ? target.parent_path() : std::filesystem::path(".");
    return quantize::Calibration::create(source, text, options);
  }

  void warn_of_few_tokens(int64_t tokens) const {
    constexpr int64_t few = 1000;
    if (tokens >= few) return;
    base::log::warn(
        "'{}' gave {} tokens to calibrate with: from so few, weights are rounded to suit them rather than "
        "what the model will read; some thousand are needed",
        base::utf8::printable(flags_.calibrate), tokens);
  }

  base::Result<void> mix(const model::Checkpoint& source, const quantize::Calibration& calibration,
                         quantize::QuantizeOptions& into) {
    TM_TRY(quantize::Mixture mixture,
           quantize::plan_mixture(source, calibration, into.rules, {flags_.bits, widened_ ? widened_->zeros : 0},
                                  into.cancelled, part_of(planning_)));
    into.type = mixture.type;
    // What was asked for holds over what was found.
    into.rules.insert(into.rules.begin(), mixture.rules.begin(), mixture.rules.end());
    bits_ = mixture.bits;
    return {};
  }

  base::Progress::Sink terminal() const { return base::Progress::terminal(!flags_.as_json); }

  // Draws into `bar`, and ends it when all is done.
  static std::function<void(size_t, size_t)> part_of(base::ReportedProgress& bar) {
    return [&bar](size_t done, size_t total) {
      bar.report(done, total);
      if (done >= total) bar.finish();
    };
  }

  void print(const model::Checkpoint& source, tensor::DType type, const quantize::QuantizeSummary& summary) const {
    const double saved =
        1 - static_cast<double>(summary.tensor_bytes) / static_cast<double>(std::max<size_t>(1, source.tensor_bytes()));
    if (flags_.as_json) {
      base::json::array others(summary.other_types.begin(), summary.other_types.end());
      fmt::print("{}\n", base::json::serialize(base::json::object{{"file", base::utf8::sanitize(flags_.output)},
                                                                  {"source", base::utf8::sanitize(flags_.source)},
                                                                  {"type", tensor::info(type).name},
                                                                  {"per_channel", flags_.per_channel},
                                                                  {"tensors", summary.tensors},
                                                                  {"changed", summary.changed},
                                                                  {"of_type", summary.of_type},
                                                                  {"other_types", std::move(others)},
                                                                  {"mixture_bits", bits_},
                                                                  {"feed_forward_length", width()},
                                                                  {"smoothed_norms", summary.smoothed},
                                                                  {"compensated", summary.compensated},
                                                                  {"resumed", summary.resumed},
                                                                  {"source_tensor_bytes", source.tensor_bytes()},
                                                                  {"tensor_bytes", summary.tensor_bytes},
                                                                  {"bytes", summary.bytes}}));
      return;
    }
    fmt::print("{}: {} tensors, {} of them changed; matrices: {} in {}", base::utf8::printable(flags_.output),
               summary.tensors, summary.changed, summary.of_type, tensor::info(type).name);
    for (const std::string& other : summary.other_types)
      fmt::print(", {}", other);
    fmt::print("; {}, {:.1f} % {} in weights\n", base::human_bytes(static_cast<double>(summary.bytes)),
               100 * std::abs(saved), saved < 0 ? "more" : "less");
    if (flags_.per_channel) fmt::print("  one scale for each row of a matrix in Q8_0\n");
    if (widened_) {
      fmt::print("  feed-forward blocks are {} wide inside instead of {}, by zeros: blocks of 32 fit\n", widened_->to,
                 widened_->from);
    }
    if (bits_ > 0) fmt::print("  {:.2f} bits a weight in memory\n", bits_);
    if (summary.resumed > 0) fmt::print("  {} tensors were there from before\n", summary.resumed);
    if (!flags_.calibrate.empty()) {
      fmt::print("  {} norms took outlier channels in, {} matrices made up for rounding errors\n", summary.smoothed,
                 summary.compensated);
    }
  }

  // {"source": 172, "file": 192} where they are not the same.
  base::json::value width() const {
    if (!widened_) return nullptr;
    return base::json::object{{"source", widened_->from}, {"file", widened_->to}};
  }

  const QuantizeFlags& flags_;
  const Interrupt interrupt_;
  base::ReportedProgress reading_{"reading " + flags_.calibrate, base::Progress::Unit::items, terminal()};
  base::ReportedProgress smoothing_{"looking for outliers", base::Progress::Unit::items, terminal()};
  base::ReportedProgress planning_{"choosing types", base::Progress::Unit::items, terminal()};
  std::optional<quantize::Widened> widened_;
  double bits_ = 0;  // of a mixture; 0: there is none
};

}  // namespace

void add_quantize(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("quantize", "Write a model with its weights in fewer bits");
  auto flags = std::make_shared<QuantizeFlags>();
  command
      ->add_option("--source,source", flags->source,
                   "The GGUF file or Hugging Face folder, or hf:ORG/REPO that was fetched")
      ->type_name("PATH")
      ->required();
  command->add_option("-o,--output,output", flags->output, "The GGUF file to write")->type_name("FILE")->required();
  auto* type =
      command->add_option("--type", flags->type, "Of the matrices: " + quantize::type_names())->capture_default_str();
  auto* per_channel = command->add_flag("--per-channel", flags->per_channel,
                                        "Of int8: one scale for each row of a matrix instead of one for each 32 of it");
  command
      ->add_option("--tensor", flags->rules,
                   "A type of its own for tensors whose name matches, with * and ?; may be repeated, the last holds")
      ->type_name("PATTERN=TYPE")
      ->allow_extra_args(false);
  auto* calibrate =
      command
          ->add_option("--calibrate", flags->calibrate,
                       "Text like that which the model will read: roundings that matter to it are made with more care")
          ->type_name("FILE");
  command
      ->add_option("--bits", flags->bits,
                   "Instead of --type: as many bits a weight in memory on average at most, more where they matter more")
      ->check(number_between(2, 16))
      ->needs(calibrate)
      ->excludes(type)
      ->excludes(per_channel);
  command->add_option("--calibration-tokens", flags->calibration_tokens, "At most so many tokens of the text")
      ->check(CLI::Range(1, max_count))
      ->needs(calibrate)
      ->capture_default_str();
  command->add_option("--calibration-window", flags->calibration_window, "Tokens of it that are read together")
      ->check(CLI::Range(2, max_count))
      ->needs(calibrate)
      ->capture_default_str();
  command->add_flag("--no-smoothing", flags->no_smoothing, "Leave outlier channels where they are");
  command->add_flag("--no-compensation", flags->no_compensation,
                    "Round each weight by itself: faster, and worse in 5 bits and less");
  command->add_flag("--restart", flags->restart, "Throw away an unfinished file of another model or other options");
  command->add_option("-t,--threads", flags->threads, "Threads (default: as many cores as this process may use)")
      ->check(CLI::Range(0, 1024));
  command->add_flag("--json", flags->as_json, "Print JSON");
  command->footer(
      "int8 is Q8_0: 8-bit integers with a scale for each 32. Without --calibrate never more than one tensor is in\n"
      "memory; with it part of a layer is. Stopped half-way, the same command goes on where it was. "
      "docs/quantisation.md");
  command->callback([=, &chosen] { chosen.body = [flags] { return Quantization(*flags).run(); }; });
}

}  // namespace tidemill::cli
