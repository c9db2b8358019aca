#include "text/jinja_change.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja_eval.hpp"

namespace tidemill::text::jinja {
namespace {

// Values are made as changeable objects; only their readers see them as constant.
Seq& changing(Interpreter& in, const Value& list) {
  auto& seq = const_cast<Seq&>(list.seq());
  if (seq.fixed) throw Fault{"this list is part of another value now, and cannot be changed any more"};
  in.budget().step(1 + seq.items.size() / 4);
  return seq;
}

Dict& changing_dict(const Value& value) {
  auto& dict = const_cast<Dict&>(value.dict());
  if (dict.fixed()) throw Fault{"this dict is part of another value now, and cannot be changed any more"};
  return dict;
}

// What may be kept in a list or dict: itself where nobody can change it, else a copy that nobody can. Namespaces and
// macros are emptied when the rendering ends; other objects could hold the list that holds them.
Value fixed_copy(Interpreter& in, const Value& value) {
  if (value.is_seq()) {
    if (value.seq().fixed) return value;
    std::vector<Value> items = collect(in, value);
    for (Value& item : items)
      item = fixed_copy(in, item);
    Value copy = make_seq(&in.budget(), std::move(items), value.seq().flavor, value.seq().note);
    const_cast<Seq&>(copy.seq()).fixed = true;
    return copy;
  }
  if (value.is_dict()) {
    if (value.dict().fixed()) return value;
    in.budget().expect(value.dict().size() * sizeof(Dict::Entry));
    std::vector<Dict::Entry> entries = value.dict().entries();
    for (auto& [key, held] : entries)
      held = fixed_copy(in, held);
    Value copy = make_dict(&in.budget(), std::move(entries));
    const_cast<Dict&>(copy.dict()).fix();
    return copy;
  }
  const bool kept = !value.is_object() || value.type_name() == "Namespace" || value.type_name() == "Macro";
  if (value.is_generator() || !kept) {
    throw Fault{"a value of the type '" + std::string(value.type_name()) + "' cannot be put into a list or dict"};
  }
  return value;
}

// Accounts for what a list has become.
void settle(Seq& seq, const Value* added) {
  if (added != nullptr) {
    if (added->depth() + 1 > max_nesting) {
      throw Fault{"values are nested too deeply", base::ErrorCode::too_large};
    }
    seq.depth = std::max(seq.depth, added->depth() + 1);
  }
  seq.charge.grow_to(sizeof(Seq) + 16 + (seq.items.size() + 1) * sizeof(Value));
}

void insert_at(Interpreter& in, const Value& list, Int at, const Value& value) {
  Seq& seq = changing(in, list);
  const Value copy = fixed_copy(in, value);
  settle(seq, &copy);
  const auto size = static_cast<Int>(seq.items.size());
  if (at < 0) at = std::max<Int>(at + size, 0);
  seq.items.insert(seq.items.begin() + static_cast<ptrdiff_t>(std::min(at, size)), copy);
}

Value list_append(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("append", {"object"}, call, 1);
  insert_at(in, self, static_cast<Int>(self.seq().items.size()), args[0]);
  return Value::none();
}

Value list_insert(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("insert", {"index", "object"}, call, 2);
  insert_at(in, self, args.integer(0, 0), args[1]);
  return Value::none();
}

Value list_extend(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("extend", {"iterable"}, call, 1);
  for (const Value& item : collect(in, args[0]))
    insert_at(in, self, static_cast<Int>(self.seq().items.size()), item);
  return Value::none();
}

Value take_out(Seq& seq, Int at) {
  const auto place = seq.items.begin() + static_cast<ptrdiff_t>(at);
  Value taken = std::move(*place);
  seq.items.erase(place);
  return taken;
}

Value list_pop(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("pop", {"index"}, call);
  Seq& seq = changing(in, self);
  const auto size = static_cast<Int>(seq.items.size());
  Int at = args.integer(0, -1);
  if (size == 0) throw Fault{"pop from empty list"};
  if (at < 0) at += size;
  if (at < 0 || at >= size) throw Fault{"pop index out of range"};
  return take_out(seq, at);
}

Value list_remove(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("remove", {"value"}, call, 1);
  Seq& seq = changing(in, self);
  for (size_t i = 0; i < seq.items.size(); ++i) {
    if (!equal(in.budget(), seq.items[i], args[0])) continue;
    take_out(seq, static_cast<Int>(i));
    return Value::none();
  }
  throw Fault{"list.remove(x): x not in list"};
}

Value list_reverse(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("reverse", {}, call);
  Seq& seq = changing(in, self);
  std::reverse(seq.items.begin(), seq.items.end());
  return Value::none();
}

Value list_clear(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("clear", {}, call);
  changing(in, self).items.clear();
  return Value::none();
}

Value dict_update(Interpreter& in, const Value& self, CallArgs& args) {
  const Value source = find_global("dict")(in, Value(), args);
  for (const auto& [key, value] : source.dict().entries())
    change_entry(in, self, key, value);
  return Value::none();
}

Value dict_pop(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("pop", {"key", "default"}, call, 1);
  require_hashable(args[0]);
  Dict& dict = changing_dict(self);
  in.budget().step(1 + dict.size());
  const Value* found = dict.find(args[0]);
  if (found == nullptr && args.has(1)) return args[1];
  if (found == nullptr) throw Fault{"no such key: " + repr_of(in, args[0])};
  Value taken = *found;
  dict.erase(args[0]);
  return taken;
}

Value dict_setdefault(Interpreter& in, const Value& self, CallArgs& call) {
  const Arguments args("setdefault", {"key", "default"}, call, 1);
  require_hashable(args[0]);
  if (const Value* found = self.dict().find(args[0])) return *found;
  change_entry(in, self, args[0], args.has(1) ? args[1] : Value::none());
  return *self.dict().find(args[0]);
}

Value dict_clear(Interpreter&, const Value& self, CallArgs& call) {
  const Arguments args("clear", {}, call);
  changing_dict(self).clear();
  return Value::none();
}

}  // namespace

Native find_change(const Value& value, std::string_view name) {
  if (value.is_seq(Seq::Flavor::list)) {
    if (name == "append") return list_append;
    if (name == "insert") return list_insert;
    if (name == "extend") return list_extend;
    if (name == "pop") return list_pop;
    if (name == "remove") return list_remove;
    if (name == "reverse") return list_reverse;
    if (name == "clear") return list_clear;
  }
  if (value.is_dict()) {
    if (name == "update") return dict_update;
    if (name == "pop") return dict_pop;
    if (name == "setdefault") return dict_setdefault;
    if (name == "clear") return dict_clear;
  }
  return nullptr;
}

void change_entry(Interpreter& in, const Value& holder, const Value& key, const Value& value) {
  require_hashable(key);
  Dict& dict = changing_dict(holder);
  in.budget().step(1 + dict.size());
  dict.set(fixed_copy(in, key), fixed_copy(in, value));
}

}  // namespace tidemill::text::jinja
