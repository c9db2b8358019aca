#include "cli/training_report.hpp"

#include <optional>
#include <utility>

#include <fmt/format.h>

namespace tidemill::cli {

namespace {

constexpr auto kRedraw = std::chrono::milliseconds(200);
constexpr double kSmoothing = 0.98;

// Nothing where the teacher has no next token right.
std::optional<double> accuracy_kept(const TrainingReport& report) {
  const double whole = report.teacher->accuracy();
  return whole > 0 ? std::optional(report.student.accuracy() / whole) : std::nullopt;
}

double accuracy(const distill::Score& score) {
  return static_cast<double>(score.right) / static_cast<double>(score.rows);
}

std::string clock_text(double seconds) {
  const auto whole = static_cast<int64_t>(seconds);
  return whole < 3600 ? fmt::format("{}:{:02}", whole / 60, whole % 60)
                      : fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

TrainingLine::TrainingLine(int64_t rows, base::Progress::Sink live, base::Progress::Sink lasting,
                           const base::Clock& clock)
    : rows_(rows), live_(std::move(live)), lasting_(std::move(lasting)), clock_(clock) {}

std::string TrainingLine::text() const {
  std::string text = fmt::format("step {}/{}  loss {:.3f}", last_.step, last_.steps, nats_);
  if (taught_) text += fmt::format("  from teacher {:.3f}", divergence_);
  text += fmt::format("  rate {:.2f}", last_.rate);
  const int64_t made = last_.step - first_;
  const double seconds = since_ ? base::seconds(clock_.now() - *since_) : 0;
  if (made > 0 && seconds > 0) {
    text +=
        fmt::format("  {:.0f} tokens/s  ETA {}", static_cast<double>(made * rows_) / seconds,
                    clock_text(seconds / static_cast<double>(made) * static_cast<double>(last_.steps - last_.step)));
  }
  return text;
}

void TrainingLine::stepped(const distill::StepReport& report) {
  const auto rows = static_cast<double>(report.score.rows);
  const double nats = report.score.nats / rows;
  const double divergence = report.score.divergence / rows;
  nats_ = any_ ? kSmoothing * nats_ + (1 - kSmoothing) * nats : nats;
  divergence_ = any_ ? kSmoothing * divergence_ + (1 - kSmoothing) * divergence : divergence;
  taught_ = taught_ || divergence != 0;
  any_ = true;
  last_ = report;
  const base::SteadyTime now = clock_.now();
  if (!since_) {
    since_ = now;
    first_ = report.step;
  }
  if (!live_ || (drawn_ && now - *drawn_ < kRedraw)) return;
  drawn_ = now;
  live_("\r\x1b[K" + text());
}

void TrainingLine::judged(int64_t step, const distill::Score& held_out) {
  if (live_) live_("\r\x1b[K");
  if (!lasting_) return;
  lasting_(fmt::format("{}  held out {}\n", any_ ? text() : fmt::format("step {}", step),
                       score_text(held_out.nats / static_cast<double>(held_out.rows), accuracy(held_out))));
}

void TrainingLine::resumed(int64_t step) {
  if (lasting_) lasting_(fmt::format("going on after step {}\n", step));
}

void TrainingLine::finish() {
  if (live_ && drawn_) live_("\r\x1b[K");
  drawn_.reset();
}

std::string score_text(double nats, double accuracy) {
  return fmt::format("{:.4f} nats, {:.2f} % right", nats, 100 * accuracy);
}

base::json::object to_json(const TrainingReport& report) {
  const auto score = [](const evaluate::TextScore& of) {
    return base::json::object{{"tokens", of.tokens},
                              {"nats_per_token", of.nats_per_token()},
                              {"accuracy", of.accuracy()},
                              {"accuracy_error", of.accuracy_error()}};
  };
  base::json::object json{{"file", report.output},
                          {"shape", report.shape},
                          {"parameters", report.parameters},
                          {"text", base::json::object{{"files", report.text_files},
                                                      {"bytes", report.text_bytes},
                                                      {"tokens", report.text_tokens},
                                                      {"written_by_teacher", report.written_tokens}}},
                          {"steps", report.steps},
                          {"resumed", report.resumed},
                          {"learned_tokens", report.learned_tokens},
                          {"seconds", report.seconds},
                          {"trainer", report.trainer},
                          {"precision", report.precision},
                          {"held_out", score(report.student)}};
  if (report.teacher) {
    json["teacher_parameters"] = report.teacher_parameters;
    json["teacher_held_out"] = score(*report.teacher);
    const auto kept = accuracy_kept(report);
    json["accuracy_kept"] = kept ? base::json::value(*kept) : nullptr;
  }
  return json;
}

std::string to_text(const TrainingReport& report) {
  std::string text =
      fmt::format("{}: {} parameters, {}; learned from {:.2f} M tokens of {} files in {} steps, {}\n", report.output,
                  report.parameters, report.shape, static_cast<double>(report.learned_tokens) / 1e6, report.text_files,
                  report.steps, clock_text(report.seconds));
  text += fmt::format("  held out: {}\n", score_text(report.student.nats_per_token(), report.student.accuracy()));
  if (report.teacher) {
    text += fmt::format("  teacher:  {}\n", score_text(report.teacher->nats_per_token(), report.teacher->accuracy()));
    const auto kept = accuracy_kept(report);
    text += fmt::format("  {:.1f} % of the teacher's parameters, {} of its next-token accuracy\n",
                        100 * static_cast<double>(report.parameters) / static_cast<double>(report.teacher_parameters),
                        kept ? fmt::format("{:.2f} %", 100 * *kept) : "-");
  }
  return text;
}

}  // namespace tidemill::cli
