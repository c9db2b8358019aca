// A Hugging Face folder whose model is a text encoder, in GGUF's terms: config.json, what sentence-transformers writes
// beside it, and the tensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>

#include "base/result.hpp"
#include "model/architectures/encoder_architecture.hpp"
#include "model/gguf_writer.hpp"
#include "model/hugging_face/json_file.hpp"
#include "model/hugging_face/tensors.hpp"
#include "model/hugging_face/weight_scales.hpp"

namespace tidemill::model {

// What the folder's tensors are read by.
struct EncoderShape {
  const EncoderArchitecture* architecture = nullptr;
  const EncoderFolderForm* form = nullptr;
  int64_t layers = 0;
  int64_t vocabulary = 0;   // rows of the embedding
  int64_t width = 0;        // and its columns
  int64_t positions = 0;    // rows of the table of positions
  int64_t first = 0;        // of them, the one of a text's first token
  int64_t token_types = 0;  // rows of the table of token types
  bool ranks = false;       // it has a head that scores texts
  WeightScales scales;      // of weights that are codes
};

// Adds general.architecture and "<architecture>.*" to `metadata`, but for how embeddings are pooled; none, and nothing
// is added, where config.json's model_type is no encoder's. Errors name the file and the member: `unsupported` for
// heads, activations, positions and quantisations that this build does not have, `not_found` and `corrupt` as of
// translate_config.
base::Result<std::optional<EncoderShape>> translate_encoder_config(const JsonMembers& config, GgufWriter& metadata);

// Adds how embeddings are pooled, as modules.json and the file that it names for pooling say it: from the first token,
// the last or the mean of all. Without modules.json nothing is added. Holds of models that generate as well. Errors
// name the file and the member: `unsupported` for other poolings and for modules that do something else to what the
// model gives (but normalising, which embeddings always are), `corrupt` for embeddings of another width than `width`.
base::Result<void> translate_pooling(const std::filesystem::path& folder, std::string_view architecture, int64_t width,
                                     GgufWriter& metadata);

// Every tensor that the architecture uses. What only the training needed, or a head that is not used, is passed over.
// Errors as of translate_tensors.
base::Result<std::shared_ptr<FolderTensors>> translate_encoder_tensors(FolderWeights weights,
                                                                       const EncoderShape& shape);

}  // namespace tidemill::model
