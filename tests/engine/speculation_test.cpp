// Speculation changes how many steps an output takes and nothing else: whatever is proposed, right or wrong, every
// answer is the reference's, which knows no steps, and the books balance.
#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/rig.hpp"
#include "engine/scripted_proposer.hpp"

namespace tidemill::engine {
namespace {

using test::Gate;
using test::KnownSequences;
using test::prompt_of;
using test::request_of;
using test::Rig;

struct Way {
  std::string name;
  test::ScriptedProposer::Wrong wrong;
};
std::vector<Way> ways() {
  return {{"always right", [](int64_t) { return false; }},
          {"always wrong", [](int64_t) { return true; }},
          {"wrong every third", [](int64_t position) { return position % 3 == 0; }},
          {"wrong every tenth", [](int64_t position) { return position % 10 == 0; }}};
}

EngineOptions eager(EngineOptions options, MakeProposer proposer, int most = 7) {
  options.speculation = {.mode = Speculation::prompt_lookup,
                         .max_proposal = most,
                         .adaptive = false,
                         .make_proposer = std::move(proposer)};
  return options;
}

// The sequences that the request's choices will be.
void learn(Rig& rig, const Request& request, KnownSequences& known) {
  for (int i = 0; i < request.n; ++i) {
    auto tokens = request.prompt;
    const auto answer = rig.expected(request, i);
    tokens.insert(tokens.end(), answer.tokens.begin() + answer.echoed, answer.tokens.end());
    known.add(std::move(tokens));
  }
}

// Requests in which everything about sampling and ending occurs.
std::vector<Request> requests() {
  std::vector<Request> all;
  const auto add = [&](auto change) {
    Request request = request_of(prompt_of(5 + std::ssize(all) * 11 % 70), 41, 100 + all.size());
    change(request);
    all.push_back(std::move(request));
  };
  add([](Request&) {});
  add([](Request& r) { r.sampling.temperature = 0; });
  add([](Request& r) {
    r.logprobs = true;
    r.top_logprobs = 5;
  });
  add([](Request& r) {
    r.sampling.frequency_penalty = 0.7f;
    r.sampling.presence_penalty = 0.3f;
    r.sampling.repetition_penalty = 1.3f;
    r.logprobs = true;
  });
  add([](Request& r) {
    r.sampling.top_k = 9;
    r.sampling.top_p = 0.8f;
    r.sampling.min_p = 0.02f;
    r.sampling.logit_bias = {{5, 3.0f}, {9, -100.0f}};
  });
  for (uint64_t seed = 0; seed < 12; ++seed) {  // they end anywhere in a proposal
    add([&](Request& r) {
      r.ignore_eos = false;
      r.max_tokens = 200;
    });
    add([&](Request& r) {
      r.stop = {"ab", "zqc", "r ", "\xc3\xa9", "kq"};  // of several tokens, some
      r.max_tokens = 200;
    });
    add([&](Request& r) {
      r.stop_tokens = {7, 20};
      r.max_tokens = 200;
    });
  }
  for (int tokens = 1; tokens < 12; ++tokens)
    add([&](Request& r) { r.max_tokens = tokens; });
  add([](Request& r) {
    r.n = 3;
    r.logprobs = true;
    r.stop = {"ab", "x"};
  });
  add([](Request& r) {
    r.echo = true;
    r.logprobs = true;
    r.n = 2;
  });
  add([](Request& r) { r.max_tokens = 100'000; });  // to the end of the context
  add([](Request& r) {
    r.kind = Request::Kind::embed;
    r.max_tokens = 0;
  });
  add([](Request& r) {
    r.echo = true;
    r.logprobs = true;
    r.max_tokens = 0;
  });
  return all;
}

// One by one and then all at once.
void expect_references(Rig& rig, KnownSequences& known, const std::string& what) {
  Gate gate;  // so that those really come at once
  rig.model.before_forward = [&gate, also = rig.model.before_forward](const model::Batch& batch) {
    gate.pass();
    if (also) also(batch);
  };
  rig.start();
  const auto all = requests();
  for (const Request& request : all)
    learn(rig, request, known);
  for (const bool together : {false, true}) {
    std::vector<std::shared_ptr<Stream>> streams;
    together ? gate.close() : gate.open();
    for (size_t i = 0; i < all.size(); ++i) {
      if (together) {
        streams.push_back(rig.submit(all[i]));
      } else {
        const auto collected = rig.run_checked(all[i], what + ", alone " + std::to_string(i));
        ASSERT_TRUE(collected.usage);
        EXPECT_EQ(collected.usage->prompt_tokens, std::ssize(all[i].prompt));
      }
    }
    gate.open();
    for (size_t i = 0; i < streams.size(); ++i) {
      const auto collected = test::collect(*streams[i], all[i].n);
      for (int c = 0; c < all[i].n; ++c) {
        test::expect_same(collected.choices[static_cast<size_t>(c)], rig.expected(all[i], c),
                          what + ", together " + std::to_string(i));
      }
    }
    EXPECT_TRUE(rig.checked()) << what;
  }
  EXPECT_TRUE(rig.engine->idle()) << "the gate goes, and no step may need it";
}

TEST(Speculation, EveryAnswerIsTheReferences) {
  for (const Way& way : ways()) {
    for (const int most : {1, 4, 7, 31}) {
      KnownSequences known;
      Rig rig(eager({}, test::scripted(known, way.wrong), most), 300);
      expect_references(rig, known, way.name + " by " + std::to_string(most));
      const EngineStats stats = rig.engine->stats();
      EXPECT_GT(stats.proposed_tokens, 0u);
      if (way.name == "always wrong") {
        // But for choices of one prompt, of which one may say what is wrong for another.
        EXPECT_LT(stats.accepted_tokens, stats.proposed_tokens / 100);
      } else {
        EXPECT_GT(stats.accepted_tokens, 0u);
        EXPECT_LT(stats.steps, stats.generated_tokens);
      }
    }
  }
}

TEST(Speculation, TooFewBlocks) {
  for (const Way& way : ways()) {
    for (const bool cache : {true, false}) {
      KnownSequences known;
      Rig rig(eager(Rig::with_blocks(19, {.step_tokens = 48, .max_running = 24, .prefix_cache = cache}),
                    test::scripted(known, way.wrong)),
              300);
      expect_references(rig, known, way.name + " with too few blocks");
      EXPECT_GT(rig.engine->stats().preemptions, 0u);
      EXPECT_GT(rig.engine->stats().proposed_tokens, 0u);
    }
  }
}

TEST(Speculation, SmallSteps) {
  for (const Way& way : ways()) {
    for (const int step : {1, 3, 17}) {
      KnownSequences known;
      Rig rig(eager({.step_tokens = step, .max_running = std::min(step, 5)}, test::scripted(known, way.wrong)), 300);
      bool within = true;
      rig.model.before_forward = [&](const model::Batch& batch) {
        within = within && std::ssize(batch.tokens) <= step;
      };
      expect_references(rig, known, way.name + " in steps of " + std::to_string(step));
      EXPECT_TRUE(within);
    }
  }
}

TEST(Speculation, PromptLookupItselfAdaptiveAndEager) {
  for (const bool adaptive : {true, false}) {
    KnownSequences unused;
    EngineOptions options;
    options.speculation.adaptive = adaptive;
    Rig rig(options, 300);
    rig.model.before_forward = [&](const model::Batch& batch) {
      rig.clock.advance(base::Duration(1'000'000 + 10'000 * std::ssize(batch.tokens)));
    };
    expect_references(rig, unused, "prompt lookup");
    EXPECT_GT(rig.engine->stats().proposed_tokens, 0u);
  }
}

TEST(Speculation, OffProposesNothing) {
  EngineOptions options;
  options.speculation.mode = Speculation::off;
  Rig rig(options);
  Request request = request_of(std::vector<Token>(40, 5), 30);
  rig.run_checked(request);
  EXPECT_TRUE(rig.checked());  // after the last step
  EXPECT_EQ(rig.engine->stats().proposed_tokens, 0u);
  EXPECT_EQ(rig.engine->stats().steps, 30u);
}

TEST(Speculation, RefusesAProposalLengthOutOfRange) {
  for (const int most : {-1, 0, 32, 1000}) {
    test::FakeModel model;
    test::FakeDevice device;
    const auto tokenizer = test::fake_tokenizer();
    base::ManualClock clock;
    observe::Tracer tracer(clock);
    observe::Metrics metrics;
    EngineOptions options = Rig::with_blocks(10);
    options.speculation.max_proposal = most;
    const auto engine = Engine::start(model, device, *tokenizer, options, tracer, metrics, clock);
    ASSERT_FALSE(engine);
    EXPECT_EQ(engine.error().param(), "max_proposal");
  }
}

// What is found in the prefix cache later was computed from tokens that were generated, never from proposed ones.
TEST(Speculation, OnlyAcceptedTokensAreCached) {
  for (const Way& way : ways()) {
    KnownSequences known;
    Rig rig(eager({}, test::scripted(known, way.wrong)));
    rig.start();
    const Request first = request_of(prompt_of(21), 90, 3);
    learn(rig, first, known);
    const auto answer = rig.run_checked(first, way.name);
    Request second = request_of(first.prompt, 40, 4);
    const auto& tokens = answer.choices[0].tokens;
    second.prompt.insert(second.prompt.end(), tokens.begin(), tokens.end());
    learn(rig, second, known);
    const auto again = rig.run_checked(second, way.name + ", continued");
    EXPECT_EQ(again.usage->cached_tokens, 96) << "all whole blocks of the 110 tokens that were computed";
    EXPECT_TRUE(rig.checked());
  }
}

// The fake model has NaN for logits after token 63, which it never generates. Proposing it must not be noticed.
TEST(Speculation, LogitsOfWrongProposalsDoNotMatter) {
  class Poison final : public Proposer {
   public:
    Proposal propose(std::span<const Token>, int64_t most) override {
      return {std::span(tokens_).first(static_cast<size_t>(most)), 4};
    }

   private:
    std::vector<Token> tokens_ = std::vector<Token>(32, test::kPoison);
  };
  Rig rig(eager({}, [] { return std::make_unique<Poison>(); }));
  for (uint64_t seed = 0; seed < 5; ++seed)
    rig.run_checked(request_of(prompt_of(30), 40, seed));
  EXPECT_EQ(rig.engine->stats().accepted_tokens, 0u);
}

TEST(Speculation, AFailureComesAfterTheTokensBeforeIt) {
  const auto run = [](Speculation mode) {
    KnownSequences known;
    EngineOptions options = eager({}, test::scripted(known, [](int64_t) { return false; }));
    options.speculation.mode = mode;
    Rig rig(options);
    rig.model.fails_from = 14;
    rig.start();
    const Request request = request_of(prompt_of(10), 20, 1);
    learn(rig, request, known);
    return rig.run(request);
  };
  const auto off = run(Speculation::off);
  const auto on = run(Speculation::prompt_lookup);
  ASSERT_TRUE(off.error);
  ASSERT_TRUE(on.error);
  EXPECT_EQ(off.choices[0].tokens.size(), 5u);
  EXPECT_EQ(on.choices[0].tokens, off.choices[0].tokens);
  EXPECT_EQ(on.choices[0].text, off.choices[0].text);
  EXPECT_EQ(on.error->message(), off.error->message());
}

TEST(Speculation, CancelledInTheMiddle) {
  for (const Way& way : ways()) {
    KnownSequences known;
    Gate gate;
    Rig rig(eager({}, test::scripted(known, way.wrong)));
    rig.model.before_forward = [&](const model::Batch&) { gate.pass(); };
    rig.start();
    const Request request = request_of(prompt_of(20), 200, 5);
    learn(rig, request, known);
    const auto stream = rig.submit(request);
    gate.allow(4);
    gate.wait_for(5);  // in the fifth step, with proposals
    stream->cancel();
    gate.open();
    const auto collected = test::collect(*stream);
    EXPECT_EQ(collected.choices[0].finish, FinishReason::cancelled);
    const auto expected = rig.expected(request);
    const auto& tokens = collected.choices[0].tokens;
    ASSERT_LE(tokens.size(), expected.tokens.size());
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), expected.tokens.begin()));
    EXPECT_TRUE(rig.checked());
    EXPECT_TRUE(rig.engine->idle());
  }
}

TEST(Speculation, CountsInMetricsAndSpans) {
  KnownSequences known;
  Rig rig(eager({}, test::scripted(known, [](int64_t position) { return position % 10 == 0; })));
  int proposals = 0;
  rig.model.before_forward = [&](const model::Batch& batch) { proposals += std::ssize(batch.logit_rows) > 1; };
  rig.start();
  const Request request = request_of(prompt_of(20), 60, 5);
  learn(rig, request, known);
  rig.run_checked(request);
  const EngineStats stats = rig.engine->stats();
  const std::string text = rig.metrics.render();
  const auto value = [&](const std::string& name) {
    const size_t at = text.find("\n" + name + " ");
    EXPECT_NE(at, std::string::npos) << name;
    return at == std::string::npos ? -1.0 : std::stod(text.substr(at + name.size() + 2));
  };
  EXPECT_GT(stats.accepted_tokens, 40u);
  EXPECT_EQ(value("tidemill_speculation_proposed_tokens_total"), static_cast<double>(stats.proposed_tokens));
  EXPECT_EQ(value("vllm:spec_decode_num_draft_tokens_total"), static_cast<double>(stats.proposed_tokens));
  EXPECT_EQ(value("vllm:spec_decode_num_accepted_tokens_total"), static_cast<double>(stats.accepted_tokens));
  EXPECT_EQ(value("vllm:spec_decode_num_drafts_total"), proposals);
  EXPECT_GT(proposals, 5);
}

}  // namespace
}  // namespace tidemill::engine
