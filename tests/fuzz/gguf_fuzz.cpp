// Any bytes as a model file: they are refused with an error, or load, spell text and run a step. What begins as a
// packed file is read a second time with its checksums made right, as another writer could have made them: behind them,
// nothing in it may be trusted either.
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <new>
#include <span>
#include <string_view>

#include "base/checksum.hpp"
#include "base/log.hpp"
#include "base/utf8.hpp"
#include "fuzz/invariant.hpp"
#include "model/architectures/architecture.hpp"
#include "model/gguf.hpp"
#include "model/load.hpp"
#include "model/packed_file.hpp"
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

void encode(const model::GgufFile& file, tensor::Device& device, const model::LoadOptions& options) {
  const auto loaded = model::load_encoder(file, device, options);
  if (refused(loaded)) return;
  model::Encoder& encoder = **loaded;
  const auto last = static_cast<int32_t>(encoder.hyper_parameters().vocabulary - 1);
  const std::array<int32_t, 3> tokens = {0, last, last};
  const std::array<int32_t, 3> types = {0, 0, encoder.token_types() > 1 ? 1 : 0};
  const std::array<int32_t, 4> begins = {0, 1, 2, 3};
  const tensor::ConstMatrix hidden = encoder.encode({tokens, types, begins});
  require(hidden.rows == 3 && hidden.cols == encoder.hyper_parameters().width, "there is a row for each token");
  if (encoder.ranks()) require(encoder.score(std::span(begins).first(3)).rows == 3, "there is a score for each text");
}

void run(const model::GgufFile& file) {
  static const auto device = tensor::make_cpu_device(tensor::Isa::scalar, 1);
  model::LoadOptions options;
  options.max_batch_rows = 3;
  const auto encodes = model::holds_encoder(file);
  if (refused(encodes)) return;
  if (*encodes) return encode(file, *device, options);
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

void use(const model::GgufFile& file) {
  look_up_everything(file);
  (void)model::read_chat_template(file);
  spell(file);
  run(file);
}

// Where `file`, which lies in `bytes`, keeps the checksums of its tensors.
std::span<std::byte> checksums_of(const model::GgufFile& file, std::span<std::byte> bytes) {
  const model::GgufValue* value = file.find("tidemill.packed.checksums");
  require(value != nullptr && value->payload.size() == file.tensors().size() * sizeof(uint64_t),
          "a packed file has a checksum for each tensor");
  return bytes.subspan(static_cast<size_t>(value->payload.data() - bytes.data()), value->payload.size());
}

void sign_and_use(std::span<std::byte> bytes) {
  constexpr std::string_view key = "tidemill.packed.header_bytes";
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  uint64_t length = 0;
  std::memcpy(&length, bytes.data() + text.find(key) + key.size() + sizeof(uint32_t), sizeof length);
  if (length > bytes.size() || !model::begins_packed(bytes.first(static_cast<size_t>(length)))) return;
  const auto header = bytes.first(static_cast<size_t>(length));
  model::sign_packed_header(header);
  const auto wrong = model::GgufFile::parse(bytes, "signed.gguf");
  if (refused(wrong)) return;
  require(wrong->packed() != nullptr, "what begins as a packed file is read as one");
  base::PiecewiseChecksum sum;
  std::byte* at = checksums_of(*wrong, bytes).data();
  for (const model::GgufTensor& tensor : wrong->tensors()) {
    sum.add(tensor.data);
    const uint64_t checksum = sum.finish();
    std::memcpy(at, &checksum, sizeof checksum);
    at += sizeof checksum;
  }
  model::sign_packed_header(header);
  const auto file = model::GgufFile::parse(bytes, "signed.gguf");
  require(static_cast<bool>(file), "checksums of tensors change nothing that is read before them");
  use(*file);
}

struct Aligned {
  void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{model::kPackedAlignment}); }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  base::log::set_level(base::log::Level::off);
  // As aligned as a mapped file.
  const std::unique_ptr<std::byte[], Aligned> memory(new (std::align_val_t{model::kPackedAlignment}) std::byte[size]);
  if (size > 0) std::memcpy(memory.get(), data, size);
  const std::span bytes(memory.get(), size);
  if (const auto file = model::GgufFile::parse(bytes, "fuzz.gguf"); !refused(file)) use(*file);
  if (model::begins_packed(bytes)) sign_and_use(bytes);
  return 0;
}
