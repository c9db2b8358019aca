// What constrained decoding costs per token, and what compiling a grammar costs.
//
//   bench_grammar MODEL.gguf
//
// The vocabulary is the model's. Outputs are random walks: of the tokens allowed, one at random, and where a string
// could go on for ever a quote or bracket every fourth time. The time of a token is allowed() and accept() together;
// all are measured, first ones too, and again once the same walks are warm.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "grammar/builder.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/regex.hpp"
#include "grammar/token_grammar.hpp"
#include "model/gguf.hpp"
#include "model/vocabulary.hpp"
#include "text/tokenizer.hpp"

using namespace tidemill;           // NOLINT(google-build-using-namespace)
using namespace tidemill::grammar;  // NOLINT(google-build-using-namespace)
using text::Token;

namespace {

using Clock = std::chrono::steady_clock;

double microseconds(Clock::time_point since) {
  return std::chrono::duration<double, std::micro>(Clock::now() - since).count();
}

Expression json_string(GrammarBuilder& b, size_t least, std::optional<size_t> most) {
  const CodePointSet plain =
      CodePointSet({{0x20, CodePointSet::last_code_point}}).without(CodePointSet({{'"', '"'}, {'\\', '\\'}}));
  const CharacterLeaf leaf = [&b](const CodePointSet& set) { return b.code_points(set); };
  const Expression escape =
      translate_regex(b, parse_regex(R"(\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))")->alternatives[0].root, leaf);
  const Expression character = b.choice({b.code_points(plain), escape});
  return b.sequence({b.literal("\""), b.repeat(character, least, most), b.literal("\"")});
}

// The arguments of a tool with eight parameters.
constexpr const char* kToolSchema = R"({
  "type": "object", "additionalProperties": false,
  "required": ["query", "limit", "unit", "detailed", "tags", "from", "place", "note"],
  "properties": {
    "query": {"type": "string"}, "limit": {"type": "integer"},
    "unit": {"enum": ["celsius", "fahrenheit", "kelvin"]}, "detailed": {"type": "boolean"},
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 10},
    "from": {"type": "string", "format": "date"},
    "place": {"type": "object", "additionalProperties": false, "required": ["city", "country"],
              "properties": {"city": {"type": "string"}, "country": {"type": "string", "pattern": "^[A-Z]{2}$"}}},
    "note": {"type": ["string", "null"], "maxLength": 100}}})";

Expression tool(GrammarBuilder& b) {
  const auto root = json_schema(b, *base::parse_json(kToolSchema));
  if (!root) std::printf("%s\n", root.error().message().c_str());
  return root ? *root : b.nothing();
}

Expression any_json(GrammarBuilder& b) {
  return any_json_object(b);
}

Expression counted(GrammarBuilder& b) {
  return b.sequence({b.literal("["), b.repeat(b.sequence({json_string(b, 1, 100), b.literal(", ")}), 0, 50),
                     json_string(b, 5, 4000), b.literal("]")});
}

Expression text_and_calls(GrammarBuilder& b) {
  const std::vector<std::string> triggers{"<tool_call>"};
  const Expression call = b.sequence({b.text_through(triggers), tool(b), b.literal("</tool_call>")});
  return b.sequence({b.repeat(call, 0, 8), b.text_without(triggers)});
}

struct Walk {
  std::vector<Token> tokens;
  std::vector<double> times;  // of each, microseconds
};

Walk random_walk(const TokenGrammar& grammar, uint32_t seed, size_t most) {
  std::mt19937 random(seed);
  const text::Tokenizer& tokenizer = grammar.index().tokenizer();
  std::vector<Token> ends;  // what ends strings and lists, and texts with a call
  for (const char* wished : {"\"}", "\",", "\"", "]", "}", "<", "tool", "_call", ">"})
    for (size_t token = 0; token < tokenizer.vocabulary().size(); ++token)
      if (tokenizer.piece_bytes(static_cast<Token>(token)) == wished) ends.push_back(static_cast<Token>(token));
  Walk walk;
  Matcher matcher = grammar.start();
  while (walk.tokens.size() < most) {
    const auto begin = Clock::now();
    const auto allowed = matcher.allowed();
    double time = microseconds(begin);
    if (!allowed) {
      walk.times.push_back(time);
      std::printf("  after %zu tokens: %s\n", walk.tokens.size(), allowed.error().message().c_str());
      break;
    }
    const TokenMask& mask = **allowed;
    Token token = -1;
    if (random() % 4 == 0)
      for (const Token end : ends)
        if (token < 0 && mask.test(end)) token = end;
    for (auto at = static_cast<Token>(random() % mask.size()); token < 0;
         at = (at + 1) % static_cast<Token>(mask.size()))
      if (mask.test(at)) token = at;
    if (tokenizer.ends_generation(token)) break;
    const auto accepting = Clock::now();
    if (!matcher.accept(token)) std::printf("  token %d was allowed and not accepted\n", token);
    time += microseconds(accepting);
    walk.tokens.push_back(token);
    walk.times.push_back(time);
  }
  return walk;
}

void print(const char* name, std::vector<double> times) {
  if (times.empty()) return;
  std::sort(times.begin(), times.end());
  const auto at = [&](double part) { return times[static_cast<size_t>(part * static_cast<double>(times.size() - 1))]; };
  std::printf("  %-22s %6zu tokens: median %7.1f us, p90 %7.1f, p99 %7.1f, most %8.1f\n", name, times.size(), at(0.5),
              at(0.9), at(0.99), times.back());
}

void measure(const char* name, Expression (*make)(GrammarBuilder&), const std::shared_ptr<const TokenIndex>& index) {
  std::vector<double> builds;
  std::vector<double> creates;
  std::shared_ptr<const TokenGrammar> bound;
  for (int i = 0; i < 5; ++i) {
    auto begin = Clock::now();
    GrammarBuilder b;
    const Expression root = make(b);
    auto grammar = std::move(b).build(root);
    builds.push_back(microseconds(begin));
    if (!grammar) {
      std::printf("%s: %s\n", name, grammar.error().message().c_str());
      return;
    }
    begin = Clock::now();
    auto created = TokenGrammar::create(*grammar, index);
    creates.push_back(microseconds(begin));
    if (!created) {
      std::printf("%s: %s\n", name, created.error().message().c_str());
      return;
    }
    bound = *created;
  }
  std::printf("%s: build %.2f ms, create %.2f ms (first of five; then %.2f and %.2f)\n", name, builds[0] / 1000,
              creates[0] / 1000, *std::min_element(builds.begin(), builds.end()) / 1000,
              *std::min_element(creates.begin(), creates.end()) / 1000);
  const auto walks = [&](uint32_t first_seed) {
    std::vector<double> times;
    for (uint32_t seed = first_seed; seed < first_seed + 50; ++seed) {
      const Walk walk = random_walk(*bound, seed, 300);
      times.insert(times.end(), walk.times.begin(), walk.times.end());
    }
    return times;
  };
  print("first outputs", walks(0));
  print("the same again", walks(0));
  print("other outputs", walks(1000));
}

// The longest that one token takes under grammars made to be slow.
void measure_hostile(const std::shared_ptr<const TokenIndex>& index) {
  // Many ways at every step, and many bytes that are told apart.
  std::string alternatives = "0-1-2-3!#%&',:;<=>@_`~abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  for (int i = 0; i < 15'000; ++i)
    alternatives += "|[ -~]{3}" + std::to_string(i);
  for (const std::string& pattern : std::vector<std::string>{
           alternatives, "(a|aa){1000}", "(a{1000}){1000}", "((a?){300}){300}", "((a|b)*a(a|b){60}){3}", "(.*.*.*.*)*x",
           "([a-z]{0,1000}){0,1000}", "(\\w|\\w\\w){5,5000}(aa|b){7,70}", "(a?b?){2000}", "[^x]*a.{200}",
           "(.{0,99}e){0,99}x", "(\\w*\\s?)*\\d(\\w|\\s){50}"}) {
    const std::string name = pattern.substr(0, 40);
    GrammarBuilder b;
    const auto root = regular_expression(b, pattern);
    if (!root) continue;
    auto grammar = std::move(b).build(*root);
    if (!grammar) {
      std::printf("%-40s %s\n", name.c_str(), grammar.error().message().c_str());
      continue;
    }
    const auto begin = Clock::now();
    const auto bound = TokenGrammar::create(*grammar, index);
    const double create = microseconds(begin) / 1000;
    if (!bound) {
      std::printf("%-40s create %.1f ms: %s\n", name.c_str(), create, bound.error().message().c_str());
      continue;
    }
    const Walk walk = random_walk(**bound, 1, 100);
    const double most = walk.times.empty() ? 0 : *std::max_element(walk.times.begin(), walk.times.end());
    std::printf("%-40s create %.1f ms; %zu tokens, the slowest %.1f ms\n", name.c_str(), create, walk.times.size(),
                most / 1000);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: bench_grammar MODEL.gguf\n");
    return 2;
  }
  auto file = model::GgufFile::open(argv[1]);
  if (!file) {
    std::fprintf(stderr, "%s\n", file.error().to_string().c_str());
    return 1;
  }
  auto vocabulary = model::read_vocabulary(*file);
  if (!vocabulary) {
    std::fprintf(stderr, "%s\n", vocabulary.error().to_string().c_str());
    return 1;
  }
  const auto tokenizer = text::Tokenizer::create(*std::move(vocabulary));
  if (!tokenizer) {
    std::fprintf(stderr, "%s\n", tokenizer.error().to_string().c_str());
    return 1;
  }
  const auto begin = Clock::now();
  const auto index = std::make_shared<const TokenIndex>(**tokenizer);
  std::printf("index of %zu tokens: %.1f ms, %zu nodes\n", index->vocabulary_size(), microseconds(begin) / 1000,
              index->nodes().size());
  measure("tool schema", tool, index);
  measure("any JSON", any_json, index);
  measure("counted strings", counted, index);
  measure("text and tool calls", text_and_calls, index);
  measure_hostile(index);
  return 0;
}
