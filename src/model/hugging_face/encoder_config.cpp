#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "base/file.hpp"
#include "model/hugging_face/encoder.hpp"
#include "model/hugging_face/folder_files.hpp"
#include "model/hyper_parameters.hpp"
#include "model/limits.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {

namespace json = base::json;

namespace {

using base::ErrorCode;
using base::Result;

constexpr size_t kMaxModulesBytes = size_t{1} << 20;

struct FoundForm {
  const EncoderArchitecture* architecture = nullptr;
  const EncoderFolderForm* form = nullptr;
};

FoundForm find_form(std::string_view model_type) {
  for (const EncoderArchitecture* architecture : encoder_architectures()) {
    for (const EncoderFolderForm& form : architecture->folders) {
      if (form.model_type == model_type) return {architecture, &form};
    }
  }
  return {};
}

// What would change the computation and is not done.
Result<void> refuse_other_encoders(const JsonMembers& config) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 2> only = {
      {{"hidden_act", "gelu"}, {"position_embedding_type", "absolute"}}};
  for (const auto& [member, supported] : only) {
    TM_TRY(const std::string value, config.get_string_or(member, supported));
    if (value == supported) continue;
    return config.error(ErrorCode::unsupported,
                        fmt::format("'{}' is '{}'; supported is {}", member, printable(value), supported));
  }
  TM_TRY(const bool decodes, config.get_bool_or("is_decoder", false));
  if (!decodes) return {};
  return config.error(ErrorCode::unsupported, "'is_decoder' is true; the rows of an encoder see all of their text");
}

// By the class that the model was saved as: transformers writes its name.
bool names_classifier(const JsonMembers& config) {
  const json::value* classes = config.find("architectures");
  if (classes == nullptr || !classes->is_array()) return false;
  const json::array& list = classes->get_array();
  return std::any_of(list.begin(), list.end(), [](const json::value& name) {
    return name.is_string() && std::string_view(name.get_string()).ends_with("ForSequenceClassification");
  });
}

// Which of the positions is a text's first.
Result<int64_t> first_position(const JsonMembers& config, const EncoderFolderForm& form, int64_t positions) {
  if (!form.positions_behind_padding) return 0;
  TM_TRY(const int64_t padding, config.get_int_or("pad_token_id", 1));
  if (padding >= 0 && padding + 1 < positions) return padding + 1;
  return config.error(
      ErrorCode::corrupt,
      fmt::format("'pad_token_id' is {}, behind which positions begin, and 'max_position_embeddings' {}", padding,
                  positions));
}

// One way to make an embedding of a text's rows, with its names in sentence-transformers.
struct PoolingMode {
  std::string_view name;
  uint32_t gguf_type;
};
constexpr std::array<PoolingMode, 4> kPoolingModes = {{
    {"cls_token", 2},
    {"mean_tokens", 1},
    {"mean_sqrt_len_tokens", 1},  // the same direction
    {"lasttoken", 3},
}};
constexpr std::string_view kPoolingPrefix = "pooling_mode_";

Result<uint32_t> pooling_type(const JsonMembers& pooling) {
  std::string set;
  size_t count = 0;
  for (const auto& [name, value] : pooling.object()) {
    const std::string_view mode = name;
    if (!mode.starts_with(kPoolingPrefix) || !value.is_bool() || !value.get_bool()) continue;
    set.append(count++ == 0 ? "" : ", ").append(mode.substr(kPoolingPrefix.size()));
  }
  // Newer files name the one that it is: "cls", "mean".
  if (pooling.find("pooling_mode") != nullptr) {
    TM_TRY(set, pooling.get_string_or("pooling_mode", ""));
  }
  for (const PoolingMode& mode : kPoolingModes) {
    if (set == mode.name || mode.name == set + "_token" || mode.name == set + "_tokens") return mode.gguf_type;
  }
  return pooling.error(ErrorCode::unsupported,
                       fmt::format("embeddings are pooled by '{}' ('{}*'); supported is one of cls_token, mean_tokens, "
                                   "mean_sqrt_len_tokens and lasttoken",
                                   printable(set), kPoolingPrefix));
}

Result<uint32_t> read_pooling(const std::filesystem::path& path, int64_t width) {
  TM_TRY(const JsonMembers pooling, JsonMembers::read(path, kMaxModulesBytes));
  TM_TRY(const int64_t pooled, pooling.get_int_or("word_embedding_dimension", width));
  if (pooled != width) {
    return pooling.error(ErrorCode::corrupt, fmt::format("'word_embedding_dimension' is {}, but 'hidden_size' of "
                                                         "config.json {}",
                                                         pooled, width));
  }
  return pooling_type(pooling);
}

}  // namespace

Result<std::optional<EncoderShape>> translate_encoder_config(const JsonMembers& config, GgufWriter& metadata) {
  TM_TRY(const std::string type, config.get_string_or("model_type", ""));
  const FoundForm found = find_form(type);
  if (found.form == nullptr) return std::optional<EncoderShape>();
  TM_CHECK(refuse_other_encoders(config));
  EncoderShape shape;
  shape.architecture = found.architecture;
  shape.form = found.form;
  shape.ranks = names_classifier(config);
  TM_TRY(shape.scales, read_weight_scales(config, false));
  TM_TRY(shape.layers, config.get_count("num_hidden_layers", kMaxLayers));
  TM_TRY(shape.vocabulary, config.get_count("vocab_size", kMaxVocabulary));
  TM_TRY(shape.width, config.get_count("hidden_size", kMaxWidth));
  TM_TRY(shape.positions, config.get_count("max_position_embeddings", kMaxContext));
  TM_TRY(shape.first, first_position(config, *found.form, shape.positions));
  shape.token_types = 2;
  if (config.find("type_vocab_size") != nullptr) {
    TM_TRY(shape.token_types, config.get_count("type_vocab_size", kMaxVocabulary));
  }
  TM_TRY(const int64_t heads, config.get_count("num_attention_heads", kMaxHeads));
  TM_TRY(const int64_t feed_forward, config.get_count("intermediate_size", kMaxFeedForward));
  double epsilon = 1e-12;
  if (config.find("layer_norm_eps") != nullptr) {
    TM_TRY(epsilon, config.get_positive("layer_norm_eps"));
  }
  if (shape.width % heads != 0) {
    return config.error(ErrorCode::corrupt, fmt::format("'hidden_size' {} is not a multiple of 'num_attention_heads' "
                                                        "{}",
                                                        shape.width, heads));
  }
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", found.architecture->name, name); };
  const auto add = [&](std::string_view name, int64_t value) {
    metadata.add_u32(key(name), static_cast<uint32_t>(value));
  };
  metadata.add_string("general.architecture", found.architecture->name);
  add("block_count", shape.layers);
  add("context_length", shape.positions - shape.first);
  add("embedding_length", shape.width);
  add("feed_forward_length", feed_forward);
  add("attention.head_count", heads);
  add("vocab_size", shape.vocabulary);
  if (shape.ranks) add("pooling_type", kRankPooling);
  metadata.add_bool(key("attention.causal"), false);
  metadata.add_f32(key("attention.layer_norm_epsilon"), static_cast<float>(epsilon));
  metadata.add_u32("tokenizer.ggml.token_type_count", static_cast<uint32_t>(shape.token_types));
  return std::optional(shape);
}

Result<void> translate_pooling(const std::filesystem::path& folder, std::string_view architecture, int64_t width,
                               GgufWriter& metadata) {
  const std::filesystem::path path = folder / kModulesFile;
  if (is_absent(path)) return {};
  TM_TRY(const std::string modules, base::read_regular_file(path, kMaxModulesBytes));
  TM_TRY(const std::optional<std::string> file, pooling_file(modules, path));
  if (!file) return {};
  TM_TRY(const uint32_t type, read_pooling(folder / *file, width));
  metadata.add_u32(fmt::format("{}.pooling_type", architecture), type);
  return {};
}

}  // namespace tidemill::model
