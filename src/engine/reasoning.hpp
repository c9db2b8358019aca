// Reasoning that has a budget of tokens: where in an output it stands, and when it must end.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.hpp"

namespace tidemill::engine {

struct ReasoningBudget {
  int tokens = 0;  // of each choice, in all its stretches of reasoning together
  // What is taken for the next tokens where more would be too much: the text that ends reasoning. At least one; they
  // are not counted, as what opens reasoning is not.
  std::vector<text::Token> close;
  std::string open;                 // the text that begins reasoning; empty: only the prompt does
  std::vector<std::string> closes;  // texts that end it; the tokens above write one of them
  bool begun = false;               // the prompt has opened it
  bool anywhere = false;            // it may begin anywhere; else only before anything but white space has come
};

// Follows one output. What it says depends on the tokens' texts alone. The budget must outlive it. Not thread-safe.
class ReasoningWatch {
 public:
  explicit ReasoningWatch(const ReasoningBudget& budget) : budget_(budget), inside_(budget.begun) {}

  // A token has been added, and this text is what it completes.
  void add(std::string_view text);
  // The closing tokens have been added.
  void close();
  // Whether reasoning goes on and has used up what it may.
  bool spent() const { return inside_ && used_ >= budget_.tokens; }

 private:
  void take_inside(char byte);
  void take_outside(char byte);

  const ReasoningBudget& budget_;
  bool inside_;
  bool answered_ = false;  // anything but white space has come since reasoning last ended
  int used_ = 0;
  std::string last_;  // the text's end, as far as it may belong to a tag
};

}  // namespace tidemill::engine
