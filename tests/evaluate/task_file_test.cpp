#include "evaluate/task_file.hpp"

#include <gtest/gtest.h>

#include "expect_says.hpp"

namespace tidemill::evaluate {
namespace {

std::string refusal(std::string_view text) {
  const auto tasks = parse_tasks(text, "t.jsonl");
  if (tasks) return "(accepted)";
  EXPECT_EQ(tasks.error().code(), base::ErrorCode::invalid_argument) << tasks.error().to_string();
  return tasks.error().to_string();
}

TEST(TaskFile, ReadsBothKinds) {
  const auto tasks = parse_tasks(
      "{\"prompt\": \"2 + 2 =\", \"choices\": [\" 3\", \" 4\"], \"answer\": 1, \"id\": 7}\r\n"
      "\n"
      "{\"prompt\": \"\", \"choices\": [\"a\", \"b\", \"c\"], \"answer\": \"c\", \"group\": \"letters\"}\n"
      "  {\"prompt\": \"Q\", \"answer\": [\" 4 \", \"four\"], \"max_tokens\": 5, \"stop\": [\".\", \"!\"]}\n"
      "{\"prompt\": \"Q\", \"answer\": \"4\"}",
      "t.jsonl");
  ASSERT_TRUE(tasks) << tasks.error().to_string();
  ASSERT_EQ(tasks->size(), 4U);
  const Task& first = (*tasks)[0];
  const Task& second = (*tasks)[1];
  const Task& third = (*tasks)[2];
  const Task& fourth = (*tasks)[3];
  EXPECT_TRUE(first.chooses());
  EXPECT_EQ(first.prompt, "2 + 2 =");
  EXPECT_EQ(first.right, 1U);
  EXPECT_EQ(first.line, 1);
  EXPECT_EQ(second.right, 2U);
  EXPECT_EQ(second.group, "letters");
  EXPECT_EQ(second.line, 3);
  EXPECT_FALSE(third.chooses());
  EXPECT_EQ(third.answers, (std::vector<std::string>{"4", "four"}));
  EXPECT_EQ(third.max_tokens, 5);
  EXPECT_EQ(third.stop, (std::vector<std::string>{".", "!"}));
  EXPECT_EQ(fourth.stop, std::vector<std::string>{"\n"});
  EXPECT_EQ(fourth.max_tokens, 32);
}

TEST(TaskFile, MayBeginWithAByteOrderMark) {
  const auto tasks = parse_tasks("\xEF\xBB\xBF{\"prompt\": \"a\", \"answer\": \"b\"}\n", "t.jsonl");
  ASSERT_TRUE(tasks) << tasks.error().to_string();
  EXPECT_EQ(tasks->size(), 1U);
  EXPECT_SAYS(refusal("\xEF\xBB\xBF"), "t.jsonl has no tasks");
}

TEST(TaskFile, NamesLineAndMember) {
  EXPECT_SAYS(refusal(""), "t.jsonl has no tasks");
  EXPECT_SAYS(refusal("\n \n"), "t.jsonl has no tasks");
  EXPECT_SAYS(refusal("{\"prompt\": \"a\", \"answer\": \"b\"}\n{oops"), "t.jsonl, line 2");
  EXPECT_SAYS(refusal("{\"prompt\": " + std::string(100, '[') + std::string(100, ']') + "}"),
              "t.jsonl, line 1: the JSON is nested deeper than 80 levels");
  EXPECT_SAYS(refusal("[]"), "t.jsonl, line 1: a task is a JSON object");
  EXPECT_SAYS(refusal("{\"answer\": \"b\"}"), "\"prompt\" is missing");
  EXPECT_SAYS(refusal("{\"prompt\": \"b\"}"), "\"answer\" is missing");
  EXPECT_SAYS(refusal("{\"prompt\": 3, \"answer\": \"b\"}"), "\"prompt\" is a number; it is a string");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"choices\": \"ab\", \"answer\": 0}"),
              "\"choices\" is a string; it is a list");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"choices\": [\"a\"], \"answer\": 0}"), "fewer than two");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"choices\": [\"a\", \"\"], \"answer\": 0}"), "is empty");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"choices\": [\"a\", \"b\"], \"answer\": 2}"), "\"answer\" is 2;");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"choices\": [\"a\", \"b\"], \"answer\": -1}"), "index from 0 to 1");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"choices\": [\"a\", \"b\"], \"answer\": \"c\"}"), "\"answer\" is \"c\"");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"answer\": 4}"), "\"answer\" is a number; it is a string or a list");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"answer\": []}"), "empty list");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"answer\": \"a\", \"max_tokens\": 0}"), "\"max_tokens\" is 0");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"answer\": \"a\", \"stop\": [\"\"]}"), "\"stop\" is empty");
  EXPECT_SAYS(refusal("{\"prompt\": \"\", \"answer\": \"a\", \"group\": null}"), "\"group\" is null");
}

TEST(TaskFile, Trims) {
  EXPECT_EQ(trimmed(" \t a b\r\n"), "a b");
  EXPECT_EQ(trimmed(" \n"), "");
  EXPECT_EQ(trimmed(""), "");
}

}  // namespace
}  // namespace tidemill::evaluate
