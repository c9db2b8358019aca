// Tasks answered by small models, against plain forward passes and the golden text of stories260K.
#include "evaluate/task_runner.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include <gtest/gtest.h>

#include "data.hpp"
#include "judged_model.hpp"

namespace tidemill::evaluate {
namespace {

using base::ErrorCode;
using test::exact;

Task choice(std::string prompt, std::vector<std::string> choices, size_t right) {
  Task task;
  task.prompt = std::move(prompt);
  task.choices = std::move(choices);
  task.right = right;
  return task;
}

Task generated(std::string prompt, std::vector<std::string> answers) {
  Task task;
  task.prompt = std::move(prompt);
  task.answers = std::move(answers);
  return task;
}

// Index of the largest.
size_t best(const std::vector<double>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

TEST(AnswerTasks, ChoosesByLikelihood) {
  const auto path = test::nano_coder();
  const test::Judged model = test::judged(path, exact());
  ASSERT_NE(model.subject, nullptr);
  // Some of them grow together with the end of all prompts but the second.
  const std::vector<std::string> choices = {" zebra elephant", " self", " self.value = value", " 17", "= 1", "hing"};
  std::vector<Task> tasks;
  for (const char* prompt : {"class A:\n    def __init__(self, value):\n       ", "import os\nfor x in",
                             "def f(a, b):\n    return a +", "if x is not"})
    tasks.push_back(choice(prompt, choices, 0));
  const auto result = answer_tasks(*model.subject, tasks, {});
  ASSERT_TRUE(result) << result.error().to_string();
  const std::vector<Token> lead(model.subject->lead().begin(), model.subject->lead().end());
  const auto encode = [&](const std::string& text) {
    std::vector<Token> tokens = lead;
    const auto encoded = model.subject->tokenizer().encode(text, {.add_special = false}).value();
    tokens.insert(tokens.end(), encoded.begin(), encoded.end());
    return tokens;
  };
  for (size_t t = 0; t < tasks.size(); ++t) {
    const std::vector<Token> prompt = encode(tasks[t].prompt);
    size_t border = prompt.size();
    for (const std::string& text : choices) {
      const std::vector<Token> whole = encode(tasks[t].prompt + text);
      const auto common = std::mismatch(prompt.begin(), prompt.end(), whole.begin(), whole.end()).first;
      border = std::min(border, static_cast<size_t>(common - prompt.begin()));
    }
    EXPECT_EQ(border < prompt.size(), t != 1) << t;
    std::vector<double> plain;
    std::vector<double> normalised;
    for (const std::string& text : choices) {
      const auto logs = test::log_probabilities(path, encode(tasks[t].prompt + text), border);
      plain.push_back(std::accumulate(logs.begin(), logs.end(), 0.0));
      normalised.push_back(plain.back() / static_cast<double>(text.size()));
    }
    EXPECT_EQ(result->outcomes[t].chosen, best(plain)) << t;
    EXPECT_EQ(result->outcomes[t].chosen_normalised, best(normalised)) << t;
  }
  EXPECT_EQ(result->total.choices, 4);
  EXPECT_EQ(result->total.generated, 0);
}

// " +=" is one token, and " +" another that hardly comes here: the second choice is what follows it, but nothing that
// the model would write.
TEST(AnswerTasks, AllChoicesAreScoredFromOnePlace) {
  const test::Judged model = test::judged(test::nano_coder(), exact());
  ASSERT_NE(model.subject, nullptr);
  const std::vector<Task> tasks = {choice("i = 0\nwhile i < 10:\n    i +", {" 1", "= 1"}, 1)};
  const auto result = answer_tasks(*model.subject, tasks, {});
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ(result->outcomes[0].chosen, 1U);
  EXPECT_EQ(result->outcomes[0].chosen_normalised, 1U);
}

TEST(AnswerTasks, GeneratesGreedily) {
  const auto path = test::data_root() / "models/stories260K.gguf";
  TM_SKIP_WITHOUT(path);
  const test::Judged model = test::judged(path, exact());
  ASSERT_NE(model.subject, nullptr);
  Task first = generated("", {"nothing", "Once upon a time, there was a little girl named Lily"});
  first.stop = {".", "!"};
  first.max_tokens = 100;
  first.group = "stories";
  Task wrong = first;
  wrong.answers = {"Once upon a time"};
  Task brief = first;
  brief.max_tokens = 1;
  brief.group = "other";
  size_t done = 0;
  TaskOptions options;
  options.on_progress = [&done](size_t now, size_t total) {
    EXPECT_EQ(now, done + 1);
    EXPECT_EQ(total, 3U);
    done = now;
  };
  const auto result = answer_tasks(*model.subject, std::vector{first, wrong, brief}, options);
  ASSERT_TRUE(result) << result.error().to_string();
  EXPECT_EQ(result->outcomes[0].generated, "Once upon a time, there was a little girl named Lily");
  EXPECT_TRUE(result->outcomes[0].matched);
  EXPECT_FALSE(result->outcomes[1].matched);
  EXPECT_FALSE(result->outcomes[2].matched);
  ASSERT_EQ(result->groups.size(), 2U);
  EXPECT_EQ(result->groups[0].group, "stories");
  EXPECT_EQ(result->groups[0].generated, 2);
  EXPECT_EQ(result->groups[0].matched, 1);
  EXPECT_EQ(result->groups[1].matched, 0);
  EXPECT_EQ(result->total.matched, 1);
  EXPECT_EQ(done, 3U);
}

TEST(AnswerTasks, SaysWhichTaskIsWrong) {
  const test::Judged model = test::judged(test::nano_coder(), exact());
  ASSERT_NE(model.subject, nullptr);
  Task longer = generated(std::string(50'000, '7'), {"y"});
  longer.line = 12;
  const auto refused = answer_tasks(*model.subject, std::vector{longer}, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::too_large);
  EXPECT_NE(refused.error().to_string().find("the task in line 12 takes "), std::string::npos);
  TaskOptions options;
  options.cancelled = [] { return true; };
  const auto cancelled = answer_tasks(*model.subject, std::vector{generated("x =", {"1"})}, options);
  ASSERT_FALSE(cancelled);
  EXPECT_EQ(cancelled.error().code(), ErrorCode::cancelled);
}

}  // namespace
}  // namespace tidemill::evaluate
