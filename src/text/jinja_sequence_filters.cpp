#include "text/jinja_sequence_filters.hpp"

#include <algorithm>

#include "base/utf8.hpp"
#include "text/jinja_eval.hpp"
#include "text/jinja_ops.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

// "a.0.b": reads item['a'][0]['b'].
class Getter {
 public:
  Getter(Interpreter& in, const Value& attribute, Value fallback = Value::none()) : in_(in), fallback_(fallback) {
    if (attribute.is_none()) return;
    if (!attribute.is_string()) {
      parts_.push_back(attribute);
      return;
    }
    std::string_view rest = attribute.text();
    while (true) {
      const size_t dot = rest.find('.');
      const std::string_view part = rest.substr(0, dot);
      Int index = 0;
      const bool number = !part.empty() && is_all("isdigit", part) && is_all("isascii", part);
      parts_.push_back(number && parse_int(part, 10, index) ? Value(index)
                                                            : make_string(&in.budget(), std::string(part)));
      if (dot == std::string_view::npos) break;
      rest.remove_prefix(dot + 1);
    }
  }
  Value operator()(Value item) const {
    for (const Value& part : parts_) {
      item = get_item(in_, item, part);
      if (item.is_undefined() && !fallback_.is_none()) item = fallback_;
    }
    return item;
  }

 private:
  Interpreter& in_;
  Value fallback_;
  std::vector<Value> parts_;
};

Value without_case(Interpreter& in, const Value& value) {
  if (!value.is_string()) return value;
  in.budget().work(value.text().size() * 8);
  return make_string(&in.budget(), lower_case(value.text()));
}

bool less(Interpreter& in, const Value& a, const Value& b) {
  bool unordered = false;
  const int order = compare(in.budget(), a, b, unordered);
  return !unordered && order < 0;
}

// Sorts stably by key; `reverse` keeps equal items in their order, as Python does.
struct Keyed {
  std::vector<Value> keys;
  Value value;
};
void sort_keyed(Interpreter& in, std::vector<Keyed>& items, bool reverse) {
  const auto before = [&in](const Keyed& a, const Keyed& b) {
    for (size_t i = 0; i < a.keys.size(); ++i) {
      if (i + 1 < a.keys.size() && equal(in.budget(), a.keys[i], b.keys[i])) continue;
      return less(in, a.keys[i], b.keys[i]);
    }
    return false;
  };
  if (reverse) std::reverse(items.begin(), items.end());
  std::stable_sort(items.begin(), items.end(), before);
  if (reverse) std::reverse(items.begin(), items.end());
}

Value list_of(Interpreter& in, std::vector<Keyed>& items) {
  std::vector<Value> values;
  values.reserve(items.size());
  for (Keyed& item : items)
    values.push_back(std::move(item.value));
  return make_seq(&in.budget(), std::move(values));
}

Value first(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("first", {}, call);
  Cursor cursor(in, input);
  Value item;
  return cursor.next(item) ? item : Value::undefined("No first item, sequence was empty.");
}

Value last(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("last", {}, call);
  if (input.is_generator()) throw Fault{"'generator' object is not reversible"};
  if (input.is_string()) {
    const Int length = static_cast<Int>(length_of(input));
    return length == 0 ? Value::undefined("No last item, sequence was empty.") : get_item(in, input, Value(length - 1));
  }
  const std::vector<Value> items = collect(in, input);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value length(Interpreter&, const Value& input, CallArgs& call) {
  const Arguments args("length", {}, call);
  return Value(static_cast<Int>(length_of(input)));
}

Value list(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("list", {}, call);
  return make_seq(&in.budget(), collect(in, input));
}

Value reverse(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("reverse", {}, call);
  if (input.is_string()) return get_slice(in, input, Value::none(), Value::none(), Value::integer(-1));
  if (!iterable(input)) throw Fault{"argument must be iterable"};
  auto items = std::make_shared<std::vector<Value>>(collect(in, input));
  const int depth = input.depth();
  const Value kept = make_seq(&in.budget(), std::move(*items));
  if (input.is_generator()) {
    std::vector<Value> reversed(kept.seq().items.rbegin(), kept.seq().items.rend());
    return make_seq(&in.budget(), std::move(reversed));
  }
  size_t left = kept.seq().items.size();
  return make_generator(&in.budget(), depth, [kept, left](Value& out) mutable {
    if (left == 0) return false;
    out = kept.seq().items[--left];
    return true;
  });
}

Value join(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("join", {"d", "attribute"}, call);
  const std::string separator = args.has(0) ? str_of(in, args[0]) : "";
  const Getter getter(in, args.has(1) ? args[1] : Value::none());
  TextBuilder out(&in.budget());
  Cursor cursor(in, input);
  bool first_item = true;
  for (Value item; cursor.next(item); first_item = false) {
    if (!first_item) out.add(separator);
    write_str(in, out, getter(item));
  }
  return out.finish();
}

Value items(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("items", {}, call);
  if (!input.is_undefined() && !input.is_dict()) throw Fault{"Can only get item pairs from a mapping."};
  size_t at = 0;
  Interpreter* interpreter = &in;
  return make_generator(&in.budget(), input.depth(), [input, at, interpreter](Value& out) mutable {
    if (input.is_undefined() || at >= input.dict().size()) return false;
    const auto& [key, value] = input.dict().entries()[at++];
    out = make_seq(&interpreter->budget(), {key, value}, Seq::Flavor::tuple);
    return true;
  });
}

Value dict_sort(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("dictsort", {"case_sensitive", "by", "reverse"}, call);
  const std::string by = args.has(1) ? args.text(1) : "key";
  if (by != "key" && by != "value") throw Fault{"You can only sort by either \"key\" or \"value\""};
  if (input.is_undefined()) throw Fault{input.undefined_message()};
  if (!input.is_dict()) throw Fault{"'" + std::string(input.type_name()) + "' object has no attribute 'items'"};
  in.budget().expect(input.dict().size() * 128);
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : input.dict().entries()) {
    const Value& sorts_by = by == "key" ? key : value;
    keyed.push_back(Keyed{{args.truth(0, false) ? sorts_by : without_case(in, sorts_by)},
                          make_seq(&in.budget(), {key, value}, Seq::Flavor::tuple)});
  }
  sort_keyed(in, keyed, args.truth(2, false));
  return list_of(in, keyed);
}

Value sort(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("sort", {"reverse", "case_sensitive", "attribute"}, call);
  std::vector<Getter> getters;
  if (args.has_value(2) && args[2].is_string()) {
    std::string_view rest = args[2].text();
    while (true) {
      const size_t comma = rest.find(',');
      getters.emplace_back(in, make_string(&in.budget(), std::string(rest.substr(0, comma))));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    getters.emplace_back(in, args.has(2) ? args[2] : Value::none());
  }
  const bool case_sensitive = args.truth(1, false);
  const std::vector<Value> values = collect(in, input);
  in.budget().expect(values.size() * (sizeof(Keyed) + getters.size() * sizeof(Value)) * 2);
  std::vector<Keyed> keyed;
  for (const Value& value : values) {
    Keyed entry{{}, value};
    for (const Getter& getter : getters) {
      const Value key = getter(value);
      entry.keys.push_back(case_sensitive ? key : without_case(in, key));
    }
    keyed.push_back(std::move(entry));
  }
  sort_keyed(in, keyed, args.truth(0, false));
  return list_of(in, keyed);
}

Value unique(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("unique", {"case_sensitive", "attribute"}, call);
  const bool case_sensitive = args.truth(0, false);
  const Getter getter(in, args.has(1) ? args[1] : Value::none());
  // All items are taken at once; their keys decide in one sorted pass which are first of their kind.
  const std::vector<Value> values = collect(in, input);
  std::vector<Dict::Entry> entries;
  in.budget().expect(values.size() * sizeof(Dict::Entry) * 2);
  for (size_t i = 0; i < values.size(); ++i) {
    const Value key = getter(values[i]);
    entries.emplace_back(case_sensitive ? key : without_case(in, key), Value(static_cast<Int>(i)));
  }
  std::vector<Dict::Entry> backwards(entries.rbegin(), entries.rend());
  const Value firsts = make_dict(&in.budget(), std::move(backwards));  // the last entry wins: the first item
  auto kept = std::make_shared<std::vector<Value>>();
  for (size_t i = 0; i < values.size(); ++i) {
    if (firsts.dict().find(entries[i].first)->integral() == static_cast<Int>(i)) kept->push_back(values[i]);
  }
  size_t at = 0;
  return make_generator(&in.budget(), input.depth(), [kept, at](Value& out) mutable {
    if (at >= kept->size()) return false;
    out = (*kept)[at++];
    return true;
  });
}

template <bool Max>
Value extreme(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args(Max ? "max" : "min", {"case_sensitive", "attribute"}, call);
  const bool case_sensitive = args.truth(0, false);
  const Getter getter(in, args.has(1) ? args[1] : Value::none());
  Cursor cursor(in, input);
  Value best = Value::undefined("No aggregated item, sequence was empty.");
  Value best_key;
  bool any = false;
  for (Value item; cursor.next(item); any = true) {
    Value key = getter(item);
    if (!case_sensitive) key = without_case(in, key);
    if (!any || (Max ? less(in, best_key, key) : less(in, key, best_key))) {
      best = item;
      best_key = std::move(key);
    }
  }
  return best;
}

Value sum(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("sum", {"attribute", "start"}, call);
  const Getter getter(in, args.has(0) ? args[0] : Value::none());
  Value total = args.has(1) ? args[1] : Value::integer(0);
  if (total.is_string()) throw Fault{"sum() can't sum strings [use ''.join(seq) instead]"};
  Cursor cursor(in, input);
  for (Value item; cursor.next(item);)
    total = arithmetic(in, Arithmetic::add, total, getter(item));
  return total;
}

Value batch(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("batch", {"linecount", "fill_with"}, call, 1);
  const Int size = args.integer(0, 1);
  const Value fill = args.has(1) ? args[1] : Value::none();
  const auto cursor = std::make_shared<Cursor>(in, input);
  Interpreter* interpreter = &in;
  auto pending = std::make_shared<std::pair<bool, Value>>(false, Value());
  return make_generator(&in.budget(), input.depth() + 1, [=](Value& out) {
    std::vector<Value> row;
    Charge held(&interpreter->budget(), 0);
    if (std::exchange(pending->first, false)) row.push_back(std::move(pending->second));
    for (Value item; cursor->next(item);) {
      // A row closes when the next item arrives, so that a size of 0 or less gathers everything.
      if (static_cast<Int>(row.size()) == size && !row.empty()) {
        *pending = {true, std::move(item)};
        out = make_seq(&interpreter->budget(), std::move(row));
        return true;
      }
      held.grow_to((row.size() + 1) * sizeof(Value));
      row.push_back(std::move(item));
    }
    if (row.empty()) return false;
    const Int missing = size - static_cast<Int>(row.size());
    if (!fill.is_none() && missing > 0) {
      interpreter->budget().expect(missing > Int{1} << 40 ? SIZE_MAX : static_cast<size_t>(missing) * sizeof(Value));
      interpreter->budget().step(static_cast<uint64_t>(missing));
      row.insert(row.end(), static_cast<size_t>(missing), fill);
    }
    out = make_seq(&interpreter->budget(), std::move(row));
    return true;
  });
}

Value slice(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("slice", {"slices", "fill_with"}, call, 1);
  const Int slices = args.integer(0, 1);
  const Value fill = args.has(1) ? args[1] : Value::none();
  if (slices == 0) throw Fault{"integer division or modulo by zero"};
  const Value all = make_seq(&in.budget(), collect(in, input));
  Interpreter* interpreter = &in;
  Int number = 0;
  Int offset = 0;
  return make_generator(&in.budget(), all.depth() + 1, [=](Value& out) mutable {
    if (number >= slices) return false;
    const auto& values = all.seq().items;
    const auto count = static_cast<Int>(values.size());
    const Int per_slice = count / slices;
    const Int extra = count % slices;
    const Int begin = offset + number * per_slice;
    if (number < extra) ++offset;
    const Int end = offset + (number + 1) * per_slice;
    std::vector<Value> part(values.begin() + static_cast<ptrdiff_t>(begin),
                            values.begin() + static_cast<ptrdiff_t>(end));
    if (!fill.is_none() && number >= extra) part.push_back(fill);
    ++number;
    out = make_seq(&interpreter->budget(), std::move(part));
    return true;
  });
}

Value group_by(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("groupby", {"attribute", "default", "case_sensitive"}, call, 1);
  const Getter getter(in, args[0], args.has(1) ? args[1] : Value::none());
  const bool case_sensitive = args.truth(2, false);
  const std::vector<Value> values = collect(in, input);
  in.budget().expect(values.size() * sizeof(Keyed) * 2);
  std::vector<Keyed> keyed;
  for (const Value& value : values) {
    const Value key = getter(value);
    keyed.push_back(Keyed{{case_sensitive ? key : without_case(in, key)}, value});
  }
  sort_keyed(in, keyed, false);
  std::vector<Value> groups;
  for (size_t begin = 0, end = 0; begin < keyed.size(); begin = end) {
    std::vector<Value> members;
    for (end = begin; end < keyed.size() && equal(in.budget(), keyed[begin].keys[0], keyed[end].keys[0]); ++end) {
      members.push_back(keyed[end].value);
    }
    if (end == begin) members.push_back(keyed[end++].value);  // NaN equals nothing, itself included
    const Value key = getter(members[0]);
    groups.push_back(make_seq(&in.budget(), {key, make_seq(&in.budget(), std::move(members))}, Seq::Flavor::group));
  }
  return make_seq(&in.budget(), std::move(groups));
}

Value attribute(Interpreter& in, const Value& input, CallArgs& call) {
  const Arguments args("attr", {"name"}, call, 1);
  if (input.is_undefined()) throw Fault{input.undefined_message()};
  // Only true attributes: the items of a dict are not looked at.
  if (input.is_dict() && find_collection_method(input, args.text(0)) == nullptr) {
    return Value::undefined("'dict object' has no attribute '" + std::string(base::utf8::prefix(args.text(0), 200)) +
                            "'");
  }
  return get_attribute(in, input, args.text(0));
}

// What `map`, `select` and their like do lazily to each item: `visit` returns false to leave an item out.
template <typename Visit>
Value lazily(Interpreter& in, const Value& input, Visit visit) {
  std::shared_ptr<Cursor> cursor;
  if (!input.is_undefined() && !iterable(input) && truthy(input)) Cursor(in, input);  // says that it is not iterable
  if (iterable(input)) cursor = std::make_shared<Cursor>(in, input);
  Interpreter* interpreter = &in;
  return make_generator(&in.budget(), input.depth(), [=](Value& out) mutable {
    if (!cursor) return false;
    const Interpreter::Level level(*interpreter);
    for (Value item; cursor->next(item);) {
      if (visit(item)) {
        out = std::move(item);
        return true;
      }
    }
    return false;
  });
}

Value map(Interpreter& in, const Value& input, CallArgs& args) {
  Interpreter* interpreter = &in;
  if (args.positional.empty()) {
    const Arguments named("map", {"attribute", "default"}, args);
    if (!named.has(0)) throw Fault{"map requires a filter argument"};
    const Getter getter(in, named[0], named.has(1) ? named[1] : Value::none());
    return lazily(in, input, [getter](Value& item) {
      item = getter(item);
      return true;
    });
  }
  if (!args.positional[0].is_string()) throw Fault{"map: the name of a filter must be a string"};
  const std::string name = args.positional[0].text();
  const Filter filter = find_filter(name);
  CallArgs rest{{args.positional.begin() + 1, args.positional.end()}, args.keyword};
  return lazily(in, input, [=](Value& item) {
    if (filter == nullptr) throw Fault{"no filter named '" + name + "'"};
    CallArgs copy = rest;
    item = filter(*interpreter, item, copy);
    return true;
  });
}

template <bool Attribute, bool Keep>
Value choose(Interpreter& in, const Value& input, CallArgs& args) {
  constexpr size_t offset = Attribute ? 1 : 0;
  if (Attribute && args.positional.empty()) throw Fault{"Missing parameter for attribute name"};
  const Getter getter(in, Attribute ? args.positional[0] : Value::none());
  Interpreter* interpreter = &in;
  if (args.positional.size() <= offset) {
    return lazily(in, input, [getter](Value& item) { return truthy(getter(item)) == Keep; });
  }
  if (!args.positional[offset].is_string()) throw Fault{"the name of a test must be a string"};
  const std::string name = args.positional[offset].text();
  const Test test = find_test(name);
  CallArgs rest{{args.positional.begin() + offset + 1, args.positional.end()}, args.keyword};
  return lazily(in, input, [=](Value& item) {
    if (test == nullptr) throw Fault{"no test named '" + name + "'"};
    CallArgs copy = rest;
    return test(*interpreter, getter(item), copy) == Keep;
  });
}

}  // namespace

void add_sequence_filters(std::unordered_map<std::string_view, Filter>& table) {
  table.insert({{"attr", attribute},
                {"batch", batch},
                {"count", length},
                {"dictsort", dict_sort},
                {"first", first},
                {"groupby", group_by},
                {"items", items},
                {"join", join},
                {"last", last},
                {"length", length},
                {"list", list},
                {"map", map},
                {"max", extreme<true>},
                {"min", extreme<false>},
                {"reject", choose<false, false>},
                {"rejectattr", choose<true, false>},
                {"reverse", reverse},
                {"select", choose<false, true>},
                {"selectattr", choose<true, true>},
                {"slice", slice},
                {"sort", sort},
                {"sum", sum},
                {"unique", unique}});
}

}  // namespace tidemill::text::jinja
