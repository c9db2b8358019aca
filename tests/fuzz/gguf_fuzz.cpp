// Any bytes as a model file: they are refused with an error, or load, spell text and run a token.
#include <array>
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/log.hpp"
#include "base/utf8.hpp"
#include "fuzz/invariant.hpp"
#include "model/architectures/architecture.hpp"
#include "model/gguf.hpp"
#include "model/load.hpp"
#include "model/vocabulary.hpp"
#include "tensor/cpu_device.hpp"
#include "text/tokenizer.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using test::require;

namespace {

template <typename T>
bool refused(const base::Result<T>& result) {
  if (result) return false;
  require(!result.error().message().empty(), "a refusal says why");
  return true;
}

void look_up_everything(const model::GgufFile& file) {
  for (const model::GgufEntry& entry : file.metadata()) {
    require(file.find(entry.key) == &entry.value, "every key is found, and is there once");
    require(base::utf8::is_valid(entry.value.describe()), "a description can be printed");
    (void)file.get_int(entry.key);
    (void)file.get_float(entry.key);
    (void)file.get_bool(entry.key);
    (void)file.get_string(entry.key);
    (void)file.get_strings(entry.key);
    (void)file.get_floats(entry.key);
    (void)file.get_ints(entry.key);
  }
  for (const model::GgufTensor& tensor : file.tensors()) {
    require(file.find_tensor(tensor.name) == &tensor, "every tensor is found, and is there once");
    require(tensor.data.size() <= file.file_bytes(), "a tensor lies inside the file");
  }
}

void spell(const model::GgufFile& file) {
  auto vocabulary = model::read_vocabulary(file);
  if (refused(vocabulary)) return;
  const auto tokenizer = text::Tokenizer::create(std::move(*vocabulary));
  if (refused(tokenizer)) return;
  const auto tokens =
      (*tokenizer)->encode("Hello, w\xc3\xb6rld <|user|> \xff", {.add_special = true, .parse_special = true});
  require(static_cast<bool>(tokens), "a vocabulary that was accepted encodes text");
  for (const text::Token token : *tokens) {
    require(token >= 0 && static_cast<size_t>(token) < (*tokenizer)->vocabulary().size(),
            "tokens are in the vocabulary");
  }
  (void)(*tokenizer)->decode(*tokens, true);
}

void run(const model::GgufFile& file) {
  static const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  model::LoadOptions options;
  options.max_batch_rows = 2;
  const auto loaded = model::load_model(file, *device, options);
  if (refused(loaded)) return;
  tensor::KvShape shape = (*loaded)->kv_shape();
  shape.blocks = 1;
  if (tensor::kv_block_bytes(shape) > (size_t{64} << 20)) return;
  const auto cache = device->make_kv_cache(shape);
  if (refused(cache)) return;
  const std::array<int32_t, 2> tokens = {0, static_cast<int32_t>((*loaded)->hyper_parameters().vocabulary - 1)};
  const std::array<int32_t, 2> positions = {0, 1};
  const std::array<int32_t, 2> sequences = {0, 0};
  const int32_t block = 0;
  const std::span<const int32_t> blocks(&block, 1);
  model::Batch batch;
  batch.tokens = tokens;
  batch.positions = positions;
  batch.sequences = sequences;
  batch.block_tables = {&blocks, 1};
  batch.logit_rows = {&positions[1], 1};
  const model::Output output = (*loaded)->forward(batch, **cache);
  require(output.logits.rows == 1 && output.logits.cols == (*loaded)->hyper_parameters().vocabulary,
          "one row of logits was asked for");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  base::log::set_level(base::log::Level::off);
  const auto file = model::GgufFile::parse(std::as_bytes(std::span(data, size)), "fuzz.gguf");
  if (refused(file)) return 0;
  look_up_everything(*file);
  (void)model::read_chat_template(*file);
  spell(*file);
  run(*file);
  return 0;
}
