// What `tidemill distill` and `tidemill train` say while they work, and at the end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "base/json.hpp"
#include "base/progress.hpp"
#include "distill/train.hpp"
#include "evaluate/prediction.hpp"

namespace tidemill::cli {

// One line that lives, on a terminal; elsewhere, and whenever the student is judged, a line that stays. All of it goes
// to `line`, or to nobody.
class TrainingLine {
 public:
  // `rows` of one step; `clock` must outlive it.
  TrainingLine(int64_t rows, base::Progress::Sink live, base::Progress::Sink lasting, const base::Clock& clock);

  void stepped(const distill::StepReport& report);
  void judged(int64_t step, const distill::Score& held_out);
  void resumed(int64_t step);
  // Ends the line that lives.
  void finish();

 private:
  std::string text() const;

  int64_t rows_;
  base::Progress::Sink live_;
  base::Progress::Sink lasting_;
  const base::Clock& clock_;
  distill::StepReport last_;
  double nats_ = 0;  // a token, smoothed over steps
  double divergence_ = 0;
  bool any_ = false;
  bool taught_ = false;
  std::optional<base::SteadyTime> drawn_;
  std::optional<base::SteadyTime> since_;  // of the first step of this run
  int64_t first_ = 0;                      // steps done then
};

// "2.3012 nats, 51.23 % right"
std::string score_text(double nats, double accuracy);

struct TrainingReport {
  std::string output;
  std::string shape;
  int64_t parameters = 0;
  int64_t teacher_parameters = 0;  // 0: there is none
  size_t text_bytes = 0;
  size_t text_files = 0;
  int64_t text_tokens = 0;
  int64_t written_tokens = 0;  // of these, by the teacher
  int64_t steps = 0;
  int64_t resumed = 0;
  int64_t learned_tokens = 0;
  double seconds = 0;
  std::string trainer;
  std::string precision;
  evaluate::TextScore student;  // on the text held out, as the file runs
  std::optional<evaluate::TextScore> teacher;
};

base::json::object to_json(const TrainingReport& report);
std::string to_text(const TrainingReport& report);

}  // namespace tidemill::cli
