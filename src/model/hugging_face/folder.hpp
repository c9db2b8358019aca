// A model in a Hugging Face folder, as transformers' save_pretrained() and the hub have it:
//
//   config.json                       the shape (config.hpp)
//   model.safetensors                 the tensors, or model.safetensors.index.json and the files that it names
//                                     (tensors.hpp)
//   tokenizer.json and others         the tokenizer and the chat template (tokenizer.hpp); or tiktoken.model
//
// They become what llama.cpp's converter makes of them: keys, names and types, the order of rows included.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.hpp"
#include "model/checkpoint.hpp"

namespace tidemill::model {

// The tensors stay in the mapped files; those that GGUF has in another order or type are made when they are read, one
// at a time. Errors name the file and the member or tensor: `not_found`, `corrupt`, `unsupported`, `io`.
base::Result<Checkpoint> open_folder(const std::filesystem::path& path);

// A folder of any model type as it is stored, to be looked at: the metadata are config.json's members as "config.NAME",
// and the tensors have their own names, of whatever type their elements are. Errors: as above, `unsupported` for
// tensors of more than four dimensions.
base::Result<Checkpoint> open_stored_folder(const std::filesystem::path& path);

// What people call the model in a folder: the folder's name, or the repository's where it lies in the hub's cache
// (models--ORG--NAME/snapshots/COMMIT).
std::string folder_name(const std::filesystem::path& path);

}  // namespace tidemill::model
