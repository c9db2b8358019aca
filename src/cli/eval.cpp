#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/cpu_budget.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/progress.hpp"
#include "base/utf8.hpp"
#include "cli/command.hpp"
#include "cli/eval_report.hpp"
#include "cli/interrupt.hpp"
#include "cli/local_engine.hpp"
#include "cli/model_source.hpp"
#include "evaluate/subject.hpp"
#include "evaluate/task_file.hpp"
#include "evaluate/task_runner.hpp"
#include "evaluate/text_runner.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::cli {

namespace {

constexpr int64_t kWindow = 512;

struct EvalFlags {
  std::string model;
  std::string text;
  std::string tasks;
  std::string against;
  bool plain = false;
  bool has_against = false;
  int64_t window = 0;
  int64_t stride = 0;
  int64_t tokens = 0;
  std::string kv_type = "f16";
  std::string isa = "auto";
  std::string activations = "dynamic";
  int threads = 0;
  bool as_json = false;
};

class Evaluation {
 public:
  explicit Evaluation(const EvalFlags& flags) : flags_(flags) {}

  base::Result<int> run() {
    // What is cheap to refuse is refused before any model is loaded.
    std::string text;
    std::vector<evaluate::Task> tasks;
    if (!flags_.text.empty()) {
      TM_TRY(text, base::read_file(flags_.text, text::Tokenizer::max_text_bytes));
    }
    if (!flags_.tasks.empty()) {
      TM_TRY(const std::string lines, base::read_file(flags_.tasks));
      TM_TRY(tasks, evaluate::parse_tasks(lines, flags_.tasks));
    }
    const int64_t window = flags_.window > 0 ? flags_.window : kWindow;
    TM_CHECK(load(flags_.text.empty() ? 0 : window));
    if (!flags_.text.empty()) TM_CHECK(judge(text));
    if (!tasks.empty()) {
      if (for_short_contexts()) TM_CHECK(load(0));
      TM_CHECK(answer(tasks));
    }
    if (flags_.as_json) {
      fmt::print("{}\n", base::pretty_json(to_json(report_)));
    } else {
      fmt::print("{}", to_table(report_));
    }
    return exit_success;
  }

 private:
  int threads() const { return flags_.threads > 0 ? flags_.threads : base::cpu_budget().threads; }

  // For sequences of `context` tokens; 0: as long as the models take them.
  base::Result<void> load(int64_t context) {
    subject_.reset();
    reference_.reset();
    tensor::Isa isa{};
    if (flags_.isa == "auto") {
      TM_TRY(isa, tensor::choose_isa());
    } else {
      TM_TRY(isa, named_isa());
    }
    device_ = tensor::make_cpu_device(
        isa, threads(),
        tensor::parse_activation_scheme(flags_.activations).value_or(tensor::ActivationScheme::dynamic));
    report_.device = device_->description();
    TM_TRY(subject_, load_subject(flags_.model, false, context));
    report_.subject = facts(*subject_);
    if (!flags_.has_against && !flags_.plain) return {};
    TM_TRY(reference_, load_subject(flags_.has_against ? flags_.against : flags_.model, flags_.plain, context));
    TM_CHECK(evaluate::check_same_vocabulary(*subject_, *reference_));
    report_.reference = facts(*reference_);
    return {};
  }

  // Whether a model was loaded such that it reads nothing longer (LongRoPE).
  bool for_short_contexts() const {
    const auto is_short = [](const std::unique_ptr<evaluate::Subject>& subject) {
      return subject != nullptr && subject->model().hyper_parameters().for_short_contexts;
    };
    return is_short(subject_) || is_short(reference_);
  }

  base::Result<tensor::Isa> named_isa() const {
    std::string known;
    for (const tensor::Isa isa : tensor::available_isas()) {
      if (tensor::to_string(isa) == flags_.isa) return isa;
      known += fmt::format("{}{}", known.empty() ? "" : ", ", tensor::to_string(isa));
    }
    return base::Error(base::ErrorCode::invalid_argument,
                       fmt::format("--isa '{}' is not one of this machine's: auto, {}", flags_.isa, known));
  }

  base::Result<std::unique_ptr<evaluate::Subject>> load_subject(const std::string& path, bool plain, int64_t context) {
    TM_TRY(const model::Checkpoint file, open_model(path));
    base::ReportedProgress bar("loading " + file.path().string(), base::Progress::Unit::bytes,
                               base::Progress::terminal(!flags_.as_json));
    evaluate::SubjectOptions options;
    options.context = context;
    options.threads = threads();
    options.kv_type = tensor::parse_kv_type(flags_.kv_type).value_or(tensor::KvType::f16);
    options.plain = plain;
    options.on_progress = bar.reporter();
    options.cancelled = [this] { return interrupt_.raised(); };
    TM_TRY(evaluate::Subject subject, evaluate::Subject::load(file, *device_, options));
    bar.finish();
    return std::make_unique<evaluate::Subject>(std::move(subject));
  }

  SubjectFacts facts(const evaluate::Subject& subject) const {
    return {.name = base::utf8::printable(subject.name()),
            .plain = subject.plain(),
            .activations = subject.plain() ? "f32" : flags_.activations,
            .kv_type = std::string(tensor::to_string(subject.kv_type())),
            .file_bytes = subject.file_bytes(),
            .weight_bytes = subject.model().weight_bytes()};
  }

  base::Result<void> judge(const std::string& text) {
    evaluate::TextOptions options;
    int64_t context = subject_->context();
    if (reference_) context = std::min(context, reference_->context());
    options.window = flags_.window > 0 ? flags_.window : std::min(kWindow, context);
    options.stride = flags_.stride > 0 ? flags_.stride : options.window;
    options.tokens = flags_.tokens;
    base::ReportedProgress bar("reading " + flags_.text, base::Progress::Unit::items,
                               base::Progress::terminal(!flags_.as_json));
    options.on_progress = bar.reporter();
    options.cancelled = [this] { return interrupt_.raised(); };
    TM_TRY(evaluate::TextResult result, evaluate::judge_text(*subject_, reference_.get(), text, options));
    bar.finish();
    report_.text.emplace(
        TextReport{base::utf8::printable(flags_.text), options.window, options.stride, std::move(result)});
    return {};
  }

  base::Result<void> answer(const std::vector<evaluate::Task>& tasks) {
    TaskReport report{.file = base::utf8::printable(flags_.tasks), .subject = {}, .reference = {}};
    for (evaluate::Subject* subject : {subject_.get(), reference_.get()}) {
      if (subject == nullptr) continue;
      base::ReportedProgress bar("answering " + flags_.tasks, base::Progress::Unit::items,
                                 base::Progress::terminal(!flags_.as_json));
      evaluate::TaskOptions options;
      options.on_progress = bar.reporter();
      options.cancelled = [this] { return interrupt_.raised(); };
      auto answered = evaluate::answer_tasks(*subject, tasks, options);
      if (!answered) return std::move(answered).error().wrap(flags_.tasks);
      bar.finish();
      if (subject == subject_.get()) {
        report.subject = std::move(answered).value();
      } else {
        report.reference.emplace(std::move(answered).value());
      }
    }
    report_.tasks.emplace(std::move(report));
    return {};
  }

  const EvalFlags& flags_;
  const Interrupt interrupt_;
  std::unique_ptr<tensor::Device> device_;
  std::unique_ptr<evaluate::Subject> subject_;
  std::unique_ptr<evaluate::Subject> reference_;
  EvalReport report_;
};

base::Result<int> eval(const EvalFlags& flags) {
  if (flags.text.empty() && flags.tasks.empty()) {
    return base::Error(base::ErrorCode::invalid_argument,
                       "eval needs something to judge the model by: --text FILE, --tasks FILE.jsonl, or both");
  }
  return Evaluation(flags).run();
}

}  // namespace

void add_eval(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("eval", "Say how well a model predicts a text and answers tasks");
  auto flags = std::make_shared<EvalFlags>();
  add_model_flag(*command, flags->model, true);
  command->add_option("--text", flags->text, "Text to predict: perplexity, bits a byte, next tokens that are right")
      ->type_name("FILE");
  command
      ->add_option("--tasks", flags->tasks,
                   "Tasks to answer, one JSON object a line: {prompt, choices, answer}, or {prompt, answer}")
      ->type_name("FILE");
  auto* against =
      command
          ->add_option("--against", flags->against,
                       "A model of the same vocabulary that reads the same: agreement on the most likely token, and "
                       "KL divergence")
          ->type_name("PATH");
  command->add_flag("--plain", flags->plain,
                    "The model held against computes in F32 throughout, from dequantised weights; without --against "
                    "it is the model itself");
  command->add_option("--window", flags->window, "Tokens that are read together (default: 512, or the context)")
      ->check(CLI::Range(1, max_count));
  command
      ->add_option(
          "--stride", flags->stride,
          "Tokens between the beginnings of windows (default: the window); less gives each token more to go by")
      ->check(CLI::Range(1, max_count));
  command->add_option("--tokens", flags->tokens, "At most so many tokens of the text (default: all)")
      ->check(CLI::Range(1, max_count));
  command->add_option("-t,--threads", flags->threads, "Threads (default: as many cores as this process may use)")
      ->check(CLI::Range(0, 1024));
  command->add_option("--isa", flags->isa, "Instruction set: auto, scalar, avx2, avx512-vnni, avx512-bf16 or amx")
      ->capture_default_str();
  add_activations_flag(*command, flags->activations);
  command->add_option("--kv-type", flags->kv_type, "Element type of keys and values")
      ->check(CLI::IsMember({"f16", "bf16", "f32", "int8"}))
      ->capture_default_str();
  command->add_flag("--json", flags->as_json, "Print JSON");
  command->footer(
      "  tidemill eval small.gguf --text held-out.txt --against large.gguf\n"
      "docs/evaluation.md says what the numbers are.");
  command->callback([=, &chosen] {
    flags->has_against = against->count() > 0;
    chosen.body = [flags] { return eval(*flags); };
  });
}

}  // namespace tidemill::cli
