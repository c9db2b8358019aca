#include "model/read_hyper_parameters.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "model/key_reader.hpp"
#include "model/limits.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

Result<Pooling> read_encoder_pooling(const KeyReader& reader, int64_t type) {
  switch (type) {
    case 0:
      return Pooling::none;
    case 1:
      return Pooling::mean;
    case 2:
    case kRankPooling:
      return Pooling::first;
    case 3:
      return Pooling::last;
    default:
      return reader.file().error(
          ErrorCode::unsupported,
          fmt::format("metadata key '{}' is {}; supported are 0 (none), 1 (mean), 2 (cls), 3 (last) and 4 (rank)",
                      reader.key("pooling_type"), type));
  }
}

Result<Pooling> read_pooling(const KeyReader& reader) {
  // llama.cpp's numbering: none, mean, cls, last, rank.
  TM_TRY(const int64_t type, reader.file().get_int_or(reader.key("pooling_type"), 0));
  switch (type) {
    case 0:
      return Pooling::none;
    case 1:
      return Pooling::mean;
    case 3:
      return Pooling::last;
    default:
      return reader.file().error(ErrorCode::unsupported,
                                 fmt::format("metadata key '{}' is {}; supported are 0 (none), 1 (mean) and 3 (last)",
                                             reader.key("pooling_type"), type));
  }
}

// The embedding's rows, which must be able to name every token of the vocabulary, where the file has one.
Result<int64_t> vocabulary_size(const Checkpoint& file) {
  const GgufTensor* embedding = file.find_tensor("token_embd.weight");
  if (embedding == nullptr) return file.error(ErrorCode::not_found, "tensor 'token_embd.weight' is missing");
  const int64_t rows = embedding->rows();
  if (rows > kMaxVocabulary) {
    return file.error(
        ErrorCode::unsupported,
        fmt::format("tensor 'token_embd.weight' has {} rows; at most {} are supported", rows, kMaxVocabulary));
  }
  const GgufValue* tokens = file.find("tokenizer.ggml.tokens");
  if (tokens != nullptr && tokens->count != static_cast<uint64_t>(rows)) {
    return file.error(ErrorCode::corrupt, fmt::format("tensor 'token_embd.weight' {} has {} rows, but the vocabulary "
                                                      "(tokenizer.ggml.tokens) has {} tokens",
                                                      embedding->shape_text(), rows, tokens->count));
  }
  return rows;
}

Result<void> check_unsupported(const KeyReader& reader, Presence mixes) {
  const Checkpoint& file = reader.file();
  TM_TRY(const int64_t parts, file.get_int_or("split.count", 1));
  if (parts > 1) {
    return file.error(
        ErrorCode::unsupported,
        fmt::format("this is one of {} files that the model is split over; open it by its name and beside the others",
                    parts));
  }
  TM_TRY(const int64_t experts, file.get_int_or(reader.key("expert_count"), 0));
  if (experts > 0 && mixes == Presence::absent) {
    return file.error(ErrorCode::unsupported,
                      fmt::format("a mixture of {} experts ({}); only dense models of this architecture are supported",
                                  experts, reader.key("expert_count")));
  }
  return {};
}

// The sizes of heads whose keys and values are kept themselves.
Result<void> read_heads(const KeyReader& reader, HyperParameters& hyper) {
  const Checkpoint& file = reader.file();
  if (!reader.has("attention.key_length") && hyper.width % hyper.heads != 0) {
    return file.error(ErrorCode::corrupt,
                      fmt::format("width {} ({}) is not a multiple of {} heads ({}), and '{}' is missing", hyper.width,
                                  reader.key("embedding_length"), hyper.heads, reader.key("attention.head_count"),
                                  reader.key("attention.key_length")));
  }
  TM_TRY(hyper.head_dim, reader.count_or("attention.key_length", kMaxHeadDim, hyper.width / hyper.heads));
  TM_TRY(const int64_t value_dim, reader.count_or("attention.value_length", kMaxHeadDim, hyper.head_dim));
  if (value_dim == hyper.head_dim) return {};
  return file.error(ErrorCode::unsupported,
                    fmt::format("key heads of {} and value heads of {} elements ({}); they must be equal",
                                hyper.head_dim, value_dim, reader.key("attention.value_length")));
}

// The same with latents. Newer files say of keys and values what is kept, and with "_mla" what heads make of it; older
// ones only the latter.
Result<void> read_latent(const KeyReader& reader, HyperParameters& hyper) {
  const Checkpoint& file = reader.file();
  LatentShape latent;
  TM_TRY(latent.rank, reader.count("attention.kv_lora_rank", kMaxHeadDim));
  TM_TRY(latent.query_rank, file.get_int_or(reader.key("attention.q_lora_rank"), 0));
  if (latent.query_rank != 0) {
    TM_TRY(latent.query_rank, reader.count("attention.q_lora_rank", kMaxWidth));
  }
  TM_TRY(const int64_t rotated, reader.count("rope.dimension_count", kMaxHeadDim));
  const std::string_view made = reader.has("attention.key_length_mla") ? "_mla" : "";
  const std::string key_length = fmt::format("attention.key_length{}", made);
  TM_TRY(const int64_t whole_key, reader.count(key_length, kMaxHeadDim));
  TM_TRY(latent.value_dim, reader.count(fmt::format("attention.value_length{}", made), kMaxHeadDim));
  latent.key_dim = whole_key - rotated;
  if (latent.key_dim < 1) {
    return file.error(ErrorCode::corrupt,
                      fmt::format("keys of {} elements ({}), of which {} are rotated ({}): none are left that are made "
                                  "of the latent",
                                  whole_key, reader.key(key_length), rotated, reader.key("rope.dimension_count")));
  }
  hyper.head_dim = latent.rank + rotated;
  hyper.kv_heads = 1;
  hyper.latent = latent;
  constexpr int64_t multiple = 16;  // as tensor::KvShape::latent wants it
  if (latent.rank % multiple == 0 && rotated % multiple == 0 && hyper.head_dim <= kMaxHeadDim) return {};
  return file.error(ErrorCode::unsupported,
                    fmt::format("latents of {} elements ({}) and {} rotated ones beside them ({}); supported are "
                                "multiples of {}, at most {} together",
                                latent.rank, reader.key("attention.kv_lora_rank"), rotated,
                                reader.key("rope.dimension_count"), multiple, kMaxHeadDim));
}

// What decoders and encoders have in common.
Result<HyperParameters> read_shape(const KeyReader& reader, std::string_view architecture, Presence mixes) {
  const Checkpoint& file = reader.file();
  TM_CHECK(check_unsupported(reader, mixes));
  HyperParameters hyper;
  hyper.architecture = architecture;
  TM_TRY(hyper.name, file.get_string_or("general.name", ""));
  TM_TRY(hyper.vocabulary, vocabulary_size(file));
  TM_TRY(hyper.context, reader.count("context_length", kMaxContext));
  TM_TRY(hyper.layers, reader.count("block_count", kMaxLayers));
  TM_TRY(hyper.width, reader.count("embedding_length", kMaxWidth));
  TM_TRY(hyper.feed_forward, reader.count("feed_forward_length", kMaxFeedForward));
  TM_TRY(hyper.heads, reader.count("attention.head_count", kMaxHeads));
  TM_TRY(hyper.kv_heads, reader.count_or("attention.head_count_kv", kMaxHeads, hyper.heads));
  if (hyper.heads % hyper.kv_heads != 0) {
    return file.error(
        ErrorCode::corrupt,
        fmt::format("{} query heads ({}) are not a multiple of {} key/value heads ({})", hyper.heads,
                    reader.key("attention.head_count"), hyper.kv_heads, reader.key("attention.head_count_kv")));
  }
  TM_CHECK(reader.has("attention.kv_lora_rank") ? read_latent(reader, hyper) : read_heads(reader, hyper));
  return hyper;
}

// The rows of the table of token types, which some encoders do not have.
Result<int64_t> read_token_types(const KeyReader& reader) {
  const Checkpoint& file = reader.file();
  const GgufTensor* table = file.find_tensor("token_types.weight");
  if (table == nullptr) return 0;
  TM_TRY(const int64_t wanted, file.get_int_or("tokenizer.ggml.token_type_count", table->rows()));
  if (table->rows() != wanted) {
    return file.error(ErrorCode::corrupt, fmt::format("tensor 'token_types.weight' {} has {} rows, but metadata key "
                                                      "'tokenizer.ggml.token_type_count' is {}",
                                                      table->shape_text(), table->rows(), wanted));
  }
  return wanted;
}

// A reranker gives one number; classifiers of several classes have the same tensors.
Result<void> check_labels(const KeyReader& reader, bool ranks) {
  const Checkpoint& file = reader.file();
  const GgufTensor* score = file.find_tensor("cls.output.weight");
  if (!ranks || score == nullptr || score->rows() == 1) return {};
  return file.error(ErrorCode::unsupported,
                    fmt::format("tensor 'cls.output.weight' {} has {} classes; rerankers have 1", score->shape_text(),
                                score->rows()));
}

}  // namespace

Result<HyperParameters> read_hyper_parameters(const Checkpoint& file, std::string_view architecture,
                                              tensor::Rope::Pairing pairing, Presence mixes, const YarnRule& yarn) {
  const KeyReader reader(file, architecture);
  TM_TRY(HyperParameters hyper, read_shape(reader, architecture, mixes));
  TM_TRY(const double epsilon, reader.positive("attention.layer_norm_rms_epsilon"));
  hyper.rms_epsilon = static_cast<float>(epsilon);
  TM_CHECK(read_rotation(reader, pairing, hyper, yarn));
  TM_TRY(hyper.pooling, read_pooling(reader));
  const LatentShape& latent = hyper.latent;
  const int64_t scored = latent.rank > 0 ? latent.key_dim + hyper.head_dim - latent.rank : hyper.head_dim;
  hyper.attention_scale = 1.0F / std::sqrt(static_cast<float>(scored));
  hyper.rope.first = latent.rank;
  if (hyper.short_rope) hyper.short_rope->first = latent.rank;
  return hyper;
}

namespace {

// How experts are scored, in llama.cpp's numbers: 1 is the softmax, 2 the sigmoid, and 0 what the architecture has.
Result<void> read_scores(const KeyReader& keys, const ExpertDefaults& defaults, tensor::ExpertRule& rule) {
  TM_TRY(const int64_t chooses, keys.file().get_int_or(keys.key("expert_gating_func"), 0));
  if (chooses == 2 && defaults.may_be_sigmoids) {
    rule.score = tensor::ExpertRule::Score::sigmoid;
    return {};
  }
  if (chooses <= 1) return {};
  return keys.file().error(ErrorCode::unsupported, fmt::format("metadata key '{}' is {}; supported is 1 (softmax){}",
                                                               keys.key("expert_gating_func"), chooses,
                                                               defaults.may_be_sigmoids ? " and 2 (sigmoid)" : ""));
}

// Of groups, DeepSeek-V2 looks at those with the best experts (arXiv:2405.04434, section 2.2.2), and V3, whose scores
// are sigmoids, at those with the best two (arXiv:2412.19437, section 2.1.2).
Result<void> read_groups(const KeyReader& keys, ExpertShape& experts) {
  tensor::ExpertRule& rule = experts.rule;
  TM_TRY(const int64_t groups, keys.file().get_int_or(keys.key("expert_group_count"), 0));
  if (groups == 0) return {};
  TM_TRY(rule.groups, keys.count("expert_group_count", experts.count));
  TM_TRY(rule.used_groups, keys.count_or("expert_group_used_count", rule.groups, rule.groups));
  rule.group_best = rule.score == tensor::ExpertRule::Score::sigmoid ? 2 : 1;
  const int64_t size = experts.count / rule.groups;
  if (experts.count % rule.groups == 0 && rule.used <= size * rule.used_groups) return {};
  return keys.file().error(
      ErrorCode::corrupt,
      fmt::format(
          "{} experts ({}) in {} groups ({}), of which {} are looked at ({}), for {} that are used ({}); groups "
          "are of the same size, and have as many as are used",
          experts.count, keys.key("expert_count"), rule.groups, keys.key("expert_group_count"), rule.used_groups,
          keys.key("expert_group_used_count"), rule.used, keys.key("expert_used_count")));
}

}  // namespace

Result<void> read_experts(const KeyReader& keys, const ExpertDefaults& defaults, HyperParameters& hyper) {
  const Checkpoint& file = keys.file();
  ExpertShape experts;
  TM_TRY(experts.count, keys.count("expert_count", tensor::kMostExperts));
  TM_TRY(experts.rule.used, keys.count("expert_used_count", experts.count));
  const int64_t usual = defaults.divided ? hyper.feed_forward / experts.rule.used : hyper.feed_forward;
  TM_TRY(experts.feed_forward, keys.count_or("expert_feed_forward_length", kMaxFeedForward, usual));
  TM_TRY(experts.rule.normalised, file.get_bool_or(keys.key("expert_weights_norm"), defaults.normalised));
  TM_TRY(experts.rule.scale, keys.factor_or("expert_weights_scale", 1));
  if (defaults.shared) {
    TM_TRY(experts.shared_feed_forward,
           keys.count_or("expert_shared_feed_forward_length", kMaxFeedForward, hyper.feed_forward));
  }
  TM_TRY(const int64_t shared, file.get_int_or(keys.key("expert_shared_count"), 0));
  if (defaults.counts_shared && shared != 0) {
    TM_TRY(const int64_t count, keys.count("expert_shared_count", tensor::kMostExperts));
    experts.shared_feed_forward = count * experts.feed_forward;
  }
  TM_TRY(experts.first_layer, file.get_int_or(keys.key("leading_dense_block_count"), 0));
  if (experts.first_layer < 0 || experts.first_layer > hyper.layers) {
    return file.error(ErrorCode::corrupt,
                      fmt::format("metadata key '{}' is {}; expected 0 to {}, the number of layers",
                                  keys.key("leading_dense_block_count"), experts.first_layer, hyper.layers));
  }
  TM_CHECK(read_scores(keys, defaults, experts.rule));
  TM_CHECK(read_groups(keys, experts));
  hyper.experts = experts;
  return {};
}

Result<void> read_windows(const KeyReader& keys, const WindowPattern& pattern, HyperParameters& hyper) {
  const Checkpoint& file = keys.file();
  TM_TRY(const int64_t window, file.get_int_or(keys.key("attention.sliding_window"), pattern.window));
  if (window == 0) return {};
  if (window < 0 || window > kMaxWindow) {
    return file.error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {}; expected 0 (none) to {}",
                                                      keys.key("attention.sliding_window"), window, kMaxWindow));
  }
  const std::string pattern_key = keys.key("attention.sliding_window_pattern");
  if (const GgufValue* value = file.find(pattern_key); value != nullptr && value->type == GgufType::array) {
    if (value->element != GgufType::boolean || value->count != static_cast<uint64_t>(hyper.layers)) {
      return file.error(ErrorCode::corrupt,
                        fmt::format("metadata key '{}' is a list of {} values of the type {}; expected a boolean for "
                                    "each of {} layers",
                                    pattern_key, value->count, to_string(value->element), hyper.layers));
    }
    hyper.window = window;
    for (const std::byte sees_window : value->payload)
      hyper.windowed.push_back(sees_window != std::byte{0});
    return {};
  }
  TM_TRY(const int64_t period, file.get_int_or(pattern_key, pattern.period));
  if (period < 0 || period > kMaxLayers) {
    return file.error(ErrorCode::corrupt,
                      fmt::format("metadata key '{}' is {}; expected 0 to {}", pattern_key, period, kMaxLayers));
  }
  hyper.window = window;
  for (int64_t layer = 0; layer < hyper.layers; ++layer)
    hyper.windowed.push_back(period == 0 || layer % period != period - 1);
  return {};
}

void warn_of_window(const KeyReader& keys, const HyperParameters& hyper) {
  const auto window = keys.file().get_int_or(keys.key("attention.sliding_window"), 0);
  if (!window || *window <= 0 || *window >= hyper.context) return;
  base::log::warn(
      "{}: the file names a sliding attention window of {} tokens ({}), but not its layers; all of them "
      "attend to all {}",
      keys.file().path().string(), *window, keys.key("attention.sliding_window"), hyper.context);
}

Result<EncoderParameters> read_encoder_parameters(const Checkpoint& file, std::string_view architecture) {
  const KeyReader reader(file, architecture);
  EncoderParameters parameters;
  TM_TRY(parameters.shape, read_shape(reader, architecture, Presence::absent));
  TM_TRY(const double epsilon, reader.positive("attention.layer_norm_epsilon"));
  parameters.norm_epsilon = static_cast<float>(epsilon);
  TM_TRY(const int64_t pooling, file.get_int_or(reader.key("pooling_type"), 0));
  TM_TRY(parameters.shape.pooling, read_encoder_pooling(reader, pooling));
  parameters.ranks = pooling == kRankPooling;
  TM_CHECK(check_labels(reader, parameters.ranks));
  TM_TRY(parameters.token_types, read_token_types(reader));
  TM_TRY(const bool causal, file.get_bool_or(reader.key("attention.causal"), false));
  if (causal) {
    return file.error(ErrorCode::unsupported, fmt::format("metadata key '{}' is true; the rows of an encoder see all "
                                                          "of their text",
                                                          reader.key("attention.causal")));
  }
  return parameters;
}

}  // namespace tidemill::model
