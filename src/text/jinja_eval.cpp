// Expressions.
#include "text/jinja_eval.hpp"

#include <algorithm>

#include "text/jinja_ops.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

// A rendering may use this much of its thread's stack; `max_depth` is reached first except in sanitizer builds.
constexpr ptrdiff_t max_stack = 1 << 20;

const Value* find_in(const Scope* scope, NameId id) {
  for (; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [name, value] : scope->names) {
      if (name == id) return &value;
    }
  }
  return nullptr;
}

Value make_undefined_name(const std::string& name) {
  return Value::undefined("'" + name + "' is undefined");
}

}  // namespace

// The frame and not the address of a variable, which sanitizers may keep elsewhere.
const char* Interpreter::frame_here() {
  return static_cast<const char*>(__builtin_frame_address(0));
}

Interpreter::Level::Level(Interpreter& in) : in_(in) {
  const ptrdiff_t used = in.stack_base_ - frame_here();
  if (in.depth_ >= in.settings_.max_depth || std::abs(used) > max_stack) {
    throw Fault{"the template recurses too deeply"};  // not for its input's length
  }
  ++in.depth_;
}

Interpreter::Interpreter(const Program& program, Budget& budget, const base::json::object& context,
                         const Settings& settings)
    : program_(program),
      budget_(budget),
      settings_(settings),
      outermost_(program.names.size()),
      outermost_known_(program.names.size(), false),
      kept_charge_(&budget, 0),
      loop_id_(id_of("loop")),
      caller_id_(id_of("caller")),
      varargs_id_(id_of("varargs")),
      kwargs_id_(id_of("kwargs")) {
  for (size_t id = 0; id < program.names.size(); ++id) {
    const std::string& name = program.names[id];
    if (const base::json::value* given = context.if_contains(name)) {
      outermost_[id] = from_json(&budget, *given);
    } else if (const Native global = find_global(name)) {
      outermost_[id] = make_native(*this, name, global, Value(), false);
    } else if (!settings.lenient || !customary(name, context, outermost_[id])) {
      continue;
    }
    outermost_known_[id] = true;
  }
}

Interpreter::~Interpreter() {
  // Namespaces and macros can refer to themselves: empty them before letting go.
  for (const auto& object : kept_) {
    if (auto* names = dynamic_cast<Namespace*>(object.get())) names->clear();
  }
  for (const ScopePtr& scope : pinned_)
    scope->names.clear();
}

void Interpreter::keep(std::shared_ptr<Object> object) {
  kept_charge_.grow_to((kept_.size() + 1) * 256);
  kept_.push_back(std::move(object));
}

NameId Interpreter::id_of(std::string_view name) const {
  const auto found = std::find(program_.names.begin(), program_.names.end(), name);
  return static_cast<NameId>(found - program_.names.begin());
}

const Value* Interpreter::find_name(NameId id) const {
  if (const Value* found = find_in(scope_.get(), id)) return found;
  for (auto caller = callers_.rbegin(); caller != callers_.rend(); ++caller) {
    if (const Value* found = find_in(caller->get(), id)) return found;
  }
  return outermost_known_[id] ? &outermost_[id] : nullptr;
}

// What templates that predate "tools" are given beside the messages.
bool Interpreter::customary(std::string_view name, const base::json::object& context, Value& out) {
  if (name == "datetime") {
    out = make_string(&budget_, format_time(budget_, settings_.now, "%Y-%m-%d %H:%M:%S GMT"));
    return true;
  }
  if (name != "functions") return false;
  base::json::array functions;
  const base::json::value* tools = context.if_contains("tools");
  if (tools != nullptr && tools->is_array()) {
    for (const base::json::value& tool : tools->get_array()) {
      const base::json::value* function = tool.is_object() ? tool.get_object().if_contains("function") : nullptr;
      functions.push_back(function != nullptr ? *function : tool);
    }
  }
  TextBuilder text(&budget_);
  JsonStyle style;
  style.pretty = true;
  style.indent = "    ";
  style.item_separator = ",";
  write_json(*this, text, from_json(&budget_, functions), style);
  out = text.finish();
  return true;
}

Value Interpreter::eval_name(const NameExpr& node) {
  const Value* found = find_name(node.id);
  return found != nullptr ? *found : make_undefined_name(name(node.id));
}

Value Interpreter::eval(const Expression& node) {
  const Level level(*this);
  budget_.step();
  line_ = node.line;
  switch (node.kind) {
    case Expression::Kind::constant:
      return static_cast<const ConstantExpr&>(node).value;
    case Expression::Kind::name:
      return eval_name(static_cast<const NameExpr&>(node));
    case Expression::Kind::attribute: {
      const auto& attribute = static_cast<const AttributeExpr&>(node);
      const Value base = eval(*attribute.base);
      line_ = node.line;
      return get_attribute(*this, base, attribute.name);
    }
    case Expression::Kind::call:
      return eval_call(static_cast<const CallExpr&>(node));
    case Expression::Kind::filter:
    case Expression::Kind::test:
      return eval_applied(static_cast<const AppliedExpr&>(node), nullptr);
    case Expression::Kind::arithmetic:
      return eval_arithmetic(static_cast<const ArithmeticExpr&>(node));
    case Expression::Kind::comparison:
      return eval_comparison(static_cast<const ComparisonExpr&>(node));
    default:
      return eval_operands(static_cast<const OperandsExpr&>(node));
  }
}

Value Interpreter::eval_operands(const OperandsExpr& node) {
  const auto& operands = node.operands;
  switch (node.kind) {
    case Expression::Kind::list:
    case Expression::Kind::tuple: {
      std::vector<Value> items;
      items.reserve(operands.size());
      for (const ExpressionPtr& item : operands)
        items.push_back(eval(*item));
      const bool list = node.kind == Expression::Kind::list;
      return make_seq(&budget_, std::move(items), list ? Seq::Flavor::list : Seq::Flavor::tuple);
    }
    case Expression::Kind::item: {
      const Value base = eval(*operands[0]);
      const Value key = eval(*operands[1]);
      line_ = node.line;
      return get_item(*this, base, key);
    }
    case Expression::Kind::negate:
      return negate(eval(*operands[0]));
    case Expression::Kind::positive:
      return positive(eval(*operands[0]));
    case Expression::Kind::logical_not:
      return Value(!truthy(eval(*operands[0])));
    case Expression::Kind::dict:
      return eval_dict(node);
    case Expression::Kind::slice:
      return eval_slice(node);
    case Expression::Kind::conditional:
      return eval_conditional(node);
    case Expression::Kind::concat:
      return eval_concat(node);
    default:
      return eval_logical(node);
  }
}

Value Interpreter::eval_dict(const OperandsExpr& node) {
  std::vector<Dict::Entry> entries;
  for (size_t i = 0; i < node.operands.size(); i += 2) {
    Value key = eval(*node.operands[i]);
    entries.emplace_back(std::move(key), eval(*node.operands[i + 1]));
  }
  return make_dict(&budget_, std::move(entries));
}

Value Interpreter::eval_slice(const OperandsExpr& node) {
  const Value base = eval(*node.operands[0]);
  std::vector<Value> bounds;
  for (size_t i = 1; i < 4; ++i)
    bounds.push_back(node.operands[i] ? eval(*node.operands[i]) : Value::none());
  line_ = node.line;
  return get_slice(*this, base, bounds[0], bounds[1], bounds[2]);
}

Value Interpreter::eval_conditional(const OperandsExpr& node) {
  if (truthy(eval(*node.operands[0]))) return eval(*node.operands[1]);
  if (node.operands[2]) return eval(*node.operands[2]);
  return Value::undefined("the inline if-expression on line " + std::to_string(node.line) +
                          " evaluated to false and no else section was defined");
}

Value Interpreter::eval_logical(const OperandsExpr& node) {
  const bool stops_at = node.kind == Expression::Kind::logical_or;
  Value value;
  for (const ExpressionPtr& operand : node.operands) {
    value = eval(*operand);
    if (truthy(value) == stops_at) break;
  }
  return value;
}

Value Interpreter::eval_concat(const OperandsExpr& node) {
  TextBuilder out(&budget_);
  for (const ExpressionPtr& operand : node.operands)
    write_str(*this, out, eval(*operand));
  return out.finish();
}

Value Interpreter::eval_arithmetic(const ArithmeticExpr& node) {
  // a ** b ** c groups from the left in Jinja, like every other operator.
  Value value = eval(*node.operands[0]);
  for (size_t i = 0; i < node.operators.size(); ++i) {
    const Value right = eval(*node.operands[i + 1]);
    line_ = node.line;
    value = arithmetic(*this, node.operators[i], value, right);
  }
  return value;
}

bool Interpreter::compare_values(Comparison op, const Value& left, const Value& right) {
  switch (op) {
    case Comparison::equal:
      return equal(budget_, left, right);
    case Comparison::not_equal:
      return !equal(budget_, left, right);
    case Comparison::in:
      return contains(*this, right, left);
    case Comparison::not_in:
      return !contains(*this, right, left);
    default:
      break;
  }
  bool unordered = false;
  const int order = compare(budget_, left, right, unordered);
  if (unordered) return false;
  switch (op) {
    case Comparison::less:
      return order < 0;
    case Comparison::less_equal:
      return order <= 0;
    case Comparison::greater:
      return order > 0;
    default:
      return order >= 0;
  }
}

Value Interpreter::eval_comparison(const ComparisonExpr& node) {
  Value left = eval(*node.operands[0]);
  for (size_t i = 0; i < node.operators.size(); ++i) {
    Value right = eval(*node.operands[i + 1]);
    line_ = node.line;
    if (!compare_values(node.operators[i], left, right)) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

CallArgs Interpreter::eval_arguments(const ArgumentList& list) {
  CallArgs args;
  for (const ExpressionPtr& arg : list.positional)
    args.positional.push_back(eval(*arg));
  for (const auto& [name, arg] : list.keyword)
    args.keyword.emplace_back(name, eval(*arg));
  if (list.star) {
    for (Value& item : collect(*this, eval(*list.star)))
      args.positional.push_back(std::move(item));
  }
  if (list.double_star) {
    const Value more = eval(*list.double_star);
    if (!more.is_dict()) throw Fault{"the argument after ** must be a mapping, not " + std::string(more.type_name())};
    budget_.step(more.dict().size());
    for (const auto& [key, value] : more.dict().entries()) {
      if (!key.is_string()) throw Fault{"keywords must be strings"};
      args.keyword.emplace_back(key.text(), value);
    }
  }
  return args;
}

Value Interpreter::eval_call(const CallExpr& node) {
  const Value callee = eval(*node.callee);
  CallArgs args = eval_arguments(node.args);
  line_ = node.line;
  return call(callee, args);
}

Value Interpreter::call(const Value& callee, CallArgs& args) {
  const Level level(*this);
  if (callee.is_undefined()) throw Fault{callee.undefined_message()};
  if (!callee.is_object()) throw Fault{"'" + std::string(callee.type_name()) + "' object is not callable"};
  return callee.object().call(*this, args);
}

Value Interpreter::eval_applied(const AppliedExpr& node, const Value* block_input) {
  Value input;
  if (node.input == nullptr) {
    if (block_input != nullptr) input = *block_input;
  } else if (block_input != nullptr) {
    const Level level(*this);
    input = eval_applied(static_cast<const AppliedExpr&>(*node.input), block_input);
  } else {
    input = eval(*node.input);
  }
  CallArgs args = eval_arguments(node.args);
  line_ = node.line;
  return apply(node, input, args);
}

Value Interpreter::apply(const AppliedExpr& node, const Value& input, CallArgs& args) {
  if (node.kind == Expression::Kind::test) {
    if (node.test == nullptr) throw Fault{"no test named '" + node.name + "'"};
    return Value(node.test(*this, input, args));
  }
  if (node.filter == nullptr) throw Fault{"no filter named '" + node.name + "'"};
  return node.filter(*this, input, args);
}

}  // namespace tidemill::text::jinja
