#include "model/read_hyper_parameters.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

// Limits far above every released model, low enough that products of a few of them stay inside 63 bits.
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxFeedForward = int64_t{1} << 22;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 1024;
constexpr int64_t kMaxContext = int64_t{1} << 30;
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;

// Reads the keys of one architecture.
class Reader {
 public:
  Reader(const Checkpoint& file, std::string_view architecture)
      : file_(file), prefix_(std::string(architecture) + ".") {}

  std::string key(std::string_view name) const { return prefix_ + std::string(name); }
  bool has(std::string_view name) const { return file_.find(key(name)) != nullptr; }

  // An integer of 1 to `most`.
  Result<int64_t> count(std::string_view name, int64_t most) const {
    TM_TRY(const int64_t value, file_.get_int(key(name)));
    return in_range(name, value, most);
  }
  Result<int64_t> count_or(std::string_view name, int64_t most, int64_t fallback) const {
    TM_TRY(const int64_t value, file_.get_int_or(key(name), fallback));
    return in_range(name, value, most);
  }

  // A positive, finite number.
  Result<double> positive(std::string_view name) const {
    TM_TRY(const double value, file_.get_float(key(name)));
    if (std::isfinite(value) && value > 0) return value;
    return file_.error(ErrorCode::corrupt,
                       fmt::format("metadata key '{}' is {}; expected a positive number", key(name), value));
  }
  Result<double> positive_or(std::string_view name, double fallback) const {
    if (!has(name)) return fallback;
    return positive(name);
  }

  const Checkpoint& file() const { return file_; }

 private:
  Result<int64_t> in_range(std::string_view name, int64_t value, int64_t most) const {
    if (value >= 1 && value <= most) return value;
    return file_.error(ErrorCode::corrupt,
                       fmt::format("metadata key '{}' is {}; expected 1 to {}", key(name), value, most));
  }

  const Checkpoint& file_;
  std::string prefix_;
};

// What each rotation frequency is divided by for the whole head: 1 without scaling.
Result<double> linear_scaling(const Reader& reader) {
  const Checkpoint& file = reader.file();
  TM_TRY(const std::string_view type, file.get_string_or(reader.key("rope.scaling.type"), "linear"));
  double factor = 1;
  for (const std::string_view name : {"rope.scale_linear", "rope.scaling.factor"}) {
    // Writers say "no scaling" with 0 as well as with 1.
    TM_TRY(const double written, file.get_float_or(reader.key(name), 0));
    if (written != 0) factor = written;
  }
  if (type == "none") return 1.0;
  if (!std::isfinite(factor) || factor <= 0) {
    return file.error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {}; expected a positive number",
                                                      reader.key("rope.scaling.factor"), factor));
  }
  if (type == "linear" || factor == 1) return factor;
  return file.error(ErrorCode::unsupported,
                    fmt::format("RoPE scaling '{}' with factor {} ({}); supported are none, linear, and Llama 3's "
                                "(the tensor rope_freqs.weight)",
                                printable(type), factor, reader.key("rope.scaling.type")));
}

// Divides the frequencies by Llama 3's factors where the file has them.
Result<void> apply_frequency_factors(const Checkpoint& file, std::vector<double>& frequencies) {
  for (const std::string_view name : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    if (file.find_tensor(name) != nullptr) {
      return file.error(ErrorCode::unsupported,
                        fmt::format("tensor '{}' (LongRoPE scaling); supported are none, linear, "
                                    "and Llama 3's (the tensor rope_freqs.weight)",
                                    name));
    }
  }
  const GgufTensor* factors = file.find_tensor("rope_freqs.weight");
  if (factors == nullptr) return {};
  const auto pairs = static_cast<int64_t>(frequencies.size());
  if (factors->type != tensor::DType::f32 || factors->elements() != pairs) {
    return file.error(ErrorCode::corrupt,
                      fmt::format("tensor 'rope_freqs.weight' is {} {}; the rotation's {} pairs want F32 [{}]",
                                  tensor::info(factors->type).name, factors->shape_text(), pairs, pairs));
  }
  std::vector<float> values(frequencies.size());
  base::Buffer made;
  TM_TRY(const auto bytes, file.read(*factors, made));
  tensor::dequantize(tensor::DType::f32, bytes.data(), pairs, values.data());
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i]) || values[i] <= 0) {
      return file.error(ErrorCode::corrupt,
                        fmt::format("tensor 'rope_freqs.weight' holds {} at {}; factors are positive", values[i], i));
    }
    frequencies[i] /= static_cast<double>(values[i]);
  }
  return {};
}

Result<tensor::Rope> read_rope(const Reader& reader, int64_t head_dim, tensor::Rope::Pairing pairing) {
  TM_TRY(const int64_t rotated, reader.count_or("rope.dimension_count", head_dim, head_dim));
  if (rotated % 2 != 0) {
    return reader.file().error(ErrorCode::corrupt, fmt::format("metadata key '{}' is {}; expected an even number",
                                                               reader.key("rope.dimension_count"), rotated));
  }
  TM_TRY(const double base, reader.positive_or("rope.freq_base", 10000.0));
  TM_TRY(const double scaling, linear_scaling(reader));
  tensor::Rope rope;
  rope.pairing = pairing;
  for (int64_t i = 0; i < rotated / 2; ++i) {
    rope.frequencies.push_back(std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rotated)) / scaling);
  }
  TM_CHECK(apply_frequency_factors(reader.file(), rope.frequencies));
  return rope;
}

Result<Pooling> read_encoder_pooling(const Reader& reader, int64_t type) {
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

Result<Pooling> read_pooling(const Reader& reader) {
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

Result<void> check_unsupported(const Reader& reader) {
  const Checkpoint& file = reader.file();
  TM_TRY(const int64_t parts, file.get_int_or("split.count", 1));
  if (parts > 1) {
    return file.error(
        ErrorCode::unsupported,
        fmt::format("this is one of {} files that the model is split over; open it by its name and beside the others",
                    parts));
  }
  TM_TRY(const int64_t experts, file.get_int_or(reader.key("expert_count"), 0));
  if (experts > 0) {
    return file.error(ErrorCode::unsupported,
                      fmt::format("a mixture of {} experts ({}); only dense models are supported", experts,
                                  reader.key("expert_count")));
  }
  return {};
}

// What decoders and encoders have in common.
Result<HyperParameters> read_shape(const Reader& reader, std::string_view architecture) {
  const Checkpoint& file = reader.file();
  TM_CHECK(check_unsupported(reader));
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
  if (!reader.has("attention.key_length") && hyper.width % hyper.heads != 0) {
    return file.error(ErrorCode::corrupt,
                      fmt::format("width {} ({}) is not a multiple of {} heads ({}), and '{}' is missing", hyper.width,
                                  reader.key("embedding_length"), hyper.heads, reader.key("attention.head_count"),
                                  reader.key("attention.key_length")));
  }
  TM_TRY(hyper.head_dim, reader.count_or("attention.key_length", kMaxHeadDim, hyper.width / hyper.heads));
  TM_TRY(const int64_t value_dim, reader.count_or("attention.value_length", kMaxHeadDim, hyper.head_dim));
  if (value_dim != hyper.head_dim) {
    return file.error(ErrorCode::unsupported,
                      fmt::format("key heads of {} and value heads of {} elements ({}); they must be equal",
                                  hyper.head_dim, value_dim, reader.key("attention.value_length")));
  }
  return hyper;
}

// The rows of the table of token types, which some encoders do not have.
Result<int64_t> read_token_types(const Reader& reader) {
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
Result<void> check_labels(const Reader& reader, bool ranks) {
  const Checkpoint& file = reader.file();
  const GgufTensor* score = file.find_tensor("cls.output.weight");
  if (!ranks || score == nullptr || score->rows() == 1) return {};
  return file.error(ErrorCode::unsupported,
                    fmt::format("tensor 'cls.output.weight' {} has {} classes; rerankers have 1", score->shape_text(),
                                score->rows()));
}

}  // namespace

Result<HyperParameters> read_hyper_parameters(const Checkpoint& file, std::string_view architecture,
                                              tensor::Rope::Pairing pairing) {
  const Reader reader(file, architecture);
  TM_TRY(HyperParameters hyper, read_shape(reader, architecture));
  TM_TRY(const double epsilon, reader.positive("attention.layer_norm_rms_epsilon"));
  hyper.rms_epsilon = static_cast<float>(epsilon);
  TM_TRY(hyper.rope, read_rope(reader, hyper.head_dim, pairing));
  TM_TRY(hyper.pooling, read_pooling(reader));
  TM_TRY(const int64_t window, file.get_int_or(reader.key("attention.sliding_window"), 0));
  if (window > 0 && window < hyper.context) {
    base::log::warn(
        "{}: the model was trained with a sliding attention window of {} tokens; Tidemill attends to all {}",
        file.path().string(), window, hyper.context);
  }
  return hyper;
}

Result<EncoderParameters> read_encoder_parameters(const Checkpoint& file, std::string_view architecture) {
  const Reader reader(file, architecture);
  EncoderParameters parameters;
  TM_TRY(parameters.shape, read_shape(reader, architecture));
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
