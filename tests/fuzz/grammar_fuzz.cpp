// Any bytes as a regular expression and as a grammar in GBNF: refused with a reason, or compiled and matched within
// bounds, where every token that is allowed is accepted, and no output gets stuck.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "fuzz/grammar_bounds.hpp"
#include "fuzz/invariant.hpp"
#include "grammar/gbnf.hpp"
#include "grammar/regex.hpp"
#include "grammar/token_grammar.hpp"
#include "grammar/vocabularies.hpp"

using namespace tidemill;           // NOLINT(google-build-using-namespace)
using namespace tidemill::grammar;  // NOLINT(google-build-using-namespace)
using test::require;
using test::require_presentable;
using text::Token;

namespace {

const test::Vocabulary& vocabulary() {
  static const test::Vocabulary vocabulary(
      test::small_vocabulary({"a", "b", "ab", "aa", "\"", "\",", "▁", "1", "12", "hello", "é"}, {"<|go|>"}));
  return vocabulary;
}

void walk(const TokenGrammar& grammar, uint32_t choice) {
  Matcher matcher = grammar.start();
  for (int i = 0; i < 12; ++i) {
    const std::vector<Token> forced = matcher.forced(4);
    const auto allowed = matcher.allowed();
    if (!allowed) {
      require(allowed.error().code() == base::ErrorCode::too_large, "only a limit ends an output early");
      return;
    }
    require((*allowed)->count() > 0, "something is allowed");
    require(forced.empty() || (*allowed)->test(forced[0]), "what is forced is allowed");
    require((*allowed)->test(2) == matcher.can_end(), "an output may end where the end token is allowed");
    choice = choice * 1664525 + 1013904223;
    auto token = static_cast<Token>((choice >> 8U) % (*allowed)->size());
    while (!(*allowed)->test(token))
      token = (token + 1) % static_cast<Token>((*allowed)->size());
    require(matcher.accept(token), "what is allowed is accepted");
    if (matcher.must_end()) return;
  }
}

void compile_and_walk(GrammarBuilder&& builder, const base::Result<Expression>& root, uint32_t choice) {
  if (!root) return require_presentable(root.error());
  const auto built = std::move(builder).build(*root);
  if (!built) return require_presentable(built.error());
  const auto bound = TokenGrammar::create(*built, vocabulary().index, test::small_match_limits());
  if (!bound) return require_presentable(bound.error());
  walk(**bound, choice);
  walk(**bound, choice + 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  GrammarLimits limits;
  limits.max_nodes = 5'000;
  limits.max_alternatives = 20'000;
  limits.max_source_bytes = 4'096;
  limits.max_states = 500;
  const auto choice = static_cast<uint32_t>(std::hash<std::string_view>()(text));
  {
    GrammarBuilder builder(limits);
    const auto root = regular_expression(builder, text);
    compile_and_walk(std::move(builder), root, choice);
  }
  {
    GrammarBuilder builder(limits);
    const auto root = gbnf(builder, text);
    compile_and_walk(std::move(builder), root, choice);
  }
  return 0;
}
