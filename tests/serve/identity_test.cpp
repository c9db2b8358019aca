// What tells apart servers whose streams and prefixes are no continuation of each other.
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "model/synth.hpp"
#include "serve/loaded_model.hpp"
#include "serve/resumption.hpp"
#include "serve/warm_up.hpp"
#include "temporary_folder.hpp"

namespace tidemill::serve {
namespace {

class Identity : public testing::Test {
 protected:
  void write(const char* shape, tensor::DType type = tensor::DType::q8_0) {
    ASSERT_TRUE(
        model::write_synthetic_model(model::find_shape(shape).value(), path_, {.type = type, .on_progress = {}}));
  }

  std::unique_ptr<LoadedModel> load(int64_t context = 0) {
    ModelOptions options;
    options.path = path_;
    options.isa = "scalar";
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

}  // namespace
}  // namespace tidemill::serve
