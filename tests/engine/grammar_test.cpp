// Outputs that are held to a grammar: every one is a sentence of it, forced tokens cost no step, and what is generated
// depends neither on neighbours nor on speculation.
#include <memory>
#include <regex>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/rig.hpp"
#include "engine/scripted_proposer.hpp"
#include "engine/token_grammar_of.hpp"

namespace tidemill::engine {
namespace {

using test::grammar_of;
using test::prompt_of;
using test::request_of;
using test::Rig;

Request constrained(const Rig& rig, std::string_view pattern, uint64_t seed, int max_tokens = 40) {
  Request request = request_of(prompt_of(20), max_tokens, seed);
  request.ignore_eos = false;
  request.grammar = grammar_of(*rig.tokenizer, pattern);
  return request;
}

bool matches(const std::string& text, std::string_view pattern) {
  return std::regex_match(text, std::regex(std::string(pattern)));
}

TEST(Grammar, EveryOutputIsASentence) {
  Rig rig;
  for (const std::string_view pattern : {"[a-f]{3,9}", "(ab|ba)+c", "a?b?c?d?", "x(yz){2}[m-p]*q"}) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
      const auto collected = rig.run(constrained(rig, pattern, seed));
      ASSERT_FALSE(collected.error) << collected.error->to_string();
      const test::Answer& answer = collected.choices[0];
      if (answer.finish == FinishReason::stop) {
        EXPECT_TRUE(matches(answer.text, pattern)) << answer.text;
      }
    }
  }
}

TEST(Grammar, EndsWhereNothingCanFollow) {
  Rig rig;
  const auto collected = rig.run(constrained(rig, "[ab]{5}", 3));
  EXPECT_EQ(collected.choices[0].finish, FinishReason::stop);
  EXPECT_TRUE(matches(collected.choices[0].text, "[ab]{5}"));
  EXPECT_EQ(collected.usage->completion_tokens, 5);  // no token for the end, since nothing else was possible
}

TEST(Grammar, EndsThoughTheEndIsToBeIgnored) {
  Rig rig;
  Request request = constrained(rig, "[ab]{1,3}", 1);
  request.ignore_eos = true;
  const auto collected = rig.run(request);
  EXPECT_EQ(collected.choices[0].finish, FinishReason::stop);
  EXPECT_TRUE(matches(collected.choices[0].text, "[ab]{1,3}")) << collected.choices[0].text;
}

TEST(Grammar, ForcedTokensCostNoStepOfTheirOwn) {
  Rig rig;
  int steps = 0;
  rig.model.before_forward = [&](const model::Batch&) { ++steps; };
  const auto collected = rig.run(constrained(rig, "abcdefghij[kl]mnoprstuv", 1));
  EXPECT_TRUE(matches(collected.choices[0].text, "abcdefghij[kl]mnoprstuv"));
  EXPECT_EQ(collected.usage->completion_tokens, 20);
  // The prompt, which the first run follows; then the choice, which the second follows.
  EXPECT_EQ(steps, 2);
}

TEST(Grammar, ForcedTokensAreTheSameWithTheirProbabilities) {
  Rig rig;
  Request request = constrained(rig, "abc[d-m]{2}nop", 5);
  const auto plain = rig.run(request);
  request.logprobs = true;
  const auto shown = rig.run(request);
  EXPECT_EQ(shown.choices[0].tokens, plain.choices[0].tokens);
  EXPECT_EQ(shown.choices[0].logprobs.size(), plain.choices[0].tokens.size());
  EXPECT_TRUE(plain.choices[0].logprobs.empty());
}

TEST(Grammar, MaxTokensCutsForcedTokensToo) {
  Rig rig;
  const auto collected = rig.run(constrained(rig, "abcdefghijklm", 1, 5));
  EXPECT_EQ(collected.choices[0].text, "abcde");
  EXPECT_EQ(collected.choices[0].finish, FinishReason::length);
  EXPECT_EQ(collected.usage->completion_tokens, 5);
}

TEST(Grammar, StopStringsCutForcedTokensToo) {
  Rig rig;
  Request request = constrained(rig, "abcdefghijklm", 1);
  request.stop = {"ef"};
  const auto collected = rig.run(request);
  EXPECT_EQ(collected.choices[0].text, "abcd");
  EXPECT_EQ(collected.choices[0].matched_stop, "ef");
}

TEST(Grammar, ChoicesGoTheirOwnWays) {
  Rig rig;
  Request request = constrained(rig, "[a-z]{6}", 9);
  request.n = 5;
  const auto together = rig.run(request);
  for (int i = 0; i < 5; ++i) {
    const test::Answer& answer = together.choices[static_cast<size_t>(i)];
    EXPECT_TRUE(matches(answer.text, "[a-z]{6}"));
    const auto alone = rig.run(constrained(rig, "[a-z]{6}", 9 + static_cast<uint64_t>(i)));
    EXPECT_EQ(answer.tokens, alone.choices[0].tokens);
  }
}

TEST(Grammar, NeighboursChunksAndPreemptionChangeNothing) {
  constexpr std::string_view pattern = "(abcde|fghij|[k-z]{2})*";
  Rig calm;
  Rig crowded(Rig::with_blocks(24, {.step_tokens = 8, .max_running = 4}), 128);
  std::vector<Request> requests;
  std::vector<std::shared_ptr<Stream>> streams;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    requests.push_back(constrained(calm, pattern, seed, 60));
    Request other = constrained(crowded, pattern, seed, 60);
    streams.push_back(crowded.submit(std::move(other)));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto alone = calm.run(requests[i]);
    const auto beside = test::collect(*streams[i]);
    EXPECT_EQ(beside.choices[0].tokens, alone.choices[0].tokens) << i;
    EXPECT_EQ(beside.choices[0].text, alone.choices[0].text) << i;
  }
}

TEST(Grammar, SpeculationChangesNothing) {
  constexpr std::string_view pattern = "([ab]|ccd)*";
  Rig plain;
  EngineOptions options;
  options.speculation = {.mode = Speculation::prompt_lookup, .max_proposal = 5, .adaptive = false, .make_proposer = {}};
  Rig eager(options);
  uint64_t accepted = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const auto one = plain.run(constrained(plain, pattern, seed, 80));
    const auto other = eager.run(constrained(eager, pattern, seed, 80));
    EXPECT_EQ(other.choices[0].tokens, one.choices[0].tokens);
    accepted = eager.engine->stats().accepted_tokens;
  }
  EXPECT_GT(accepted, 0u);
}

}  // namespace
}  // namespace tidemill::engine
