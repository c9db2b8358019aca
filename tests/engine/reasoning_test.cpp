// Budgets of reasoning: where it ends by itself, where it is ended, and that nothing else changes for it.
#include "engine/reasoning.hpp"

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "engine/rig.hpp"
#include "engine/scripted_proposer.hpp"
#include "grammar/builder.hpp"
#include "grammar/token_grammar.hpp"

namespace tidemill::engine {
namespace {

using test::prompt_of;
using test::request_of;
using test::Rig;
using Tokens = std::vector<Token>;

ReasoningBudget budget_of(int tokens, bool begun = true) {
  return {
      .tokens = tokens, .close = {}, .open = "<a>", .closes = {"</a>", "[call]"}, .begun = begun, .anywhere = false};
}

// How many of these texts, each a token's, may come before reasoning must end; all of them if it need not.
size_t spent_after(const ReasoningBudget& budget, const std::vector<std::string>& texts) {
  ReasoningWatch watch(budget);
  for (size_t i = 0; i < texts.size(); ++i) {
    if (watch.spent()) return i;
    watch.add(texts[i]);
  }
  return watch.spent() ? texts.size() : std::string::npos;
}

constexpr size_t never = std::string::npos;

TEST(ReasoningWatch, CountsWhatStandsBetweenTheTags) {
  EXPECT_EQ(spent_after(budget_of(2), {"x", "y", "z"}), 2U);
  EXPECT_EQ(spent_after(budget_of(0), {"x"}), 0U);
  EXPECT_EQ(spent_after(budget_of(3), {"x", "y", "</a>", "z", "z", "z"}), never);
  EXPECT_EQ(spent_after(budget_of(3), {"x", "y", "[call]", "z", "z", "z"}), never);
  EXPECT_EQ(spent_after(budget_of(3), {"x</", "a", ">y", "z", "z", "z"}), never) << "tags may come in pieces";
  EXPECT_EQ(spent_after(budget_of(2, false), {" \n", "<a", ">", "x", "y", "z"}), 5U);
  EXPECT_EQ(spent_after(budget_of(2, false), {"<a>x", "y", "z"}), 3U) << "a token belongs to where it begins";
  EXPECT_EQ(spent_after(budget_of(1, false), {"No ", "<a>", "x", "y"}), never) << "only an answer's beginning counts";
  EXPECT_EQ(spent_after(budget_of(1, false), {"<", "<a>", "x", "y"}), never);
  EXPECT_EQ(spent_after(budget_of(3, false), {"<a>", "x", "</a>", "\n<a>", "y", "z"}), 5U) << "all stretches together";
  EXPECT_EQ(spent_after(budget_of(3, false), {"<a>", "x", "</a>", "no", "<a>", "y", "z"}), never);
  ReasoningBudget anywhere = budget_of(1, false);
  anywhere.anywhere = true;
  EXPECT_EQ(spent_after(anywhere, {"No ", "<a>", "x", "y"}), 3U);
}

// Tokens of the fake vocabulary: letters from 3 on, then a space and the two bytes of "é".
constexpr Token letter(char c) {
  return 3 + (c - 'a');
}
constexpr Token first_byte = 30;
constexpr Token second_byte = 31;

Request reasoning(int budget, uint64_t seed, int max_tokens = 40) {
  Request request = request_of(prompt_of(20), max_tokens, seed);
  request.special_text = true;
  request.reasoning = ReasoningBudget{.tokens = budget,
                                      .close = {letter('v'), letter('w')},
                                      .open = "",
                                      .closes = {"vw"},
                                      .begun = true,
                                      .anywhere = false};
  return request;
}

// Without the letters of the closing text, so that only a budget ends reasoning.
void without_closing_letters(Request& request) {
  request.sampling.logit_bias = {{letter('v'), -100.0f}, {letter('w'), -100.0f}};
}

// What the same request says if it has begun with these tokens, without a budget.
Tokens gone_on(Rig& rig, Request request, const Tokens& beginning) {
  request.reasoning.reset();
  request.resumed = {beginning};
  return rig.run(std::move(request)).choices[0].tokens;
}

TEST(Reasoning, IsEndedWhereItsBudgetIs) {
  Rig rig;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    for (const int budget : {0, 1, 7, 38}) {
      Request request = reasoning(budget, seed);
      without_closing_letters(request);
      Request free = request;
      free.reasoning.reset();
      Tokens expected = rig.run(free).choices[0].tokens;
      // A character that has begun is ended first.
      size_t at = static_cast<size_t>(budget);
      while (at > 0 && expected[at - 1] == first_byte && at < expected.size() && expected[at] == second_byte)
        ++at;
      const bool split = at > 0 && expected[at - 1] == first_byte;
      expected.resize(std::min(at, expected.size()));
      expected.insert(expected.end(), {letter('v'), letter('w')});
      const auto collected = rig.run(request);
      ASSERT_FALSE(collected.error);
      const Tokens& tokens = collected.choices[0].tokens;
      ASSERT_EQ(tokens.size(), 40U);
      if (split || expected.size() > 40) continue;
      EXPECT_EQ(Tokens(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(expected.size())), expected);
      EXPECT_EQ(tokens, gone_on(rig, request, expected)) << "what follows does not know who closed it";
    }
  }
}

TEST(Reasoning, ThatEndsInTimeIsLeftAlone) {
  Rig rig;
  Request free = reasoning(1000, 3);
  free.reasoning.reset();
  EXPECT_EQ(rig.run(reasoning(1000, 3)).choices[0].tokens, rig.run(free).choices[0].tokens);
}

TEST(Reasoning, EndsBehindWholeCharacters) {
  Rig rig;
  Request request = reasoning(5, 1);
  // Nothing but the bytes of a character, so that a budget ends in the middle of one.
  for (Token token = 0; token < test::kVocabulary; ++token) {
    if (token != first_byte && token != second_byte) request.sampling.logit_bias[token] = -100.0f;
  }
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    request.sampling.seed = seed;
    const auto collected = rig.run(request);
    const Tokens& tokens = collected.choices[0].tokens;
    const auto close = std::ranges::find(tokens, letter('v'));
    ASSERT_NE(close, tokens.end());
    EXPECT_GE(close - tokens.begin(), 5);
    const std::string& text = collected.choices[0].text;
    const std::string before = text.substr(0, text.find("vw"));
    // A first byte that no second one follows is broken before the tag comes, not by it.
    EXPECT_FALSE(*(close - 1) == first_byte) << before;
  }
}

TEST(Reasoning, IsTheSameBesideOthersWithGuessesAndWithProbabilities) {
  EngineOptions options;
  options.speculation = {.mode = Speculation::prompt_lookup, .max_proposal = 5, .adaptive = false, .make_proposer = {}};
  Rig calm;
  Rig eager(options);
  Rig crowded(Rig::with_blocks(24, {.step_tokens = 8, .max_running = 4}), 128);
  std::vector<std::shared_ptr<Stream>> streams;
  std::vector<Tokens> alone;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const Request request = reasoning(static_cast<int>(seed), seed, 60);
    alone.push_back(calm.run(request).choices[0].tokens);
    EXPECT_EQ(eager.run(request).choices[0].tokens, alone.back());
    Request shown = request;
    shown.logprobs = true;
    const auto with_probabilities = calm.run(shown);
    EXPECT_EQ(with_probabilities.choices[0].tokens, alone.back());
    EXPECT_EQ(with_probabilities.choices[0].logprobs.size(), alone.back().size());
    streams.push_back(crowded.submit(request));
  }
  for (size_t i = 0; i < streams.size(); ++i)
    EXPECT_EQ(test::collect(*streams[i]).choices[0].tokens, alone[i]) << i;
}

TEST(Reasoning, GoesOnWhereItWasCut) {
  Rig rig;
  Request request = reasoning(6, 4);
  without_closing_letters(request);
  const Tokens whole = rig.run(request).choices[0].tokens;
  for (size_t cut = 1; cut < whole.size(); ++cut) {
    request.resumed = {Tokens(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(cut))};
    EXPECT_EQ(rig.run(request).choices[0].tokens, whole) << cut;
  }
  Tokens other = whole;
  const auto close = std::ranges::find(other, letter('v'));
  ASSERT_NE(close, other.end());
  *close = letter('b');
  request.resumed = {other};
  const auto refused = rig.engine->submit(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param(), "resumed");
}

// Anything but the closing text, the closing text, then three letters of a to f.
std::shared_ptr<const grammar::TokenGrammar> reasoned_answer(const text::Tokenizer& tokenizer) {
  grammar::GrammarBuilder builder;
  const std::vector<std::string> close = {"vw"};
  const grammar::CodePointRange letters[] = {{'a', 'f'}};
  const auto root = builder.sequence(
      {builder.text_without(close), builder.literal("vw"), builder.repeat(builder.code_points(letters), 3, 3)});
  const auto built = std::move(builder).build(root);
  EXPECT_TRUE(built);
  auto bound = grammar::TokenGrammar::create(*built, std::make_shared<const grammar::TokenIndex>(tokenizer));
  EXPECT_TRUE(bound) << bound.error().to_string();
  return *bound;
}

TEST(Reasoning, IsFollowedByWhatTheGrammarHasBehindIt) {
  Rig rig;
  const auto grammar = reasoned_answer(*rig.tokenizer);
  int ended = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Request request = reasoning(9, seed, 60);
    request.grammar = grammar;
    request.ignore_eos = false;
    const auto collected = rig.run(request);
    const test::Answer& answer = collected.choices[0];
    EXPECT_EQ(answer.finish, FinishReason::stop);
    const size_t close = answer.text.find("vw");
    ASSERT_NE(close, std::string::npos) << answer.text;
    EXPECT_EQ(answer.text.size(), close + 5) << answer.text;
    EXPECT_EQ(answer.text.find_first_not_of("abcdef", close + 2), std::string::npos) << answer.text;
    ended += answer.tokens.size() >= 9 + 2 + 3 ? 1 : 0;
    Request shown = request;
    shown.logprobs = true;
    EXPECT_EQ(rig.run(shown).choices[0].tokens, answer.tokens);
  }
  EXPECT_GT(ended, 10) << "most would have gone on";
}

TEST(Reasoning, EachChoiceHasABudgetOfItsOwn) {
  Rig rig;
  Request request = reasoning(5, 9);
  request.n = 4;
  const auto together = rig.run(request);
  for (uint64_t i = 0; i < 4; ++i)
    EXPECT_EQ(together.choices[i].tokens, rig.run(reasoning(5, 9 + i)).choices[0].tokens);
}

TEST(Reasoning, IsRefusedWhereItCannotBeFollowed) {
  Rig rig;
  rig.start();
  const auto refusal = [&](auto change) {
    Request request = reasoning(5, 1);
    change(request);
    const auto stream = rig.engine->submit(request);
    return stream ? std::string() : stream.error().param();
  };
  EXPECT_EQ(refusal([](Request& request) { request.reasoning->tokens = -1; }), "reasoning");
  EXPECT_EQ(refusal([](Request& request) { request.reasoning->close.clear(); }), "reasoning");
  EXPECT_EQ(refusal([](Request& request) { request.reasoning->closes.clear(); }), "reasoning");
  EXPECT_EQ(refusal([](Request& request) { request.reasoning->close = {1000}; }), "reasoning");
  EXPECT_EQ(refusal([](Request& request) { request.special_text = false; }), "reasoning");
}

}  // namespace
}  // namespace tidemill::engine
