#include "cli/synthetic_context.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/clock.hpp"
#include "engine/token_history.hpp"

namespace tidemill::cli {
namespace {

constexpr int64_t kComputedTokens = 256;

int64_t blocks_for(int64_t tokens) {
  return (tokens + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens;
}

}  // namespace

SyntheticContext::SyntheticContext(model::Model& model, std::unique_ptr<tensor::KvCache> cache, int streams,
                                   int context)
    : model_(model), cache_(std::move(cache)), context_(context), last_(static_cast<size_t>(streams)) {
  const int64_t each = cache_->shape().blocks / streams;
  for (int stream = 0; stream < streams; ++stream) {
    std::vector<int32_t> own(static_cast<size_t>(each));
    std::iota(own.begin(), own.end(), static_cast<int32_t>(stream * each));
    blocks_.push_back(std::move(own));
    last_[static_cast<size_t>(stream)] = stream;
  }
  block_tables_.assign(blocks_.begin(), blocks_.end());
}

base::Result<std::unique_ptr<SyntheticContext>> SyntheticContext::make(model::Model& model, tensor::Device& device,
                                                                       tensor::KvType type, int streams, int context,
                                                                       int decode) {
  tensor::KvShape shape = model.kv_shape();
  shape.type = type;
  shape.blocks = streams * blocks_for(int64_t{context} + decode);
  TM_TRY(auto cache, device.make_kv_cache(shape));
  std::unique_ptr<SyntheticContext> made(new SyntheticContext(model, std::move(cache), streams, context));
  const int64_t computed = std::min<int64_t>(context, kComputedTokens);
  for (int stream = 0; stream < streams; ++stream) {
    made->compute(stream, computed);
    made->repeat(stream, blocks_for(computed));
  }
  return made;
}

void SyntheticContext::compute(int64_t stream, int64_t tokens) {
  constexpr int64_t kRows = 32;  // at a time; any model takes so many
  const int64_t vocabulary = model_.hyper_parameters().vocabulary;
  for (int64_t begin = 0; begin < tokens; begin += kRows) {
    const int64_t rows = std::min(kRows, tokens - begin);
    std::vector<model::Token> prompt;
    std::vector<int32_t> positions;
    const std::vector<int32_t> sequences(static_cast<size_t>(rows), static_cast<int32_t>(stream));
    for (int64_t i = begin; i < begin + rows; ++i) {
      prompt.push_back(static_cast<model::Token>((i * 7919 + stream * 104729) % vocabulary));
      positions.push_back(static_cast<int32_t>(i));
    }
    model_.forward({prompt, positions, sequences, block_tables_, {}, {}}, *cache_);
  }
}

// Whole blocks only: the last one, which tokens are decoded into, may stay half empty.
void SyntheticContext::repeat(int64_t stream, int64_t computed_blocks) {
  const auto& own = blocks_[static_cast<size_t>(stream)];
  std::vector<std::byte> content(tensor::kv_block_bytes(cache_->shape()));
  for (size_t b = static_cast<size_t>(computed_blocks); b < own.size(); ++b) {
    cache_->read_block(own[b % static_cast<size_t>(computed_blocks)], content);
    cache_->write_block(own[b], content);
  }
}

base::Result<double> SyntheticContext::time_decode(int steps) {
  TM_CHECK(step(context_));  // wakes the threads
  const base::Clock& clock = base::SystemClock::instance();
  const base::SteadyTime start = clock.now();
  for (int64_t i = 0; i < steps; ++i)
    TM_CHECK(step(context_ + i));
  const double passed = std::max(base::seconds(clock.now() - start), 1e-9);
  return static_cast<double>(steps * std::ssize(last_)) / passed;
}

base::Result<void> SyntheticContext::step(int64_t position) {
  const std::vector<int32_t> positions(last_.size(), static_cast<int32_t>(position));
  std::vector<int32_t> rows(last_.size());
  std::iota(rows.begin(), rows.end(), 0);
  const model::Output output = model_.forward({last_, positions, rows, block_tables_, rows, {}}, *cache_);
  engine::Sampling greedy;
  greedy.temperature = 0;
  for (size_t i = 0; i < last_.size(); ++i) {
    const std::span logits(output.logits.row(static_cast<int64_t>(i)), static_cast<size_t>(output.logits.cols));
    const auto token = sampler_.sample(logits, greedy, engine::TokenHistory(), 0);
    if (!token) return base::Error(base::ErrorCode::internal, "the model's logits hold NaN or infinity");
    last_[i] = *token;
  }
  return {};
}

}  // namespace tidemill::cli
