#include "evaluate/task_file.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "base/json.hpp"

namespace tidemill::evaluate {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

namespace json = base::json;

constexpr int kMostTokens = 1 << 20;

class LineReader {
 public:
  LineReader(std::string_view file, int64_t line) : file_(file), line_(line) {}

  Result<Task> read(std::string_view text) {
    auto value = base::parse_json(text);
    if (!value) return wrong(value.error().to_string());  // too deep is wrong here as well
    const json::object* object = value->if_object();
    if (object == nullptr) return wrong("a task is a JSON object");
    Task task;
    task.line = line_;
    TM_TRY(const json::value* prompt, require(*object, "prompt"));
    TM_TRY(task.prompt, text_of(*prompt, "prompt"));
    if (const json::value* group = object->if_contains("group")) {
      TM_TRY(task.group, text_of(*group, "group"));
    }
    TM_TRY(const json::value* answer, require(*object, "answer"));
    if (const json::value* choices = object->if_contains("choices")) {
      TM_CHECK(read_choices(*choices, *answer, task));
    } else {
      TM_CHECK(read_generated(*object, *answer, task));
    }
    return task;
  }

 private:
  Error wrong(std::string_view how) const {
    return {ErrorCode::invalid_argument, fmt::format("{}, line {}: {}", file_, line_, how)};
  }

  Result<const json::value*> require(const json::object& object, std::string_view key) const {
    if (const json::value* value = object.if_contains(key)) return value;
    return wrong(
        fmt::format("\"{}\" is missing; a task is {{\"prompt\", \"choices\", \"answer\"}} or {{\"prompt\", "
                    "\"answer\"}}",
                    key));
  }

  Result<std::string> text_of(const json::value& value, std::string_view key) const {
    if (const json::string* text = value.if_string()) return std::string(*text);
    return wrong(fmt::format("\"{}\" is {}; it is a string", key, kind(value)));
  }

  Result<std::vector<std::string>> texts_of(const json::value& value, std::string_view key) const {
    if (value.is_string()) return std::vector<std::string>{std::string(value.get_string())};
    const json::array* list = value.if_array();
    if (list == nullptr) return wrong(fmt::format("\"{}\" is {}; it is a string or a list of them", key, kind(value)));
    std::vector<std::string> texts;
    for (const json::value& item : *list) {
      TM_TRY(std::string text, text_of(item, key));
      texts.push_back(std::move(text));
    }
    return texts;
  }

  Result<void> read_choices(const json::value& choices, const json::value& answer, Task& task) const {
    if (!choices.is_array()) return wrong(fmt::format("\"choices\" is {}; it is a list of strings", kind(choices)));
    TM_TRY(task.choices, texts_of(choices, "choices"));
    if (task.choices.size() < 2) return wrong("\"choices\" has fewer than two");
    for (const std::string& choice : task.choices) {
      if (choice.empty()) return wrong("one of \"choices\" is empty; each has text whose likelihood counts");
    }
    std::optional<size_t> right;
    if (const json::string* text = answer.if_string()) {
      const auto found = std::find(task.choices.begin(), task.choices.end(), std::string_view(*text));
      if (found != task.choices.end()) right = static_cast<size_t>(found - task.choices.begin());
    } else if (answer.is_int64() && answer.get_int64() >= 0 &&
               answer.get_int64() < static_cast<int64_t>(task.choices.size())) {
      right = static_cast<size_t>(answer.get_int64());
    }
    if (!right) {
      return wrong(fmt::format("\"answer\" is {}; it is one of the choices, or its index from 0 to {}",
                               json::serialize(answer), task.choices.size() - 1));
    }
    task.right = *right;
    return {};
  }

  Result<void> read_generated(const json::object& object, const json::value& answer, Task& task) const {
    TM_TRY(task.answers, texts_of(answer, "answer"));
    if (task.answers.empty()) return wrong("\"answer\" is an empty list");
    for (std::string& text : task.answers)
      text = std::string(trimmed(text));
    if (const json::value* most = object.if_contains("max_tokens")) {
      if (!most->is_int64() || most->get_int64() < 1 || most->get_int64() > kMostTokens) {
        return wrong(
            fmt::format("\"max_tokens\" is {}; it is a number from 1 to {}", json::serialize(*most), kMostTokens));
      }
      task.max_tokens = static_cast<int>(most->get_int64());
    }
    if (const json::value* stop = object.if_contains("stop")) {
      TM_TRY(task.stop, texts_of(*stop, "stop"));
      if (std::find(task.stop.begin(), task.stop.end(), "") != task.stop.end()) return wrong("\"stop\" is empty");
    }
    return {};
  }

  static std::string_view kind(const json::value& value) {
    switch (value.kind()) {
      case json::kind::null:
        return "null";
      case json::kind::bool_:
        return "a boolean";
      case json::kind::string:
        return "a string";
      case json::kind::array:
        return "a list";
      case json::kind::object:
        return "an object";
      default:
        return "a number";
    }
  }

  std::string_view file_;
  int64_t line_;
};

}  // namespace

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\r\n\v\f";
  const size_t first = text.find_first_not_of(white);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(white) - first + 1);
}

Result<std::vector<Task>> parse_tasks(std::string_view text, std::string_view name) {
  std::vector<Task> tasks;
  int64_t line = 0;
  if (constexpr std::string_view mark = "\xEF\xBB\xBF"; text.starts_with(mark)) text.remove_prefix(mark.size());
  while (!text.empty()) {
    ++line;
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view content = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + 1));
    if (content.empty()) continue;
    TM_TRY(Task task, LineReader(name, line).read(content));
    tasks.push_back(std::move(task));
  }
  if (tasks.empty()) {
    return Error(ErrorCode::invalid_argument, fmt::format("{} has no tasks: each is a line with a JSON object", name));
  }
  return tasks;
}

}  // namespace tidemill::evaluate
