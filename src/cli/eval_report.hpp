// What `tidemill eval` has found, as a table and as JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/json.hpp"
#include "evaluate/task_runner.hpp"
#include "evaluate/text_runner.hpp"

namespace tidemill::cli {

struct SubjectFacts {
  std::string name;  // fit for a terminal
  bool plain = false;
  std::string activations;  // tensor::to_string of the scheme
  std::string kv_type;
  size_t file_bytes = 0;
  size_t weight_bytes = 0;  // in memory
};

struct TextReport {
  std::string file;
  int64_t window = 0;
  int64_t stride = 0;
  evaluate::TextResult result;
};

struct TaskReport {
  std::string file;
  evaluate::TaskResult subject;
  std::optional<evaluate::TaskResult> reference;
};

struct EvalReport {
  std::string device;
  SubjectFacts subject;
  std::optional<SubjectFacts> reference;
  std::optional<TextReport> text;
  std::optional<TaskReport> tasks;
};

base::json::object to_json(const EvalReport& report);
std::string to_table(const EvalReport& report);

}  // namespace tidemill::cli
