// Any texts as the JSON files of a Hugging Face folder, lines of four dashes between them: config.json, tokenizer.json,
// tokenizer_config.json and generation_config.json, and behind those any bytes as model.safetensors. They are refused
// with a reason, or become metadata that are read back and tensors that are made, and a vocabulary that is accepted
// encodes text.
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.hpp"
#include "fuzz/invariant.hpp"
#include "model/gguf.hpp"
#include "model/hugging_face/config.hpp"
#include "model/hugging_face/encoder.hpp"
#include "model/hugging_face/tensors.hpp"
#include "model/hugging_face/tokenizer.hpp"
#include "model/vocabulary.hpp"
#include "text/tokenizer.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using test::require;

namespace {

constexpr int64_t kMostTokens = 512;

template <typename T>
bool refused(const base::Result<T>& result) {
  if (result) return false;
  require(!result.error().message().empty(), "a refusal says why");
  return true;
}

std::string_view next_part(std::string_view& rest) {
  constexpr std::string_view line = "\n----\n";
  const size_t end = rest.find(line);
  const std::string_view part = rest.substr(0, end);
  rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + line.size());
  return part;
}

// What is not there at all is a file that is not there.
base::Result<model::JsonMembers> read_part(std::string_view& rest, const char* name) {
  const std::string_view part = next_part(rest);
  if (part.empty()) return model::JsonMembers();
  return model::JsonMembers::parse(part, name);
}

template <typename Translate>
void translate(std::string_view bytes, const Translate& translate_weights) {
  auto file = model::SafetensorsFile::parse(std::as_bytes(std::span(bytes)), "model.safetensors");
  if (refused(file)) return;
  std::vector<model::SafetensorsFile> files;
  files.push_back(std::move(*file));
  auto weights = model::FolderWeights::of(std::move(files));
  if (refused(weights)) return;
  const auto translated = translate_weights(std::move(*weights));
  if (refused(translated)) return;
  for (const model::GgufTensor& tensor : (*translated)->tensors) {
    std::vector<std::byte> made(tensor.bytes());
    require(made.size() == static_cast<size_t>(tensor.rows() * tensor::row_bytes(tensor.type, tensor.cols())),
            "a tensor has the bytes of its shape");
    if (tensor.make) tensor.make(made);
  }
}

void spell(const model::GgufFile& file) {
  auto vocabulary = model::read_vocabulary(file);
  if (refused(vocabulary)) return;
  const auto tokenizer = text::Tokenizer::create(std::move(*vocabulary));
  if (refused(tokenizer)) return;
  const auto tokens = (*tokenizer)->encode("Hello, w\xc3\xb6rld <|user|> \xff", {.parse_special = true});
  require(static_cast<bool>(tokens), "a vocabulary that was accepted encodes text");
  (void)(*tokenizer)->decode(*tokens, true);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  base::log::set_level(base::log::Level::off);
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto config = model::JsonMembers::parse(next_part(rest), "config.json");
  if (refused(config)) return 0;
  model::GgufWriter metadata;
  const auto encoder = model::translate_encoder_config(*config, metadata);
  if (refused(encoder)) return 0;
  model::FolderShape shape;
  if (!*encoder) {
    auto decoder = model::translate_config(*config, metadata);
    if (refused(decoder)) return 0;
    shape = std::move(*decoder);
  }
  const int64_t vocabulary = *encoder ? (*encoder)->vocabulary : shape.vocabulary;
  auto tokenizer = read_part(rest, "tokenizer.json");
  auto names = read_part(rest, "tokenizer_config.json");
  auto generation = read_part(rest, "generation_config.json");
  if (!rest.empty()) {
    translate(rest, [&](model::FolderWeights weights) {
      if (*encoder) return model::translate_encoder_tensors(std::move(weights), **encoder);
      return model::translate_tensors(std::move(weights), shape, "folder");
    });
  }
  if (refused(tokenizer) || refused(names) || refused(generation)) return 0;
  if (vocabulary > kMostTokens) return 0;  // pieces are made for all
  model::TokenizerFiles files;
  files.tokenizer = std::move(*tokenizer);
  files.names = std::move(*names);
  files.generation = std::move(*generation);
  if (refused(model::translate_tokenizer(std::move(files), *config, vocabulary, metadata))) return 0;
  const std::string header = metadata.header();
  const auto file = model::GgufFile::parse(std::as_bytes(std::span(header)), "fuzz.gguf");
  require(static_cast<bool>(file), "metadata that were made are read");
  require(file->get_strings("tokenizer.ggml.tokens").value().size() == static_cast<size_t>(vocabulary),
          "every row of the embedding is a token");
  spell(*file);
  return 0;
}
