// The expression half of the parser: a recursive descent with one method per precedence level, loosest first.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/jinja_ast.hpp"
#include "text/jinja_lexer.hpp"

namespace tidemill::text::jinja {

class ExpressionParser {
 protected:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  // Bounds how deep the parser's own calls nest.
  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.nesting_ > max_syntax_depth) parser_.fail("the template is nested too deeply here");
    }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    ~Nesting() { --parser_.nesting_; }

   private:
    ExpressionParser& parser_;
  };
  // Inside an `if`, an unknown filter or test is an error only when it is reached, so that templates can ask for them.
  template <bool Soft>
  class Frame {
   public:
    explicit Frame(ExpressionParser& parser) : parser_(parser), before_(parser.soft_) { parser.soft_ = Soft; }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;
    ~Frame() { parser_.soft_ = before_; }

   private:
    ExpressionParser& parser_;
    bool before_;
  };
  using SoftFrame = Frame<true>;
  using HardFrame = Frame<false>;

  // Tokens.
  const Token& current() const { return tokens_[at_]; }
  const Token& look() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& next() { return at_ + 1 < tokens_.size() ? tokens_[at_++] : tokens_[at_]; }
  bool is_op(std::string_view op) const { return current().kind == TokenKind::op && current().text == op; }
  bool is_name(std::string_view name) const { return current().kind == TokenKind::name && current().text == name; }
  bool skip_op(std::string_view op);
  bool skip_name(std::string_view name);
  const Token& expect(TokenKind kind, std::string_view what);
  void expect_op(std::string_view op);
  void expect_name(std::string_view name);
  [[noreturn]] void fail(std::string message) const;
  std::string found() const;  // the current token, for messages

  // Expressions.
  ExpressionPtr expression(bool with_conditional = true);
  // One expression, or several with commas between them, which make a tuple. Ends before the name `end`.
  ExpressionPtr tuple(bool with_conditional, std::string_view end = {}, bool parenthesised = false);
  // `input` and the filters that follow; with `bare_first` the first has no '|'.
  ExpressionPtr filters(ExpressionPtr input, bool bare_first = false);

  // Targets of assignments.
  Target target(std::string_view end, bool with_namespace = false);
  NameId name_target();
  std::vector<std::string> take_names() { return std::move(names_); }

  // Throws if a filter or test outside of every `if` does not exist.
  void refuse_unknown() const;

  std::set<std::string, std::less<>> mentioned_;  // names read since this was last emptied

 private:
  ExpressionPtr conditional();
  ExpressionPtr logical_or();
  ExpressionPtr logical_and();
  ExpressionPtr logical_not();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concat();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filters);
  ExpressionPtr primary();
  ExpressionPtr postfix(ExpressionPtr node);
  ExpressionPtr filters_and_tests(ExpressionPtr node);
  ExpressionPtr subscript(ExpressionPtr base);
  ExpressionPtr call(ExpressionPtr callee);
  ExpressionPtr test(ExpressionPtr input);
  ExpressionPtr number();
  ExpressionPtr list_display();
  ExpressionPtr dict_display();
  ArgumentList arguments();
  Target one_target(bool with_namespace);
  NameId intern(const std::string& name);
  void note_unknown(std::string_view what, const AppliedExpr& node);
  // Sets the node's depth from its parts and refuses one too deep.
  ExpressionPtr checked(ExpressionPtr node, std::initializer_list<const Expression*> parts) const;
  ExpressionPtr checked(std::unique_ptr<OperandsExpr> node) const;
  int deepest(const ArgumentList& args) const;

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int nesting_ = 0;
  bool soft_ = false;
  std::vector<Fault> unknown_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, NameId> ids_;
};

}  // namespace tidemill::text::jinja
