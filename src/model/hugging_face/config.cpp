#include "model/hugging_face/config.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/json.hpp"
#include "base/log.hpp"
#include "model/architectures/encoder_architecture.hpp"
#include "model/hugging_face/latent_config.hpp"
#include "model/hugging_face/two_rotations.hpp"
#include "model/limits.hpp"
#include "model/metadata.hpp"
#include "model/read_rotation.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using base::Result;

constexpr std::string_view kOriginalContext = "original_max_position_embeddings";

Result<const Architecture*> find_by_model_type(const JsonMembers& config) {
  TM_TRY(const std::string type, config.get_string_or("model_type", ""));
  std::string known;
  for (const Architecture* architecture : architectures()) {
    const FolderForm& form = architecture->folder;
    for (const auto types : {form.model_types, form.image_model_types}) {
      for (const std::string_view candidate : types) {
        if (candidate == type) return architecture;
        known.append(known.empty() ? "" : ", ").append(candidate);
      }
    }
  }
  for (const EncoderArchitecture* architecture : encoder_architectures()) {
    for (const EncoderFolderForm& form : architecture->folders)
      known.append(", ").append(form.model_type);
  }
  return config.error(ErrorCode::unsupported,
                      fmt::format("'model_type' is '{}'; supported are {}", printable(type), known));
}

// That `members`, which may speak of the rotation, do not ask for a part of each head.
Result<void> refuse_partial_rotation(const JsonMembers& members) {
  TM_TRY(const double rotated, members.get_number_or("partial_rotary_factor", 1));
  if (rotated == 1) return {};
  return members.error(ErrorCode::unsupported, fmt::format("'{}' is {}; supported is the rotation of whole heads",
                                                           members.name("partial_rotary_factor"), rotated));
}

// What would change the computation and is not done.
Result<void> refuse_unsupported(const JsonMembers& config, const FolderForm& form) {
  // Some files have two members for it, of which the longer one holds.
  const std::string_view member = config.find("hidden_activation") != nullptr ? "hidden_activation" : "hidden_act";
  TM_TRY(const std::string activation, config.get_string_or(member, form.activations.front()));
  if (std::find(form.activations.begin(), form.activations.end(), activation) == form.activations.end()) {
    return config.error(ErrorCode::unsupported, fmt::format("'{}' is '{}'; supported is {}", member,
                                                            printable(activation), form.activations.front()));
  }
  return form.rotates_parts ? Result<void>() : refuse_partial_rotation(config);
}

// The same for rope_parameters or rope_scaling: whatever is not known changes the rotation.
Result<void> refuse_unknown_rotation(const JsonMembers& rotation, const FolderForm& form) {
  if (!rotation.exists()) return {};
  if (!form.rotates_parts) TM_CHECK(refuse_partial_rotation(rotation));
  constexpr std::array<std::string_view, 16> known = {"type",
                                                      "rope_type",
                                                      "rope_theta",
                                                      "factor",
                                                      "low_freq_factor",
                                                      "high_freq_factor",
                                                      kOriginalContext,
                                                      "partial_rotary_factor",
                                                      "short_factor",
                                                      "long_factor",
                                                      "attention_factor",
                                                      "beta_fast",
                                                      "beta_slow",
                                                      "mscale",
                                                      "mscale_all_dim",
                                                      "truncate"};
  for (const auto& [key, value] : rotation.object()) {
    const std::string_view name = key;
    if (value.is_null() || std::find(known.begin(), known.end(), name) != known.end()) continue;
    return rotation.error(ErrorCode::unsupported,
                          fmt::format("'{}' is {}; known members are {}", printable(rotation.name(name)),
                                      printable(base::json::serialize(value)), fmt::join(known, ", ")));
  }
  return {};
}

// Meta's scaling for Llama 3.1 (models/llama3/model.py, apply_scaling): of each frequency, what it is divided by.
// Wavelengths within a part of the old context stay, those past another are stretched by `factor`, and between the two
// the stretch is interpolated.
Result<std::vector<float>> llama3_factors(const JsonMembers& scaling, double base, int64_t head_dim) {
  TM_TRY(const double factor, scaling.get_number("factor"));
  TM_TRY(const double low, scaling.get_number_or("low_freq_factor", 1));
  TM_TRY(const double high, scaling.get_number_or("high_freq_factor", 4));
  TM_TRY(const double old_context, scaling.get_number_or(kOriginalContext, 8192));
  const std::array<double, 4> numbers = {factor, low, high, old_context};
  const bool positive = std::all_of(numbers.begin(), numbers.end(), [](double n) { return std::isfinite(n) && n > 0; });
  if (!positive || high <= low) {
    return scaling.error(
        ErrorCode::corrupt,
        fmt::format("'{}' is {}, '{}' {}, '{}' {} and '{}' {}; expected positive numbers, the high "
                    "factor above the low one",
                    scaling.name("factor"), factor, scaling.name("low_freq_factor"), low,
                    scaling.name("high_freq_factor"), high, scaling.name(kOriginalContext), old_context));
  }
  std::vector<float> factors;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double wavelength = 2 * std::numbers::pi / frequency;
    double stretch = 1;
    if (wavelength > old_context / low) {
      stretch = factor;
    } else if (wavelength >= old_context / high) {
      const double smooth = (old_context / wavelength - low) / (high - low);
      stretch = 1 / ((1 - smooth) / factor + smooth);
    }
    factors.push_back(static_cast<float>(stretch));
  }
  return factors;
}

// The numbers of a list.
Result<std::vector<float>> numbers_in(const JsonMembers& members, std::string_view name) {
  const base::json::value* list = members.find(name);
  if (list == nullptr) return members.error(ErrorCode::not_found, fmt::format("'{}' is missing", members.name(name)));
  if (!list->is_array()) return members.wrong(name, "a list of numbers");
  std::vector<float> numbers;
  for (const base::json::value& value : list->as_array()) {
    if (!value.is_number()) return members.wrong(name, "a list of numbers");
    numbers.push_back(static_cast<float>(value.to_number<double>()));
  }
  return numbers;
}

class ConfigTranslator {
 public:
  ConfigTranslator(const JsonMembers& config, const Architecture& architecture, GgufWriter& metadata)
      : config_(config), architecture_(architecture), metadata_(metadata) {}

  Result<FolderShape> run() {
    FolderShape shape;
    shape.architecture = &architecture_;
    TM_CHECK(find_rotation());
    TM_TRY(shape.layers, count("num_hidden_layers"));
    TM_TRY(shape.heads, count("num_attention_heads"));
    TM_TRY(shape.kv_heads, count_or("num_key_value_heads", shape.heads));
    TM_TRY(shape.vocabulary, count("vocab_size", kMaxVocabulary));
    TM_TRY(shape.width, count("hidden_size"));
    TM_TRY(const int64_t feed_forward, count("intermediate_size"));
    TM_TRY(const int64_t window, window_tokens());
    TM_TRY(const int64_t context, context_length(window));
    LatentConfig latent;
    if (architecture_.folder.has_latents) {
      TM_TRY(latent, read_latent_config(config_));
      shape.latent = latent.shape;
      shape.kv_heads = 1;
    }
    const bool latents = shape.latent.rank > 0;
    TM_TRY(const int64_t head_dim,
           latents ? shape.latent.rank + latent.rotated : head_elements(shape.width, shape.heads));
    TM_CHECK(check_heads(shape, head_dim));
    TM_TRY(const double epsilon, positive_or_usual("rms_norm_eps"));
    for (const auto& [name, said] :
         {std::pair("tie_word_embeddings", &shape.tied), std::pair("attention_bias", &shape.attention_bias),
          std::pair("mlp_bias", &shape.feed_forward_bias)}) {
      if (config_.find(name) == nullptr) continue;
      TM_TRY(*said, config_.get_bool_or(name, false));
    }
    add("block_count", shape.layers);
    add("context_length", context);
    add("embedding_length", shape.width);
    add("feed_forward_length", feed_forward);
    add("attention.head_count", shape.heads);
    add("attention.head_count_kv", shape.kv_heads);
    add("attention.key_length", head_dim);
    add("attention.value_length", latents ? shape.latent.rank : head_dim);
    if (latents) add_latent(latent);
    TM_TRY(const int64_t rotated, rotated_elements(latents ? latent.rotated : head_dim));
    add("rope.dimension_count", rotated);
    add("vocab_size", shape.vocabulary);
    if (const std::string_view member = architecture_.folder.experts; !member.empty() && knows(member)) {
      TM_CHECK(experts(member, shape));
    }
    TM_TRY(shape.further_layers, config_.get_int_or("num_nextn_predict_layers", 0));
    if (architecture_.folder.keeps_window && window > 0) add("attention.sliding_window", window);
    metadata_.add_f32(key("attention.layer_norm_rms_epsilon"), static_cast<float>(epsilon));
    TM_TRY(shape.rope_factors, rotation(rotated, context, shape));
    if (architecture_.folder.add_keys != nullptr) TM_CHECK(architecture_.folder.add_keys(config_, metadata_));
    return shape;
  }

 private:
  // As llama.cpp's converter has it: of keys and values, what heads make of a latent.
  void add_latent(const LatentConfig& latent) {
    add("attention.kv_lora_rank", latent.shape.rank);
    add("attention.q_lora_rank", latent.shape.query_rank);
    add("attention.key_length_mla", latent.shape.key_dim + latent.rotated);
    add("attention.value_length_mla", latent.shape.value_dim);
  }

  Result<void> experts(std::string_view member, FolderShape& shape) {
    TM_TRY(shape.experts, count(member));
    TM_TRY(const int64_t used, count("num_experts_per_tok"));
    add("expert_count", shape.experts);
    add("expert_used_count", used);
    const FolderForm& form = architecture_.folder;
    shape.shares_experts = form.shared_experts;
    if (!form.shared_experts_count.empty()) {
      TM_TRY(const int64_t shared, config_.get_int_or(form.shared_experts_count, 0));
      shape.shares_experts = shared > 0;
    }
    TM_TRY(shape.first_expert_layer, config_.get_int_or("first_k_dense_replace", 0));
    return {};
  }

  std::string key(std::string_view name) const { return fmt::format("{}.{}", architecture_.name, name); }
  void add(std::string_view name, int64_t value) { metadata_.add_u32(key(name), static_cast<uint32_t>(value)); }

  // Whether the file has a member, or there is a number for it without.
  bool knows(std::string_view name) const { return config_.find(name) != nullptr || usual(name); }
  std::optional<double> usual(std::string_view name) const {
    for (const auto& [member, value] : architecture_.folder.defaults) {
      if (member == name) return value;
    }
    return std::nullopt;
  }
  Result<double> positive_or_usual(std::string_view name) const {
    if (const auto value = usual(name)) return positive_or(config_, name, *value);
    return positive(config_, name);
  }

  // An integer that is at least 1 and fits the metadata.
  Result<int64_t> count(std::string_view name, int64_t most = std::numeric_limits<int32_t>::max()) const {
    if (const auto value = usual(name); value && config_.find(name) == nullptr) return static_cast<int64_t>(*value);
    return config_.get_count(name, most);
  }
  Result<int64_t> count_or(std::string_view name, int64_t fallback) const {
    return knows(name) ? count(name) : fallback;
  }

  static Result<double> positive(const JsonMembers& members, std::string_view name) {
    return members.get_positive(name);
  }
  static Result<double> positive_or(const JsonMembers& members, std::string_view name, double fallback) {
    if (members.find(name) == nullptr) return fallback;
    return positive(members, name);
  }

  Result<void> check_heads(const FolderShape& shape, int64_t head_dim) const {
    if (shape.heads % shape.kv_heads != 0) {
      return config_.error(ErrorCode::corrupt,
                           fmt::format("'num_attention_heads' {} is not a multiple of 'num_key_value_heads' {}",
                                       shape.heads, shape.kv_heads));
    }
    if (head_dim % 2 == 0) return {};
    return config_.error(
        ErrorCode::corrupt,
        fmt::format("heads have {} elements ('head_dim', or 'hidden_size' {} for each of 'num_attention_heads' {}); "
                    "the two halves of a head rotate, so that it is an even number",
                    head_dim, shape.width, shape.heads));
  }

  Result<int64_t> head_elements(int64_t width, int64_t heads) const {
    if (knows("head_dim")) return count("head_dim", kMaxHeadDim);
    if (width % heads == 0 && width / heads <= kMaxHeadDim) return width / heads;
    if (width % heads == 0) {
      return config_.error(ErrorCode::corrupt,
                           fmt::format("'hidden_size' {} is {} for each of 'num_attention_heads' {}; "
                                       "at most {} are possible",
                                       width, width / heads, heads, kMaxHeadDim));
    }
    return config_.error(
        ErrorCode::corrupt,
        fmt::format("'hidden_size' {} is not a multiple of 'num_attention_heads' {}, and 'head_dim' is "
                    "missing",
                    width, heads));
  }

  // 0: attention is to all tokens.
  Result<int64_t> window_tokens() const {
    TM_TRY(const bool slides, config_.get_bool_or("use_sliding_window", true));
    if (!slides || !knows("sliding_window")) return 0;
    return count("sliding_window");
  }

  // Where YaRN's members were added to the file of a model that was made for shorter contexts, as Qwen's authors
  // advise, max_position_embeddings is still what it was.
  Result<int64_t> scaled_context() const {
    TM_TRY(const int64_t context, count("max_position_embeddings", kMaxContext));
    if (scaling_type_ != "yarn" || scaling_.find("factor") == nullptr) return context;
    TM_TRY(const double factor, positive(scaling_, "factor"));
    TM_TRY(const int64_t original, original_context(0));
    const double longer = static_cast<double>(original) * factor;
    return std::max(context, longer < static_cast<double>(kMaxContext) ? static_cast<int64_t>(longer) : kMaxContext);
  }

  // A window that is not kept to makes no difference to texts that fit it.
  Result<int64_t> context_length(int64_t window) const {
    TM_TRY(const int64_t context, scaled_context());
    if (architecture_.folder.keeps_window || window == 0 || window >= context) return context;
    base::log::warn(
        "{}: the model attends to the last {} tokens alone ('sliding_window'); here it attends to all, and so its "
        "context is those {} tokens instead of {}",
        config_.path().string(), window, window, context);
    return window;
  }

  Result<int64_t> rotated_elements(int64_t head_dim) const {
    constexpr std::string_view member = "partial_rotary_factor";
    TM_TRY(const JsonMembers parameters, config_.members("rope_parameters"));
    const JsonMembers& holder = parameters.find(member) != nullptr ? parameters : config_;
    if (!architecture_.folder.rotates_parts) {
      TM_CHECK(refuse_partial_rotation(holder));
      return head_dim;
    }
    TM_TRY(const double part, holder.get_number_or(member, 1));
    if (part == 1) return head_dim;
    const double elements = static_cast<double>(head_dim) * part;
    if (part > 0 && part <= 1 && elements >= 2) return static_cast<int64_t>(elements);
    return holder.error(ErrorCode::corrupt,
                        fmt::format("'{}' is {}, of heads of {} elements; expected a part of each head that has two or "
                                    "more",
                                    holder.name(member), part, head_dim));
  }

  // Finds what the file says of the rotation.
  Result<void> find_rotation() {
    // Newer files have one object with all that concerns the rotation.
    TM_TRY(const JsonMembers all, config_.members("rope_parameters"));
    // And where layers rotate in two ways, one for each.
    TM_TRY(const JsonMembers full, all.members("full_attention"));
    rotation_ = full.exists() ? full : all;
    TM_TRY(const JsonMembers older, config_.members("rope_scaling"));
    TM_CHECK(refuse_two_rotations(rotation_, older));
    scaling_ = rotation_.exists() ? rotation_ : older;
    TM_TRY(const std::string named, scaling_.get_string_or("type", "default"));
    TM_TRY(scaling_type_, scaling_.get_string_or("rope_type", named));
    return {};
  }

  const JsonMembers& original_context_holder() const {
    return config_.find(kOriginalContext) != nullptr ? config_ : scaling_;
  }
  // Tokens that the model was first trained for.
  Result<int64_t> original_context(int64_t fallback) const {
    const JsonMembers& holder = original_context_holder();
    if (holder.find(kOriginalContext) == nullptr) return fallback;
    TM_TRY(const int64_t original, holder.get_int(kOriginalContext));
    if (original >= 2 && original <= kMaxContext) return original;
    return holder.wrong(kOriginalContext, "2 or more");
  }

  // LongRoPE's factors, and what queries and keys are multiplied by.
  Result<void> long_rope(int64_t rotated, int64_t context, FolderShape& shape) {
    TM_TRY(shape.long_factors, numbers_in(scaling_, "long_factor"));
    TM_TRY(shape.short_factors, numbers_in(scaling_, "short_factor"));
    for (const auto& [name, factors] :
         {std::pair("long_factor", &shape.long_factors), std::pair("short_factor", &shape.short_factors)}) {
      if (static_cast<int64_t>(factors->size()) == rotated / 2) continue;
      return scaling_.error(ErrorCode::corrupt, fmt::format("'{}' has {} numbers; the rotation has {} pairs",
                                                            scaling_.name(name), factors->size(), rotated / 2));
    }
    TM_TRY(const int64_t original, original_context(context));
    const double longer = static_cast<double>(context) / static_cast<double>(original);
    const double customary = longer > 1 ? std::sqrt(1 + std::log(longer) / std::log(static_cast<double>(original))) : 1;
    // transformers makes the magnitude of one of the two, which one depends on its version.
    TM_TRY(const double factor, scaling_.get_number_or("factor", longer));
    if (scaling_.find("attention_factor") == nullptr && !(std::abs(factor - longer) <= 1e-6 * longer)) {
      return scaling_.error(ErrorCode::unsupported,
                            fmt::format("'{}' is {}, but 'max_position_embeddings' {} is {} times '{}' {}; supported "
                                        "is a factor of that",
                                        scaling_.name("factor"), factor, context, longer,
                                        original_context_holder().name(kOriginalContext), original));
    }
    TM_TRY(const double magnitude, scaling_.get_number_or("attention_factor", customary));
    add("rope.scaling.original_context_length", original);
    metadata_.add_f32(key("rope.scaling.attn_factor"), static_cast<float>(magnitude));
    return {};
  }

  // 0 where the file does not say it.
  Result<double> yarn_strength(std::string_view name) const {
    TM_TRY(const double strength, scaling_.get_number_or(name, 0));
    return strength == 0 ? 0.0 : positive(scaling_, name);
  }

  // YaRN's factor and what else the file says of it (transformers, _compute_yarn_parameters).
  Result<void> yarn(int64_t context) {
    const auto add_real = [&](std::string_view name, double value) {
      metadata_.add_f32(key(name), static_cast<float>(value));
    };
    TM_TRY(const int64_t original, original_context(context));
    TM_TRY(const double factor,
           positive_or(scaling_, "factor", static_cast<double>(context) / static_cast<double>(original)));
    metadata_.add_string(key("rope.scaling.type"), "yarn");
    add_real("rope.scaling.factor", factor);
    add("rope.scaling.original_context_length", original);
    for (const std::string_view name : {"beta_fast", "beta_slow"}) {
      if (scaling_.find(name) == nullptr) continue;
      TM_TRY(const double turns, positive(scaling_, name));
      add_real(fmt::format("rope.scaling.yarn_{}", name), turns);
    }
    TM_TRY(const bool whole_pairs, scaling_.get_bool_or("truncate", true));
    metadata_.add_bool(key("rope.scaling.yarn_truncate"), whole_pairs);
    TM_TRY(const double part, yarn_strength("mscale"));
    TM_TRY(const double all, yarn_strength("mscale_all_dim"));
    const double customary = yarn_magnitude(factor);
    const bool divided = part != 0 && all != 0;
    TM_TRY(const double magnitude,
           positive_or(scaling_, "attention_factor",
                       divided ? yarn_magnitude(factor, part) / yarn_magnitude(factor, all) : customary));
    const bool at_scores = architecture_.folder.yarn_scales_scores && all != 0;
    if (at_scores) add_real("rope.scaling.yarn_log_multiplier", 0.1 * all);
    const double times = at_scores ? magnitude : magnitude / customary;
    if (times != 1) add_real("rope.scaling.attn_factor", times);
    return {};
  }

  // Adds the rotation's keys; gives Llama 3's factors where the file asks for them.
  Result<std::vector<float>> rotation(int64_t rotated, int64_t context, FolderShape& shape) {
    TM_TRY(const double theta, positive_or(config_, "rope_theta", usual("rope_theta").value_or(10000)));
    TM_TRY(const double base, positive_or(rotation_, "rope_theta", theta));
    metadata_.add_f32(key("rope.freq_base"), static_cast<float>(base));
    const std::string_view type = scaling_type_;
    const bool scales_long = type == "longrope" || type == "su";
    if (type != "default" && type != "llama3" && type != "linear" && type != "yarn" && !scales_long) {
      return config_.error(ErrorCode::unsupported,
                           fmt::format("'{}' is '{}'; supported are default, linear, llama3, longrope and yarn",
                                       scaling_.name("rope_type"), printable(type)));
    }
    TM_CHECK(refuse_unknown_rotation(scaling_, architecture_.folder));
    if (type == "llama3") return llama3_factors(scaling_, base, rotated);
    if (scales_long) TM_CHECK(long_rope(rotated, context, shape));
    if (type == "yarn") TM_CHECK(yarn(context));
    if (type == "linear") {
      TM_TRY(const double factor, positive(scaling_, "factor"));
      metadata_.add_string(key("rope.scaling.type"), "linear");
      metadata_.add_f32(key("rope.scaling.factor"), static_cast<float>(factor));
    }
    return std::vector<float>();
  }

  const JsonMembers& config_;
  const Architecture& architecture_;
  GgufWriter& metadata_;
  JsonMembers rotation_;  // rope_parameters, or of it the part for layers that see everything
  JsonMembers scaling_;   // the same, or rope_scaling
  std::string scaling_type_;
};

}  // namespace

Result<FolderShape> translate_config(const JsonMembers& config, GgufWriter& metadata) {
  TM_TRY(const Architecture* architecture, find_by_model_type(config));
  const bool may_be_mxfp4 = architecture->folder.joined_experts;
  TM_TRY(WeightScales scales, read_weight_scales(config, may_be_mxfp4));
  TM_CHECK(refuse_unsupported(config, architecture->folder));
  metadata.add_string("general.architecture", architecture->name);
  TM_TRY(const std::string type, config.get_string_or("model_type", ""));
  const auto& with_images = architecture->folder.image_model_types;
  JsonMembers text = config;
  if (std::find(with_images.begin(), with_images.end(), type) != with_images.end()) {
    TM_TRY(text, config.members("text_config"));
    if (!text.exists()) return config.error(ErrorCode::not_found, "'text_config' is missing");
    TM_TRY(const WeightScales own, read_weight_scales(text, may_be_mxfp4));
    if (!own.none()) scales = own;
    TM_CHECK(refuse_unsupported(text, architecture->folder));
    base::log::warn("{}: the model reads images as well as text; here it reads text alone", config.path().string());
  }
  TM_TRY(FolderShape shape, ConfigTranslator(text, *architecture, metadata).run());
  shape.scales = scales;
  return shape;
}

}  // namespace tidemill::model
