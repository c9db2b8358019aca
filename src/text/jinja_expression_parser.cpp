#include "text/jinja_expression_parser.hpp"

#include <algorithm>

#include "base/utf8.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

using Kind = Expression::Kind;

bool reserved(std::string_view name) {
  for (const std::string_view word : {"true", "false", "none", "True", "False", "None"}) {
    if (name == word) return true;
  }
  return false;
}

}  // namespace

bool ExpressionParser::skip_op(std::string_view op) {
  if (!is_op(op)) return false;
  next();
  return true;
}

bool ExpressionParser::skip_name(std::string_view name) {
  if (!is_name(name)) return false;
  next();
  return true;
}

const Token& ExpressionParser::expect(TokenKind kind, std::string_view what) {
  if (current().kind != kind) fail("expected " + std::string(what) + ", found " + found());
  return next();
}

void ExpressionParser::expect_op(std::string_view op) {
  if (!skip_op(op)) fail("expected '" + std::string(op) + "', found " + found());
}

void ExpressionParser::expect_name(std::string_view name) {
  if (!skip_name(name)) fail("expected '" + std::string(name) + "', found " + found());
}

void ExpressionParser::fail(std::string message) const {
  throw Fault{std::move(message), base::ErrorCode::invalid_argument, current().line};
}

void ExpressionParser::note_unknown(std::string_view what, const AppliedExpr& node) {
  if (soft_) return;
  unknown_.push_back(
      Fault{"no " + std::string(what) + " named '" + node.name + "'", base::ErrorCode::invalid_argument, node.line});
}

void ExpressionParser::refuse_unknown() const {
  if (!unknown_.empty()) throw Fault(unknown_.front());
}

std::string ExpressionParser::found() const {
  switch (current().kind) {
    case TokenKind::variable_end:
      return "'}}'";
    case TokenKind::block_end:
      return "'%}'";
    case TokenKind::string:
      return "a string";
    case TokenKind::end:
      return "the end of the template";
    default:
      return "'" + std::string(base::utf8::prefix(current().text, 60)) + "'";
  }
}

ExpressionPtr ExpressionParser::checked(ExpressionPtr node, std::initializer_list<const Expression*> parts) const {
  int depth = node->depth - 1;
  for (const Expression* part : parts) {
    if (part != nullptr) depth = std::max(depth, part->depth);
  }
  node->depth = depth + 1;
  if (node->depth > max_syntax_depth) fail("an expression is nested too deeply here");
  return node;
}

ExpressionPtr ExpressionParser::checked(std::unique_ptr<OperandsExpr> node) const {
  int depth = 0;
  for (const ExpressionPtr& part : node->operands)
    depth = std::max(depth, part ? part->depth : 0);
  node->depth = depth + 1;
  return checked(std::move(node), {});
}

int ExpressionParser::deepest(const ArgumentList& args) const {
  int depth = std::max(args.star ? args.star->depth : 0, args.double_star ? args.double_star->depth : 0);
  for (const ExpressionPtr& arg : args.positional)
    depth = std::max(depth, arg->depth);
  for (const auto& [name, arg] : args.keyword)
    depth = std::max(depth, arg->depth);
  return depth;
}

NameId ExpressionParser::intern(const std::string& name) {
  const auto [entry, added] = ids_.try_emplace(name, static_cast<NameId>(names_.size()));
  if (added) names_.push_back(name);
  return entry->second;
}

ExpressionPtr ExpressionParser::expression(bool with_conditional) {
  const Nesting nesting(*this);
  return with_conditional ? conditional() : logical_or();
}

ExpressionPtr ExpressionParser::tuple(bool with_conditional, std::string_view end, bool parenthesised) {
  const int line = current().line;
  auto node = std::make_unique<OperandsExpr>(Kind::tuple, line);
  bool comma = false;
  const auto ended = [&] {
    return current().kind == TokenKind::variable_end || current().kind == TokenKind::block_end || is_op(")") ||
           (!end.empty() && is_name(end));
  };
  while (!ended()) {
    node->operands.push_back(expression(with_conditional));
    if (!skip_op(",")) break;
    comma = true;
  }
  if (!comma && node->operands.size() == 1) return std::move(node->operands[0]);
  if (!comma && !parenthesised) fail("expected an expression, found " + found());
  return checked(std::move(node));
}

ExpressionPtr ExpressionParser::conditional() {
  const size_t unknown_before = unknown_.size();
  ExpressionPtr node = logical_or();
  while (is_name("if")) {
    const int line = next().line;
    unknown_.resize(unknown_before);  // what stands before an `if` may never be reached either
    const SoftFrame soft(*this);
    auto choice = std::make_unique<OperandsExpr>(Kind::conditional, line);
    choice->operands.push_back(logical_or());
    choice->operands.push_back(std::move(node));
    if (skip_name("else")) {
      const Nesting nesting(*this);
      choice->operands.push_back(conditional());
    } else {
      choice->operands.push_back(nullptr);
    }
    node = checked(std::move(choice));
  }
  return node;
}

ExpressionPtr ExpressionParser::logical_or() {
  ExpressionPtr first = logical_and();
  if (!is_name("or")) return first;
  auto node = std::make_unique<OperandsExpr>(Kind::logical_or, current().line);
  node->operands.push_back(std::move(first));
  while (skip_name("or"))
    node->operands.push_back(logical_and());
  return checked(std::move(node));
}

ExpressionPtr ExpressionParser::logical_and() {
  ExpressionPtr first = logical_not();
  if (!is_name("and")) return first;
  auto node = std::make_unique<OperandsExpr>(Kind::logical_and, current().line);
  node->operands.push_back(std::move(first));
  while (skip_name("and"))
    node->operands.push_back(logical_not());
  return checked(std::move(node));
}

ExpressionPtr ExpressionParser::logical_not() {
  if (!is_name("not")) return comparison();
  const Nesting nesting(*this);
  auto node = std::make_unique<OperandsExpr>(Kind::logical_not, next().line);
  node->operands.push_back(logical_not());
  return checked(std::move(node));
}

ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr first = sum();
  auto node = std::make_unique<ComparisonExpr>(Kind::comparison, current().line);
  int depth = first->depth;
  const auto operand = [&](Comparison op) {
    node->operators.push_back(op);
    node->operands.push_back(sum());
    depth = std::max(depth, node->operands.back()->depth);
  };
  node->operands.push_back(std::move(first));
  static const std::unordered_map<std::string_view, Comparison> symbols = {
      {"==", Comparison::equal},      {"!=", Comparison::not_equal}, {"<", Comparison::less},
      {"<=", Comparison::less_equal}, {">", Comparison::greater},    {">=", Comparison::greater_equal}};
  while (true) {
    const auto symbol = current().kind == TokenKind::op ? symbols.find(current().text) : symbols.end();
    if (symbol != symbols.end()) {
      next();
      operand(symbol->second);
    } else if (skip_name("in")) {
      operand(Comparison::in);
    } else if (is_name("not") && look().kind == TokenKind::name && look().text == "in") {
      next();
      next();
      operand(Comparison::not_in);
    } else {
      break;
    }
  }
  if (node->operators.empty()) return std::move(node->operands[0]);
  node->depth = depth + 1;
  return checked(std::move(node), {});
}

namespace {

// A chain of operators of one level, applied from the left.
template <typename Operand, typename Operator>
ExpressionPtr chain(ExpressionPtr first, int line, Operand operand, Operator take_operator) {
  auto node = std::make_unique<ArithmeticExpr>(Kind::arithmetic, line);
  node->operands.push_back(std::move(first));
  Arithmetic op{};
  while (take_operator(op)) {
    node->operators.push_back(op);
    node->operands.push_back(operand());
  }
  if (node->operators.empty()) return std::move(node->operands[0]);
  int depth = 0;
  for (const ExpressionPtr& part : node->operands)
    depth = std::max(depth, part->depth);
  node->depth = depth + 1;
  return node;
}

}  // namespace

ExpressionPtr ExpressionParser::sum() {
  ExpressionPtr first = concat();
  return checked(chain(
                     std::move(first), current().line, [this] { return concat(); },
                     [this](Arithmetic& op) {
                       op = is_op("+") ? Arithmetic::add : Arithmetic::subtract;
                       return skip_op("+") || skip_op("-");
                     }),
                 {});
}

ExpressionPtr ExpressionParser::concat() {
  ExpressionPtr first = product();
  if (!is_op("~")) return first;
  auto node = std::make_unique<OperandsExpr>(Kind::concat, current().line);
  node->operands.push_back(std::move(first));
  while (skip_op("~"))
    node->operands.push_back(product());
  return checked(std::move(node));
}

ExpressionPtr ExpressionParser::product() {
  ExpressionPtr first = power();
  return checked(chain(
                     std::move(first), current().line, [this] { return power(); },
                     [this](Arithmetic& op) {
                       op = is_op("*")    ? Arithmetic::multiply
                            : is_op("/")  ? Arithmetic::divide
                            : is_op("//") ? Arithmetic::floor_divide
                                          : Arithmetic::modulo;
                       return skip_op("*") || skip_op("/") || skip_op("//") || skip_op("%");
                     }),
                 {});
}

ExpressionPtr ExpressionParser::power() {
  ExpressionPtr first = unary(true);
  return checked(chain(
                     std::move(first), current().line, [this] { return unary(true); },
                     [this](Arithmetic& op) {
                       op = Arithmetic::power;
                       return skip_op("**");
                     }),
                 {});
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  const Nesting nesting(*this);
  ExpressionPtr node;
  if (is_op("-") || is_op("+")) {
    const Token& sign = next();
    auto signed_node = std::make_unique<OperandsExpr>(sign.text == "-" ? Kind::negate : Kind::positive, sign.line);
    signed_node->operands.push_back(unary(false));
    node = checked(std::move(signed_node));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filters ? filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::primary() {
  const Token& token = current();
  const auto constant = [&](Value value) { return std::make_unique<ConstantExpr>(token.line, std::move(value)); };
  switch (token.kind) {
    case TokenKind::name:
      next();
      if (token.text == "true" || token.text == "True") return constant(Value(true));
      if (token.text == "false" || token.text == "False") return constant(Value(false));
      if (token.text == "none" || token.text == "None") return constant(Value::none());
      mentioned_.insert(token.text);
      return std::make_unique<NameExpr>(token.line, intern(token.text));
    case TokenKind::string: {
      std::string text;
      while (current().kind == TokenKind::string)
        text += next().text;
      return constant(make_string(nullptr, std::move(text)));
    }
    case TokenKind::integer:
    case TokenKind::floating:
      return number();
    case TokenKind::op:
      if (token.text == "(") {
        next();
        ExpressionPtr inside = tuple(true, {}, true);
        expect_op(")");
        return inside;
      }
      if (token.text == "[") return list_display();
      if (token.text == "{") return dict_display();
      [[fallthrough]];
    default:
      fail("expected an expression, found " + found());
  }
}

ExpressionPtr ExpressionParser::number() {
  const Token& token = next();
  if (token.kind == TokenKind::integer) {
    Int value = 0;
    if (!parse_int(token.text, token.text.size() > 1 && token.text[0] == '0' ? 0 : 10, value) &&
        !parse_int(token.text, 10, value)) {
      fail("'" + token.text + "' is not a number");
    }
    return std::make_unique<ConstantExpr>(token.line, Value(value));
  }
  double value = 0;
  if (!parse_float(token.text, value)) fail("'" + token.text + "' is not a number");
  return std::make_unique<ConstantExpr>(token.line, Value(value));
}

ExpressionPtr ExpressionParser::list_display() {
  auto node = std::make_unique<OperandsExpr>(Kind::list, next().line);
  while (!is_op("]")) {
    if (!node->operands.empty()) expect_op(",");
    if (is_op("]")) break;
    node->operands.push_back(expression());
  }
  expect_op("]");
  return checked(std::move(node));
}

ExpressionPtr ExpressionParser::dict_display() {
  auto node = std::make_unique<OperandsExpr>(Kind::dict, next().line);
  while (!is_op("}")) {
    if (!node->operands.empty()) expect_op(",");
    if (is_op("}")) break;
    node->operands.push_back(expression());
    expect_op(":");
    node->operands.push_back(expression());
  }
  expect_op("}");
  return checked(std::move(node));
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr node) {
  while (true) {
    if (is_op(".") || is_op("[")) {
      node = subscript(std::move(node));
    } else if (is_op("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr node) {
  while (true) {
    if (is_op("|")) {
      node = filters(std::move(node));
    } else if (is_name("is")) {
      node = test(std::move(node));
    } else if (is_op("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr base) {
  const Token& token = next();
  auto node = std::make_unique<OperandsExpr>(Kind::item, token.line);
  if (token.text == ".") {
    if (current().kind == TokenKind::name) {
      const Expression* inner = base.get();
      return checked(std::make_unique<AttributeExpr>(token.line, std::move(base), next().text), {inner});
    }
    if (current().kind != TokenKind::integer) fail("expected a name or number after '.', found " + found());
    node->operands.push_back(std::move(base));
    node->operands.push_back(number());
    return checked(std::move(node));
  }
  node->operands.push_back(std::move(base));
  const auto bound = [this]() -> ExpressionPtr {
    return is_op(":") || is_op("]") || is_op(",") ? nullptr : expression();
  };
  ExpressionPtr first = bound();
  if (is_op(":")) {
    node->kind = Kind::slice;
    node->operands.push_back(std::move(first));
    next();
    node->operands.push_back(bound());
    node->operands.push_back(skip_op(":") ? bound() : nullptr);
  } else {
    if (!first) fail("expected a subscript, found " + found());
    node->operands.push_back(std::move(first));
    if (is_op(",")) {
      auto key = std::make_unique<OperandsExpr>(Kind::tuple, token.line);
      key->operands.push_back(std::move(node->operands.back()));
      while (skip_op(","))
        key->operands.push_back(expression());
      node->operands.back() = checked(std::move(key));
    }
  }
  expect_op("]");
  return checked(std::move(node));
}

ArgumentList ExpressionParser::arguments() {
  ArgumentList args;
  expect_op("(");
  bool first = true;
  while (!is_op(")")) {
    if (!first) expect_op(",");
    if (is_op(")")) break;
    first = false;
    if (is_op("**")) {
      next();
      if (args.double_star) fail("a call takes one ** argument");
      args.double_star = expression();
    } else if (is_op("*")) {
      next();
      if (args.star || args.double_star) fail("a call takes one * argument, before any **");
      args.star = expression();
    } else if (current().kind == TokenKind::name && look().kind == TokenKind::op && look().text == "=") {
      if (args.double_star) fail("a keyword argument must come before **");
      std::string name = next().text;
      next();
      args.keyword.emplace_back(std::move(name), expression());
    } else {
      if (args.star || args.double_star || !args.keyword.empty()) fail("a positional argument follows a keyword one");
      args.positional.push_back(expression());
    }
  }
  expect_op(")");
  return args;
}

ExpressionPtr ExpressionParser::call(ExpressionPtr callee) {
  auto node = std::make_unique<CallExpr>(Kind::call, current().line);
  node->args = arguments();
  node->depth = 1 + deepest(node->args);
  const Expression* inner = callee.get();
  node->callee = std::move(callee);
  return checked(std::move(node), {inner});
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr input, bool bare_first) {
  while (bare_first || is_op("|")) {
    if (!bare_first) next();
    bare_first = false;
    auto node = std::make_unique<AppliedExpr>(Kind::filter, current().line);
    node->name = expect(TokenKind::name, "the name of a filter").text;
    while (skip_op("."))
      node->name += "." + expect(TokenKind::name, "the name of a filter").text;
    node->filter = find_filter(node->name);
    if (node->filter == nullptr) note_unknown("filter", *node);
    if (is_op("(")) node->args = arguments();
    node->depth = 1 + deepest(node->args);
    const Expression* inner = input.get();
    node->input = std::move(input);
    input = checked(std::move(node), {inner});
  }
  return input;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr input) {
  const int line = next().line;
  const bool negated = skip_name("not");
  auto node = std::make_unique<AppliedExpr>(Kind::test, line);
  node->name = expect(TokenKind::name, "the name of a test").text;
  while (skip_op("."))
    node->name += "." + expect(TokenKind::name, "the name of a test").text;
  node->test = find_test(node->name);
  if (node->test == nullptr) note_unknown("test", *node);
  const TokenKind kind = current().kind;
  const bool value_follows = kind == TokenKind::string || kind == TokenKind::integer || kind == TokenKind::floating ||
                             is_op("[") || is_op("{") ||
                             (kind == TokenKind::name && !is_name("else") && !is_name("or") && !is_name("and"));
  if (is_op("(")) {
    node->args = arguments();
  } else if (value_follows) {
    if (is_name("is")) fail("tests cannot be chained with 'is'");
    node->args.positional.push_back(postfix(primary()));
  }
  node->depth = 1 + deepest(node->args);
  const Expression* inner = input.get();
  node->input = std::move(input);
  ExpressionPtr result = checked(std::move(node), {inner});
  if (!negated) return result;
  auto negation = std::make_unique<OperandsExpr>(Kind::logical_not, line);
  negation->operands.push_back(std::move(result));
  return checked(std::move(negation));
}

NameId ExpressionParser::name_target() {
  const std::string& name = expect(TokenKind::name, "a name").text;
  if (reserved(name)) fail("'" + name + "' cannot be assigned to");
  return intern(name);
}

Target ExpressionParser::one_target(bool with_namespace) {
  const Nesting nesting(*this);
  Target out;
  out.line = current().line;
  if (skip_op("(")) {
    out = target({}, with_namespace);
    expect_op(")");
    return out;
  }
  out.id = name_target();
  if (with_namespace && skip_op(".")) {
    out.kind = Target::Kind::attribute;
    out.attribute = expect(TokenKind::name, "the attribute of a namespace").text;
  }
  return out;
}

Target ExpressionParser::target(std::string_view end, bool with_namespace) {
  Target first = one_target(with_namespace);
  if (!is_op(",")) return first;
  Target out;
  out.kind = Target::Kind::tuple;
  out.line = first.line;
  out.parts.push_back(std::move(first));
  while (skip_op(",")) {
    if (is_op("=") || is_op(")") || (!end.empty() && is_name(end))) break;
    out.parts.push_back(one_target(with_namespace));
  }
  return out;
}

}  // namespace tidemill::text::jinja
