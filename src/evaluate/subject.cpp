#include "evaluate/subject.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include <fmt/format.h>

#include "model/load.hpp"
#include "model/vocabulary.hpp"

namespace tidemill::evaluate {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

constexpr int64_t kMostLogits = (int64_t{64} << 20) / static_cast<int64_t>(sizeof(float));

// Rows whose logits fit; a few at least, since weights are read once a step.
int64_t rows_for(int64_t vocabulary) {
  return std::clamp<int64_t>(kMostLogits / std::max<int64_t>(vocabulary, 1), 16, 512);
}

}  // namespace

Reader::Reader(model::Model& model, std::unique_ptr<tensor::KvCache> cache, int64_t step_rows)
    : model_(&model),
      cache_(std::move(cache)),
      step_rows_(step_rows),
      blocks_(static_cast<size_t>(cache_->shape().blocks)),
      sequences_(static_cast<size_t>(step_rows), 0) {
  std::iota(blocks_.begin(), blocks_.end(), 0);
}

Result<Reader> Reader::create(model::Model& model, tensor::Device& device, int64_t context, tensor::KvType kv_type,
                              int64_t step_rows) {
  tensor::KvShape shape = model.kv_shape();
  shape.type = kv_type;
  shape.blocks = (context + tensor::kKvBlockTokens - 1) / tensor::kKvBlockTokens;
  TM_TRY(auto cache, device.make_kv_cache(shape));
  return Reader(model, std::move(cache), step_rows);
}

tensor::ConstMatrix Reader::read(std::span<const Token> tokens, int64_t position, int64_t first_wanted) {
  const auto rows = static_cast<int64_t>(tokens.size());
  assert(rows <= step_rows_ && first_wanted >= 0);
  assert(position + rows <= cache_->shape().blocks * tensor::kKvBlockTokens);
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(position));
  std::vector<int32_t> wanted(static_cast<size_t>(std::max<int64_t>(0, rows - first_wanted)));
  std::iota(wanted.begin(), wanted.end(), static_cast<int32_t>(first_wanted));
  const std::span<const int32_t> table = blocks_;
  return model_
      ->forward({.tokens = tokens,
                 .positions = positions,
                 .sequences = std::span(sequences_).first(tokens.size()),
                 .block_tables = std::span(&table, 1),
                 .logit_rows = wanted,
                 .hidden_rows = {}},
                *cache_)
      .logits;
}

Result<SubjectText> SubjectText::load(const model::Checkpoint& file) {
  TM_TRY(const bool encodes, model::holds_encoder(file));
  if (encodes) {
    return file.error(ErrorCode::unsupported, "the model is an encoder, which predicts no tokens to be judged");
  }
  TM_TRY(const model::HyperParameters hyper, model::read_any_hyper_parameters(file));
  TM_TRY(text::Vocabulary vocabulary, model::read_vocabulary(file));
  SubjectText made;
  if (vocabulary.add_bos && vocabulary.bos) made.lead.push_back(*vocabulary.bos);
  auto tokenizer = text::Tokenizer::create(std::move(vocabulary));
  if (!tokenizer) return std::move(tokenizer).error().wrap(file.path().string());
  made.tokenizer = std::move(tokenizer).value();
  const size_t tokens = made.tokenizer->vocabulary().size();
  if (static_cast<int64_t>(tokens) > hyper.vocabulary) {
    return file.error(ErrorCode::corrupt, fmt::format("the tokenizer has {} tokens, but the model predicts {} alone",
                                                      tokens, hyper.vocabulary));
  }
  return made;
}

Result<Subject> Subject::load(const model::Checkpoint& file, tensor::Device& device, const SubjectOptions& options) {
  Subject subject;
  subject.name_ = file.path().string();
  subject.plain_ = options.plain;
  subject.kv_type_ = options.plain ? tensor::KvType::f32 : options.kv_type;
  subject.file_bytes_ = file.file_bytes();
  subject.device_ = &device;
  TM_TRY(subject.text_, SubjectText::load(file));
  TM_TRY(const model::HyperParameters hyper, model::read_any_hyper_parameters(file));
  subject.step_rows_ = rows_for(hyper.vocabulary);
  model::LoadOptions load;
  load.context = options.context;
  load.threads = options.threads;
  load.max_batch_rows = subject.step_rows_;
  load.on_progress = options.on_progress;
  load.cancelled = options.cancelled;
  load.dequantize = options.plain;
  load.on_matrix = options.on_matrix;
  TM_TRY(subject.model_, model::load_model(file, device, load));
  return subject;
}

Result<Reader> Subject::make_reader(int64_t context) {
  return Reader::create(*model_, *device_, context, kv_type_, step_rows_);
}

Error Subject::no_distribution(std::string_view where) const {
  return {ErrorCode::corrupt,
          fmt::format("{}: at {} the model's logits are not numbers that make a distribution; its weights are finite, "
                      "but so large that sums overflow",
                      name_, where)};
}

Result<void> check_same_vocabulary(const Subject& subject, const Subject& reference) {
  const auto differ = [&](std::string_view how) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("'{}' and '{}' cannot be compared token by token: {}; they must have one vocabulary",
                             subject.name(), reference.name(), how));
  };
  const int64_t own = subject.model().hyper_parameters().vocabulary;
  const int64_t other = reference.model().hyper_parameters().vocabulary;
  if (own != other) return differ(fmt::format("the first predicts {} tokens, the second {}", own, other));
  const std::vector<std::string>& pieces = subject.tokenizer().vocabulary().pieces;
  const std::vector<std::string>& others = reference.tokenizer().vocabulary().pieces;
  if (pieces.size() != others.size()) {
    return differ(fmt::format("the first's tokenizer has {} tokens, the second's {}", pieces.size(), others.size()));
  }
  if (!std::ranges::equal(subject.lead(), reference.lead())) {
    return differ("only one of them, or each with another, begins texts with a token of its own");
  }
  const auto [at, there] = std::mismatch(pieces.begin(), pieces.end(), others.begin());
  if (at == pieces.end()) return {};
  return differ(fmt::format("token {} is '{}' to the first and '{}' to the second", at - pieces.begin(),
                            model::printable(*at), model::printable(*there)));
}

}  // namespace tidemill::evaluate
