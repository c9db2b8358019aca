// Which files of a repository make the model that is asked for. A repository is a Hugging Face folder (config.json and
// safetensors), or it holds GGUF models, each one file or split over several; some are both, and then a name without a
// choice means the folder.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "hub/listing.hpp"
#include "hub/model_name.hpp"

namespace tidemill::hub {

struct Selection {
  std::vector<RepoFile> files;
  // The path of what a command opens: a GGUF file, the first of a split one; empty: the folder itself.
  std::string model;
  // Of a folder whose weights lie in several files: what names them. It is one of `files`; they are not, yet.
  std::optional<RepoFile> index;
  // Of a folder that says how embeddings are made: what names the file for it, as above.
  std::optional<RepoFile> modules;
};

// The names that choose() looks for in a folder, beside its weights.
std::vector<std::string_view> folder_files();

// A choice is a file's name or path, with or without ".gguf", or what such a name ends in behind a '-', '.' or '_',
// whatever the case ("q4_k_m"), or a folder that holds one model ("Q8_0/..."). Without one, a single model is taken, or
// Q4_K_M, or Q8_0; files for images (mmproj) and for quantising (imatrix) are models only if their name is given.
// Errors: `not_found` and `invalid_argument` that list what there is to choose from, `unsupported` where nothing is of
// a form that Tidemill reads.
base::Result<Selection> choose(const ModelName& name, std::span<const RepoFile> files);

// Adds the weights that the index (its text) names. `corrupt` where it names what is not among `files`.
base::Result<void> add_shards(Selection& selection, std::string_view index, std::span<const RepoFile> files);

// Adds the file by which embeddings are pooled, if `modules` (its text) names one. Errors: as above, and those of
// model::pooling_file, with which the folder could not be read either.
base::Result<void> add_pooling(Selection& selection, std::string_view modules, std::span<const RepoFile> files);

}  // namespace tidemill::hub
