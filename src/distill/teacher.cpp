#include "distill/teacher.hpp"

#include <algorithm>
#include <atomic>
#include <cassert>
#include <numeric>
#include <utility>

#include <fmt/format.h>

#include "distill/distribution.hpp"
#include "distill/random.hpp"

namespace tidemill::distill {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

// Windows that are written together: weights are read once for all.
constexpr int64_t kSideBySide = 128;

TaughtWindow empty_window(std::vector<Token> tokens, int64_t length, int64_t kept) {
  TaughtWindow window{std::move(tokens), {}};
  window.expectations.tokens.resize(static_cast<size_t>(length * kept));
  window.expectations.probabilities.resize(static_cast<size_t>(length * kept));
  return window;
}

}  // namespace

Teacher::Teacher(evaluate::Subject& subject, evaluate::Reader reader, int64_t length, int64_t kept, int threads)
    : subject_(&subject),
      reader_(std::move(reader)),
      length_(length),
      kept_(kept),
      team_(std::make_unique<base::ThreadTeam>(threads)) {}

Result<Teacher> Teacher::create(evaluate::Subject& subject, tensor::Device& device, int64_t length, int64_t kept,
                                int threads) {
  if (length > subject.context()) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("windows of {} tokens are longer than the context of '{}', {}", length, subject.name(),
                             subject.context()))
        .with_param("window");
  }
  const int64_t vocabulary = subject.model().hyper_parameters().vocabulary;
  if (kept > vocabulary) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("{} tokens cannot be kept of a vocabulary of {}", kept, vocabulary))
        .with_param("keep");
  }
  TM_TRY(evaluate::Reader reader, subject.make_reader(length));
  Teacher teacher(subject, std::move(reader), length, kept, threads);
  teacher.device_ = &device;
  return teacher;
}

// Row r of the logits is what windows[r] expects behind its token at[r]. Gives all probabilities, row by row.
Result<void> Teacher::expect(tensor::ConstMatrix logits, std::span<TaughtWindow*> windows, std::span<const int64_t> at,
                             std::vector<float>& probabilities) {
  const auto cols = static_cast<size_t>(logits.cols);
  const auto kept = static_cast<size_t>(kept_);
  probabilities.resize(static_cast<size_t>(logits.rows) * cols);
  std::atomic<bool> sound = true;
  team_->parallel_for(logits.rows, 8, [&](int64_t begin, int64_t end, int /*member*/) {
    for (auto r = static_cast<size_t>(begin); r < static_cast<size_t>(end); ++r) {
      const std::span<float> row = std::span(probabilities).subspan(r * cols, cols);
      if (!to_probabilities({logits.row(static_cast<int64_t>(r)), cols}, row)) {
        sound = false;
        continue;
      }
      Expectations& into = windows[r]->expectations;
      const size_t offset = static_cast<size_t>(at[r]) * kept;
      most_likely(row, std::span(into.tokens).subspan(offset, kept),
                  std::span(into.probabilities).subspan(offset, kept));
    }
  });
  if (!sound) return subject_->no_distribution("a window of the text");
  return {};
}

Result<TaughtWindow> Teacher::read(std::vector<Token> tokens) {
  assert(static_cast<int64_t>(tokens.size()) == length_ + 1);
  TaughtWindow window = empty_window(std::move(tokens), length_, kept_);
  std::vector<float> probabilities;
  for (int64_t first = 0; first < length_; first += reader_.step_rows()) {
    const int64_t rows = std::min(reader_.step_rows(), length_ - first);
    const tensor::ConstMatrix logits =
        reader_.read(std::span(window.tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(rows)), first, 0);
    std::vector<TaughtWindow*> windows(static_cast<size_t>(rows), &window);
    std::vector<int64_t> at(static_cast<size_t>(rows));
    std::iota(at.begin(), at.end(), first);
    TM_CHECK(expect(logits, windows, at, probabilities));
  }
  return window;
}

// No more rows in one step than the model was loaded for.
int64_t Teacher::side_by_side() const {
  return std::min(kSideBySide, reader_.step_rows());
}

// One token of each window, all at one position.
tensor::ConstMatrix Teacher::step(std::span<const Token> tokens, int32_t position, tensor::KvCache& cache) {
  const size_t rows = tokens.size();
  const auto each = static_cast<size_t>((length_ + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens);
  const std::vector<int32_t> positions(rows, position);
  std::vector<int32_t> numbers(rows);
  std::iota(numbers.begin(), numbers.end(), 0);
  std::vector<std::span<const int32_t>> tables(rows);
  for (size_t i = 0; i < rows; ++i)
    tables[i] = std::span<const int32_t>(blocks_).subspan(i * each, each);
  return subject_->model()
      .forward({.tokens = tokens,
                .positions = positions,
                .sequences = numbers,
                .block_tables = tables,
                .logit_rows = numbers,
                .hidden_rows = {}},
               cache)
      .logits;
}

Result<std::vector<TaughtWindow>> Teacher::write(std::span<const Token> beginnings, uint64_t seed,
                                                 int64_t first_number) {
  assert(static_cast<int64_t>(beginnings.size()) <= side_by_side());
  if (!writing_) {
    tensor::KvShape shape = subject_->model().kv_shape();
    shape.type = subject_->kv_type();
    shape.blocks = side_by_side() * ((length_ + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens);
    TM_TRY(writing_, device_->make_kv_cache(shape));
    blocks_.resize(static_cast<size_t>(shape.blocks));
    std::iota(blocks_.begin(), blocks_.end(), 0);
  }
  const std::span<const Token> lead = subject_->lead();
  std::vector<TaughtWindow> windows;
  for (const Token beginning : beginnings) {
    std::vector<Token> tokens(lead.begin(), lead.end());
    tokens.push_back(beginning);
    windows.push_back(empty_window(std::move(tokens), length_, kept_));
  }
  std::vector<TaughtWindow*> each(windows.size());
  std::ranges::transform(windows, each.begin(), [](TaughtWindow& window) { return &window; });
  std::vector<Token> now(windows.size());
  std::vector<float> probabilities;
  for (int64_t position = 0; position < length_; ++position) {
    for (size_t i = 0; i < windows.size(); ++i)
      now[i] = windows[i].tokens[static_cast<size_t>(position)];
    const tensor::ConstMatrix logits = step(now, static_cast<int32_t>(position), *writing_);
    const std::vector<int64_t> at(windows.size(), position);
    TM_CHECK(expect(logits, each, at, probabilities));
    for (size_t i = 0; i < windows.size(); ++i) {
      if (static_cast<int64_t>(windows[i].tokens.size()) > position + 1) continue;  // given
      const std::span<const float> row =
          std::span<const float>(probabilities)
              .subspan(i * static_cast<size_t>(logits.cols), static_cast<size_t>(logits.cols));
      const double chance = drawn_share(seed, static_cast<uint64_t>(first_number) + i, static_cast<uint64_t>(position));
      windows[i].tokens.push_back(drawn_token(row, chance));
    }
  }
  return windows;
}

}  // namespace tidemill::distill
