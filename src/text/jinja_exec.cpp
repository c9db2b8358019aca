// Statements.
#include <algorithm>

#include "text/jinja_change.hpp"
#include "text/jinja_eval.hpp"
#include "text/jinja_ops.hpp"

namespace tidemill::text::jinja {

// Collects what is rendered, for as long as it lives, in a text of its own.
class Interpreter::Capture {
 public:
  explicit Capture(Interpreter& in) : in_(in), text_(&in.budget_), before_(in.out_) { in.out_ = &text_; }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture() { in_.out_ = before_; }
  TextBuilder& text() { return text_; }

 private:
  Interpreter& in_;
  TextBuilder text_;
  TextBuilder* before_;
};

// Makes a scope the current one for as long as it lives.
class Interpreter::Enter {
 public:
  Enter(Interpreter& in, ScopePtr scope) : in_(in), before_(std::exchange(in.scope_, std::move(scope))) {}
  Enter(const Enter&) = delete;
  Enter& operator=(const Enter&) = delete;
  ~Enter() { in_.scope_ = std::move(before_); }

 private:
  Interpreter& in_;
  ScopePtr before_;
};

// Lets a macro see the names of its caller for as long as this lives, under the lenient rules.
class Interpreter::Calling {
 public:
  explicit Calling(Interpreter& in) : in_(in) { in.callers_.push_back(in.settings_.lenient ? in.scope_ : nullptr); }
  Calling(const Calling&) = delete;
  Calling& operator=(const Calling&) = delete;
  ~Calling() { in_.callers_.pop_back(); }

 private:
  Interpreter& in_;
};

std::string Interpreter::render() {
  stack_base_ = frame_here();
  Capture capture(*this);
  run(program_.body);
  return capture.text().take();
}

void Interpreter::emit(std::string_view text) {
  out_->add(text);
  if (out_->size() > settings_.max_output) {
    throw Fault{"the template renders more than " + std::to_string(settings_.max_output) + " bytes",
                base::ErrorCode::too_large};
  }
}

void Interpreter::emit(const Value& value) {
  write_str(*this, *out_, value);
  emit(std::string_view());
}

void Interpreter::set(NameId id, const Value& value) {
  if (scope_ == nullptr) {
    outermost_[id] = value;
    outermost_known_[id] = true;
    return;
  }
  for (auto& [name, held] : scope_->names) {
    if (name == id) {
      held = value;
      return;
    }
  }
  scope_->names.emplace_back(id, value);
}

void Interpreter::assign(const Target& target, const Value& value) {
  budget_.step();
  switch (target.kind) {
    case Target::Kind::name:
      set(target.id, value);
      break;
    case Target::Kind::attribute: {
      const Value* holder = find_name(target.id);
      auto* names = holder != nullptr && holder->is_object() ? dynamic_cast<Namespace*>(&holder->object()) : nullptr;
      if (names == nullptr && settings_.lenient && holder != nullptr && holder->is_dict()) {
        const Value dict = *holder;
        change_entry(*this, dict, make_string(&budget_, target.attribute), value);
        break;
      }
      if (names == nullptr) {
        line_ = target.line;
        throw Fault{"cannot assign the attribute '" + target.attribute + "' of '" + name(target.id) +
                    "', which is not a namespace"};
      }
      names->assign(*this, target.attribute, value);
      break;
    }
    case Target::Kind::tuple: {
      if (value.is_undefined()) throw Fault{value.undefined_message()};
      const std::vector<Value> items = collect(*this, value);
      if (items.size() != target.parts.size()) {
        line_ = target.line;
        throw Fault{"expected " + std::to_string(target.parts.size()) + " values to unpack, got " +
                    std::to_string(items.size())};
      }
      for (size_t i = 0; i < items.size(); ++i)
        assign(target.parts[i], items[i]);
      break;
    }
  }
}

Interpreter::Flow Interpreter::run(const Block& block) {
  const Level level(*this);
  for (const StatementPtr& statement : block) {
    const Flow flow = run(*statement);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::run(const Statement& statement) {
  budget_.step();
  line_ = statement.line;
  switch (statement.kind) {
    case Statement::Kind::text:
      emit(static_cast<const TextStatement&>(statement).text);
      break;
    case Statement::Kind::output:
      emit(eval(*static_cast<const OutputStatement&>(statement).value));
      break;
    case Statement::Kind::evaluate:
      (void)eval(*static_cast<const OutputStatement&>(statement).value);
      break;
    case Statement::Kind::condition:
      return run_condition(static_cast<const ConditionStatement&>(statement));
    case Statement::Kind::loop: {
      const auto& node = static_cast<const LoopStatement&>(statement);
      return run_loop(node, eval(*node.iterable), 0);
    }
    case Statement::Kind::set: {
      const auto& node = static_cast<const SetStatement&>(statement);
      assign(node.target, eval(*node.value));
      break;
    }
    case Statement::Kind::set_block:
    case Statement::Kind::filter_block:
      return run_set_block(static_cast<const SetBlockStatement&>(statement));
    case Statement::Kind::macro:
      run_macro(static_cast<const MacroStatement&>(statement));
      break;
    case Statement::Kind::call_block:
      run_call_block(static_cast<const MacroStatement&>(statement));
      break;
    case Statement::Kind::with:
    case Statement::Kind::scope:
      return run_with(static_cast<const WithStatement&>(statement));
    case Statement::Kind::break_loop:
      return Flow::break_loop;
    case Statement::Kind::continue_loop:
      return Flow::continue_loop;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::run_condition(const ConditionStatement& node) {
  for (const auto& [test, body] : node.branches) {
    if (truthy(eval(*test))) return run(body);
  }
  return run(node.otherwise);
}

Interpreter::Flow Interpreter::run_loop(const LoopStatement& node, const Value& items, int depth0) {
  line_ = node.line;
  const ScopePtr outer = scope_;
  std::function<bool(const Value&)> filter;
  if (node.filter) {
    filter = [this, &node, &outer](const Value& item) {
      const Enter enter(*this, std::make_shared<Scope>(Scope{outer, {}}));
      assign(node.target, item);
      return truthy(eval(*node.filter));
    };
  }
  const auto loop = std::make_shared<Loop>(*this, node, outer, items, depth0, std::move(filter));
  struct Finisher {
    Loop& loop;
    ~Finisher() { loop.finish(); }
  } finisher{*loop};
  Value item;
  bool any = false;
  auto scope = std::make_shared<Scope>(Scope{outer, {}});
  while (loop->next(item)) {
    any = true;
    if (scope.use_count() > 1 || scope->pinned) {
      scope = std::make_shared<Scope>(Scope{outer, {}});
    } else {
      scope->names.clear();
    }
    const Enter enter(*this, scope);
    if (loop_id_ < program_.names.size()) set(loop_id_, Value(std::static_pointer_cast<Object>(loop)));
    assign(node.target, item);
    if (run(node.body) == Flow::break_loop) break;
  }
  if (!any) {
    const Enter enter(*this, std::make_shared<Scope>(Scope{outer, {}}));
    return run(node.otherwise);
  }
  return Flow::normal;
}

Value Interpreter::call_loop(const LoopStatement& loop, const ScopePtr& outer, const Value& items, int depth0) {
  const Level level(*this);
  const Enter enter(*this, outer);
  Capture capture(*this);
  run_loop(loop, items, depth0);
  return capture.text().finish();
}

Interpreter::Flow Interpreter::run_set_block(const SetBlockStatement& node) {
  Value text;
  Flow flow = Flow::normal;
  {
    const Enter enter(*this, std::make_shared<Scope>(Scope{scope_, {}}));
    Capture capture(*this);
    flow = run(node.body);
    text = capture.text().finish();
  }
  if (flow != Flow::normal) return flow;
  if (node.filter) text = eval_applied(static_cast<const AppliedExpr&>(*node.filter), &text);
  if (node.kind == Statement::Kind::filter_block) {
    emit(text);
  } else {
    assign(node.target, text);
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::run_with(const WithStatement& node) {
  std::vector<Value> values;
  for (const auto& [target, value] : node.bindings)
    values.push_back(eval(*value));
  const Enter enter(*this, std::make_shared<Scope>(Scope{node.isolated ? nullptr : scope_, {}}));
  for (size_t i = 0; i < values.size(); ++i)
    assign(node.bindings[i].first, values[i]);
  return run(node.body);
}

void Interpreter::pin(const ScopePtr& scope) {
  for (ScopePtr at = scope; at != nullptr && !at->pinned; at = at->parent) {
    kept_charge_.grow_to((kept_.size() + pinned_.size() + 1) * 256);
    at->pinned = true;
    pinned_.push_back(at);
  }
}

Value Interpreter::make_macro(const MacroStatement& node) {
  pin(scope_);
  return Value(std::shared_ptr<Object>(std::make_shared<Macro>(node, scope_)));
}

void Interpreter::run_macro(const MacroStatement& node) {
  set(node.id, make_macro(node));
}

void Interpreter::run_call_block(const MacroStatement& node) {
  const auto& call_node = static_cast<const CallExpr&>(*node.call);
  const Value callee = eval(*call_node.callee);
  CallArgs args = eval_arguments(call_node.args);
  args.keyword.emplace_back("caller", make_macro(node));
  line_ = node.line;
  emit(call(callee, args));
}

void Interpreter::bind_parameters(const MacroStatement& macro, CallArgs& args) {
  const auto& names = macro.signature.names;
  const auto& defaults = macro.signature.defaults;
  const auto take_keyword = [&args](std::string_view name, Value& out) {
    for (auto it = args.keyword.begin(); it != args.keyword.end(); ++it) {
      if (it->first == name) {
        out = std::move(it->second);
        args.keyword.erase(it);
        return true;
      }
    }
    return false;
  };
  std::vector<std::pair<bool, Value>> given(names.size(), {false, Value()});
  bool explicit_caller = false;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i < args.positional.size()) {
      given[i] = {true, args.positional[i]};
    } else {
      given[i].first = take_keyword(name(names[i]), given[i].second);
    }
    explicit_caller = explicit_caller || names[i] == caller_id_;
  }
  Value caller;
  const bool binds_caller = macro.uses_caller && !explicit_caller;
  if (binds_caller && !take_keyword("caller", caller)) caller = Value::undefined("no caller defined");

  const std::string called = "macro '" + macro.name + "'";
  if (!args.keyword.empty() && !macro.uses_kwargs) {
    throw Fault{called + " takes no keyword argument '" + args.keyword[0].first + "'"};
  }
  if (args.positional.size() > names.size() && !macro.uses_varargs) {
    throw Fault{called + " takes not more than " + std::to_string(names.size()) + " argument(s)"};
  }
  if (binds_caller) set(caller_id_, caller);
  if (macro.uses_kwargs) {
    std::vector<Dict::Entry> entries;
    for (auto& [key, value] : args.keyword)
      entries.emplace_back(make_string(&budget_, key), value);
    set(kwargs_id_, make_dict(&budget_, std::move(entries)));
  }
  if (macro.uses_varargs) {
    std::vector<Value> rest;
    for (size_t i = names.size(); i < args.positional.size(); ++i)
      rest.push_back(args.positional[i]);
    set(varargs_id_, make_seq(&budget_, std::move(rest), Seq::Flavor::tuple));
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const size_t first_default = names.size() - defaults.size();
    if (given[i].first) {
      set(names[i], given[i].second);
    } else if (i >= first_default) {
      set(names[i], eval(*defaults[i - first_default]));
    } else {
      set(names[i], Value::undefined("parameter '" + name(names[i]) + "' was not provided"));
    }
  }
}

Value Interpreter::call_macro(const MacroStatement& macro, const ScopePtr& outer, CallArgs& args) {
  const Level level(*this);
  const Calling calling(*this);
  const Enter enter(*this, std::make_shared<Scope>(Scope{outer, {}}));
  bind_parameters(macro, args);
  Capture capture(*this);
  run(macro.body);
  return capture.text().finish();
}

}  // namespace tidemill::text::jinja
