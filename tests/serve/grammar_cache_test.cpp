#include "serve/grammar_cache.hpp"

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

}  // namespace
}  // namespace tidemill
