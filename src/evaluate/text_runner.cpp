#include "evaluate/text_runner.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "evaluate/windows.hpp"

namespace tidemill::evaluate {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

Result<void> check(const Subject& subject, const TextOptions& options) {
  const auto lead = static_cast<int64_t>(subject.lead().size());
  if (options.window > subject.context()) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("a window of {} tokens is longer than the context of '{}', {}", options.window,
                             subject.name(), subject.context()))
        .with_param("window");
  }
  if (options.window <= lead) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("a window of {} is too short: it holds the model's first token and one of the text, at "
                             "least 2",
                             options.window))
        .with_param("window");
  }
  if (options.stride < 1 || options.stride > options.window) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("a stride of {} does not fit windows of {}: it is 1 to {}, or tokens would be left out",
                             options.stride, options.window, options.window))
        .with_param("stride");
  }
  return {};
}

// A subject and what it has made of a step.
struct Side {
  Subject* subject;
  Reader reader;
  TextScore score;
};

class TextRun {
 public:
  TextRun(std::span<const Token> tokens, const TextOptions& options, Side side, std::optional<Side> reference)
      : tokens_(tokens), options_(options), side_(std::move(side)), reference_(std::move(reference)) {
    if (reference_) comparison_.emplace(options.tie);
  }

  Result<TextResult> run() {
    const size_t lead = side_.subject->lead().size();
    total_ = scored_tokens(tokens_.size(), lead);
    const std::vector<Window> windows =
        cut(tokens_.size(), static_cast<size_t>(options_.window), static_cast<size_t>(options_.stride), lead);
    for (const Window& window : windows)
      TM_CHECK(read(window));
    TextResult result;
    result.windows = static_cast<int64_t>(windows.size());
    result.score = side_.score;
    if (reference_) result.reference = reference_->score;
    result.comparison = std::move(comparison_);
    return result;
  }

 private:
  Result<void> read(const Window& window) {
    const std::span<const Token> lead = side_.subject->lead();
    std::vector<Token> sequence(lead.begin(), lead.end());
    sequence.insert(sequence.end(), tokens_.begin() + static_cast<int64_t>(window.begin),
                    tokens_.begin() + static_cast<int64_t>(window.end));
    // Row r predicts token window.begin + r + 1 - lead.
    const auto first_row = static_cast<int64_t>(window.first_scored + lead.size() - 1 - window.begin);
    const auto rows = static_cast<int64_t>(sequence.size());
    for (int64_t row = 0; row < rows; row += side_.reader.step_rows()) {
      if (options_.cancelled && options_.cancelled()) return Error(ErrorCode::cancelled, "interrupted");
      const int64_t count = std::min(side_.reader.step_rows(), rows - row);
      const std::span<const Token> step =
          std::span(sequence).subspan(static_cast<size_t>(row), static_cast<size_t>(count));
      const int64_t wanted = std::clamp<int64_t>(first_row - row, 0, count);
      TM_CHECK(score(step, row, wanted, window.begin + static_cast<size_t>(row + wanted) + 1 - lead.size()));
    }
    return {};
  }

  // `target` is the first token that the wanted rows predict.
  Result<void> score(std::span<const Token> step, int64_t position, int64_t wanted, size_t target) {
    const tensor::ConstMatrix logits = side_.reader.read(step, position, wanted);
    tensor::ConstMatrix reference;
    if (reference_) reference = reference_->reader.read(step, position, wanted);
    for (int64_t r = 0; r < logits.rows; ++r, ++target) {
      const auto cols = static_cast<size_t>(logits.cols);
      const std::span<const float> row(logits.row(r), cols);
      TM_TRY(const Prediction prediction, add(side_, row, target));
      if (!reference_) continue;
      const std::span<const float> reference_row(reference.row(r), cols);
      TM_TRY(const Prediction expected, add(*reference_, reference_row, target));
      comparison_->add(compare(row, prediction, reference_row, expected));
    }
    done_ += static_cast<size_t>(logits.rows);
    if (options_.on_progress) options_.on_progress(done_, total_);
    return {};
  }

  Result<Prediction> add(Side& side, std::span<const float> logits, size_t target) {
    const std::optional<Prediction> prediction = predict(logits, tokens_[target]);
    if (!prediction) return side.subject->no_distribution(fmt::format("token {} of the text", target));
    side.score.add(*prediction);
    return *prediction;
  }

  std::span<const Token> tokens_;
  const TextOptions& options_;
  Side side_;
  std::optional<Side> reference_;
  std::optional<Comparison> comparison_;
  size_t done_ = 0;
  size_t total_ = 0;
};

}  // namespace

Result<TextResult> judge_tokens(Subject& subject, Subject* reference, std::span<const Token> tokens,
                                const TextOptions& options) {
  TM_CHECK(check(subject, options));
  if (scored_tokens(tokens.size(), subject.lead().size()) == 0) {
    return Error(
        ErrorCode::invalid_argument,
        fmt::format("there is nothing to predict in a text of {} tokens: {} needed", tokens.size(),
                    subject.lead().empty() ? "the first is not predicted, and at least two are" : "at least one is"));
  }
  TM_TRY(Reader reader, subject.make_reader(options.window));
  Side side{&subject, std::move(reader), {}};
  std::optional<Side> other;
  if (reference != nullptr) {
    if (options.window > reference->context()) TM_CHECK(check(*reference, options));
    TM_TRY(Reader second, reference->make_reader(options.window));
    other.emplace(Side{reference, std::move(second), {}});
  }
  return TextRun(tokens, options, std::move(side), std::move(other)).run();
}

Result<TextResult> judge_text(Subject& subject, Subject* reference, std::string_view text, const TextOptions& options) {
  const text::Tokenizer& tokenizer = subject.tokenizer();
  TM_TRY(std::vector<Token> tokens, tokenizer.encode(text, {.add_special = false}));
  size_t bytes = text.size();
  if (options.tokens > 0 && static_cast<size_t>(options.tokens) < tokens.size()) {
    tokens.resize(static_cast<size_t>(options.tokens));
    bytes = tokenizer.decode(tokens).size();
  }
  TM_TRY(TextResult result, judge_tokens(subject, reference, tokens, options));
  // The first token does not count where nothing stands before it.
  if (subject.lead().empty()) bytes -= std::min(bytes, tokenizer.decode(std::span(tokens).first(1)).size());
  result.score.bytes = static_cast<int64_t>(bytes);
  if (result.reference) result.reference->bytes = result.score.bytes;
  return result;
}

}  // namespace tidemill::evaluate
