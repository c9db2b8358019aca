// Any JSON as a JSON Schema: refused with a reason, or what it lets be written is JSON. The same as the parameters of a
// strict tool: refused, or what must be written in some tool format is read as one call of that tool, whose arguments
// are an object.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "chat/constraint.hpp"
#include "chat/reading.hpp"
#include "fuzz/grammar_bounds.hpp"
#include "fuzz/invariant.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/token_grammar.hpp"
#include "grammar/vocabularies.hpp"

using namespace tidemill;           // NOLINT(google-build-using-namespace)
using namespace tidemill::grammar;  // NOLINT(google-build-using-namespace)
using test::require;
using test::require_presentable;
using text::Token;

namespace {

constexpr int max_tokens = 160;

GrammarLimits small_limits() {
  GrammarLimits limits;
  limits.max_nodes = 5'000;
  limits.max_alternatives = 20'000;
  limits.max_states = 500;
  return limits;
}

const test::Vocabulary& vocabulary() {
  static const test::Vocabulary vocabulary(
      test::small_vocabulary({"\"", "\",", "\":", "{", "}", "]", "a", "1", "true"}));
  return vocabulary;
}

// A text that the grammar allows, which likes to close what is open; none where a limit or the length ends it first.
std::optional<std::string> write_some(const TokenGrammar& grammar, uint32_t choice) {
  const text::Tokenizer& tokenizer = *vocabulary().tokenizer;
  Matcher matcher = grammar.start();
  std::string written;
  for (int i = 0; i < max_tokens; ++i) {
    choice = choice * 1664525 + 1013904223;
    if (matcher.must_end() || (matcher.can_end() && choice >> 30U == 0)) return written;
    const auto allowed = matcher.allowed();
    if (!allowed) {
      require(allowed.error().code() == base::ErrorCode::too_large, "only a limit ends an output early");
      return std::nullopt;
    }
    const auto count = static_cast<Token>((*allowed)->size());
    const auto may_come = [&](Token token) { return (*allowed)->test(token) && !tokenizer.ends_generation(token); };
    Token token = (choice >> 28U & 3U) == 0 ? static_cast<Token>((choice >> 8U) % (*allowed)->size()) : count - 9;
    Token tried = 0;
    while (!may_come(token) && ++tried <= count)
      token = (token + 1) % count;
    if (tried > count) return written;  // nothing but the end
    require(matcher.accept(token), "what is allowed is accepted");
    written += tokenizer.piece_bytes(token);
  }
  return std::nullopt;
}

std::optional<std::string> compile_and_write(GrammarBuilder&& builder, const base::Result<Expression>& root,
                                             uint32_t choice) {
  if (!root) {
    require_presentable(root.error());
    return std::nullopt;
  }
  const auto built = std::move(builder).build(*root);
  if (!built) {
    require_presentable(built.error());
    return std::nullopt;
  }
  const auto bound = TokenGrammar::create(*built, vocabulary().index, test::small_match_limits());
  if (!bound) {
    require_presentable(bound.error());
    return std::nullopt;
  }
  return write_some(**bound, choice);
}

void write_as_json(const base::json::value& schema, uint32_t choice) {
  GrammarBuilder builder(small_limits());
  const auto root = json_schema(builder, schema);
  const auto written = compile_and_write(std::move(builder), root, choice);
  if (written) require(base::parse_json(*written, 200).has_value(), "what a schema lets be written is JSON");
}

void write_as_call(const base::json::value& schema, const chat::Format& format, uint32_t choice) {
  const std::vector<chat::Tool> tools = {{"f", schema, true}};
  GrammarBuilder builder(small_limits());
  const chat::ToolRules rules{.choice = {chat::ToolChoice::Kind::required, ""}, .parallel = false, .content = {}};
  const auto output = chat::tool_grammar(builder, format, tools, rules);
  if (!output) return require_presentable(output.error());
  require(output->has_value(), "a call that must come has a grammar");
  const auto written = compile_and_write(std::move(builder), **output, choice);
  if (!written) return;
  const chat::test::Reading reading = chat::test::read(format, tools, chat::Start::answer, *written);
  require(reading.sound && reading.complete && reading.content.empty(), "what must be a call is read as one");
  require(reading.calls.size() == 1 && reading.calls[0].name == "f", "and as one of the tool");
  const auto arguments = base::parse_json(reading.calls[0].arguments, 1'100);
  require(arguments && arguments->is_object(), "whose arguments are a JSON object");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  const auto schema = base::parse_json(text, 100);
  if (!schema) return 0;
  const auto choice = static_cast<uint32_t>(std::hash<std::string_view>()(text));
  write_as_json(*schema, choice);
  const auto number = data[0] % static_cast<int>(chat::ToolFormat::json_in_tags);
  const auto format = chat::format_by_name(chat::to_string(static_cast<chat::ToolFormat>(number)));
  require(format.has_value(), "every format has a name");
  if (format->tools != chat::ToolFormat::none) write_as_call(*schema, *format, choice + 1);
  return 0;
}
