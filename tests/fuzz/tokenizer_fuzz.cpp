// Any bytes as text: encoding succeeds, decoding gives the text back, and a stream of the tokens says the same.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.hpp"
#include "fuzz/invariant.hpp"
#include "model/gguf.hpp"
#include "model/vocabulary.hpp"
#include "text/detokenizer.hpp"
#include "text/tokenizer.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using test::require;

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

// Some vocabularies have no token for the bytes that UTF-8 never uses (deepseek-coder's spells them as characters).
bool spells_every_byte(const text::Tokenizer& tokenizer) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string text(1, static_cast<char>(byte));
    const auto tokens = tokenizer.encode(text, {.add_special = false});
    if (!tokens || tokenizer.decode(*tokens, true) != text) return false;
  }
  return true;
}

// Whether decoding must give the text back byte for byte. Phi-3's tokens swallow the white space behind them,
// SentencePiece writes a space as U+2581, so that such a character in the text comes back as a space, and WordPiece
// keeps only words.
bool keeps_every_byte(const text::Tokenizer& tokenizer, std::string_view input, std::span<const text::Token> tokens) {
  const text::Vocabulary& vocabulary = tokenizer.vocabulary();
  if (vocabulary.model == text::Vocabulary::Model::wordpiece) return false;
  if (vocabulary.model == text::Vocabulary::Model::spm && input.find("\xE2\x96\x81") != std::string_view::npos) {
    return false;
  }
  if (!base::utf8::is_valid(input) && !spells_every_byte(tokenizer)) return false;
  return !vocabulary.strip_after_special || std::none_of(tokens.begin(), tokens.end(), [&](text::Token token) {
    return vocabulary.kinds[token] == text::TokenKind::user_defined;
  });
}

std::string stream(const text::Tokenizer& tokenizer, const std::vector<text::Token>& tokens, bool show_special) {
  text::Detokenizer detokenizer(tokenizer, {}, show_special);
  std::string streamed;
  for (const text::Token token : tokens) {
    const std::string text = detokenizer.push(token);
    require(base::utf8::is_valid(text), "a stream is whole characters");
    streamed += text;
  }
  return streamed + detokenizer.flush();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizers = load_tokenizers();
  if (size == 0) return 0;
  const text::Tokenizer& tokenizer = *tokenizers[(data[0] & 0x7F) % tokenizers.size()];
  const bool special = (data[0] & 0x80) != 0;
  const std::string input(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto tokens = tokenizer.encode(input, {.add_special = false, .parse_special = special});
  require(static_cast<bool>(tokens), "any text encodes");
  for (const text::Token token : *tokens) {
    require(token >= 0 && static_cast<size_t>(token) < tokenizer.vocabulary().size(), "tokens are in the vocabulary");
    require(special || tokenizer.vocabulary().kinds[token] != text::TokenKind::control,
            "text alone makes no control token");
  }
  if (tokenizer.vocabulary().model == text::Vocabulary::Model::wordpiece) {
    const size_t least = tokenizer.least_tokens(input);
    require(least <= tokens->size(), "a bound from below is one");
    require(tokenizer.least_tokens(input, 2) == std::min<size_t>(least, 2), "a bound is counted up to what is enough");
  }
  if (!special && keeps_every_byte(tokenizer, input, *tokens)) {
    require(tokenizer.decode(*tokens, true) == input, "decoding gives the text back");
  }
  if (special) {
    std::vector<size_t> everywhere(input.size());
    std::iota(everywhere.begin(), everywhere.end(), size_t{0});
    const auto literal = tokenizer.encode(input, {.add_special = false, .parse_special = true, .literal = everywhere});
    const auto plain = tokenizer.encode(input, {.add_special = false, .parse_special = false});
    require(literal && plain && *literal == *plain, "text that is literal everywhere is plain text");
  }
  for (const bool show_special : {false, true}) {
    require(stream(tokenizer, *tokens, show_special) == base::utf8::sanitize(tokenizer.decode(*tokens, show_special)),
            "a stream says what decoding at once says");
  }
  return 0;
}
