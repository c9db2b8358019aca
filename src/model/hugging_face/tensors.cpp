#include "model/hugging_face/tensors.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/hugging_face/joined_experts.hpp"
#include "model/hugging_face/weight_scales.hpp"
#include "model/latent_expansion.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr std::string_view kModelPrefix = "model.";
constexpr int64_t kMostFurtherLayers = 8;

// The frequencies that old versions of transformers stored, and that follow from the configuration.
bool is_derived(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq");
}

// One tensor of a layer, or a projection with its bias.
struct LayerPart {
  std::string_view TensorNames::*name;
  Presence DecoderParts::*bias = nullptr;                               // null: never
  Presence DecoderParts::*presence = nullptr;                           // of the weight; null: always
  enum class Heads : uint8_t { none, query, key } heads = Heads::none;  // whose rows rotate in pairs
  bool dense = false;                                                   // experts take its place in mixtures
  bool bare = false;                                                    // without ".weight" in folders
  bool own = false;                                                     // and this of latents, where there are any
};
constexpr std::array<LayerPart, 16> kLayerParts = {{
    {.name = &TensorNames::attention_norm},
    {.name = &TensorNames::query,
     .bias = &DecoderParts::qkv_bias,
     .presence = &DecoderParts::apart,
     .heads = LayerPart::Heads::query,
     .own = true},
    {.name = &TensorNames::key,
     .bias = &DecoderParts::qkv_bias,
     .presence = &DecoderParts::apart,
     .heads = LayerPart::Heads::key,
     .own = true},
    {.name = &TensorNames::value, .bias = &DecoderParts::qkv_bias, .presence = &DecoderParts::apart, .own = true},
    {.name = &TensorNames::query_key_value, .presence = &DecoderParts::joined},
    {.name = &TensorNames::query_norm, .presence = &DecoderParts::head_norms},
    {.name = &TensorNames::key_norm, .presence = &DecoderParts::head_norms},
    {.name = &TensorNames::sinks, .presence = &DecoderParts::sinks, .bare = true},
    {.name = &TensorNames::attention_output, .bias = &DecoderParts::output_bias},
    {.name = &TensorNames::post_attention_norm, .presence = &DecoderParts::post_norms},
    {.name = &TensorNames::feed_forward_norm},
    {.name = &TensorNames::gate,
     .bias = &DecoderParts::feed_forward_bias,
     .presence = &DecoderParts::apart,
     .dense = true},
    {.name = &TensorNames::up,
     .bias = &DecoderParts::feed_forward_bias,
     .presence = &DecoderParts::apart,
     .dense = true},
    {.name = &TensorNames::gate_and_up, .presence = &DecoderParts::joined, .dense = true},
    {.name = &TensorNames::down, .bias = &DecoderParts::feed_forward_bias, .dense = true},
    {.name = &TensorNames::post_feed_forward_norm, .presence = &DecoderParts::post_norms},
}};

class TensorTranslator {
 public:
  TensorTranslator(FolderTensors& out, const FolderShape& shape, const std::filesystem::path& folder)
      : out_(out),
        shape_(shape),
        parts_(shape.architecture->parts),
        form_(shape.architecture->folder),
        folder_(folder) {}

  Result<void> run() {
    find_prefix();
    const TensorNames& theirs = form_.names;
    const TensorNames& ours = shape_.architecture->names;
    TM_CHECK(require(in_model(theirs.token_embedding), ours.token_embedding, ".weight"));
    TM_CHECK(check_vocabulary());
    add_rope_factors("rope_freqs.weight", shape_.rope_factors);
    add_rope_factors("rope_factors_long.weight", shape_.long_factors);
    add_rope_factors("rope_factors_short.weight", shape_.short_factors);
    for (int64_t i = 0; i < shape_.layers; ++i) {
      if (shape_.latent.rank > 0) TM_CHECK(translate_latent(i));
      for (const LayerPart& part : kLayerParts)
        TM_CHECK(translate(part, i));
      if (mixes(i)) TM_CHECK(translate_experts(i));
    }
    TM_CHECK(require(in_model(theirs.output_norm), ours.output_norm, ".weight"));
    TM_CHECK(translate_output());
    return refuse_unused();
  }

 private:
  // Models without a head for text are stored without "model."; those that read images keep what writes apart.
  void find_prefix() {
    for (const std::string_view prefix : {"model.language_model.", "language_model.model."}) {
      const std::string embedding = std::string(prefix).append(form_.names.token_embedding) + ".weight";
      if (form_.image_model_types.empty() || out_.weights.find(embedding).tensor == nullptr) continue;
      prefix_ = prefix;
      return;
    }
    for (const FolderWeights::Found& found : out_.weights.tensors()) {
      if (found.tensor->name.starts_with(kModelPrefix)) prefix_ = kModelPrefix;
    }
  }

  std::string in_model(std::string_view name) const { return std::string(prefix_).append(name); }
  std::string in_layer(int64_t layer, std::string_view name) const {
    return fmt::format("{}layers.{}.{}", prefix_, layer, name);
  }

  Error missing(std::string_view name) const {
    const std::filesystem::path where =
        out_.weights.index().empty() ? out_.weights.files().front().path() : out_.weights.index();
    return Error(ErrorCode::not_found,
                 fmt::format("{}: tensor '{}' is missing, which a model of the type '{}' with {} layers needs",
                             where.string(), name, shape_.architecture->name, shape_.layers));
  }

  std::string our_name(int64_t layer, std::string_view TensorNames::*part) const {
    return fmt::format("blk.{}.{}", layer, shape_.architecture->names.*part);
  }

  bool mixes(int64_t layer) const { return shape_.experts > 0 && layer >= shape_.first_expert_layer; }

  Result<void> take_one(std::string_view TensorNames::*part, int64_t layer) {
    return require(in_layer(layer, form_.names.*part), our_name(layer, part), ".weight");
  }

  Result<void> translate_latent(int64_t layer) {
    if (shape_.latent.query_rank > 0) {
      for (const auto part : {&TensorNames::query_down, &TensorNames::query_down_norm, &TensorNames::query_up})
        TM_CHECK(take_one(part, layer));
    } else {
      TM_CHECK(take_one(&TensorNames::query, layer));
    }
    TM_CHECK(take_one(&TensorNames::latent, layer));
    TM_CHECK(take_one(&TensorNames::latent_norm, layer));
    return split_expansion(layer);
  }

  // What makes keys and values of latents becomes two tensors.
  Result<void> split_expansion(int64_t layer) {
    const std::string name = in_layer(layer, form_.names.latent_expansion) + ".weight";
    TM_TRY(const StoredTensor found, find(name));
    const StoredTensor stored = found.in_numbers();  // for keys: blocks cannot be transposed
    const LatentShape& latent = shape_.latent;
    const LatentExpansion all(stored.type(), shape_.heads, latent);
    if (!stored.is_matrix() || stored.rows() != all.rows() || stored.cols() != latent.rank) {
      return stored.error(
          ErrorCode::corrupt,
          fmt::format("has the shape [{}], but config.json wants [{}, {}] ('qk_nope_head_dim' {} and 'v_head_dim' {} "
                      "for each of 'num_attention_heads' {}, and 'kv_lora_rank')",
                      fmt::join(stored.shape(), ", "), all.rows(), latent.rank, latent.key_dim, latent.value_dim,
                      shape_.heads));
    }
    use(stored);
    // Head by head: the rows of one are all that has to be held.
    const auto add_part = [&](std::string_view TensorNames::*part, const StoredTensor& source,
                              std::array<int64_t, 4> shape, size_t head_bytes, auto write) {
      GgufTensor tensor;
      tensor.name = out_.texts.emplace_back(our_name(layer, part) + ".weight");
      tensor.type = source.type();
      tensor.rank = 3;
      tensor.shape = shape;
      tensor.data = source.data();
      tensor.more_data = source.more_data();
      tensor.explain = [source](float value) { return source.explain(value); };
      const LatentExpansion head(source.type(), 1, latent);
      tensor.make = [source, head, head_bytes, write](std::span<std::byte> to) {
        std::vector<std::byte> rows(static_cast<size_t>(head.rows()) * source.row_bytes());
        for (int64_t first = 0; first < source.rows(); first += head.rows(), to = to.subspan(head_bytes)) {
          source.write_rows(first, head.rows(), rows);
          (head.*write)(rows, to.first(head_bytes));
        }
      };
      push(std::move(tensor), source.origin());
    };
    add_part(&TensorNames::key_up, stored, {latent.key_dim, latent.rank, shape_.heads, 1},
             LatentExpansion(stored.type(), 1, latent).key_bytes(), &LatentExpansion::write_keys);
    add_part(&TensorNames::value_up, found, {latent.rank, latent.value_dim, shape_.heads, 1},
             LatentExpansion(found.type(), 1, latent).value_bytes(), &LatentExpansion::write_values);
    return {};
  }

  Result<void> translate_experts(int64_t layer) {
    using Name = std::string_view TensorNames::*;
    TM_CHECK(take_one(&TensorNames::router, layer));
    if (form_.joined_experts) return translate_joined(layer);
    // It has no ending of its own.
    TM_CHECK(take(in_layer(layer, form_.names.score_correction_bias),
                  our_name(layer, &TensorNames::score_correction_bias) + ".bias", parts_.score_correction_bias, 0));
    for (const Name part : {&TensorNames::expert_gate, &TensorNames::expert_up, &TensorNames::expert_down})
      TM_CHECK(stack(part, layer));
    if (!shape_.shares_experts) return {};
    if (parts_.shared_gate != Presence::absent) TM_CHECK(take_one(&TensorNames::shared_gate_input, layer));
    for (const Name part : {&TensorNames::shared_gate, &TensorNames::shared_up, &TensorNames::shared_down})
      TM_CHECK(take_one(part, layer));
    return {};
  }

  // What lies together stays so, in GGUF's order.
  Result<void> translate_joined(int64_t layer) {
    using Part = std::pair<std::string_view TensorNames::*, TakenRows>;
    TM_CHECK(take(in_layer(layer, form_.names.router) + ".bias", our_name(layer, &TensorNames::router) + ".bias",
                  parts_.mixture_bias, 0));
    for (const auto& [part, taken] : {Part(&TensorNames::expert_gate, {0, 2}), Part(&TensorNames::expert_up, {1, 2}),
                                      Part(&TensorNames::expert_down, {0, 1})}) {
      const std::string theirs = in_layer(layer, form_.names.*part);
      const JoinedExperts found = find_joined_experts(out_.weights, theirs);
      if (!found.complete()) return missing(theirs + (found.blocks.tensor == nullptr ? "_blocks" : "_scales"));
      TM_TRY(GgufTensor weights, joined_weights(found, shape_.experts, taken));
      const bool plain = found.plain.tensor != nullptr;
      add_joined(std::move(weights), our_name(layer, part) + ".weight", plain ? found.plain : found.blocks);
      if (!plain) used_.insert(found.scales.tensor->name);
      if (parts_.mixture_bias == Presence::absent) continue;
      if (found.bias.tensor == nullptr) return missing(theirs + "_bias");
      TM_TRY(GgufTensor biases, joined_biases(found, shape_.experts, taken));
      add_joined(std::move(biases), our_name(layer, part) + ".bias", found.bias);
    }
    return {};
  }

  void add_joined(GgufTensor tensor, std::string name, const FolderWeights::Found& source) {
    used_.insert(source.tensor->name);
    tensor.name = out_.texts.emplace_back(std::move(name));
    push(std::move(tensor),
         fmt::format("'{}' in '{}'", printable(source.tensor->name), source.file->path().filename().string()));
  }

  // The matrices of all experts become one tensor, one behind the other.
  Result<void> stack(std::string_view TensorNames::*part, int64_t layer) {
    std::vector<StoredTensor> parts;
    for (int64_t expert = 0; expert < shape_.experts; ++expert) {
      TM_TRY(const StoredTensor stored,
             find(in_layer(layer, fmt::format(fmt::runtime(form_.names.*part), expert)) + ".weight"));
      if (!stored.is_matrix() || (!parts.empty() && !stored.is_alike(parts.front()))) {
        return stored.error(ErrorCode::corrupt,
                            fmt::format("is no matrix of the type and shape of '{}'",
                                        printable(parts.empty() ? stored.name() : parts.front().name())));
      }
      use(stored);
      parts.push_back(stored);
    }
    // Blocks may hold the integers of some experts exactly, and not those of others.
    const auto differs = [&parts](const StoredTensor& one) { return one.type() != parts.front().type(); };
    if (std::any_of(parts.begin(), parts.end(), differs)) {
      for (StoredTensor& one : parts)
        one = one.in_numbers();
    }
    // Nor do their numbers fit into one type where their scales are of several, or too large for F16.
    if (std::any_of(parts.begin(), parts.end(), differs)) {
      for (StoredTensor& one : parts)
        one = one.in_f32();
    }
    const StoredTensor first = parts.front();
    const std::string_view name = out_.texts.emplace_back(our_name(layer, part) + ".weight");
    push(StoredTensor::stacked(name, std::move(parts)),
         fmt::format("'{}' and those of the other experts in '{}'", printable(first.name()), first.file_name()));
    return {};
  }

  Result<void> translate(const LayerPart& part, int64_t layer) {
    if (part.dense && mixes(layer)) return {};
    if (part.own && shape_.latent.rank > 0) return {};
    const std::string theirs = in_layer(layer, form_.names.*part.name);
    const std::string ours = our_name(layer, part.name);
    const Presence weight = part.presence == nullptr ? Presence::required : parts_.*part.presence;
    const Presence bias = part.bias == nullptr ? Presence::absent : parts_.*part.bias;
    const int64_t heads = !form_.pairs_side_by_side               ? 0
                          : part.heads == LayerPart::Heads::query ? shape_.heads
                          : part.heads == LayerPart::Heads::key   ? shape_.kv_heads
                                                                  : 0;
    TM_CHECK(take(theirs + (part.bare ? "" : ".weight"), ours + ".weight", weight, heads));
    if (weight != Presence::absent && bias != Presence::required) TM_CHECK(check_bias(part, theirs + ".bias"));
    return take(theirs + ".bias", ours + ".bias", bias, heads);
  }

  // What config.json says of a bias that not all models of the architecture have.
  Result<void> check_bias(const LayerPart& part, const std::string& name) const {
    if (part.bias == nullptr) return {};
    const bool of_feed_forward = part.bias == &DecoderParts::feed_forward_bias;
    const std::optional<bool> said = of_feed_forward ? shape_.feed_forward_bias : shape_.attention_bias;
    const bool is_there = out_.weights.find(name).tensor != nullptr;
    // Models of other architectures that were made llamas have none on the output.
    const bool may_lack = part.bias == &DecoderParts::output_bias;
    if (!said || *said == is_there || (*said && may_lack)) return {};
    return Error(
        ErrorCode::corrupt,
        fmt::format("{}: '{}' is {}, but tensor '{}' is {}", (folder_ / "config.json").string(),
                    of_feed_forward ? "mlp_bias" : "attention_bias", *said, name, is_there ? "there" : "missing"));
  }

  Result<void> require(const std::string& theirs, std::string_view ours, std::string_view ending) {
    return take(theirs + std::string(ending), std::string(ours).append(ending), Presence::required, 0);
  }

  // `heads` above 0: the rows are that many heads', whose halves become pairs.
  Result<void> take(const std::string& theirs, std::string ours, Presence presence, int64_t heads) {
    if (presence == Presence::absent) return {};
    if (presence == Presence::optional && out_.weights.find(theirs).tensor == nullptr) return {};
    TM_TRY(const StoredTensor stored, find(theirs));
    if (heads > 0 && stored.rows() % (2 * heads) != 0) {
      return stored.error(ErrorCode::corrupt,
                          fmt::format("has the shape [{}], whose {} rows are not those of {} heads ('config.json')",
                                      fmt::join(stored.shape(), ", "), stored.rows(), heads));
    }
    use(stored);
    const bool is_less = form_.norms_less_one && ours.ends_with("norm.weight");
    add_stored_tensor(out_, stored, std::move(ours),
                      {.head_rows = heads > 0 ? stored.rows() / heads : 0, .more = is_less ? 1.0F : 0.0F});
    return {};
  }

  Result<StoredTensor> find(const std::string& name) const {
    const FolderWeights::Found found = find_matrix(out_.weights, shape_.scales.integers, name);
    if (found.tensor != nullptr) return StoredTensor::of(out_.weights, found, shape_.scales);
    TM_CHECK(refuse_untold_integers(out_.weights, name));
    return missing(name);
  }

  void use(const StoredTensor& stored) {
    used_.insert(stored.name());
    for (const SafetensorsTensor* const companion : stored.companions())
      used_.insert(companion->name);
  }

  void push(GgufTensor tensor, std::string origin) {
    tensor.origin = out_.texts.emplace_back(std::move(origin));
    out_.tensors.push_back(std::move(tensor));
  }

  Result<void> check_vocabulary() const {
    const GgufTensor& embedding = out_.tensors.front();
    const bool fits = embedding.rank == 2 && embedding.rows() == shape_.vocabulary && embedding.cols() == shape_.width;
    if (fits) return {};
    return Error(ErrorCode::corrupt, fmt::format("{}: {} has the shape {} (innermost first), but 'vocab_size' of "
                                                 "config.json is {} and 'hidden_size' {}",
                                                 folder_.string(), embedding.title(), embedding.shape_text(),
                                                 shape_.vocabulary, shape_.width));
  }

  void add_rope_factors(std::string_view name, const std::vector<float>& factors) {
    if (factors.empty()) return;
    GgufTensor tensor;
    tensor.name = name;
    tensor.origin = "'rope_scaling' of config.json";
    tensor.shape[0] = static_cast<int64_t>(factors.size());
    tensor.make = [factors](std::span<std::byte> to) { std::memcpy(to.data(), factors.data(), to.size()); };
    out_.tensors.push_back(std::move(tensor));
  }

  Result<void> translate_output() {
    const std::string_view within = "language_model.";
    const std::string name = std::string(prefix_.starts_with(within) ? within : "").append(form_.names.output);
    const FolderWeights::Found found = find_matrix(out_.weights, shape_.scales.integers, name + ".weight");
    const SafetensorsTensor* stored = found.tensor;
    if (!shape_.tied.value_or(stored == nullptr)) return require(name, shape_.architecture->names.output, ".weight");
    if (stored == nullptr) return {};
    TM_TRY(const StoredTensor copy, StoredTensor::of(out_.weights, found, shape_.scales));
    TM_CHECK(check_copy(copy));
    use(copy);
    return {};
  }

  // Of two that differ, transformers takes the embedding, or in newer versions both: what is meant, nothing says. Of
  // one that is rounded and one that is not, or not so, the numbers differ by nature, but not by half their size, as
  // those of matrices that have nothing to do with each other do more than twice over.
  Result<void> check_copy(const StoredTensor& copy) const {
    constexpr double most_of_rounding = 0.5;
    const std::string name = in_model(form_.names.token_embedding) + ".weight";
    TM_TRY(const StoredTensor original, find(name));
    std::string found;
    if (!std::ranges::equal(copy.shape(), original.shape())) {
      found = fmt::format("has the shape [{}], and '{}' [{}]", fmt::join(copy.shape(), ", "), name,
                          fmt::join(original.shape(), ", "));
    } else if (!copy.is_integers() && !original.is_integers() &&
               copy.companions().empty() == original.companions().empty()) {
      if (!copy.is_copy_of(original)) found = fmt::format("holds other numbers than '{}'", name);
    } else if (const double distance = copy.distance_to(original); !(distance <= most_of_rounding)) {
      const std::string far = std::isfinite(distance) ? fmt::format(" by {:.0f} % of their size", 100 * distance) : "";
      found =
          fmt::format("holds numbers that differ from those of '{}'{}, which is more than rounding does", name, far);
    }
    if (found.empty()) return {};
    return copy.error(ErrorCode::corrupt,
                      fmt::format("{}, but is to be the same ('tie_word_embeddings' of config.json); say false there "
                                  "where the output matrix is one of its own, or leave the tensor out",
                                  found));
  }

  // A tensor that nothing reads means that the model computes something which this decoder does not.
  Result<void> refuse_unused() const {
    for (const auto& [tensor, file] : out_.weights.tensors()) {
      if (used_.contains(tensor->name) || is_derived(tensor->name) || reads_images(tensor->name) ||
          guesses_further(tensor->name) || (!shape_.scales.none() && scales_activations(tensor->name))) {
        continue;
      }
      return Error(
          ErrorCode::unsupported,
          fmt::format("{}: tensor '{}' is no part of a model of the type '{}' with {} layers", file->path().string(),
                      printable(tensor->name), shape_.architecture->name, shape_.layers));
    }
    return {};
  }

  bool guesses_further(std::string_view name) const {
    for (int64_t i = 0; i < std::min(shape_.further_layers, kMostFurtherLayers); ++i) {
      if (name.starts_with(in_layer(shape_.layers + i, ""))) return true;
    }
    return false;
  }

  bool reads_images(std::string_view name) const {
    if (form_.image_model_types.empty()) return false;
    if (name.starts_with(kModelPrefix)) name.remove_prefix(kModelPrefix.size());
    return name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector.");
  }

  FolderTensors& out_;
  const FolderShape& shape_;
  const DecoderParts& parts_;
  const FolderForm& form_;
  const std::filesystem::path& folder_;
  std::string_view prefix_;
  std::unordered_set<std::string> used_;  // names in the folder
};

}  // namespace

void add_stored_tensor(FolderTensors& out, const StoredTensor& stored, std::string name, const RowChange& change) {
  const std::string_view kept = out.texts.emplace_back(std::move(name));
  out.tensors.push_back(stored.as_gguf(kept, change));
  out.tensors.back().origin = out.texts.emplace_back(stored.origin());
}

Result<std::shared_ptr<FolderTensors>> translate_tensors(FolderWeights weights, const FolderShape& shape,
                                                         const std::filesystem::path& folder) {
  auto out = std::make_shared<FolderTensors>();
  out->weights = std::move(weights);
  TM_CHECK(TensorTranslator(*out, shape, folder).run());
  return out;
}

}  // namespace tidemill::model
