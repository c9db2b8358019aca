// Tests of Hugging Face folders that begin with a good one and change it in one place.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "folder_writer.hpp"
#include "model/architectures/architecture.hpp"
#include "model/synth.hpp"
#include "runner.hpp"
#include "temporary_folder.hpp"

namespace tidemill::test {

// Of some tokens of a text, whatever form the model has.
inline std::vector<std::vector<float>> logits_of(const std::filesystem::path& path) {
  Loaded loaded = load(path, tensor::KvType::f32, 64, 1, 16);
  if (loaded.cache == nullptr) return {};
  std::vector<model::Token> tokens(13);
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<model::Token>((i * 37 + 5) % 1000);
  return Sequence(loaded).append(tokens);
}

inline model::HyperParameters hyper_parameters_of(const model::Checkpoint& file) {
  const auto hyper = model::find_architecture(file).value()->read_hyper_parameters(file);
  EXPECT_TRUE(hyper) << hyper.error().to_string();
  return hyper ? *hyper : model::HyperParameters();
}

class FolderFixture : public testing::Test {
 protected:
  // Begins with a synthetic model of the shape, as folder_ / "model.gguf" and as draft_.
  void use(const char* shape) {
    const auto gguf = folder_.path() / "model.gguf";
    ASSERT_TRUE(model::write_synthetic_model(model::find_shape(shape).value(), gguf,
                                             {.type = tensor::DType::f32, .on_progress = {}}));
    draft_ = draft_of(model::GgufFile::open(gguf).value());
  }

  std::filesystem::path model() const { return folder_.path() / "model"; }

  base::Result<model::Checkpoint> open(const std::function<void(FolderDraft&)>& change, int shards = 1) {
    FolderDraft draft = draft_;
    change(draft);
    std::filesystem::remove_all(model());
    draft.write(model(), shards);
    return tidemill::model::Checkpoint::open(model());
  }

  // The error that a folder with one change gives.
  std::string refusal(const std::function<void(FolderDraft&)>& change, base::ErrorCode code) {
    const auto opened = open(change);
    if (opened) return "(accepted)";
    EXPECT_EQ(opened.error().code(), code) << opened.error().to_string();
    return opened.error().to_string();
  }

  TemporaryFolder folder_;
  FolderDraft draft_;
};

}  // namespace tidemill::test
