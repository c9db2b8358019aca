// Any bytes as a model file: they are refused with an error, or load and run one token.
#include <cstdint>
#include <filesystem>
#include <span>

#include "base/log.hpp"
#include "model/architectures/architecture.hpp"
#include "model/gguf.hpp"
#include "model/load.hpp"
#include "model/vocabulary.hpp"
#include "tensor/cpu_device.hpp"
#include "text/tokenizer.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  base::log::set_level(base::log::Level::off);
  const auto file = model::GgufFile::parse(std::as_bytes(std::span(data, size)), "fuzz.gguf");
  if (!file) return 0;
  for (const model::GgufEntry& entry : file->metadata())
    (void)entry.value.describe();
  (void)model::read_chat_template(*file);
  if (auto vocabulary = model::read_vocabulary(*file)) {
    if (const auto tokenizer = text::Tokenizer::create(std::move(*vocabulary))) {
      (void)(*tokenizer)->encode("Hello, w\xc3\xb6rld <|user|>", {.add_special = true, .parse_special = true});
    }
  }
  model::LoadOptions options;
  options.max_batch_rows = 1;
  const auto loaded = model::load_model(*file, *device, options);
  if (!loaded) return 0;
  tensor::KvShape shape = (*loaded)->kv_shape();
  shape.blocks = 1;
  if (tensor::kv_block_bytes(shape) > (size_t{64} << 20)) return 0;
  const auto cache = device->make_kv_cache(shape);
  if (!cache) return 0;
  const int32_t token = 0;
  const int32_t zero = 0;
  const std::span<const int32_t> blocks(&zero, 1);
  model::Batch batch;
  batch.tokens = {&token, 1};
  batch.positions = {&zero, 1};
  batch.sequences = {&zero, 1};
  batch.block_tables = {&blocks, 1};
  batch.logit_rows = {&zero, 1};
  (void)(*loaded)->forward(batch, **cache);
  return 0;
}
