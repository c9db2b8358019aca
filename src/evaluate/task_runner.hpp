// How many tasks a model answers as it should.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "evaluate/subject.hpp"
#include "evaluate/task_file.hpp"

namespace tidemill::evaluate {

struct TaskOptions {
  std::function<void(size_t done, size_t total)> on_progress;  // tasks
  std::function<bool()> cancelled;                             // asked before each step; true ends the work
};

// What came of one task.
struct Outcome {
  size_t chosen = 0;             // the choice with the highest log likelihood, of equals the first
  size_t chosen_normalised = 0;  // the same, each divided by the bytes of its choice's text
  std::string generated;         // trimmed of white space
  bool matched = false;          // whether it is one of the answers
};

struct GroupScore {
  std::string group;
  int64_t choices = 0;           // tasks with choices
  int64_t right = 0;             // of them, by plain log likelihood
  int64_t right_normalised = 0;  // of them, by that a byte
  int64_t generated = 0;         // tasks whose answer is generated
  int64_t matched = 0;           // of them, those that match exactly

  void add(const Task& task, const Outcome& outcome);
};

struct TaskResult {
  std::vector<Outcome> outcomes;   // in the order of the tasks
  std::vector<GroupScore> groups;  // in the order in which they first come; empty where no task names one
  GroupScore total;
};

// Answers them one after the other. A choice's likelihood is that of its tokens, prompt and choice together, from the
// first on in which any choice of the task differs from the prompt alone: so words that grow together over the border
// count as they are read, and all choices of a task are scored from the same place. Generation is greedy and ends at a
// stop string, a token that ends generations, max_tokens, or where the context does. Errors, which name the task's
// line: `too_large` where a task is longer than the context, `invalid_argument` where a choice adds nothing that could
// be predicted; `corrupt` where logits are no numbers, `exhausted`, `cancelled`.
base::Result<TaskResult> answer_tasks(Subject& subject, std::span<const Task> tasks, const TaskOptions& options);

}  // namespace tidemill::evaluate
