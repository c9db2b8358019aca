// What tells apart servers whose streams and prefixes are no continuation of each other.
#include <memory>
#include <string>
#include <tuple>

#include <gtest/gtest.h>

#include "model/synth.hpp"
#include "serve/loaded_model.hpp"
#include "serve/resumption.hpp"
#include "serve/warm_up.hpp"
#include "temporary_folder.hpp"
#include "tensor/dtype.hpp"

namespace tidemill::serve {
namespace {

class Identity : public testing::Test {
 protected:
  void write(const char* shape, tensor::DType type = tensor::DType::q8_0) {
    ASSERT_TRUE(
        model::write_synthetic_model(model::find_shape(shape).value(), path_, {.type = type, .on_progress = {}}));
  }

  std::unique_ptr<LoadedModel> load(int64_t context = 0,
                                    tensor::ActivationScheme activations = tensor::ActivationScheme::dynamic) {
    ModelOptions options;
    options.path = path_;
    options.isa = "scalar";
    options.activations = activations;
    options.threads = 1;
    options.max_batch_rows = 4;
    options.max_context = context;
    auto model = LoadedModel::load(options);
    EXPECT_TRUE(model) << model.error().to_string();
    return model ? std::move(*model) : nullptr;
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "model.gguf";
};

// The same file computes something else where no sequence is longer than what it was first trained for.
TEST_F(Identity, KnowsTheRotation) {
  write("phi3-tiny");
  const auto unlimited = load();
  const auto longer = load(17);
  const auto shorter = load(16);
  ASSERT_TRUE(unlimited && longer && shorter);
  EXPECT_EQ(longer->content_sample(), shorter->content_sample());
  EXPECT_EQ(fingerprint(*longer, "f16"), fingerprint(*unlimited, "f16"));
  EXPECT_NE(fingerprint(*longer, "f16"), fingerprint(*shorter, "f16"));
  EXPECT_NE(fingerprint(*longer, "f16"), fingerprint(*longer, "f32"));
  EXPECT_EQ(prefix_identity(*longer).value(), prefix_identity(*unlimited).value());
  EXPECT_NE(prefix_identity(*longer).value(), prefix_identity(*shorter).value());
}

// Streams and prefixes of one arithmetic are none of the other's. All instruction sets give what F32 activations do.
TEST_F(Identity, KnowsWhatActivationsAre) {
  write("llama-tiny");
  const auto dynamic = load();
  const auto floats = load(0, tensor::ActivationScheme::f32);
  ASSERT_TRUE(dynamic && floats);
  EXPECT_NE(fingerprint(*dynamic, "f16"), fingerprint(*floats, "f16"));
  EXPECT_NE(prefix_identity(*dynamic).value(), prefix_identity(*floats).value());
  write("llama-tiny", tensor::DType::bf16);
  const auto rounded = load(0, tensor::ActivationScheme::f32);
  ASSERT_TRUE(rounded);
  EXPECT_FALSE(fingerprint(*rounded, "f16").ends_with(" scalar"));
}

// Only where instruction sets differ: what chooses the experts of a mixture is F32, and alike with all of them.
TEST_F(Identity, KnowsTheInstructionSetWhereItMatters) {
  using tensor::DType;
  for (const auto& [shape, type, named] :
       {std::tuple("qwen3moe-tiny", DType::q8_0, false), std::tuple("qwen2moe-tiny", DType::q4_0, false),
        std::tuple("llama-tiny", DType::f32, false), std::tuple("llama-tiny", DType::f16, true),
        std::tuple("llama-tiny", DType::bf16, true), std::tuple("qwen3moe-tiny", DType::bf16, true)}) {
    write(shape, type);
    const auto model = load();
    ASSERT_TRUE(model);
    EXPECT_EQ(fingerprint(*model, "f16").ends_with(" scalar"), named) << shape << " " << tensor::info(type).name;
  }
}

}  // namespace
}  // namespace tidemill::serve
