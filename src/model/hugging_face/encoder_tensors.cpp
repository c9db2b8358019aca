#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "model/hugging_face/encoder.hpp"
#include "model/metadata.hpp"

namespace tidemill::model {
namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

// A layer's tensors. Norms of the oldest models have TensorFlow's names for weight and bias.
struct EncoderLayerPart {
  std::string_view EncoderTensorNames::*name;
  bool norm = false;
};
constexpr std::array<EncoderLayerPart, 8> kEncoderLayerParts = {{
    {&EncoderTensorNames::query},
    {&EncoderTensorNames::key},
    {&EncoderTensorNames::value},
    {&EncoderTensorNames::attention_output},
    {&EncoderTensorNames::attention_norm, true},
    {&EncoderTensorNames::up},
    {&EncoderTensorNames::down},
    {&EncoderTensorNames::output_norm, true},
}};

// What a folder may have beside what is computed: heads that the training needed, and numbers from 0 on.
constexpr std::array<std::string_view, 4> kPassedOver = {"pooler.", "cls.", "lm_head.", "embeddings.position_ids"};

class EncoderTranslator {
 public:
  EncoderTranslator(FolderTensors& out, const EncoderShape& shape)
      : out_(out), shape_(shape), theirs_(shape.form->names), ours_(shape.architecture->names) {
    const std::string embedding = std::string(shape.form->prefix).append(theirs_.token_embedding) + ".weight";
    if (out_.weights.find(embedding).tensor != nullptr) prefix_ = shape.form->prefix;
  }

  Result<void> run() {
    TM_CHECK(take_table(theirs_.token_embedding, ours_.token_embedding, "vocab_size", shape_.vocabulary, 0));
    TM_CHECK(take_table(theirs_.position_embedding, ours_.position_embedding, "max_position_embeddings",
                        shape_.positions, shape_.first));
    TM_CHECK(take_table(theirs_.type_embedding, ours_.type_embedding, "type_vocab_size", shape_.token_types, 0));
    TM_CHECK(take_both(in_model(theirs_.embedding_norm), std::string(ours_.embedding_norm), true));
    for (int64_t i = 0; i < shape_.layers; ++i) {
      for (const EncoderLayerPart& part : kEncoderLayerParts) {
        TM_CHECK(take_both(fmt::format("{}encoder.layer.{}.{}", prefix_, i, theirs_.*part.name),
                           fmt::format("blk.{}.{}", i, ours_.*part.name), part.norm));
      }
    }
    if (shape_.ranks) {
      const bool in_head = shape_.form->pooler_in_head;
      TM_CHECK(take_both(in_head ? std::string(theirs_.pooler) : in_model(theirs_.pooler), std::string(ours_.pooler),
                         false));
      TM_CHECK(take_both(std::string(theirs_.score), std::string(ours_.score), false));
    }
    return refuse_others();
  }

 private:
  std::string in_model(std::string_view name) const { return std::string(prefix_).append(name); }

  Result<StoredTensor> require(const std::string& name) {
    const FolderWeights::Found found = find_matrix(out_.weights, shape_.scales.integers, name);
    if (found.tensor != nullptr) {
      TM_TRY(StoredTensor stored, StoredTensor::of(out_.weights, found, shape_.scales));
      used_.insert(stored.name());
      for (const SafetensorsTensor* const companion : stored.companions())
        used_.insert(companion->name);
      return stored;
    }
    TM_CHECK(refuse_untold_integers(out_.weights, name));
    const std::filesystem::path where =
        out_.weights.index().empty() ? out_.weights.files().front().path() : out_.weights.index();
    return Error(ErrorCode::not_found,
                 fmt::format("{}: tensor '{}' is missing, which {} needs", where.string(), name, model_text()));
  }

  std::string model_text() const {
    return fmt::format("a model of the type '{}' with {} layers that {}", shape_.form->model_type, shape_.layers,
                       shape_.ranks ? "scores texts" : "makes embeddings ('architectures' of config.json)");
  }

  // A table of `rows` rows, as config.json's `member` says, of which those from `first` on are taken.
  Result<void> take_table(std::string_view theirs, std::string_view ours, std::string_view member, int64_t rows,
                          int64_t first) {
    TM_TRY(const StoredTensor table, require(in_model(theirs) + ".weight"));
    if (!table.is_matrix() || table.rows() != rows || table.cols() != shape_.width) {
      return table.error(ErrorCode::corrupt,
                         fmt::format("has the shape [{}], but '{}' of config.json is {} and 'hidden_size' {}",
                                     fmt::join(table.shape(), ", "), member, rows, shape_.width));
    }
    add_stored_tensor(out_, table.from_row(first), std::string(ours) + ".weight");
    return {};
  }

  // The weight and the bias.
  Result<void> take_both(const std::string& theirs, const std::string& ours, bool norm) {
    const bool old = norm && out_.weights.find(theirs + ".weight").tensor == nullptr &&
                     out_.weights.find(theirs + ".gamma").tensor != nullptr;
    TM_TRY(const StoredTensor weight, require(theirs + (old ? ".gamma" : ".weight")));
    TM_TRY(const StoredTensor bias, require(theirs + (old ? ".beta" : ".bias")));
    add_stored_tensor(out_, weight, ours + ".weight");
    add_stored_tensor(out_, bias, ours + ".bias");
    return {};
  }

  Result<void> refuse_others() const {
    for (const auto& [tensor, file] : out_.weights.tensors()) {
      if (used_.contains(tensor->name) || is_passed_over(tensor->name)) continue;
      if (!shape_.scales.none() && scales_activations(tensor->name)) continue;
      return Error(ErrorCode::unsupported, fmt::format("{}: tensor '{}' is no part of {}", file->path().string(),
                                                       printable(tensor->name), model_text()));
    }
    return {};
  }

  bool is_passed_over(std::string_view name) const {
    if (name.starts_with(prefix_)) name.remove_prefix(prefix_.size());
    return std::any_of(kPassedOver.begin(), kPassedOver.end(),
                       [name](std::string_view other) { return name.starts_with(other); });
  }

  FolderTensors& out_;
  const EncoderShape& shape_;
  const EncoderTensorNames& theirs_;
  const EncoderTensorNames& ours_;
  std::string_view prefix_;
  std::unordered_set<std::string> used_;  // names in the folder
};

}  // namespace

Result<std::shared_ptr<FolderTensors>> translate_encoder_tensors(FolderWeights weights, const EncoderShape& shape) {
  auto out = std::make_shared<FolderTensors>();
  out->weights = std::move(weights);
  TM_CHECK(EncoderTranslator(*out, shape).run());
  return out;
}

}  // namespace tidemill::model
