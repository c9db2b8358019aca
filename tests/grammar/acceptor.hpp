// Asks a grammar whether it accepts a text, byte by byte.
#pragma once

#include <string_view>
#include <utility>

#include <gtest/gtest.h>

#include "grammar/builder.hpp"
#include "grammar/derivatives.hpp"

namespace tidemill::test {

class Acceptor {
 public:
  Acceptor(grammar::GrammarBuilder&& builder, grammar::Expression root)
      : Acceptor(take(std::move(builder).build(root))) {}
  explicit Acceptor(std::shared_ptr<const grammar::Grammar> grammar)
      : grammar_(std::move(grammar)), derivatives_(grammar_->expressions()) {}

  const grammar::Grammar& grammar() const { return *grammar_; }

  bool operator()(std::string_view text) { return derivatives_.expressions().at(after(text)).nullable; }
  bool may_continue(std::string_view text) { return after(text) != grammar::Expressions::nothing; }

  grammar::NodeIndex after(std::string_view text) {
    grammar::NodeIndex node = grammar_->root();
    for (const char c : text)
      node = derivatives_.by_byte(node, static_cast<uint8_t>(c));
    return node;
  }
  grammar::Derivatives& derivatives() { return derivatives_; }

 private:
  static std::shared_ptr<const grammar::Grammar> take(base::Result<std::shared_ptr<const grammar::Grammar>> built) {
    if (built) return *built;
    ADD_FAILURE() << built.error().message();
    grammar::GrammarBuilder empty;
    const grammar::Expression root = empty.empty();
    return *std::move(empty).build(root);
  }

  std::shared_ptr<const grammar::Grammar> grammar_;
  grammar::Derivatives derivatives_;
};

}  // namespace tidemill::test
