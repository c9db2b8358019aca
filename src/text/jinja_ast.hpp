// The syntax tree of a template. Built once by the parser, then read by any number of threads.
//
// Depth is bounded by the parser (`max_syntax_depth`), so that walking or destroying the tree never exhausts the stack;
// chains of one precedence level (a + b + c ...) are one node with many operands.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_ops.hpp"
#include "text/jinja_value.hpp"

namespace tidemill::text::jinja {

inline constexpr int max_syntax_depth = 120;

using NameId = uint32_t;  // index into Program::names

struct Expression {
  enum class Kind : uint8_t {
    constant,
    name,
    list,
    tuple,
    dict,
    attribute,
    item,
    slice,
    call,
    filter,
    test,
    negate,
    positive,
    logical_not,
    logical_and,
    logical_or,
    concat,
    arithmetic,
    comparison,
    conditional,
  };
  Expression(Kind k, int at) : kind(k), line(at) {}
  virtual ~Expression() = default;
  Kind kind;
  int line;
  int depth = 1;
};
using ExpressionPtr = std::unique_ptr<Expression>;

struct ConstantExpr : Expression {
  ConstantExpr(int at, Value v) : Expression(Kind::constant, at), value(std::move(v)) {}
  Value value;
};
struct NameExpr : Expression {
  NameExpr(int at, NameId i) : Expression(Kind::name, at), id(i) {}
  NameId id;
};
// list and tuple: the items. dict: key, value, key, value ... concat, logical_and, logical_or: the operands. negate,
// positive, logical_not: one. item: base, key. slice: base, start, stop, step (null where left out). conditional:
// test, then, otherwise (null where left out).
struct OperandsExpr : Expression {
  using Expression::Expression;
  std::vector<ExpressionPtr> operands;
};
struct AttributeExpr : Expression {
  AttributeExpr(int at, ExpressionPtr b, std::string n)
      : Expression(Kind::attribute, at), base(std::move(b)), name(std::move(n)) {}
  ExpressionPtr base;
  std::string name;
};

struct ArgumentList {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<std::string, ExpressionPtr>> keyword;
  ExpressionPtr star;         // *args
  ExpressionPtr double_star;  // **kwargs
};
struct CallExpr : Expression {
  using Expression::Expression;
  ExpressionPtr callee;
  ArgumentList args;
};

using Filter = Value (*)(Interpreter& in, const Value& input, CallArgs& args);
using Test = bool (*)(Interpreter& in, const Value& input, CallArgs& args);
Filter find_filter(std::string_view name);  // null if there is none
Test find_test(std::string_view name);

// filter and test. In a {% filter %} or {% set %} block the innermost filter has no input: `input` is null.
struct AppliedExpr : Expression {
  using Expression::Expression;
  ExpressionPtr input;
  std::string name;
  Filter filter = nullptr;  // null for an unknown one inside an `if`, which is an error only when it is reached
  Test test = nullptr;
  ArgumentList args;
};

struct ArithmeticExpr : Expression {
  using Expression::Expression;
  std::vector<ExpressionPtr> operands;
  std::vector<Arithmetic> operators;  // between the operands, applied left to right
};
enum class Comparison : uint8_t { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };
struct ComparisonExpr : Expression {
  using Expression::Expression;
  std::vector<ExpressionPtr> operands;
  std::vector<Comparison> operators;  // chained as in Python: a < b < c
};

// Where a value is stored: a name, ns.attribute, or several targets that share the items of a sequence.
struct Target {
  enum class Kind : uint8_t { name, attribute, tuple };
  Kind kind = Kind::name;
  int line = 0;
  NameId id = 0;          // of the name, or of the namespace
  std::string attribute;  // of the namespace
  std::vector<Target> parts;
};

struct Statement {
  enum class Kind : uint8_t {
    text,
    output,
    condition,
    loop,
    set,
    set_block,
    macro,
    call_block,
    filter_block,
    with,
    scope,
    evaluate,
    break_loop,
    continue_loop,
  };
  Statement(Kind k, int at) : kind(k), line(at) {}
  virtual ~Statement() = default;
  Kind kind;
  int line;
};
using StatementPtr = std::unique_ptr<Statement>;
using Block = std::vector<StatementPtr>;

struct TextStatement : Statement {
  TextStatement(int at, std::string t) : Statement(Kind::text, at), text(std::move(t)) {}
  std::string text;
};
struct OutputStatement : Statement {  // output, and evaluate ({% do %})
  OutputStatement(Kind k, int at, ExpressionPtr v) : Statement(k, at), value(std::move(v)) {}
  ExpressionPtr value;
};
struct ConditionStatement : Statement {
  explicit ConditionStatement(int at) : Statement(Kind::condition, at) {}
  std::vector<std::pair<ExpressionPtr, Block>> branches;  // if, elif, elif ...
  Block otherwise;
};
struct LoopStatement : Statement {
  explicit LoopStatement(int at) : Statement(Kind::loop, at) {}
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr filter;  // for ... if filter; may be null
  bool recursive = false;
  Block body;
  Block otherwise;
};
struct SetStatement : Statement {
  explicit SetStatement(int at) : Statement(Kind::set, at) {}
  Target target;
  ExpressionPtr value;
};
struct SetBlockStatement : Statement {  // set_block, and filter_block without a target
  using Statement::Statement;
  Target target;
  ExpressionPtr filter;  // may be null
  Block body;
};
struct Signature {
  std::vector<NameId> names;
  std::vector<ExpressionPtr> defaults;  // of the last names
};
struct MacroStatement : Statement {  // macro and call_block
  using Statement::Statement;
  NameId id = 0;
  std::string name;  // empty for a call block's body
  Signature signature;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  ExpressionPtr call;  // of a call block
  Block body;
};
struct WithStatement : Statement {  // with, and scope (block, generation): a block with names of its own
  using Statement::Statement;
  std::vector<std::pair<Target, ExpressionPtr>> bindings;
  bool isolated = false;  // sees only the template's outermost names
  Block body;
};

struct Program {
  Block body;
  std::vector<std::string> names;
};

}  // namespace tidemill::text::jinja
