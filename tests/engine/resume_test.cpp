// Requests that go on from what another engine has generated: wherever they are cut, the whole is what the reference
// gives, which knows no cuts.
#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/core.h>
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
using Tokens = std::vector<Token>;

// What one choice of an undisturbed run has told, token by token.
struct Told {
  Tokens tokens;
  std::vector<std::string> texts;  // [tokens + 1]: all text after so many of them
  std::vector<TokenInfo> logprobs;
  std::string text;
  FinishReason finish = FinishReason::none;
  std::string matched_stop;
  size_t echoed = 0;
};

std::vector<Told> tell(Stream& stream, int n) {
  std::vector<Told> all(static_cast<size_t>(n));
  while (auto event = stream.next()) {
    EXPECT_FALSE(event->error);
    EXPECT_FALSE(event->resumed);
    Told& told = all[static_cast<size_t>(event->choice)];
    if (told.texts.empty()) told.texts.emplace_back();
    EXPECT_EQ(event->text_ends.size() + static_cast<size_t>(event->echoed), event->tokens.size());
    for (const size_t end : event->text_ends)
      told.texts.push_back(told.text + event->text.substr(0, end));
    told.text += event->text;
    told.tokens.insert(told.tokens.end(), event->tokens.begin() + event->echoed, event->tokens.end());
    told.logprobs.insert(told.logprobs.end(), event->logprobs.begin(), event->logprobs.end());
    told.finish = event->finish;
    told.matched_stop = event->matched_stop;
    told.echoed += static_cast<size_t>(event->echoed);
  }
  return all;
}

bool same_infos(std::span<const TokenInfo> a, std::span<const TokenInfo> b) {
  return std::ranges::equal(
      a, b, [](const auto& x, const auto& y) { return test::same(x, y) && x.text_offset == y.text_offset; });
}

// Goes on after `cuts[i]` tokens of choice i, and looks at every event.
void expect_seamless(Rig& rig, const Request& request, const std::vector<Told>& whole, const std::vector<size_t>& cuts,
                     const std::string& what) {
  Request resumed = request;
  for (size_t i = 0; i < whole.size(); ++i)
    resumed.resumed.emplace_back(whole[i].tokens.begin(), whole[i].tokens.begin() + static_cast<int64_t>(cuts[i]));
  const auto stream = rig.submit(resumed);
  ASSERT_TRUE(stream) << what;
  std::vector<Told> rest(whole.size());
  std::vector<size_t> resumptions(whole.size());
  std::optional<Usage> usage;
  while (auto event = stream->next()) {
    ASSERT_FALSE(event->error) << what << ": " << event->error->to_string();
    const auto choice = static_cast<size_t>(event->choice);
    const Told& told = whole[choice];
    Told& seen = rest[choice];
    if (event->resumed) {
      EXPECT_EQ(++resumptions[choice], 1u) << what;
      EXPECT_TRUE(seen.tokens.empty() && seen.text.empty()) << what;
      EXPECT_EQ(event->tokens.size(), cuts[choice] + told.echoed) << what;
      EXPECT_EQ(event->text, told.texts[cuts[choice]]) << what;
      EXPECT_EQ(event->logprobs.size(), request.logprobs ? event->tokens.size() : 0) << what;
    }
    seen.tokens.insert(seen.tokens.end(), event->tokens.begin() + event->echoed, event->tokens.end());
    seen.logprobs.insert(seen.logprobs.end(), event->logprobs.begin(), event->logprobs.end());
    seen.text += event->text;
    seen.finish = event->finish;
    seen.matched_stop = event->matched_stop;
    seen.echoed += static_cast<size_t>(event->echoed);
    if (event->usage) usage = event->usage;
  }
  ASSERT_TRUE(usage) << what;
  int64_t completion = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(resumptions[i], cuts[i] > 0 ? 1u : 0u) << what;
    EXPECT_EQ(rest[i].tokens, whole[i].tokens) << what;
    EXPECT_EQ(rest[i].text, whole[i].text) << what;
    EXPECT_EQ(rest[i].finish, whole[i].finish) << what;
    EXPECT_EQ(rest[i].matched_stop, whole[i].matched_stop) << what;
    EXPECT_EQ(rest[i].echoed, whole[i].echoed) << what;
    EXPECT_TRUE(same_infos(rest[i].logprobs, whole[i].logprobs)) << what;
    completion += std::ssize(whole[i].tokens);
  }
  EXPECT_EQ(usage->prompt_tokens, std::ssize(request.prompt)) << what;
  EXPECT_EQ(usage->completion_tokens, completion) << what;
  EXPECT_LE(usage->cached_tokens, usage->prompt_tokens) << what;
}

// At every token of every choice; those of several choices are cut apart from each other.
void expect_seamless_everywhere(Rig& here, Rig& there, const Request& request, const std::string& what) {
  const auto stream = here.submit(request);
  ASSERT_TRUE(stream);
  const std::vector<Told> whole = tell(*stream, request.n);
  size_t longest = 0;
  for (const Told& told : whole)
    longest = std::max(longest, told.tokens.size());
  for (size_t cut = 0; cut <= longest; ++cut) {
    std::vector<size_t> cuts;
    cuts.reserve(whole.size());
    for (size_t i = 0; i < whole.size(); ++i)
      cuts.push_back((cut + 5 * i) % (whole[i].tokens.size() + 1));
    expect_seamless(there, request, whole, cuts, fmt::format("{}, cut at {}", what, cut));
  }
  std::vector<size_t> ends;
  ends.reserve(whole.size());
  for (const Told& told : whole)
    ends.push_back(told.tokens.size());
  expect_seamless(there, request, whole, ends, what + ", cut at the end");
}

// Requests in which everything that a choice remembers occurs.
std::vector<std::pair<std::string, Request>> requests(const text::Tokenizer& tokenizer) {
  std::vector<std::pair<std::string, Request>> all;
  const auto add = [&](std::string name, const std::function<void(Request&)>& change) {
    Request request = request_of(prompt_of(7 + std::ssize(all) * 13 % 60), 37, 500 + all.size());
    change(request);
    all.emplace_back(std::move(name), std::move(request));
  };
  add("sampled", [](Request&) {});
  add("greedy", [](Request& r) { r.sampling.temperature = 0; });
  add("penalties", [](Request& r) {
    r.sampling.frequency_penalty = 0.7f;
    r.sampling.presence_penalty = 0.3f;
    r.sampling.repetition_penalty = 1.3f;
  });
  add("truncation", [](Request& r) {
    r.sampling.top_k = 9;
    r.sampling.top_p = 0.8f;
    r.sampling.logit_bias = {{5, 3.0f}, {9, -100.0f}};
  });
  for (int i = 0; i < 4; ++i) {
    add("ends by itself", [](Request& r) {
      r.ignore_eos = false;
      r.max_tokens = 120;
    });
    add("stop strings", [](Request& r) {
      r.stop = {"ab", "zqc", "r ", "\xc3\xa9", "kq"};  // of several tokens, some
      r.max_tokens = 120;
    });
  }
  add("stop tokens", [](Request& r) { r.stop_tokens = {7, 20}; });
  add("cut characters", [](Request& r) { r.sampling.logit_bias = {{30, 6.0f}, {31, 6.0f}}; });
  add("special text", [](Request& r) {
    r.special_text = true;
    r.sampling.logit_bias = {{test::kEos, 4.0f}};
  });
  add("probabilities", [](Request& r) {
    r.logprobs = true;
    r.top_logprobs = 3;
    r.stop = {"ab", "x"};
  });
  add("choices", [](Request& r) { r.n = 3; });
  add("choices with probabilities", [](Request& r) {
    r.n = 3;
    r.logprobs = true;
    r.stop = {"ab", "x"};
    r.max_tokens = 80;
  });
  add("echo", [](Request& r) {
    r.echo = true;
    r.n = 2;
  });
  add("echo with probabilities", [](Request& r) {
    r.echo = true;
    r.logprobs = true;
    r.top_logprobs = 2;
    r.n = 2;
  });
  add("to the end of the context", [](Request& r) { r.max_tokens = 100'000; });
  const auto held_to = [&](std::string_view pattern) {
    return [&tokenizer, pattern](Request& r) {
      r.ignore_eos = false;
      r.grammar = grammar_of(tokenizer, pattern);
    };
  };
  add("a form with forced runs", held_to("abcdefghij[kl]mnop[a-c]{3}rst(uv|xy)z"));
  add("a form that goes on", held_to("(abcde|fghij|[k-z]{2})*"));
  add("a form with an end", held_to("[a-f]{3,9}"));
  return all;
}

constexpr int64_t kContext = 96;

TEST(Resume, IsSeamlessWhereverItIsCut) {
  for (const bool cache : {true, false}) {
    Rig here({.prefix_cache = cache}, kContext);
    Rig there({.prefix_cache = cache}, kContext);
    for (const auto& [name, request] : requests(*here.tokenizer))
      expect_seamless_everywhere(here, there, request, name);
  }
}

TEST(Resume, ChunksAndATinyPoolChangeNothing) {
  Rig here({}, kContext);
  Rig there(Rig::with_blocks(7, {.step_tokens = 9, .max_running = 4}), kContext);
  for (const auto& [name, request] : requests(*here.tokenizer))
    expect_seamless_everywhere(here, there, request, name);
  EXPECT_GT(there.engine->stats().preemptions, 0u);
}

TEST(Resume, SpeculationChangesNothing) {
  test::KnownSequences known;
  EngineOptions options;
  options.speculation.adaptive = false;
  options.speculation.make_proposer = test::scripted(known, [](int64_t position) { return position % 4 == 0; });
  Rig here({}, kContext);
  Rig there(options, kContext);
  here.start();
  for (const auto& [name, request] : requests(*here.tokenizer)) {
    for (int i = 0; request.grammar == nullptr && i < request.n; ++i) {
      const auto answer = here.expected(request, i);
      Tokens tokens = request.prompt;
      tokens.insert(tokens.end(), answer.tokens.begin() + answer.echoed, answer.tokens.end());
      known.add(std::move(tokens));
    }
    expect_seamless_everywhere(here, there, request, name);
  }
  EXPECT_GT(there.engine->stats().accepted_tokens, 100u);
}

TEST(Resume, ComputesWhatItIsGivenAsAPrompt) {
  Rig here;
  const Request request = request_of(prompt_of(40), 100);
  const auto whole = here.run_checked(request);
  Rig there;
  int steps = 0;
  there.model.before_forward = [&](const model::Batch&) { ++steps; };
  Request resumed = request;
  resumed.resumed = {Tokens(whole.choices[0].tokens.begin(), whole.choices[0].tokens.begin() + 97)};
  test::expect_same(there.run(resumed).choices[0], whole.choices[0], "resumed");
  EXPECT_EQ(steps, 3);  // the prompt with what was there, which the 98th token follows; two more
  EXPECT_EQ(there.engine->stats().generated_tokens, 3u);
  steps = 0;
  test::expect_same(there.run(resumed).choices[0], whole.choices[0], "again");
  EXPECT_EQ(there.engine->stats().prefix_hits, 128u);  // (40 + 97 - 1) / 16 blocks
}

TEST(Resume, OfWhatHasEndedComputesNothing) {
  Rig rig;
  Request request = request_of(prompt_of(40), 10);
  request.n = 2;
  const auto whole = rig.run_checked(request);
  int steps = 0;
  Rig there;
  there.model.before_forward = [&](const model::Batch&) { ++steps; };
  request.resumed = {whole.choices[0].tokens, whole.choices[1].tokens};
  const auto again = there.run(request);
  EXPECT_EQ(steps, 0);
  for (size_t i = 0; i < 2; ++i)
    test::expect_same(again.choices[i], whole.choices[i], "ended");
  EXPECT_EQ(again.usage->completion_tokens, 20);
  EXPECT_TRUE(there.engine->idle());
  // One that has ended does not keep the other from going on, nor does it lead it.
  request.resumed[1].resize(4);
  const auto half = there.run(request);
  for (size_t i = 0; i < 2; ++i)
    test::expect_same(half.choices[i], whole.choices[i], "one has ended");
  EXPECT_EQ(steps, 6);
}

TEST(Resume, CountsApartFromWhatIsGeneratedHere) {
  Rig rig;
  Request request = request_of(prompt_of(20), 12);
  const auto whole = rig.run_checked(request);
  Rig there;
  request.resumed = {Tokens(whole.choices[0].tokens.begin(), whole.choices[0].tokens.begin() + 9)};
  there.run(request);
  const std::string text = there.metrics.render();
  EXPECT_NE(text.find("\ntidemill_resumed_tokens_total 9"), std::string::npos) << text;
  EXPECT_NE(text.find("\ntidemill_generated_tokens_total 3"), std::string::npos) << text;
  // Between the tokens generated here: the first follows none of them.
  EXPECT_NE(text.find("\ntidemill_inter_token_latency_seconds_count 2"), std::string::npos) << text;
}

// What is wrong with `request`, as check() and submit() say it alike.
std::string refused(Rig& rig, const Request& request) {
  const auto checked = rig.engine->check(request);
  const auto submitted = rig.engine->submit(request);
  EXPECT_FALSE(checked);
  EXPECT_FALSE(submitted);
  if (checked || submitted) return {};
  EXPECT_EQ(checked.error().code(), base::ErrorCode::invalid_argument);
  EXPECT_EQ(checked.error().param(), "resumed");
  EXPECT_EQ(checked.error().message(), submitted.error().message());
  return checked.error().message();
}

TEST(Resume, RefusesWhatCannotHaveBeenGenerated) {
  Rig rig;
  rig.start();
  const auto has = [&](const std::string& message, std::string_view part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  Request request = request_of(prompt_of(5), 6);
  request.resumed = {{3, 64}};
  has(refused(rig, request), "64");
  request.resumed = {{3, -1}};
  has(refused(rig, request), "-1");
  request.resumed = {{3}, {3}};
  has(refused(rig, request), "2 choices");
  request.resumed = {Tokens(7, 5)};
  has(refused(rig, request), "7 tokens of a choice that may have 6");
  request.max_tokens = 0;
  request.resumed = {{5}};
  has(refused(rig, request), "at most");

  request = request_of(prompt_of(5), 6);
  request.ignore_eos = false;
  request.resumed = {{3, test::kEos, 4}};
  has(refused(rig, request), "its token 2: the choice has ended before it (stop)");
  request = request_of(prompt_of(5), 6);
  request.stop = {"ab"};
  request.resumed = {{3, 4, 5}};  // a, b, c
  has(refused(rig, request), "has ended before it (stop)");
  request = request_of(prompt_of(500), 40);
  request.resumed = {Tokens(13, 5)};
  has(refused(rig, request), "its token 12: the choice has ended before it (length)");

  request = request_of(prompt_of(5), 20);
  request.grammar = grammar_of(*rig.tokenizer, "abcd[ef]g");
  request.resumed = {{3, 5}};
  has(refused(rig, request), "only 4 there");
  request.resumed = {{3, 4, 5, 6, 9}};
  has(refused(rig, request), "does not allow");
  request.resumed = {{3, 4, 5, 6, test::kEos}};
  has(refused(rig, request), "does not allow");
  request.resumed = {{3, 4, 5, 6, 7, 9, 9}};
  has(refused(rig, request), "has ended before it");

  request = request_of(prompt_of(5), 0);
  request.kind = Request::Kind::embed;
  request.resumed = {{3}};
  has(refused(rig, request), "embedding");
  EXPECT_TRUE(rig.engine->idle());
}

TEST(Resume, CanBeCancelledBeforeAnythingIsComputed) {
  test::Gate gate;
  Rig rig;
  rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
  Request other = request_of(prompt_of(20), 2);
  const auto first = rig.submit(other);
  gate.wait_for(1);
  // Ended, but for the probabilities of what it was given.
  Request request = request_of(prompt_of(20), 3);
  request.logprobs = true;
  request.resumed = {{5, 6, 7}};
  const auto stream = rig.submit(request);
  stream->cancel();
  gate.open();
  while (stream->next()) {
  }
  EXPECT_TRUE(stream->ended());
  while (first->next()) {
  }
}

}  // namespace
}  // namespace tidemill::engine
