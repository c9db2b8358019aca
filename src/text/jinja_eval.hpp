// Runs the syntax tree of a template. One Interpreter is one rendering: not thread-safe, used once.
//
// Recursion (nested macros, recursive loops, deep expressions) is bounded by `max_depth` and, as a backstop against
// large stack frames in sanitizer builds, by the bytes of stack used.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "text/jinja_ast.hpp"
#include "text/jinja_value.hpp"

namespace tidemill::text::jinja {

// The names one block of a template has set; inner scopes see outer ones.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<NameId, Value>> names;
  bool pinned = false;  // held by a macro, and therefore by the interpreter until the rendering ends
};
using ScopePtr = std::shared_ptr<Scope>;

class Loop;

class Interpreter {
 public:
  struct Settings {
    base::WallTime now;
    size_t max_output;
    int max_depth;
    bool lenient;  // TemplateRules::lenient
  };
  Interpreter(const Program& program, Budget& budget, const base::json::object& context, const Settings& settings);
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;
  ~Interpreter();

  // Throws Fault.
  std::string render();

  Budget& budget() { return budget_; }
  base::WallTime now() const { return settings_.now; }
  bool lenient() const { return settings_.lenient; }
  int line() const { return line_; }
  const std::string& name(NameId id) const { return program_.names[id]; }

  Value call(const Value& callee, CallArgs& args);
  // Calls the macro in a scope inside `outer`; the text it renders.
  Value call_macro(const MacroStatement& macro, const ScopePtr& outer, CallArgs& args);
  // Runs a loop over `items` inside `outer`, depth0 levels into a recursive one; the text it renders.
  Value call_loop(const LoopStatement& loop, const ScopePtr& outer, const Value& items, int depth0);
  // Keeps an object that could hold itself until the rendering ends, and then empties it.
  void keep(std::shared_ptr<Object> object);

  // One more level of recursion for as long as it lives.
  class Level {
   public:
    explicit Level(Interpreter& in);
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    ~Level() { --in_.depth_; }

   private:
    Interpreter& in_;
  };

 private:
  enum class Flow : uint8_t { normal, break_loop, continue_loop };
  class Calling;
  class Capture;
  class Enter;

  // Statements (jinja_exec.cpp).
  Flow run(const Block& block);
  Flow run(const Statement& statement);
  Flow run_condition(const ConditionStatement& node);
  Flow run_loop(const LoopStatement& node, const Value& items, int depth0);
  Flow run_set_block(const SetBlockStatement& node);
  Flow run_with(const WithStatement& node);
  void run_macro(const MacroStatement& node);
  void run_call_block(const MacroStatement& node);
  void bind_parameters(const MacroStatement& macro, CallArgs& args);
  Value make_macro(const MacroStatement& node);
  void emit(const Value& value);
  void emit(std::string_view text);
  void assign(const Target& target, const Value& value);
  void set(NameId id, const Value& value);
  void pin(const ScopePtr& scope);

  // Expressions (jinja_eval.cpp).
  Value eval(const Expression& node);
  Value eval_name(const NameExpr& node);
  Value eval_operands(const OperandsExpr& node);
  Value eval_dict(const OperandsExpr& node);
  Value eval_slice(const OperandsExpr& node);
  Value eval_conditional(const OperandsExpr& node);
  Value eval_logical(const OperandsExpr& node);
  Value eval_concat(const OperandsExpr& node);
  Value eval_arithmetic(const ArithmeticExpr& node);
  Value eval_comparison(const ComparisonExpr& node);
  Value eval_call(const CallExpr& node);
  Value eval_applied(const AppliedExpr& node, const Value* block_input);
  Value apply(const AppliedExpr& node, const Value& input, CallArgs& args);
  CallArgs eval_arguments(const ArgumentList& list);
  bool compare_values(Comparison op, const Value& left, const Value& right);

  const Value* find_name(NameId id) const;
  bool customary(std::string_view name, const base::json::object& context, Value& out);
  NameId id_of(std::string_view name) const;  // past the end if the template never mentions it
  static const char* frame_here();

  const Program& program_;
  Budget& budget_;
  Settings settings_;
  std::vector<Value> outermost_;       // by NameId: the context, globals, and what the template sets at its top level
  std::vector<bool> outermost_known_;  // which of them exist
  ScopePtr scope_;                     // null at the top level
  std::vector<ScopePtr> callers_;      // scopes of the macro calls that are running, where macros see them
  TextBuilder* out_ = nullptr;
  std::vector<ScopePtr> pinned_;
  std::vector<std::shared_ptr<Object>> kept_;
  Charge kept_charge_;
  NameId loop_id_, caller_id_, varargs_id_, kwargs_id_;
  int depth_ = 0;
  int line_ = 0;
  const char* stack_base_ = nullptr;
};

// The object behind `loop`.
class Loop final : public Object, public std::enable_shared_from_this<Loop> {
 public:
  Loop(Interpreter& in, const LoopStatement& node, ScopePtr outer, Value items, int depth0,
       std::function<bool(const Value&)> filter);
  bool next(Value& out);
  // Lets go of the items, so that a loop that was stored away holds nothing.
  void finish();

  std::string_view type_name() const override { return "LoopContext"; }
  std::string repr(Interpreter& in) const override;
  bool attribute(Interpreter& in, std::string_view name, Value& out) override;
  bool callable() const override { return true; }
  Value call(Interpreter& in, CallArgs& args) override;
  bool changed(Interpreter& in, const std::vector<Value>& values);
  size_t index0() const { return index0_; }

 private:
  bool pull(Value& out);
  bool peek();
  Int length();

  Interpreter& in_;
  const LoopStatement& node_;
  ScopePtr outer_;
  Value items_;
  std::unique_ptr<Cursor> cursor_;
  std::function<bool(const Value&)> filter_;
  std::vector<Value> ahead_;  // pulled but not yet visited, in order from ahead_at_
  size_t ahead_at_ = 0;
  Value current_, before_;
  std::vector<Value> last_changed_;
  bool changed_before_ = false;
  size_t index0_ = 0;
  bool started_ = false;
  Int length_ = -1;
  int depth0_;
};

// namespace(...): the one kind of object a template may change.
class Namespace final : public Object {
 public:
  std::string_view type_name() const override { return "Namespace"; }
  std::string repr(Interpreter& in) const override;
  bool attribute(Interpreter& in, std::string_view name, Value& out) override;
  void assign(Interpreter& in, const std::string& name, const Value& value);
  void clear() { values_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> values_;
};

// A macro, or the body of a call block.
class Macro final : public Object {
 public:
  Macro(const MacroStatement& node, ScopePtr scope) : node_(node), scope_(std::move(scope)) {}
  std::string_view type_name() const override { return "Macro"; }
  std::string repr(Interpreter& in) const override;
  bool attribute(Interpreter& in, std::string_view name, Value& out) override;
  bool callable() const override { return true; }
  Value call(Interpreter& in, CallArgs& args) override;

 private:
  const MacroStatement& node_;
  ScopePtr scope_;
};

// The global functions every template has: range, dict, namespace, raise_exception, strftime_now, ... Null if none.
Native find_global(std::string_view name);

}  // namespace tidemill::text::jinja
