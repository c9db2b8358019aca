// Files of tasks, one JSON object a line, that a model answers by choosing or by generating.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace tidemill::evaluate {

// {"prompt": "2 + 2 =", "choices": [" 3", " 4"], "answer": 1}: the right one by its index, or written out as it stands
// in the list.
// {"prompt": "Q: 2 + 2?\nA:", "answer": "4", "max_tokens": 8, "stop": ["\n"]}: generated greedily; "answer" may be a
// list of which any counts.
// Both may have a "group", for which scores are given apart. Other members are left alone: files have ids and sources.
struct Task {
  int64_t line = 0;  // in the file, from 1
  std::string group;
  std::string prompt;
  std::vector<std::string> choices;        // empty: the answer is generated
  size_t right = 0;                        // of choices
  std::vector<std::string> answers;        // of a generated one, each trimmed of white space
  int max_tokens = 32;                     // of a generated one
  std::vector<std::string> stop = {"\n"};  // ends a generated one, and is not part of it

  bool chooses() const { return !choices.empty(); }
};

// `name` stands for the file in errors (`invalid_argument`), which give line and member. Empty lines are skipped, and
// a byte order mark at the head; a file without a task is an error.
base::Result<std::vector<Task>> parse_tasks(std::string_view text, std::string_view name);

// Without white space at both ends.
std::string_view trimmed(std::string_view text);

}  // namespace tidemill::evaluate
