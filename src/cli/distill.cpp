#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include <fmt/core.h>

#include "base/checksum.hpp"
#include "base/cpu_budget.hpp"
#include "base/file.hpp"
#include "base/json.hpp"
#include "base/progress.hpp"
#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "cli/model_source.hpp"
#include "cli/number_flags.hpp"
#include "cli/training_report.hpp"
#include "distill/corpus.hpp"
#include "distill/inherit.hpp"
#include "distill/shape.hpp"
#include "distill/student.hpp"
#include "distill/student_file.hpp"
#include "distill/teach.hpp"
#include "distill/train.hpp"
#include "evaluate/subject.hpp"
#include "evaluate/text_runner.hpp"
#include "model/gguf_writer.hpp"
#include "model/load.hpp"
#include "model/vocabulary.hpp"
#include "quantize/quantize_model.hpp"
#include "tensor/cpu_device.hpp"
#include "tensor/isa.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::cli {

namespace {

// Windows of the text held out that the student is judged by as it learns.
constexpr int64_t kJudgedWindows = 64;
// Of a text without one of its own, what is held out: the last hundredth.
constexpr size_t kHeldOutPart = 100;

struct TrainingFlags {
  bool taught = false;  // distill, not train
  std::string source;   // the teacher, or the model whose tokenizer is used; empty: the built-in one
  std::string student;
  std::string from;  // the model that the student begins as; empty: none
  std::string output;
  std::vector<std::string> text;
  std::string ending;
  std::string held_out;
  int64_t window = 256;
  int64_t batch = 16;
  int64_t tokens = 0;
  int64_t keep = 32;
  int64_t write = 0;
  std::string lessons;
  double hard_share = 0.3;
  double rate = 1;
  std::string type = "f16";
  std::string precision = "auto";
  uint64_t seed = 1;
  int64_t judge_every = 250;
  int64_t checkpoint_every = 250;
  bool fresh_embeddings = false;
  bool restart = false;
  int threads = 0;
  bool as_json = false;
};

base::Progress::Sink lasting_sink(bool wanted) {
  if (!wanted) return {};
  return [](std::string_view text) { fmt::print(stderr, "{}", text); };
}

std::filesystem::path beside(const std::filesystem::path& path, std::string_view ending) {
  std::filesystem::path name = path;
  name += ending;
  return name;
}

uint64_t sum_of(std::string_view text) {
  return base::checksum(std::as_bytes(std::span(text)));
}

class TrainingRun {
 public:
  explicit TrainingRun(const TrainingFlags& flags) : flags_(flags) {}

  base::Result<int> run() {
    // What is cheap to refuse is refused before any text is read.
    TM_TRY(report_.trainer, distill::trainer_version());
    TM_TRY(const model::Checkpoint source, open_model(flags_.source));
    TM_CHECK(check_output(source));
    TM_CHECK(plan(source));
    TM_CHECK(load(source));
    TM_CHECK(read_text());
    TM_TRY(std::unique_ptr<distill::Student> student, distill::make_student(plan_));
    TM_CHECK(begin(*student, source));
    TM_TRY(const std::unique_ptr<distill::Lessons> lessons, make_lessons(source));
    TM_CHECK(train(*student, *lessons));
    TM_TRY(const std::vector<distill::NamedArray> weights, student->weights());
    TM_CHECK(write(source, weights));
    TM_CHECK(judge());
    clean_up();
    if (flags_.as_json) {
      fmt::print("{}\n", base::pretty_json(to_json(report_)));
    } else {
      fmt::print("{}", to_text(report_));
    }
    return exit_success;
  }

 private:
  int threads() const { return flags_.threads > 0 ? flags_.threads : base::cpu_budget().threads; }
  std::function<bool()> cancelled() const {
    return [this] { return interrupt_.raised(); };
  }
  std::filesystem::path checkpoint_path() const { return beside(output_, ".checkpoint"); }
  std::filesystem::path lessons_path() const {
    return flags_.lessons.empty() ? beside(output_, ".lessons") : std::filesystem::path(flags_.lessons);
  }

  base::Result<void> check_output(const model::Checkpoint& source) {
    TM_TRY(output_, model::target_of(flags_.output));
    const auto taken = [&](std::string_view by) {
      return base::Error(base::ErrorCode::invalid_argument,
                         fmt::format("'{}' is {}; write the student to another name", flags_.output, by));
    };
    if (source.has_file(output_)) return taken(flags_.taught ? "the teacher itself" : "the model of the tokenizer");
    std::error_code ignored;
    if (std::filesystem::equivalent(output_, flags_.held_out, ignored)) return taken("the text held out");
    for (const std::string& path : flags_.text) {
      if (std::filesystem::equivalent(output_, path, ignored)) return taken("a text to learn from");
    }
    const std::filesystem::path folder = output_.has_parent_path() ? output_.parent_path() : ".";
    if (::access(folder.c_str(), W_OK | X_OK) != 0) return base::system_error("cannot write to the folder", folder);
    return {};
  }

  base::Result<void> plan(const model::Checkpoint& source) {
    TM_TRY(const bool encodes, model::holds_encoder(source));
    if (encodes) {
      return source.error(base::ErrorCode::unsupported,
                          flags_.taught ? "the teacher is an encoder, which predicts no tokens to learn from"
                                        : "the model is an encoder, whose tokenizer is not for writing text");
    }
    TM_TRY(const model::HyperParameters hyper, model::read_any_hyper_parameters(source));
    plan_.vocabulary = hyper.vocabulary;
    report_.teacher_parameters = flags_.taught ? source.parameters() : 0;
    TM_TRY(plan_.shape, distill::parse_shape(flags_.student, hyper.vocabulary, report_.teacher_parameters));
    plan_.window = flags_.window;
    plan_.threads = threads();
    plan_.seed = flags_.seed;
    plan_.matrix_rate *= flags_.rate;
    plan_.vector_rate *= flags_.rate;
    plan_.hard_share = flags_.hard_share;
    const tensor::CpuFeatures& cpu = tensor::cpu_features();
    const bool fast_bf16 = cpu.amx_bf16 || (cpu.avx512_bf16 && cpu.fast_bf16);
    const bool bf16 = flags_.precision == "bf16" || (flags_.precision == "auto" && fast_bf16);
    plan_.precision = bf16 ? distill::Precision::bf16 : distill::Precision::f32;
    report_.precision = bf16 ? "bf16" : "f32";
    report_.shape = plan_.shape.to_string();
    return {};
  }

  // The tokenizer, and the teacher if there is one.
  base::Result<void> load(const model::Checkpoint& source) {
    TM_TRY(text::Vocabulary vocabulary, model::read_vocabulary(source));
    if (vocabulary.add_bos && vocabulary.bos) lead_.push_back(*vocabulary.bos);
    auto tokenizer = text::Tokenizer::create(std::move(vocabulary));
    if (!tokenizer) return std::move(tokenizer).error().wrap(source.path().string());
    tokenizer_ = std::move(tokenizer).value();
    plan_.vocabulary = std::max(plan_.vocabulary, static_cast<int64_t>(tokenizer_->vocabulary().size()));
    report_.parameters = plan_.shape.parameters(plan_.vocabulary);
    TM_TRY(const tensor::Isa isa, tensor::choose_isa());
    device_ = tensor::make_cpu_device(isa, threads());
    if (!flags_.taught) return {};
    base::ReportedProgress bar("loading " + source.path().string(), base::Progress::Unit::bytes,
                               base::Progress::terminal(!flags_.as_json));
    evaluate::SubjectOptions options;
    options.context = flags_.window;
    options.threads = threads();
    options.on_progress = bar.reporter();
    options.cancelled = cancelled();
    TM_TRY(evaluate::Subject subject, evaluate::Subject::load(source, *device_, options));
    bar.finish();
    subject_ = std::make_unique<evaluate::Subject>(std::move(subject));
    return {};
  }

  base::Result<void> read_text() {
    std::string held_out;
    if (!flags_.held_out.empty()) {
      TM_TRY(held_out, base::read_file(flags_.held_out, text::Tokenizer::max_text_bytes));
      TM_TRY(held_out_, tokenizer_->encode(held_out, {.add_special = false}));
    }
    base::ReportedProgress bar("reading text", base::Progress::Unit::items, base::Progress::terminal(!flags_.as_json));
    distill::CorpusOptions options;
    options.ending = flags_.ending;
    options.held_out = held_out;
    options.on_progress = bar.reporter();
    options.cancelled = cancelled();
    TM_TRY(corpus_, distill::read_corpus(*tokenizer_, flags_.text, options));
    bar.finish();
    if (held_out_.empty()) {
      const size_t part = corpus_.tokens.size() / kHeldOutPart;
      held_out_.assign(corpus_.tokens.end() - static_cast<int64_t>(part), corpus_.tokens.end());
      corpus_.tokens.resize(corpus_.tokens.size() - part);
    }
    if (windows().count() < flags_.batch || judged_windows().count() < 1) {
      return base::Error(
                 base::ErrorCode::invalid_argument,
                 fmt::format("the text is too short: {} tokens to learn from and {} held out make {} and {} windows of "
                             "{}, and at least {} (--batch) and 1 are needed",
                             corpus_.tokens.size(), held_out_.size(), windows().count(), judged_windows().count(),
                             flags_.window, flags_.batch))
          .with_param("text");
    }
    report_.text_bytes = corpus_.bytes;
    report_.text_files = corpus_.files;
    say(fmt::format(
        "{} tokens of {} files to learn from ({} left out: {} share lines with the text held out, {} repeat "
        "others, {} are not UTF-8); a student of {} parameters, {} ({}, {})\n",
        corpus_.tokens.size(), corpus_.files, corpus_.held_out + corpus_.repeated + corpus_.not_text, corpus_.held_out,
        corpus_.repeated, corpus_.not_text, report_.parameters, report_.shape, report_.trainer, report_.precision));
    return {};
  }

  distill::TextWindows windows() const { return {corpus_.tokens, lead_, flags_.window}; }
  distill::TextWindows judged_windows() const {
    const size_t most = static_cast<size_t>(kJudgedWindows * flags_.window) + 1 - lead_.size();
    return {std::span(held_out_).first(std::min(most, held_out_.size())), lead_, flags_.window};
  }

  base::Result<std::unique_ptr<distill::Lessons>> make_lessons(const model::Checkpoint& source) {
    if (!flags_.taught) return std::unique_ptr<distill::Lessons>(new distill::TextLessons(windows()));
    TM_TRY(distill::Teacher teacher,
           distill::Teacher::create(*subject_, *device_, flags_.window, flags_.keep, threads()));
    base::ReportedProgress bar("asking the teacher", base::Progress::Unit::items,
                               base::Progress::terminal(!flags_.as_json));
    distill::TeachOptions options;
    options.written = flags_.write / flags_.window;
    options.seed = flags_.seed;
    options.teacher = quantize::fingerprint_of(source);
    options.restart = flags_.restart;
    options.on_progress = bar.reporter();
    options.cancelled = cancelled();
    report_.written_tokens = options.written * flags_.window;
    lessons_fingerprint_ = distill::lesson_format(windows(), flags_.keep, options).fingerprint;
    TM_TRY(std::unique_ptr<distill::LessonFile> lessons,
           distill::teach(teacher, windows(), flags_.keep, lessons_path(), options));
    bar.finish();
    return std::unique_ptr<distill::Lessons>(std::move(lessons));
  }

  // What the student is before it learns.
  base::Result<void> begin(distill::Student& student, const model::Checkpoint& source) {
    if (!flags_.from.empty()) {
      TM_TRY(const model::Checkpoint file, model::Checkpoint::open(flags_.from));
      if (file.has_file(output_)) {
        return base::Error(
            base::ErrorCode::invalid_argument,
            fmt::format("'{}' is what the student goes on from; write it to another name", flags_.output));
      }
      TM_TRY(const std::vector<distill::NamedArray> fresh, student.weights());
      TM_TRY(const std::vector<distill::NamedArray> weights, distill::read_student(file, plan_, fresh));
      begins_as_ = quantize::fingerprint_of(file);
      return student.restore(weights);
    }
    if (!flags_.taught || flags_.fresh_embeddings) return {};
    TM_TRY(const std::vector<distill::NamedArray> inherited,
           distill::inherit_embeddings(source, plan_.shape.width, corpus_.tokens));
    return student.restore(inherited);
  }

  base::Result<void> train(distill::Student& student, const distill::Lessons& lessons) {
    const int64_t rows = flags_.batch * flags_.window;
    const int64_t tokens = flags_.tokens > 0 ? flags_.tokens : 4 * lessons.count() * flags_.window;
    distill::TrainOptions options;
    options.steps = std::max<int64_t>(1, tokens / rows);
    options.batch = flags_.batch;
    options.seed = flags_.seed;
    options.judge_every = flags_.judge_every;
    options.checkpoint_every = flags_.checkpoint_every;
    options.checkpoint = checkpoint_path();
    options.restart = flags_.restart;
    options.cancelled = cancelled();
    // A run of other numbers than these would not go on as it began. The number of threads changes nothing.
    options.fingerprint = sum_of(
        fmt::format("{} {:016x} {:016x} {:016x} {} {} {} {} {} {} {}", report_.shape, begins_as_, lessons_fingerprint_,
                    base::checksum(std::as_bytes(std::span(corpus_.tokens))), flags_.window, report_.precision,
                    flags_.rate, flags_.hard_share, flags_.seed, flags_.fresh_embeddings, report_.trainer));
    TrainingLine line(rows, base::Progress::terminal(!flags_.as_json), lasting_sink(!flags_.as_json),
                      base::SystemClock::instance());
    auto summary = distill::train(student, lessons, judged_windows(), options, base::SystemClock::instance(),
                                  {.on_step = [&](const auto& report) { line.stepped(report); },
                                   .on_judged = [&](int64_t step, const auto& score) { line.judged(step, score); },
                                   .on_resumed = [&](int64_t step) { line.resumed(step); }});
    line.finish();
    if (!summary) return std::move(summary).error();
    report_.output = flags_.output;
    report_.text_tokens = lessons.count() * flags_.window;
    report_.steps = summary->steps;
    report_.resumed = summary->resumed;
    report_.seconds = summary->seconds;
    report_.learned_tokens = summary->steps * rows;
    return {};
  }

  base::Result<void> write(const model::Checkpoint& source, std::span<const distill::NamedArray> weights) const {
    distill::StudentFacts facts;
    facts.name = output_.stem().string();
    facts.description =
        flags_.taught ? fmt::format("distilled from {} by Tidemill", source.stem()) : "trained by Tidemill";
    facts.type = tensor::dtype_from_name(flags_.type).value_or(tensor::DType::f16);
    return distill::write_student(output_, plan_, weights, source, facts);
  }

  // The file as it runs, and the teacher, on all of the text held out.
  base::Result<void> judge() {
    TM_TRY(report_.student, judge_model(flags_.output));
    if (!flags_.taught) return {};
    TM_TRY(report_.teacher, score_of(*subject_, "judging the teacher"));
    return {};
  }

  base::Result<evaluate::TextScore> judge_model(const std::string& path) {
    TM_TRY(const model::Checkpoint file, model::Checkpoint::open(path));
    evaluate::SubjectOptions options;
    options.context = flags_.window;
    options.threads = threads();
    TM_TRY(evaluate::Subject student, evaluate::Subject::load(file, *device_, options));
    return score_of(student, "judging the student");
  }

  base::Result<evaluate::TextScore> score_of(evaluate::Subject& subject, const std::string& label) const {
    base::ReportedProgress bar(label, base::Progress::Unit::items, base::Progress::terminal(!flags_.as_json));
    evaluate::TextOptions options;
    options.window = flags_.window;
    options.stride = flags_.window;
    options.on_progress = bar.reporter();
    options.cancelled = cancelled();
    TM_TRY(const evaluate::TextResult result, evaluate::judge_tokens(subject, nullptr, held_out_, options));
    bar.finish();
    return result.score;
  }

  // What was only for the way there. Lessons that were given a name stay, for other students.
  void clean_up() const {
    std::error_code ignored;
    std::filesystem::remove(checkpoint_path(), ignored);
    if (flags_.taught && flags_.lessons.empty()) std::filesystem::remove(lessons_path(), ignored);
  }

  void say(const std::string& text) const {
    if (!flags_.as_json) fmt::print(stderr, "{}", text);
  }

  const TrainingFlags& flags_;
  const Interrupt interrupt_;
  std::filesystem::path output_;
  distill::StudentPlan plan_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::vector<model::Token> lead_;  // what stands before each window: as of evaluate::Subject
  std::unique_ptr<tensor::Device> device_;
  std::unique_ptr<evaluate::Subject> subject_;  // the teacher; null without one
  distill::Corpus corpus_;
  std::vector<model::Token> held_out_;
  uint64_t begins_as_ = 0;
  uint64_t lessons_fingerprint_ = 0;
  TrainingReport report_;
};

// The flags that both have.
void add_training_flags(CLI::App& command, const std::shared_ptr<TrainingFlags>& flags) {
  command.add_option("--text", flags->text, "Files to learn from, and folders whose files are read")
      ->type_name("PATH")
      ->required();
  command.add_option("-o,--output", flags->output, "The GGUF file to write")->type_name("FILE")->required();
  command
      .add_option(
          "--from", flags->from,
          "A model of the student's shape to go on from: what an earlier run wrote (another --rate and --tokens)")
      ->type_name("PATH");
  command.add_option("--ending", flags->ending, "Of folders, only files whose names end so: .py")->type_name("TEXT");
  command
      .add_option("--held-out", flags->held_out,
                  "Text to judge by, whose lines are kept out of what is learned (default: the last hundredth)")
      ->type_name("FILE");
  command.add_option("--window", flags->window, "Tokens that are read together, and the student's context")
      ->check(CLI::Range(8, 8192))
      ->capture_default_str();
  command.add_option("--batch", flags->batch, "Windows of a step")->check(CLI::Range(1, 4096))->capture_default_str();
  command
      .add_option("--tokens", flags->tokens, "Tokens to learn from, repeats included (default: the text four times)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 50));
  command.add_option("--rate", flags->rate, "How fast to learn, as a multiple of the usual")
      ->check(number_between(1e-4, 100))
      ->capture_default_str();
  command.add_option("--type", flags->type, "Of the matrices in the file")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}, CLI::ignore_case))
      ->capture_default_str();
  command
      .add_option("--precision", flags->precision,
                  "That matrices are multiplied in: auto is bf16 where the CPU has AMX, or is faster in it, else f32")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))
      ->capture_default_str();
  add_seed_flag(
      command, [flags](uint64_t seed) { flags->seed = seed; }, "Of first weights and of the order of windows");
  command.add_option("--judge-every", flags->judge_every, "Steps from one look at the text held out to the next")
      ->check(CLI::Range(1, max_count))
      ->capture_default_str();
  command.add_option("--checkpoint-every", flags->checkpoint_every, "Steps that a kill costs at most")
      ->check(CLI::Range(1, max_count))
      ->capture_default_str();
  command.add_flag("--restart", flags->restart, "Throw away what another or an earlier run has left unfinished");
  command.add_option("-t,--threads", flags->threads, "Threads (default: as many cores as this process may use)")
      ->check(CLI::Range(0, 1024));
  command.add_flag("--json", flags->as_json, "Print JSON");
  command.footer(
      "Stopped half-way, the same command goes on where it was, and ends with the same student. SHAPE is a name (" +
      distill::shape_names() +
      "),\nor WIDTH:LAYERS:HEADS[/KV_HEADS][:FEED_FORWARD], or with a teacher a share of its parameters, such as 23%. "
      "docs/distillation.md");
}

}  // namespace

void add_distill(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("distill", "Train a small model from what a larger one expects");
  auto flags = std::make_shared<TrainingFlags>();
  flags->taught = true;
  command->add_option("--teacher", flags->source, "The model to learn from (default: the built-in nano-coder)")
      ->type_name("PATH");
  command->add_option("--student", flags->student, "How large the student is")->type_name("SHAPE")->required();
  add_training_flags(*command, flags);
  command->add_option("--keep", flags->keep, "Of each token, how many of the teacher's likeliest next ones are kept")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command->add_option("--write", flags->write, "Tokens of text that the teacher writes itself, to learn from as well")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  command
      ->add_option("--lessons", flags->lessons,
                   "Where to keep what the teacher says, for other students (default: beside the output, until it is "
                   "done)")
      ->type_name("FILE");
  command->add_option("--hard-share", flags->hard_share, "Of the loss, the share of the text's next token")
      ->check(number_between(0, 1))
      ->capture_default_str();
  command->add_flag("--fresh-embeddings", flags->fresh_embeddings, "Begin without the teacher's embeddings");
  command->callback([=, &chosen] { chosen.body = [flags] { return TrainingRun(*flags).run(); }; });
}

void add_train(CLI::App& app, Invocation& chosen) {
  auto* command = app.add_subcommand("train", "Train a small model from text");
  auto flags = std::make_shared<TrainingFlags>();
  command
      ->add_option("--tokenizer", flags->source, "The model whose tokenizer is used (default: the built-in nano-coder)")
      ->type_name("PATH");
  command->add_option("--student", flags->student, "How large the model is")->type_name("SHAPE")->required();
  add_training_flags(*command, flags);
  command->callback([=, &chosen] { chosen.body = [flags] { return TrainingRun(*flags).run(); }; });
}

}  // namespace tidemill::cli
