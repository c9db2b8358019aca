// Grammars that tests bind generations to.
#pragma once

#include <memory>
#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "grammar/builder.hpp"
#include "grammar/regex.hpp"
#include "grammar/token_grammar.hpp"

namespace tidemill::engine::test {

// Of all texts that `pattern` matches.
inline std::shared_ptr<const grammar::TokenGrammar> grammar_of(const text::Tokenizer& tokenizer,
                                                               std::string_view pattern) {
  grammar::GrammarBuilder builder;
  const auto root = grammar::regular_expression(builder, pattern);
  EXPECT_TRUE(root) << root.error().to_string();
  auto built = std::move(builder).build(*root);
  EXPECT_TRUE(built) << built.error().to_string();
  auto bound = grammar::TokenGrammar::create(*built, std::make_shared<const grammar::TokenIndex>(tokenizer));
  EXPECT_TRUE(bound) << bound.error().to_string();
  return *bound;
}

}  // namespace tidemill::engine::test
