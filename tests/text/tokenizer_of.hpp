// Tokenizers of vocabularies that tests make up.
#pragma once

#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "text/tokenizer.hpp"

namespace tidemill::test {

inline std::unique_ptr<text::Tokenizer> tokenizer_of(text::Vocabulary vocabulary) {
  auto made = text::Tokenizer::create(std::move(vocabulary));
  EXPECT_TRUE(made) << made.error().to_string();
  return std::move(made).value();
}

}  // namespace tidemill::test
