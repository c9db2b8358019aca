// `loop`, namespaces, macros as values, global functions, and the methods of lists and dicts.
#include <algorithm>

#include "base/utf8.hpp"
#include "text/jinja_eval.hpp"
#include "text/jinja_ops.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

class NativeFunction final : public Object {
 public:
  NativeFunction(std::string_view name, Native function, Value self, bool method)
      : name_(name), function_(function), self_(std::move(self)), method_(method) {}
  std::string_view type_name() const override { return "builtin_function_or_method"; }
  std::string repr(Interpreter&) const override {
    if (!method_) return "<function " + name_ + ">";
    return "<built-in method " + name_ + " of " + std::string(self_.type_name()) + " object>";
  }
  bool callable() const override { return true; }
  Value call(Interpreter& in, CallArgs& args) override { return function_(in, self_, args); }
  int depth() const override { return self_.depth() + 1; }

 private:
  std::string name_;
  Native function_;
  Value self_;
  bool method_;
};

// cycler(a, b, ...): next() gives one after the other.
class Cycler final : public Object {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {
    for (const Value& item : items_)
      depth_ = std::max(depth_, item.depth() + 1);
  }
  std::string_view type_name() const override { return "Cycler"; }
  std::string repr(Interpreter&) const override { return "<Cycler object>"; }
  int depth() const override { return depth_; }
  bool attribute(Interpreter& in, std::string_view name, Value& out) override;
  Value advance() {
    Value out = items_[at_];
    at_ = (at_ + 1) % items_.size();
    return out;
  }
  void reset() { at_ = 0; }

 private:
  std::vector<Value> items_;
  size_t at_ = 0;
  int depth_ = 1;
};

// joiner(sep): nothing at the first call, the separator after that.
class Joiner final : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const override { return "Joiner"; }
  std::string repr(Interpreter&) const override { return "<Joiner object>"; }
  bool callable() const override { return true; }
  Value call(Interpreter& in, CallArgs&) override {
    if (std::exchange(used_, true)) return separator_;
    return make_string(&in.budget(), "");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value native_of(Interpreter& in, std::string_view name, Native function, std::shared_ptr<Object> self) {
  return make_native(in, name, function, Value(std::move(self)), true);
}

Value cycler_next(Interpreter&, const Value& self, CallArgs&) {
  return static_cast<Cycler&>(self.object()).advance();
}
Value cycler_reset(Interpreter&, const Value& self, CallArgs&) {
  static_cast<Cycler&>(self.object()).reset();
  return Value::none();
}

// Global functions.

Value range_global(Interpreter& in, const Value&, CallArgs& call) {
  const Arguments args("range", {"start", "stop", "step"}, call, 1);
  Int start = args.integer(0, 0);
  Int stop = args.integer(1, 0);
  if (!args.has(1)) std::swap(start, stop);
  const Int step = args.integer(2, 1);
  if (step == 0) throw Fault{"range() arg 3 must not be zero"};
  constexpr Int limit = Int{1} << 100;
  if (start > limit || start < -limit || stop > limit || stop < -limit || step > limit || step < -limit) {
    throw Fault{"a bound of range() is too large", base::ErrorCode::too_large};
  }
  const Int count = step > 0 ? (stop - start + step - 1) / step : (start - stop - step - 1) / -step;
  if (count > 100000) {
    throw Fault{"Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).", base::ErrorCode::too_large};
  }
  std::string note = range_note(start, stop, step);
  in.budget().expect(static_cast<size_t>(std::max<Int>(count, 0)) * sizeof(Value));
  std::vector<Value> items;
  for (Int i = 0; i < count; ++i)
    items.emplace_back(start + i * step);
  return make_seq(&in.budget(), std::move(items), Seq::Flavor::range, std::move(note));
}

Value dict_global(Interpreter& in, const Value&, CallArgs& args) {
  std::vector<Dict::Entry> entries;
  if (args.positional.size() > 1) throw Fault{"dict expected at most 1 argument"};
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.is_dict()) {
      in.budget().expect(source.dict().size() * sizeof(Dict::Entry));
      entries = source.dict().entries();
    } else {
      Cursor cursor(in, source);
      Charge held(&in.budget(), 0);
      for (Value pair; cursor.next(pair);) {
        const std::vector<Value> parts = collect(in, pair);
        if (parts.size() != 2) throw Fault{"dict() needs a mapping or a sequence of pairs"};
        held.grow_to((entries.size() + 1) * sizeof(Dict::Entry));
        entries.emplace_back(parts[0], parts[1]);
      }
    }
  }
  for (auto& [name, value] : args.keyword)
    entries.emplace_back(make_string(&in.budget(), name), value);
  return make_dict(&in.budget(), std::move(entries));
}

Value namespace_global(Interpreter& in, const Value&, CallArgs& args) {
  auto made = std::make_shared<Namespace>();
  in.keep(made);
  const Value initial = dict_global(in, Value(), args);
  for (const auto& [key, value] : initial.dict().entries()) {
    if (key.is_string()) made->assign(in, key.text(), value);
  }
  return Value(std::static_pointer_cast<Object>(made));
}

Value raise_exception_global(Interpreter& in, const Value&, CallArgs& call) {
  const Arguments args("raise_exception", {"message"}, call, 1);
  throw Fault{str_of(in, args[0]), base::ErrorCode::invalid_argument, -1};
}

Value strftime_now_global(Interpreter& in, const Value&, CallArgs& call) {
  const Arguments args("strftime_now", {"format"}, call, 1);
  return make_string(&in.budget(), format_time(in.budget(), in.now(), args.text(0)));
}

Value cycler_global(Interpreter&, const Value&, CallArgs& args) {
  if (args.positional.empty()) throw Fault{"at least one item has to be provided"};
  return Value(std::static_pointer_cast<Object>(std::make_shared<Cycler>(std::move(args.positional))));
}

Value joiner_global(Interpreter& in, const Value&, CallArgs& call) {
  const Arguments args("joiner", {"sep"}, call);
  Value separator = args.has(0) ? args[0] : make_string(&in.budget(), ", ");
  return Value(std::static_pointer_cast<Object>(std::make_shared<Joiner>(std::move(separator))));
}

// Methods of dicts.

template <Seq::Flavor Flavor>
Value dict_view(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("a dict's view", {}, call);
  const auto& entries = self.dict().entries();
  in.budget().expect(entries.size() * sizeof(Value));
  std::vector<Value> items;
  items.reserve(entries.size());
  for (const auto& [key, value] : entries) {
    if (Flavor == Seq::Flavor::keys) items.push_back(key);
    if (Flavor == Seq::Flavor::values) items.push_back(value);
    if (Flavor == Seq::Flavor::items) items.push_back(make_seq(&in.budget(), {key, value}, Seq::Flavor::tuple));
  }
  return make_seq(&in.budget(), std::move(items), Flavor);
}

Value dict_get(Interpreter&, const Value& self, CallArgs& call) {
  const Arguments args("get", {"key", "default"}, call, 1);
  require_hashable(args[0]);
  const Value* found = self.dict().find(args[0]);
  if (found != nullptr) return *found;
  return args.has(1) ? args[1] : Value::none();
}

Value copy_method(Interpreter& in, const Value& self, CallArgs&) {
  if (!in.lenient()) return self;
  if (self.is_dict()) return make_dict(&in.budget(), self.dict().entries());
  return make_seq(&in.budget(), collect(in, self));
}

// Methods of lists and tuples.

Value seq_index(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("index", {"value"}, call, 1);
  const auto& items = self.seq().items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (equal(in.budget(), items[i], args[0])) return Value(static_cast<Int>(i));
  }
  throw Fault{std::string(base::utf8::prefix(repr_of(in, args[0]), 200)) + " is not in list"};
}

Value seq_count(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("count", {"value"}, call, 1);
  const auto& items = self.seq().items;
  return Value(static_cast<Int>(
      std::count_if(items.begin(), items.end(), [&](const Value& item) { return equal(in.budget(), item, args[0]); })));
}

Value is_integer(Interpreter&, const Value& self, CallArgs&) {
  return Value(self.is_integral() || self.number() == static_cast<double>(static_cast<long long>(self.number())));
}

// What `loop` can be called with.

Value loop_cycle(Interpreter&, const Value& self, CallArgs& args) {
  if (args.positional.empty()) throw Fault{"no items for cycling given"};
  return args.positional[static_cast<Loop&>(self.object()).index0() % args.positional.size()];
}

Value loop_changed(Interpreter& in, const Value& self, CallArgs& args) {
  return Value(static_cast<Loop&>(self.object()).changed(in, args.positional));
}

}  // namespace

bool Cycler::attribute(Interpreter&, std::string_view name, Value& out) {
  if (name != "current") return false;
  out = items_[at_];
  return true;
}

Value make_native(Interpreter& in, std::string_view name, Native function, Value self, bool method) {
  in.budget().step();
  if (self.depth() + 1 > max_nesting) {
    throw Fault{"values are nested too deeply", base::ErrorCode::too_large};
  }
  return Value(
      std::static_pointer_cast<Object>(std::make_shared<NativeFunction>(name, function, std::move(self), method)));
}

Native find_global(std::string_view name) {
  if (name == "range") return range_global;
  if (name == "dict") return dict_global;
  if (name == "namespace") return namespace_global;
  if (name == "raise_exception") return raise_exception_global;
  if (name == "strftime_now") return strftime_now_global;
  if (name == "cycler") return cycler_global;
  if (name == "joiner") return joiner_global;
  return nullptr;
}

Native find_collection_method(const Value& value, std::string_view name) {
  if (value.is_dict()) {
    if (name == "get") return dict_get;
    if (name == "items") return dict_view<Seq::Flavor::items>;
    if (name == "keys") return dict_view<Seq::Flavor::keys>;
    if (name == "values") return dict_view<Seq::Flavor::values>;
    if (name == "copy") return copy_method;
  }
  if (value.is_seq(Seq::Flavor::list) || value.is_tuple() || value.is_seq(Seq::Flavor::range)) {
    if (name == "index") return seq_index;
    if (name == "count") return seq_count;
    if (name == "copy" && value.is_seq(Seq::Flavor::list)) return copy_method;
  }
  if (value.is_float() && name == "is_integer") return is_integer;
  if (value.is_object() && value.type_name() == "Cycler") {
    if (name == "next") return cycler_next;
    if (name == "reset") return cycler_reset;
  }
  return nullptr;
}

std::string Namespace::repr(Interpreter& in) const {
  const Interpreter::Level level(in);
  TextBuilder out(&in.budget());
  out.add("<Namespace {");
  for (size_t i = 0; i < values_.size(); ++i) {
    if (i > 0) out.add(", ");
    write_quoted(out, values_[i].first);
    out.add(": ");
    write_repr(in, out, values_[i].second);
  }
  out.add("}>");
  return out.take();
}

bool Namespace::attribute(Interpreter& in, std::string_view name, Value& out) {
  in.budget().step(1 + values_.size() / 8);
  for (const auto& [key, value] : values_) {
    if (key == name) {
      out = value;
      return true;
    }
  }
  return false;
}

void Namespace::assign(Interpreter& in, const std::string& name, const Value& value) {
  in.budget().step(1 + values_.size() / 8);
  for (auto& [key, held] : values_) {
    if (key == name) {
      held = value;
      return;
    }
  }
  values_.emplace_back(name, value);
}

std::string Macro::repr(Interpreter&) const {
  return node_.name.empty() ? "<Macro anonymous>" : "<Macro '" + node_.name + "'>";
}

bool Macro::attribute(Interpreter& in, std::string_view name, Value& out) {
  if (name == "name") {
    out = node_.name.empty() ? Value::none() : make_string(&in.budget(), node_.name);
  } else if (name == "arguments") {
    std::vector<Value> names;
    for (const NameId id : node_.signature.names)
      names.push_back(make_string(&in.budget(), in.name(id)));
    out = make_seq(&in.budget(), std::move(names), Seq::Flavor::tuple);
  } else if (name == "catch_kwargs") {
    out = Value(node_.uses_kwargs);
  } else if (name == "catch_varargs") {
    out = Value(node_.uses_varargs);
  } else if (name == "caller") {
    out = Value(node_.uses_caller);
  } else {
    return false;
  }
  return true;
}

Value Macro::call(Interpreter& in, CallArgs& args) {
  return in.call_macro(node_, scope_, args);
}

Loop::Loop(Interpreter& in, const LoopStatement& node, ScopePtr outer, Value items, int depth0,
           std::function<bool(const Value&)> filter)
    : in_(in),
      node_(node),
      outer_(std::move(outer)),
      items_(std::move(items)),
      cursor_(std::make_unique<Cursor>(in, items_)),
      filter_(std::move(filter)),
      depth0_(depth0) {
  if (!filter_ && !items_.is_generator()) length_ = static_cast<Int>(length_of(items_));
}

void Loop::finish() {
  cursor_.reset();
  filter_ = nullptr;
  items_ = before_ = current_ = Value();
  ahead_.clear();
  last_changed_.clear();
  ahead_at_ = 0;
  outer_.reset();
}

bool Loop::pull(Value& out) {
  if (!cursor_) return false;
  while (cursor_->next(out)) {
    if (!filter_ || filter_(out)) return true;
  }
  return false;
}

bool Loop::peek() {
  if (ahead_at_ < ahead_.size()) return true;
  Value item;
  if (!pull(item)) return false;
  ahead_.clear();
  ahead_.push_back(std::move(item));
  ahead_at_ = 0;
  return true;
}

bool Loop::next(Value& out) {
  if (!peek()) return false;
  out = std::move(ahead_[ahead_at_++]);
  if (started_) {
    ++index0_;
    before_ = std::move(current_);
  }
  started_ = true;
  current_ = out;
  return true;
}

Int Loop::length() {
  if (length_ < 0) {
    for (Value item; pull(item);)
      ahead_.push_back(std::move(item));
    length_ = static_cast<Int>(index0_ + 1 + ahead_.size() - ahead_at_);
  }
  return length_;
}

bool Loop::changed(Interpreter& in, const std::vector<Value>& values) {
  bool same = changed_before_ && last_changed_.size() == values.size();
  for (size_t i = 0; same && i < values.size(); ++i)
    same = equal(in.budget(), last_changed_[i], values[i]);
  if (!same) last_changed_ = values;
  changed_before_ = true;
  return !same;
}

std::string Loop::repr(Interpreter&) const {
  return "<LoopContext " + std::to_string(index0_ + 1) + ">";
}

bool Loop::attribute(Interpreter& in, std::string_view name, Value& out) {
  const auto index0 = static_cast<Int>(index0_);
  if (name == "index") {
    out = Value(index0 + 1);
  } else if (name == "index0") {
    out = Value(index0);
  } else if (name == "first") {
    out = Value(index0_ == 0);
  } else if (name == "last") {
    out = Value(!peek());
  } else if (name == "length") {
    out = Value(length());
  } else if (name == "revindex") {
    out = Value(length() - index0);
  } else if (name == "revindex0") {
    out = Value(length() - index0 - 1);
  } else if (name == "previtem") {
    out = index0_ == 0 ? Value::undefined("there is no previous item") : before_;
  } else if (name == "nextitem") {
    out = peek() ? ahead_[ahead_at_] : Value::undefined("there is no next item");
  } else if (name == "depth") {
    out = Value::integer(depth0_ + 1);
  } else if (name == "depth0") {
    out = Value::integer(depth0_);
  } else if (name == "cycle") {
    out = native_of(in, name, loop_cycle, shared_from_this());
  } else if (name == "changed") {
    out = native_of(in, name, loop_changed, shared_from_this());
  } else {
    return false;
  }
  return true;
}

Value Loop::call(Interpreter& in, CallArgs& call) {
  if (!node_.recursive) {
    throw Fault{"The loop must have the 'recursive' marker to be called recursively."};
  }
  const Arguments args("loop", {"iterable"}, call, 1);
  return in.call_loop(node_, outer_, args[0], depth0_ + 1);
}

}  // namespace tidemill::text::jinja
