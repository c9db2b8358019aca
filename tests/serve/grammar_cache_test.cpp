#include "serve/grammar_cache.hpp"

#include <span>
#include <stop_token>
#include <string>

#include <gtest/gtest.h>

#include "grammar/vocabularies.hpp"

namespace tidemill {
namespace {

using base::Error;
using base::ErrorCode;
using grammar::Expression;
using grammar::GrammarBuilder;
using serve::GrammarCache;

class Grammars : public testing::Test {
 protected:
  // A build that counts how often it was asked for.
  GrammarCache::Build text(std::string words) {
    return [this, words](GrammarBuilder& builder) -> base::Result<Expression> {
      ++builds_;
      return builder.literal(words);
    };
  }
  GrammarCache::Build refusal(std::string message) {
    return [this, message](GrammarBuilder&) -> base::Result<Expression> {
      ++builds_;
      return Error(ErrorCode::unsupported, message).with_param("here");
    };
  }

  const test::Vocabulary vocabulary_{test::small_vocabulary({"a", "b"})};
  GrammarCache cache_{*vocabulary_.tokenizer};
  int builds_ = 0;
};

TEST_F(Grammars, AreCompiledOnce) {
  const auto first = cache_.find_or_compile("k", text("ab"));
  const auto again = cache_.find_or_compile("k", text("ab"));
  ASSERT_TRUE(first && again);
  EXPECT_EQ(*first, *again);
  EXPECT_EQ(builds_, 1);
  EXPECT_TRUE(cache_.find_or_compile("other", text("b")));
  EXPECT_EQ(builds_, 2);
}

TEST_F(Grammars, AreRefusedOnce) {
  const auto first = cache_.find_or_compile("k", refusal("not this"));
  const auto again = cache_.find_or_compile("k", text("ab"));
  ASSERT_FALSE(first);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().to_string(), first.error().to_string());
  EXPECT_EQ(again.error().param(), "here");
  EXPECT_EQ(again.error().code(), ErrorCode::unsupported);
  EXPECT_EQ(builds_, 1);
  // What build() refuses counts as much as what the front end does.
  const auto nothing = [this](GrammarBuilder& builder) -> base::Result<Expression> {
    ++builds_;
    return builder.nothing();
  };
  EXPECT_FALSE(cache_.find_or_compile("empty", nothing));
  EXPECT_FALSE(cache_.find_or_compile("empty", nothing));
  EXPECT_EQ(builds_, 2);
}

TEST_F(Grammars, OfTheLatestUseAreKept) {
  for (size_t i = 0; i < GrammarCache::kept; ++i)
    EXPECT_EQ(static_cast<bool>(cache_.find_or_compile(std::to_string(i), i % 2 == 0 ? text("a") : refusal("no"))),
              i % 2 == 0);
  EXPECT_TRUE(cache_.find_or_compile("0", text("a")));  // is the latest used now
  EXPECT_EQ(builds_, static_cast<int>(GrammarCache::kept));
  EXPECT_TRUE(cache_.find_or_compile("one more", text("a")));
  builds_ = 0;
  EXPECT_TRUE(cache_.find_or_compile("0", text("a")));
  EXPECT_EQ(builds_, 0);
  EXPECT_FALSE(cache_.find_or_compile("1", refusal("no")));
  EXPECT_EQ(builds_, 1) << "the one that was used least recently had to go";
}

TEST_F(Grammars, WithLongKeysAreFewer) {
  const std::string half(GrammarCache::kept_key_bytes / 2, 'x');
  EXPECT_TRUE(cache_.find_or_compile(half, text("a")));
  EXPECT_TRUE(cache_.find_or_compile(half, text("a")));
  EXPECT_EQ(builds_, 1);
  EXPECT_TRUE(cache_.find_or_compile(half + "y", text("a")));
  EXPECT_TRUE(cache_.find_or_compile(half, text("a")));
  EXPECT_EQ(builds_, 3) << "there is no room for both";
  const std::string huge(GrammarCache::kept_key_bytes + 1, 'x');
  EXPECT_TRUE(cache_.find_or_compile(huge, text("a")));
  EXPECT_TRUE(cache_.find_or_compile(half, text("a")));
  EXPECT_EQ(builds_, 4) << "what has no room at all drives nothing out";
}

TEST_F(Grammars, ThatTakeMuchAreFewer) {
  const auto words = [this](char last) {
    return [this, last](GrammarBuilder& builder) -> base::Result<Expression> {
      ++builds_;
      return builder.literal(std::string(10'000, 'a') + last);
    };
  };
  GrammarCache measured(*vocabulary_.tokenizer);
  const auto one = measured.find_or_compile("a", words('a'));
  ASSERT_TRUE(one);
  const size_t bytes = (*one)->memory();
  EXPECT_GT(bytes, 10'000U);

  GrammarCache small(*vocabulary_.tokenizer, bytes + bytes / 2);
  EXPECT_TRUE(small.find_or_compile("a", words('a')));
  EXPECT_TRUE(small.find("a")) << "there is room for one";
  EXPECT_TRUE(small.find_or_compile("b", words('b')));
  EXPECT_TRUE(small.find("b"));
  EXPECT_FALSE(small.find("a")) << "and none for both";
  GrammarCache tiny(*vocabulary_.tokenizer, 1);
  EXPECT_TRUE(tiny.find_or_compile("a", words('a')));
  EXPECT_TRUE(tiny.find("a")) << "the latest stays, whatever it takes";
}

// What searches and intersections take, about a kilobyte for each state, is of a grammar's size.
TEST_F(Grammars, AreAsLargeAsTheirAutomata) {
  const GrammarCache::Build searches = [](GrammarBuilder& builder) -> base::Result<Expression> {
    const std::string never(4'000, 'a');
    return builder.text_without(std::span(&never, 1));
  };
  const auto made = cache_.find_or_compile("k", searches);
  ASSERT_TRUE(made);
  EXPECT_GT((*made)->memory(), 4'000'000U);
}

TEST_F(Grammars, ThatAreStoppedAreNotKept) {
  std::stop_source stop;
  const GrammarCache::Build leaves = [&](GrammarBuilder& builder) -> base::Result<Expression> {
    const Expression made = builder.literal("ab");
    stop.request_stop();  // the client goes
    return made;
  };
  const auto stopped = cache_.find_or_compile("k", leaves, GrammarCache::Effort::full, stop.get_token());
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code(), ErrorCode::cancelled);
  EXPECT_FALSE(cache_.find("k")) << "that is no refusal";
  EXPECT_TRUE(cache_.find_or_compile("k", text("ab"))) << "for another client";
}

TEST_F(Grammars, OfSlightEffortAreTheSameOrPutOff) {
  using Effort = GrammarCache::Effort;
  // Parts that nothing has in common, so that each is one.
  const auto parts = [this](uint32_t count) {
    return [this, count](GrammarBuilder& builder) -> base::Result<Expression> {
      ++builds_;
      Expression all = builder.empty();
      for (uint32_t i = 0; i < count; ++i)
        all = builder.sequence({builder.repeat(builder.literal("a"), i, i + 1), builder.literal("b"), all});
      return all;
    };
  };
  const auto large = static_cast<uint32_t>(GrammarCache::limits(Effort::slight).max_nodes);
  const auto put_off = cache_.find_or_compile("large", parts(large), Effort::slight);
  ASSERT_FALSE(put_off);
  EXPECT_EQ(put_off.error().code(), ErrorCode::too_large);
  EXPECT_FALSE(cache_.find("large")) << "that is no refusal";
  EXPECT_EQ(builds_, 1);
  EXPECT_FALSE(cache_.find_or_compile("large", parts(large), Effort::slight));
  EXPECT_EQ(builds_, 1) << "it is not tried again";
  EXPECT_TRUE(cache_.find_or_compile("large", parts(large), Effort::full));
  builds_ = 0;
  EXPECT_TRUE(cache_.find_or_compile("large", parts(large), Effort::slight)) << "what is there takes no effort";
  EXPECT_EQ(builds_, 0);
  EXPECT_TRUE(cache_.find_or_compile("usual", parts(3), Effort::slight));
  EXPECT_TRUE(cache_.find("usual"));
  EXPECT_FALSE(cache_.find_or_compile("wrong", refusal("no"), Effort::slight));
  EXPECT_TRUE(cache_.find("wrong")) << "a refusal with its reason is kept";
}

}  // namespace
}  // namespace tidemill
