// Layer by layer, against the model with all of its layers: the same bits.
#include "model/layerwise_decoder.hpp"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "model/load.hpp"
#include "model/pack.hpp"
#include "model/shapes.hpp"
#include "model/synth.hpp"
#include "runner.hpp"
#include "temporary_folder.hpp"
#include "tensor/cpu_device.hpp"

namespace tidemill::model {
namespace {

namespace fs = std::filesystem;

class LayerByLayer : public testing::Test {
 protected:
  void synthesise(std::string_view shape) {
    ASSERT_TRUE(
        write_synthetic_model(find_shape(shape).value(), path_, {.type = tensor::DType::f32, .on_progress = {}}));
  }

  // Overwrites element `element` of a tensor of floats.
  void put(std::string_view tensor, int64_t element, float value) const {
    size_t offset = 0;
    {
      const Checkpoint file = Checkpoint::open(path_).value();
      offset = static_cast<size_t>(file.find_tensor(tensor)->data.data() - file.mapping()->bytes().data()) +
               static_cast<size_t>(element) * sizeof(float);
    }
    std::fstream out(path_, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(offset));
    out.write(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  const test::TemporaryFolder folder_;
  const fs::path path_ = folder_.path() / "model.gguf";
  std::unique_ptr<tensor::Device> device_ = tensor::make_cpu_device(tensor::choose_isa().value(), 2);
};

std::vector<Token> numbered(size_t count, Token first) {
  std::vector<Token> tokens(count);
  for (size_t i = 0; i < count; ++i)
    tokens[i] = static_cast<Token>((static_cast<size_t>(first) + 37 * i) % 900);
  return tokens;
}

// The final hidden states of all rows of one sequence, [tokens][width].
std::vector<float> hidden_of(test::Loaded& loaded, std::span<const Token> tokens) {
  std::vector<int32_t> positions(tokens.size());
  std::iota(positions.begin(), positions.end(), 0);
  const std::vector<int32_t> sequences(tokens.size(), 0);
  std::vector<int32_t> blocks(static_cast<size_t>(loaded.cache->shape().blocks));
  std::iota(blocks.begin(), blocks.end(), 0);
  const std::span<const int32_t> table = blocks;
  const Output output = loaded.model->forward({.tokens = tokens,
                                               .positions = positions,
                                               .sequences = sequences,
                                               .block_tables = std::span(&table, 1),
                                               .logit_rows = {},
                                               .hidden_rows = positions},
                                              *loaded.cache);
  return {output.hidden.data, output.hidden.data + output.hidden.rows * output.hidden.cols};
}

TEST_F(LayerByLayer, GivesWhatTheWholeModelGives) {
  size_t models = 0;
  for (const Shape& shape : shapes()) {
    if (!shape.name.ends_with("-tiny") || shape.encodes()) continue;
    SCOPED_TRACE(shape.name);
    synthesise(shape.name);
    const Checkpoint file = Checkpoint::open(path_).value();
    auto made = LayerwiseDecoder::create(file, *device_, {.max_batch_rows = 20, .on_progress = {}});
    ASSERT_TRUE(made) << made.error().to_string();
    LayerwiseDecoder& decoder = **made;
    // Two sequences, the first of which does not fit one step.
    const std::vector<std::vector<Token>> texts = {numbered(45, 3), numbered(7, 500)};
    std::vector<Token> all = texts[0];
    all.insert(all.end(), texts[1].begin(), texts[1].end());
    const int64_t width = decoder.hyper_parameters().width;
    std::vector<float> hidden(all.size() * static_cast<size_t>(width));
    const auto rows_of = [&](int64_t first, int64_t rows) {
      return tensor::Matrix{hidden.data() + first * width, rows, width, width};
    };
    ASSERT_TRUE(decoder.embed(std::span(all).first(31), rows_of(0, 31)));
    ASSERT_TRUE(decoder.embed(std::span(all).subspan(31), rows_of(31, 21)));
    size_t bytes = 0;
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      for (const LayerPart part : kLayerParts) {
        ASSERT_TRUE(decoder.load(layer, part));
        EXPECT_GT(decoder.part_bytes(), 0U);
        bytes += decoder.part_bytes();
        for (const int64_t row : {0, 20, 40})
          decoder.forward(row, rows_of(row, row == 40 ? 5 : 20));
        decoder.forward(0, rows_of(45, 7));
      }
    }
    decoder.normalise(rows_of(0, 52));
    test::Loaded loaded = test::load(path_, tensor::KvType::f32, 64);
    EXPECT_LT(bytes, loaded.model->weight_bytes());
    std::vector<float> expected = hidden_of(loaded, texts[0]);
    const std::vector<float> second = hidden_of(loaded, texts[1]);
    expected.insert(expected.end(), second.begin(), second.end());
    EXPECT_EQ(hidden, expected);
    ++models;
  }
  EXPECT_GE(models, 13U);
}

TEST_F(LayerByLayer, KnowsItsOutputMatrix) {
  for (const auto& [shape, tensor] : {std::pair("llama-tiny", "output.weight"), {"qwen2-tiny", "token_embd.weight"}}) {
    synthesise(shape);
    const Checkpoint file = Checkpoint::open(path_).value();
    const auto made = LayerwiseDecoder::create(file, *device_, {.on_progress = {}});
    ASSERT_TRUE(made) << made.error().to_string();
    EXPECT_EQ((*made)->output_tensor(), tensor);
  }
}

TEST_F(LayerByLayer, RefusesWeightsThatAreNoNumbersAsItMeetsThem) {
  synthesise("llama-tiny");
  put("token_embd.weight", 5 * 256 + 9, std::numeric_limits<float>::quiet_NaN());
  put("blk.1.ffn_up.weight", 3, std::numeric_limits<float>::infinity());
  const Checkpoint file = Checkpoint::open(path_).value();
  const auto made = LayerwiseDecoder::create(file, *device_, {.on_progress = {}});
  ASSERT_TRUE(made) << made.error().to_string();
  std::vector<float> hidden(2 * 256);
  const tensor::Matrix out{hidden.data(), 2, 256, 256};
  EXPECT_TRUE((*made)->embed(std::vector<Token>{4, 6}, out));
  const auto embedded = (*made)->embed(std::vector<Token>{4, 5}, out);
  ASSERT_FALSE(embedded);
  EXPECT_EQ(embedded.error().code(), base::ErrorCode::corrupt);
  EXPECT_NE(embedded.error().to_string().find("token_embd.weight"), std::string::npos) << embedded.error().to_string();
  EXPECT_TRUE((*made)->load(0, LayerPart::feed_forward));
  EXPECT_TRUE((*made)->load(1, LayerPart::attention));
  const auto loaded = (*made)->load(1, LayerPart::feed_forward);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code(), base::ErrorCode::corrupt);
  EXPECT_NE(loaded.error().to_string().find("blk.1.ffn_up.weight"), std::string::npos) << loaded.error().to_string();
}

TEST_F(LayerByLayer, RefusesPackedFilesAndRowsOutOfRange) {
  synthesise("llama-tiny");
  const fs::path packed = folder_.path() / "packed.gguf";
  {
    const Checkpoint file = Checkpoint::open(path_).value();
    const auto refused = LayerwiseDecoder::create(file, *device_, {.max_batch_rows = 0, .on_progress = {}});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), base::ErrorCode::invalid_argument);
    ASSERT_TRUE(pack_model(file, packed, {}));
  }
  const Checkpoint file = Checkpoint::open(packed).value();
  const auto refused = LayerwiseDecoder::create(file, *device_, {.on_progress = {}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), base::ErrorCode::unsupported);
}

}  // namespace
}  // namespace tidemill::model
