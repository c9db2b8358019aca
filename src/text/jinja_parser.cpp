#include "text/jinja_parser.hpp"

#include <algorithm>
#include <initializer_list>
#include <set>
#include <unordered_map>

#include "text/jinja_expression_parser.hpp"

namespace tidemill::text::jinja {
namespace {

// Statements; expressions are ExpressionParser's.
class Parser : public ExpressionParser {
 public:
  explicit Parser(std::vector<Token> tokens) : ExpressionParser(std::move(tokens)) {}

  Program run() {
    Program program;
    program.body = block({});
    refuse_unknown();
    program.names = take_names();
    return program;
  }

 private:
  using EndTags = std::initializer_list<std::string_view>;

  // Text, outputs and statements up to one of the end tags, whose name is left as the current token.
  Block block(EndTags ends) {
    const Nesting nesting(*this);
    Block body;
    while (true) {
      switch (current().kind) {
        case TokenKind::data: {
          const int line = current().line;
          body.push_back(std::make_unique<TextStatement>(line, next().text));
          break;
        }
        case TokenKind::variable_begin: {
          const int line = next().line;
          body.push_back(std::make_unique<OutputStatement>(Statement::Kind::output, line, tuple(true)));
          expect(TokenKind::variable_end, "}}");
          break;
        }
        case TokenKind::block_begin: {
          next();
          if (std::any_of(ends.begin(), ends.end(), [this](std::string_view tag) { return is_name(tag); })) return body;
          if (is_name("autoescape")) fail("autoescape is not supported in chat templates");
          if (StatementPtr parsed = statement(ends)) body.push_back(std::move(parsed));
          expect(TokenKind::block_end, "%}");
          break;
        }
        default:
          if (ends.size() != 0) fail("the template ends, but " + wanted(ends) + " is still to come");
          return body;
      }
    }
  }

  static std::string wanted(EndTags ends) {
    std::string out;
    for (const std::string_view tag : ends)
      out += (out.empty() ? "{% " : " or {% ") + std::string(tag) + " %}";
    return out;
  }

  // The rest of an opening tag, then its body.
  Block body_until(EndTags ends) {
    skip_op(":");
    expect(TokenKind::block_end, "%}");
    return block(ends);
  }
  // The same where only one tag can end it, which is consumed.
  Block whole_body(std::string_view end) {
    Block body = body_until({end});
    next();
    return body;
  }

  StatementPtr statement(EndTags ends) {
    if (current().kind != TokenKind::name) fail("a tag must begin with its name");
    using Method = StatementPtr (Parser::*)();
    static const std::unordered_map<std::string_view, Method> tags = {
        {"if", &Parser::condition},
        {"for", &Parser::loop},
        {"set", &Parser::set},
        {"macro", &Parser::macro},
        {"call", &Parser::call_block},
        {"filter", &Parser::filter_block},
        {"with", &Parser::with},
        {"block", &Parser::named_block},
        {"do", &Parser::evaluate},
        {"generation", &Parser::generation},
        {"break", &Parser::loop_control},
        {"continue", &Parser::loop_control},
        {"print", &Parser::print},
    };
    const std::string& tag = current().text;
    if (const auto found = tags.find(tag); found != tags.end()) return (this->*found->second)();
    for (const std::string_view other : {"include", "import", "from", "extends"}) {
      if (tag == other) fail("{% " + tag + " %} is not supported: a chat template stands alone");
    }
    fail("unknown tag '" + tag + "'" + (ends.size() == 0 ? "" : "; looking for " + wanted(ends)));
  }

  StatementPtr condition() {
    auto node = std::make_unique<ConditionStatement>(current().line);
    const SoftFrame soft(*this);
    do {
      next();  // if, elif
      ExpressionPtr test = tuple(false);
      Block body = body_until({"elif", "else", "endif"});
      node->branches.emplace_back(std::move(test), std::move(body));
    } while (is_name("elif"));
    if (is_name("else")) {
      next();
      node->otherwise = body_until({"endif"});
    }
    next();
    return node;
  }

  StatementPtr loop() {
    auto node = std::make_unique<LoopStatement>(next().line);
    node->target = target("in");
    expect_name("in");
    node->iterable = tuple(false, "recursive");
    if (skip_name("if")) node->filter = expression();
    node->recursive = skip_name("recursive");
    const HardFrame hard(*this);
    ++loops_;
    node->body = body_until({"endfor", "else"});
    --loops_;
    if (next().text == "else") node->otherwise = whole_body("endfor");
    return node;
  }

  StatementPtr set() {
    const int line = next().line;
    Target where = target({}, true);
    if (skip_op("=")) {
      auto node = std::make_unique<SetStatement>(line);
      node->target = std::move(where);
      node->value = tuple(true);
      return node;
    }
    auto node = std::make_unique<SetBlockStatement>(Statement::Kind::set_block, line);
    node->target = std::move(where);
    if (is_op("|")) node->filter = filters(nullptr);
    const HardFrame hard(*this);
    node->body = whole_body("endset");
    return node;
  }

  void signature(Signature& out) {
    expect_op("(");
    while (!is_op(")")) {
      if (!out.names.empty()) expect_op(",");
      if (is_op(")")) fail("a parameter name is missing");
      out.names.push_back(name_target());
      if (skip_op("=")) {
        out.defaults.push_back(expression());
      } else if (!out.defaults.empty()) {
        fail("a parameter without a default follows one with a default");
      }
    }
    expect_op(")");
  }

  // The body of a macro or call block; notes which of the special names it mentions.
  void macro_body(MacroStatement& node, std::string_view end) {
    const HardFrame hard(*this);
    const int loops = std::exchange(loops_, 0);
    std::set<std::string, std::less<>> mentioned = std::exchange(mentioned_, {});
    node.body = whole_body(end);
    node.uses_caller = mentioned_.contains("caller");
    node.uses_varargs = mentioned_.contains("varargs");
    node.uses_kwargs = mentioned_.contains("kwargs");
    mentioned_.merge(mentioned);  // an enclosing macro mentions what its inner ones do
    loops_ = loops;
  }

  StatementPtr macro() {
    auto node = std::make_unique<MacroStatement>(Statement::Kind::macro, next().line);
    node->name = current().text;
    node->id = name_target();
    signature(node->signature);
    macro_body(*node, "endmacro");
    return node;
  }

  StatementPtr call_block() {
    auto node = std::make_unique<MacroStatement>(Statement::Kind::call_block, next().line);
    if (is_op("(")) signature(node->signature);
    node->call = expression();
    if (node->call->kind != Expression::Kind::call) fail("a {% call %} block needs a call, as in {% call macro() %}");
    macro_body(*node, "endcall");
    return node;
  }

  StatementPtr filter_block() {
    auto node = std::make_unique<SetBlockStatement>(Statement::Kind::filter_block, next().line);
    node->filter = filters(nullptr, true);
    const HardFrame hard(*this);
    node->body = whole_body("endfilter");
    return node;
  }

  StatementPtr with() {
    auto node = std::make_unique<WithStatement>(Statement::Kind::with, next().line);
    while (current().kind != TokenKind::block_end) {
      if (!node->bindings.empty()) expect_op(",");
      Target where = target({});
      expect_op("=");
      node->bindings.emplace_back(std::move(where), expression());
    }
    const HardFrame hard(*this);
    node->body = whole_body("endwith");
    return node;
  }

  StatementPtr named_block() {
    auto node = std::make_unique<WithStatement>(Statement::Kind::scope, next().line);
    const std::string name = expect(TokenKind::name, "the block's name").text;
    node->isolated = !skip_name("scoped");
    skip_name("required");
    const HardFrame hard(*this);
    node->body = whole_body("endblock");
    skip_name(name);
    return node;
  }

  // Marks what the assistant said, for training; rendered as if it were not there.
  StatementPtr generation() {
    auto node = std::make_unique<WithStatement>(Statement::Kind::scope, next().line);
    node->body = whole_body("endgeneration");
    return node;
  }

  StatementPtr evaluate() {
    const int line = next().line;
    return std::make_unique<OutputStatement>(Statement::Kind::evaluate, line, tuple(true));
  }

  StatementPtr print() {
    const int line = next().line;
    return std::make_unique<OutputStatement>(Statement::Kind::output, line, expression());
  }

  StatementPtr loop_control() {
    const Token& token = next();
    if (loops_ == 0) fail("{% " + token.text + " %} outside of a loop");
    return std::make_unique<Statement>(
        token.text == "break" ? Statement::Kind::break_loop : Statement::Kind::continue_loop, token.line);
  }

  int loops_ = 0;  // enclosing loops inside the current macro
};

}  // namespace

Program parse(std::vector<Token> tokens) {
  return Parser(std::move(tokens)).run();
}

}  // namespace tidemill::text::jinja
