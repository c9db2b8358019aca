#include "evaluate/task_runner.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "evaluate/prediction.hpp"

namespace tidemill::evaluate {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

using Tokens = std::vector<Token>;

size_t common_prefix(const Tokens& a, const Tokens& b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

// A task as tokens.
struct Encoded {
  Tokens prompt;
  std::vector<Tokens> choices;  // each behind the prompt
  size_t border = 0;            // where the first of them begins to differ from the prompt

  size_t longest(const Task& task) const {
    size_t most = prompt.size() + (task.chooses() ? 0 : 1);
    for (const Tokens& choice : choices)
      most = std::max(most, choice.size());
    return most;
  }
};

class TaskRun {
 public:
  TaskRun(Subject& subject, std::span<const Task> tasks, const TaskOptions& options)
      : subject_(subject), tasks_(tasks), options_(options) {}

  Result<TaskResult> run() {
    TM_TRY(const int64_t context, encode_all());
    TM_TRY(Reader reader, subject_.make_reader(context));
    reader_ = &reader;
    context_ = context;
    TaskResult result;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      const Task& task = tasks_[i];
      TM_TRY(Outcome outcome, task.chooses() ? choose(task, encoded_[i]) : generate(task, encoded_[i]));
      result.total.add(task, outcome);
      if (!task.group.empty()) group(result, task.group).add(task, outcome);
      result.outcomes.push_back(std::move(outcome));
      if (options_.on_progress) options_.on_progress(result.outcomes.size(), tasks_.size());
    }
    return result;
  }

 private:
  static GroupScore& group(TaskResult& result, const std::string& name) {
    const auto found = std::find_if(result.groups.begin(), result.groups.end(),
                                    [&name](const GroupScore& score) { return score.group == name; });
    if (found != result.groups.end()) return *found;
    result.groups.emplace_back().group = name;
    return result.groups.back();
  }

  static std::string at(const Task& task) { return fmt::format("the task in line {}", task.line); }

  // Gives the tokens of the longest sequence; every task is known to fit before the first is answered.
  Result<int64_t> encode_all() {
    int64_t most = 1;
    for (const Task& task : tasks_) {
      if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      TM_TRY(Encoded encoded, encode(task));
      const auto tokens = static_cast<int64_t>(encoded.longest(task));
      encoded_.push_back(std::move(encoded));
      if (tokens > subject_.context()) {
        return Error(ErrorCode::too_large, fmt::format("{} takes {} tokens, but the context of '{}' has {}", at(task),
                                                       tokens, subject_.name(), subject_.context()));
      }
      const int64_t generated = task.chooses() ? 0 : task.max_tokens;
      most = std::max(most, std::min(subject_.context(), tokens + generated));
    }
    return most;
  }

  Result<Tokens> tokens_of(std::string_view text) const {
    Tokens tokens(subject_.lead().begin(), subject_.lead().end());
    TM_TRY(const Tokens encoded, subject_.tokenizer().encode(text, {.add_special = false}));
    tokens.insert(tokens.end(), encoded.begin(), encoded.end());
    return tokens;
  }

  Result<Encoded> encode(const Task& task) const {
    Encoded encoded;
    TM_TRY(encoded.prompt, tokens_of(task.prompt));
    if (encoded.prompt.empty()) {
      return Error(ErrorCode::invalid_argument,
                   fmt::format("{} has an empty prompt, and the model has no token to begin with", at(task)));
    }
    for (size_t i = 0; i < task.choices.size(); ++i) {
      TM_TRY(Tokens choice, tokens_of(task.prompt + task.choices[i]));
      const size_t border = common_prefix(encoded.prompt, choice);
      if (border == 0 || border == choice.size()) {
        return Error(ErrorCode::invalid_argument,
                     fmt::format("choice {} of {} leaves nothing to predict behind the prompt, with which it becomes "
                                 "{} tokens",
                                 i, at(task), choice.size()));
      }
      encoded.border = i == 0 ? border : std::min(encoded.border, border);
      encoded.choices.push_back(std::move(choice));
    }
    return encoded;
  }

  Result<Outcome> choose(const Task& task, const Encoded& encoded) {
    // What all begin with is read once; the rows that predict a choice's tokens belong to the choice. All are scored
    // from the same place: those that leave the prompt as it was must not be spared what others pay for its end.
    const size_t shared = encoded.border - 1;
    TM_CHECK(read(std::span(encoded.prompt).first(shared)));
    Outcome outcome;
    double best = -HUGE_VAL;
    double best_normalised = -HUGE_VAL;
    for (size_t i = 0; i < encoded.choices.size(); ++i) {
      TM_TRY(const double likelihood, log_likelihood(task, encoded.choices[i], shared));
      const double normalised = likelihood / static_cast<double>(task.choices[i].size());
      if (likelihood > best) {
        best = likelihood;
        outcome.chosen = i;
      }
      if (normalised > best_normalised) {
        best_normalised = normalised;
        outcome.chosen_normalised = i;
      }
    }
    return outcome;
  }

  // Of what follows tokens[known], where tokens before it are read already.
  Result<double> log_likelihood(const Task& task, const Tokens& tokens, size_t known) {
    double sum = 0;
    const auto step_rows = static_cast<size_t>(reader_->step_rows());
    const size_t end = tokens.size() - 1;  // behind the last token nothing is asked
    for (size_t at_token = known; at_token < end; at_token += step_rows) {
      if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      const size_t count = std::min(step_rows, end - at_token);
      const tensor::ConstMatrix logits =
          reader_->read(std::span(tokens).subspan(at_token, count), static_cast<int64_t>(at_token), 0);
      for (int64_t r = 0; r < logits.rows; ++r) {
        const Token next = tokens[at_token + static_cast<size_t>(r) + 1];
        TM_TRY(const Prediction prediction, predict_row(task, logits, r, next));
        sum -= prediction.surprise;
      }
    }
    return sum;
  }

  Result<Outcome> generate(const Task& task, const Encoded& encoded) {
    const text::Tokenizer& tokenizer = subject_.tokenizer();
    Tokens generated;
    size_t position = encoded.prompt.size() - 1;
    TM_CHECK(read(std::span(encoded.prompt).first(position)));
    Token last = encoded.prompt.back();
    std::string text;
    while (static_cast<int>(generated.size()) < task.max_tokens && static_cast<int64_t>(position) < context_) {
      if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      const tensor::ConstMatrix logits = reader_->read(std::span(&last, 1), static_cast<int64_t>(position), 0);
      TM_TRY(const Prediction prediction, predict_row(task, logits, 0, std::nullopt));
      last = prediction.best;
      ++position;
      if (tokenizer.ends_generation(last)) break;
      generated.push_back(last);
      text = tokenizer.decode(generated);
      if (cut_at_stop(text, task.stop)) break;
    }
    Outcome outcome;
    outcome.generated = std::string(trimmed(text));
    outcome.matched = std::find(task.answers.begin(), task.answers.end(), outcome.generated) != task.answers.end();
    return outcome;
  }

  static bool cut_at_stop(std::string& text, const std::vector<std::string>& stops) {
    size_t first = std::string::npos;
    for (const std::string& stop : stops)
      first = std::min(first, text.find(stop));
    if (first == std::string::npos) return false;
    text.resize(first);
    return true;
  }

  // Reads a sequence's first tokens, whose logits nobody wants.
  Result<void> read(std::span<const Token> tokens) {
    size_t position = 0;
    const auto step_rows = static_cast<size_t>(reader_->step_rows());
    while (!tokens.empty()) {
      if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      const size_t count = std::min(step_rows, tokens.size());
      reader_->read(tokens.first(count), static_cast<int64_t>(position), static_cast<int64_t>(count));
      tokens = tokens.subspan(count);
      position += count;
    }
    return {};
  }

  Result<Prediction> predict_row(const Task& task, const tensor::ConstMatrix& logits, int64_t row,
                                 std::optional<Token> next) const {
    const std::optional<Prediction> prediction = predict({logits.row(row), static_cast<size_t>(logits.cols)}, next);
    if (!prediction) return subject_.no_distribution(at(task));
    return *prediction;
  }

  Subject& subject_;
  std::span<const Task> tasks_;
  const TaskOptions& options_;
  std::vector<Encoded> encoded_;  // the tasks
  Reader* reader_ = nullptr;
  int64_t context_ = 0;
};

}  // namespace

void GroupScore::add(const Task& task, const Outcome& outcome) {
  if (task.chooses()) {
    ++choices;
    right += outcome.chosen == task.right ? 1 : 0;
    right_normalised += outcome.chosen_normalised == task.right ? 1 : 0;
  } else {
    ++generated;
    matched += outcome.matched ? 1 : 0;
  }
}

Result<TaskResult> answer_tasks(Subject& subject, std::span<const Task> tasks, const TaskOptions& options) {
  return TaskRun(subject, tasks, options).run();
}

}  // namespace tidemill::evaluate
