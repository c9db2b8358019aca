// Hostile grammars, odd vocabularies, many threads: refused or matched within bounds, and never differently.
#include <atomic>
#include <memory>
#include <random>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "grammar/acceptor.hpp"
#include "grammar/gbnf.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/regex.hpp"
#include "grammar/token_grammar.hpp"
#include "grammar/vocabularies.hpp"

using namespace tidemill;           // NOLINT(google-build-using-namespace)
using namespace tidemill::grammar;  // NOLINT(google-build-using-namespace)
using base::ErrorCode;
using text::Token;

namespace {

const test::Vocabulary& letters() {
  static const test::Vocabulary vocabulary(test::small_vocabulary(
      {"a", "aa", "aaa", "aaaaaaaa", "b", "ab", "abc", "hello", "hell", "o", "▁world", "▁", "[[", "]]", "x"},
      {"<|go|>"}));
  return vocabulary;
}

base::Result<std::shared_ptr<const TokenGrammar>> bind(GrammarBuilder&& builder, Expression root,
                                                       const test::Vocabulary& vocabulary = letters(),
                                                       MatchLimits limits = {}) {
  TM_TRY(auto grammar, std::move(builder).build(root));
  return TokenGrammar::create(std::move(grammar), vocabulary.index, limits);
}

// Goes on with random tokens until the end, an error, or `steps`; the error's code if there was one.
std::optional<ErrorCode> run(const TokenGrammar& grammar, uint32_t seed, int steps) {
  std::mt19937 random(seed);
  Matcher matcher = grammar.start();
  for (int i = 0; i < steps; ++i) {
    const auto allowed = matcher.allowed();
    if (!allowed) return allowed.error().code();
    EXPECT_GT((*allowed)->count(), 0U);
    auto token = static_cast<Token>(random() % (*allowed)->size());
    while (!(*allowed)->test(token))
      token = (token + 1) % static_cast<Token>((*allowed)->size());
    EXPECT_TRUE(matcher.accept(token));
    if (grammar.index().tokenizer().ends_generation(token)) break;
  }
  return std::nullopt;
}

TEST(Limits, HostileRegularExpressionsEnd) {
  for (const char* pattern :
       {"(a|aa){1000}", "(a{1000}){1000}", "((a?){300}){300}", "(a*)*b", "((a|b)*a(a|b){60}){3}", "(.*.*.*.*)*x",
        "(a{0,1000}){0,1000}", "((((a*)*)*)*)*", "(a|b|ab){5,5000}(aa|b){7,70}", "(a?b?){2000}", "[^x]*a.{200}"}) {
    SCOPED_TRACE(pattern);
    GrammarBuilder b;
    const auto root = regular_expression(b, pattern);
    ASSERT_TRUE(root) << root.error().message();
    const auto bound = bind(std::move(b), *root);
    if (!bound) {
      EXPECT_EQ(bound.error().code(), ErrorCode::too_large);
      continue;
    }
    for (uint32_t seed = 0; seed < 3; ++seed)
      EXPECT_EQ(run(**bound, seed, 60).value_or(ErrorCode::too_large), ErrorCode::too_large);
  }
}

// In front of what is refused anyway. What is wrong is told in time that grows with the length.
TEST(Limits, HostileConditionsAheadEnd) {
  const auto refusal = [](size_t conditions) {
    std::string pattern = "^";
    for (size_t i = 0; i < conditions; ++i)
      pattern += "(?=a)";
    pattern += "\\1";
    GrammarBuilder b;
    const auto root = regular_expression(b, pattern);
    const auto as_schema =
        json_schema(b, base::json::object{{"type", "string"}, {"pattern", base::json::string(pattern)}});
    EXPECT_FALSE(root);
    EXPECT_FALSE(as_schema);
    const std::string message = root ? "" : root.error().message();
    if (!as_schema) {
      EXPECT_NE(as_schema.error().message().find(message), std::string::npos);
    }
    return message;
  };
  EXPECT_NE(refusal(64).find("position 322: back-references"), std::string::npos);
  EXPECT_NE(refusal(65).find("it looks ahead 65 times, of which 64 are supported"), std::string::npos);
  EXPECT_NE(refusal(200'000).find("it looks ahead 200000 times"), std::string::npos);
  EXPECT_NE(refusal(400'000).find("2000003 bytes is over the limit of 1048576"), std::string::npos);
}

TEST(Limits, CompilingEndsWhenItIsStopped) {
  std::stop_source stop;
  GrammarLimits limits;
  limits.stop = stop.get_token();
  GrammarBuilder b(limits);
  const Expression sevens = *regular_expression(b, "([ab]{7})*");
  const Expression nines = *regular_expression(b, "([ab]{9})*");
  const Expression common = b.both(sevens, nines);  // computed by build()
  GrammarBuilder other(limits);
  const Expression some = *regular_expression(other, "[ab]*");
  const Expression few = *regular_expression(other, "a{5}");
  auto built = GrammarBuilder(b).build(common);
  ASSERT_TRUE(built);
  EXPECT_TRUE(TokenGrammar::create(*built, letters().index));

  stop.request_stop();
  EXPECT_EQ(other.except(some, few), other.nothing()) << "which is computed at once";
  ASSERT_TRUE(other.failed());
  EXPECT_EQ(other.failure()->code(), ErrorCode::cancelled);
  const auto stopped = std::move(b).build(common);
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code(), ErrorCode::cancelled);
  const auto bound = TokenGrammar::create(*built, letters().index);
  ASSERT_FALSE(bound);
  EXPECT_EQ(bound.error().code(), ErrorCode::cancelled);
  GrammarBuilder late(limits);
  const auto schema = json_schema(late, base::json::object{{"type", "object"}});
  ASSERT_FALSE(schema);
  EXPECT_EQ(schema.error().code(), ErrorCode::cancelled);
}

TEST(Limits, BuildingIsBounded) {
  const auto code_of = [](auto make, GrammarLimits limits = {}) {
    GrammarBuilder b(limits);
    const Expression root = make(b);
    const auto built = std::move(b).build(root);
    return built ? std::optional<ErrorCode>() : built.error().code();
  };
  EXPECT_EQ(code_of([](GrammarBuilder& b) { return b.repeat(b.literal("a"), 0, 1'000'000); }), ErrorCode::too_large);
  EXPECT_EQ(code_of([](GrammarBuilder& b) {
              std::vector<Expression> many;
              many.reserve(300'000);
              for (int i = 0; i < 300'000; ++i)
                many.push_back(b.literal("word " + std::to_string(i)));
              return b.choice(many);
            }),
            ErrorCode::too_large);
  EXPECT_EQ(code_of([](GrammarBuilder& b) { return b.literal(std::string(5'000'000, 'x')); }), ErrorCode::too_large);
  // A product of many states.
  EXPECT_EQ(code_of([](GrammarBuilder& b) {
              return b.both(*regular_expression(b, "([ab]{99})*"), *regular_expression(b, "([ab]{97}){1000,}[ab]{3,}"));
            }),
            ErrorCode::too_large);
  // Products of which nothing stays, after hundreds of pairs of states each.
  const auto in_vain = [](size_t products) {
    return [products](GrammarBuilder& b) {
      std::vector<Expression> all{b.literal("x")};
      for (size_t i = 0; i < products; ++i) {
        const std::string many = "a{" + std::to_string(900 + i) + "}";
        all.push_back(b.both(*regular_expression(b, many + "b"), *regular_expression(b, many + "c")));
      }
      return b.choice(all);
    };
  };
  GrammarLimits thousand;
  thousand.max_states = 1'000;
  EXPECT_EQ(code_of(in_vain(5), thousand), std::nullopt);
  EXPECT_EQ(code_of(in_vain(6), thousand), ErrorCode::too_large);
  // Deep nesting at the left, by parts and by rules.
  EXPECT_EQ(code_of([](GrammarBuilder& b) {
              Expression part = b.literal("a");
              for (int i = 0; i < 20'000; ++i)
                part = b.repeat(b.choice({part, b.literal("b" + std::to_string(i))}), 1, 2);
              return part;
            }),
            ErrorCode::too_large);
  EXPECT_EQ(code_of([](GrammarBuilder& b) {
              Rule last = b.declare("r");
              b.define(last, b.literal("a"));
              for (int i = 0; i < 50'000; ++i) {
                const Rule next = b.declare("r" + std::to_string(i));
                b.define(next, b.sequence({b.use(last), b.literal("b")}));
                last = next;
              }
              return b.use(last);
            }),
            ErrorCode::too_large);
}

// Little for little, and about all where a limit is gone over; also of what is refused before it is built.
TEST(Limits, WhatCompilingTakesIsTold) {
  const auto spent_on = [](const char* schema, bool is_taken) {
    SCOPED_TRACE(schema);
    GrammarLimits limits;
    limits.max_nodes = 2'000;
    limits.spent = std::make_shared<double>(0);
    {
      GrammarBuilder builder(limits);
      const auto parsed = base::parse_json(schema);
      EXPECT_TRUE(parsed);
      const auto root = json_schema(builder, *parsed);
      EXPECT_EQ(root && std::move(builder).build(*root), is_taken);
    }
    return *limits.spent;
  };
  const double little = spent_on(R"({"type":"null"})", true);
  EXPECT_GT(little, 0);
  EXPECT_LT(little, 0.1);
  EXPECT_GT(spent_on(R"({"type":"string","allOf":[{"pattern":"^(ab|c)+$"},{"pattern":"^[abc]{3,6}$"}]})", true),
            little);
  // By the reader of schemas, which comes to its bound first.
  std::string many;
  for (int i = 0; i < 3'000; ++i)
    many.append(i == 0 ? "" : ",").append("\"p" + std::to_string(i) + "\":{\"type\":\"integer\"}");
  EXPECT_GT(spent_on((R"({"type":"object","properties":{)" + many + "}}").c_str(), false), 0.9);

  // By finding which lengths are left, and by products, at once and when the grammar is built.
  EXPECT_GT(spent_on(R"({"type":"string","pattern":"^((..)*|(.{3})*|(.{5})*|(.{7})*)$","minLength":101})", true),
            spent_on(R"({"type":"string","pattern":"^((..)*|(.{3})*|(.{5})*|(.{7})*)$"})", true));
  for (const bool at_once : {true, false}) {
    GrammarLimits limits;
    limits.max_states = 200;
    limits.spent = std::make_shared<double>(0);
    GrammarBuilder builder(limits);
    const Expression some = builder.repeat(builder.literal("a"), 0, 900);
    const Expression more = builder.repeat(builder.literal("a"), 1, 901);
    const Expression part = at_once ? builder.except(some, more) : builder.both(some, more);
    EXPECT_EQ(builder.failed(), at_once);
    EXPECT_FALSE(std::move(builder).build(part));
    EXPECT_GT(*limits.spent, 0.15);
  }
}

TEST(Limits, DeepNestingEndsInAnErrorAndNotInACrash) {
  GrammarBuilder b;
  const Rule list = b.declare("list");
  b.define(list, b.sequence({b.literal("["), b.repeat(b.use(list), 0, std::nullopt), b.literal("]")}));
  MatchLimits limits;
  limits.max_state_weight = 200;
  const auto bound = bind(std::move(b), b.use(list), letters(), limits);
  ASSERT_TRUE(bound);
  Matcher matcher = (*bound)->start();
  int depth = 0;
  while (matcher.accept(3 + '['))
    ++depth;
  EXPECT_GT(depth, 20);
  EXPECT_LT(depth, 200);
  const auto allowed = matcher.allowed();  // there is still the way out
  ASSERT_TRUE(allowed);
  EXPECT_TRUE((*allowed)->test(3 + ']'));
  EXPECT_FALSE((*allowed)->test(3 + '['));
  for (; depth > 0; --depth)
    ASSERT_TRUE(matcher.accept(3 + ']'));
  EXPECT_TRUE(matcher.must_end());
}

TEST(Limits, LargeAlternativesWork) {
  GrammarBuilder b;
  std::vector<Expression> words;
  words.reserve(20'000);
  for (int i = 0; i < 20'000; ++i)
    words.push_back(b.literal("aa" + std::to_string(i * 7919) + "b"));
  const auto bound = bind(std::move(b), b.choice(words));
  ASSERT_TRUE(bound) << bound.error().message();
  for (uint32_t seed = 0; seed < 5; ++seed)
    EXPECT_EQ(run(**bound, seed, 40), std::nullopt);
}

// States behind each of which many alternatives go on: no output ends in an error, tokens are shorter there.
TEST(Limits, WhatIsTooMuchForAllTokensIsWrittenWithShortOnes) {
  std::string objects;
  for (int i = 0; i < 400; ++i) {
    objects += i == 0 ? R"({"properties":{)" : R"(,{"properties":{)";
    for (int k = 0; k < 10; ++k)
      objects += (k == 0 ? "\"a" : ",\"a") + std::to_string(i) + "b" + std::to_string(k) + R"(":{"type":"integer"})";
    objects += "}}";
  }
  const auto schema = base::parse_json(R"({"type":"object","anyOf":[)" + objects + "]}");
  ASSERT_TRUE(schema);
  GrammarBuilder b;
  const auto root = json_schema(b, *schema);
  ASSERT_TRUE(root) << root.error().message();
  const auto bound = bind(std::move(b), *root);
  ASSERT_TRUE(bound) << bound.error().message();
  for (uint32_t seed = 0; seed < 40; ++seed)
    ASSERT_EQ(run(**bound, seed, 60), std::nullopt) << seed;

  // Within tight limits as well, and each token leads on.
  GrammarBuilder other;
  const auto words = regular_expression(other, "x?(a|aa|aaa|ab|abc|hell|hello|o){3,60}");
  ASSERT_TRUE(words);
  MatchLimits tight;
  tight.max_mask_states = 12;
  const auto within = bind(std::move(other), other.sequence({other.literal("b"), *words}), letters(), tight);
  ASSERT_TRUE(within) << within.error().message();
  Matcher matcher = (*within)->start();
  ASSERT_TRUE(matcher.accept(3 + 'b'));
  const auto allowed = matcher.allowed();
  ASSERT_TRUE(allowed);
  EXPECT_TRUE((*allowed)->test(3 + 'a'));
  EXPECT_TRUE((*allowed)->test(3 + 'h'));
  EXPECT_TRUE((*allowed)->test(3 + 'x'));
  EXPECT_FALSE((*allowed)->test(3 + 'b'));
  for (uint32_t seed = 0; seed < 20; ++seed)
    ASSERT_EQ(run(**within, seed, 60), std::nullopt) << seed;
}

TEST(Limits, AVocabularyThatCannotSpellTheGrammarIsNamed) {
  text::Vocabulary v = *text::Vocabulary::with_defaults("llama", "");
  v.pieces = {"<unk>", "<s>", "</s>", "a", "b", "xyz"};
  v.kinds = {text::TokenKind::unknown, text::TokenKind::control, text::TokenKind::control,
             text::TokenKind::normal,  text::TokenKind::normal,  text::TokenKind::normal};
  const test::Vocabulary vocabulary(std::move(v));
  GrammarBuilder b;
  const auto refused = bind(std::move(b), b.literal("abz"), vocabulary);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::unsupported);
  EXPECT_NE(refused.error().message().find("0x7A"), std::string::npos) << refused.error().message();

  // Where there is another way, that is the way, and no token leads where it ends.
  GrammarBuilder c;
  const Expression root = c.choice({c.literal("abz"), c.literal("ab")});
  const auto bound = bind(std::move(c), root, vocabulary);
  ASSERT_TRUE(bound);
  Matcher matcher = (*bound)->start();
  EXPECT_TRUE(matcher.accept(3));
  EXPECT_TRUE(matcher.accept(4));
  EXPECT_TRUE(matcher.must_end());
}

TEST(Limits, EndsAndControlTokens) {
  GrammarBuilder b;
  const Expression root = b.sequence({b.optional(b.special("<|go|>")), b.literal("a"), b.special("</s>")});
  const auto bound = bind(std::move(b), root);
  ASSERT_TRUE(bound);
  const Token go = *letters().index->control_token("<|go|>");
  Matcher matcher = (*bound)->start();
  EXPECT_TRUE((*matcher.allowed())->test(go));
  EXPECT_FALSE((*matcher.allowed())->test(2));
  EXPECT_FALSE((*matcher.allowed())->test(0));
  EXPECT_FALSE(matcher.accept(2));
  EXPECT_TRUE(matcher.accept(go));
  EXPECT_FALSE(matcher.accept(go));
  EXPECT_TRUE(matcher.accept(3 + 'a'));
  EXPECT_TRUE(matcher.can_end());
  EXPECT_EQ((*matcher.allowed())->count(), 1U);
  EXPECT_TRUE(matcher.accept(2));
  EXPECT_TRUE(matcher.must_end());
  EXPECT_FALSE(matcher.accept(3 + 'a'));
  EXPECT_FALSE(matcher.accept(1'000'000));

  // Without such a token the name is text.
  GrammarBuilder c;
  const auto as_text = bind(std::move(c), c.special("<|no|>"));
  Matcher spelling = (*as_text)->start();
  for (const char byte : std::string("<|no|>"))
    EXPECT_TRUE(spelling.accept(3 + static_cast<uint8_t>(byte)));
  EXPECT_TRUE(spelling.must_end());
}

std::string text_of(const std::vector<Token>& tokens) {
  return letters().tokenizer->decode(tokens, true);
}

TEST(Forced, LongestTokensWhereNothingElseCanCome) {
  const auto forced = [](auto make, size_t most = 100) {
    GrammarBuilder b;
    const Expression root = make(b);
    const auto bound = bind(std::move(b), root);
    EXPECT_TRUE(bound);
    return (*bound)->start().forced(most);
  };
  const auto hello = forced([](GrammarBuilder& b) { return b.literal("hello world"); });
  EXPECT_EQ(hello.size(), 2U);
  EXPECT_EQ(text_of(hello), "hello world");
  EXPECT_EQ(forced([](GrammarBuilder& b) { return b.literal("hello world"); }, 1).size(), 1U);
  // "hell" could also be the begin of "hello": the model chooses.
  EXPECT_TRUE(forced([](GrammarBuilder& b) {
                return b.sequence({b.literal("hell"), b.choice({b.literal("o"), b.literal("x")})});
              }).empty());
  const auto up_to_the_choice = forced([](GrammarBuilder& b) {
    return b.sequence({b.literal("xhell"), b.choice({b.literal("q"), b.literal("x")})});
  });
  EXPECT_EQ(text_of(up_to_the_choice), "xhell");  // "hello" is not allowed there
  // Control tokens, and what follows.
  const auto go = forced([](GrammarBuilder& b) {
    return b.sequence({b.literal("hell"), b.special("<|go|>"), b.literal("x"), b.repeat(b.literal("y"), 0, 1)});
  });
  EXPECT_EQ(text_of(go), "hell<|go|>x");
  EXPECT_TRUE(forced([](GrammarBuilder& b) { return b.repeat(b.literal("x"), 0, 3); }).empty());
  // An endless forced text has an end all the same.
  const auto endless = forced([](GrammarBuilder& b) { return b.repeat(b.literal("x"), 5000, 5000); }, 5);
  EXPECT_LE(endless.size(), 5U);
}

TEST(Forced, IsAcceptedAndAllowed) {
  GrammarBuilder b;
  const auto root = gbnf(b, R"(root ::= ("hello" (" world" | "x")){2} "<|go|>"? "aaaaaaaaab")");
  const auto bound = bind(std::move(b), *root);
  ASSERT_TRUE(bound);
  for (uint32_t seed = 0; seed < 20; ++seed) {
    std::mt19937 random(seed);
    Matcher matcher = (*bound)->start();
    for (int i = 0; i < 30; ++i) {
      for (const Token token : matcher.forced(8)) {
        ASSERT_TRUE((*matcher.allowed())->test(token));
        ASSERT_TRUE(matcher.accept(token));
      }
      const TokenMask allowed = **matcher.allowed();
      auto token = static_cast<Token>(random() % allowed.size());
      while (!allowed.test(token))
        token = (token + 1) % static_cast<Token>(allowed.size());
      ASSERT_TRUE(matcher.accept(token));
      if (matcher.must_end()) break;
    }
    EXPECT_TRUE(matcher.must_end());
  }
}

// Many matchers of one grammar at once, under so little memory that stores come and go: each gets what it gets alone.
TEST(Threads, MatchersOfOneGrammarDoNotDisturbEachOther) {
  MatchLimits limits;
  limits.max_memory = 200'000;
  const auto make = [&] {
    GrammarBuilder b;
    const auto root = gbnf(b, R"(root ::= ("[" (item ("," item)*)? "]")+
item ::= "\"" [^"]{1,30} "\"" | root | "hello" | "aaaa"{1,200})");
    return *bind(std::move(b), *root, letters(), limits);
  };
  const auto outputs = [](const TokenGrammar& grammar, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<size_t> seen;
    Matcher matcher = grammar.start();
    for (int i = 0; i < 120; ++i) {
      const auto allowed = matcher.allowed();
      if (!allowed) break;
      const TokenMask& mask = **allowed;
      seen.push_back(mask.count());
      auto token = static_cast<Token>(random() % mask.size());
      while (!mask.test(token))
        token = (token + 1) % static_cast<Token>(mask.size());
      if (!matcher.accept(token) || matcher.must_end()) break;
      seen.push_back(matcher.forced(4).size());
    }
    return seen;
  };
  constexpr uint32_t kThreads = 4;
  constexpr uint32_t kOutputs = 12;
  std::vector<std::vector<size_t>> alone;
  for (uint32_t seed = 0; seed < kOutputs; ++seed)
    alone.push_back(outputs(*make(), seed));
  const auto shared = make();
  std::atomic<int> different{0};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      for (uint32_t seed = 0; seed < kOutputs; ++seed)
        if (outputs(*shared, (seed + i * 3) % kOutputs) != alone[(seed + i * 3) % kOutputs]) ++different;
    });
  for (std::thread& thread : threads)
    thread.join();
  EXPECT_EQ(different.load(), 0);
}

}  // namespace
