// Python's operations on values: printing, arithmetic, subscripts, iteration, argument binding. Each charges the
// interpreter's budget for what it produces and throws Fault with the words Python or Jinja would use.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_value.hpp"

namespace tidemill::text::jinja {

// str(value), as {{ value }} prints it; undefined prints as nothing.
void write_str(Interpreter& in, TextBuilder& out, const Value& value);
// repr(value), as it appears inside printed lists and dicts.
void write_repr(Interpreter& in, TextBuilder& out, const Value& value);
// str(value) as a string value (a string is returned as it is, markup included).
Value to_str(Interpreter& in, const Value& value);
std::string str_of(Interpreter& in, const Value& value);
std::string repr_of(Interpreter& in, const Value& value);
std::string format_int(Int value);
// Python's repr of a float: the shortest digits that read back.
std::string format_float(double value);
void write_quoted(TextBuilder& out, std::string_view text);  // repr of a str

// json.dumps with these settings.
struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool pretty = false;  // one item a line, each level indented by `indent`
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
void write_json(Interpreter& in, TextBuilder& out, const Value& value, const JsonStyle& style);

enum class Arithmetic : uint8_t { add, subtract, multiply, divide, floor_divide, modulo, power };
Value arithmetic(Interpreter& in, Arithmetic op, const Value& left, const Value& right);
Value negate(const Value& value);
Value positive(const Value& value);
bool contains(Interpreter& in, const Value& container, const Value& item);

// value.name and value[key] under the sandbox's rules; undefined where there is nothing.
Value get_attribute(Interpreter& in, const Value& value, std::string_view name);
Value get_item(Interpreter& in, const Value& value, const Value& key);
// value[start:stop:step]; each bound an integer or None.
Value get_slice(Interpreter& in, const Value& value, const Value& start, const Value& stop, const Value& step);

// Python's int(): throws where the value is no integer.
Int to_index(const Value& value, std::string_view what);
// The repr of a range.
std::string range_note(Int start, Int stop, Int step);
// len(value), or throws.
size_t length_of(const Value& value);
// HTML-escapes & < > ' ".
std::string escape_html(Interpreter& in, std::string_view text);

// Walks what Python could iterate: sequences, strings by character, dicts by key, generators.
class Cursor {
 public:
  Cursor(Interpreter& in, Value source);  // throws if the value is not iterable
  bool next(Value& out);

 private:
  Interpreter& in_;
  Value source_;
  size_t position_ = 0;
};
bool iterable(const Value& value);
std::vector<Value> collect(Interpreter& in, const Value& value);

// Binds the arguments of a call to parameter names, Python's way.
class Arguments {
 public:
  // The first `required` of `names` must be given. Throws TypeError's words otherwise.
  Arguments(std::string_view function, std::initializer_list<std::string_view> names, const CallArgs& args,
            size_t required = 0);
  bool has(size_t index) const { return bound_[index] != nullptr; }
  // Given and not None.
  bool has_value(size_t index) const { return has(index) && !bound_[index]->is_none(); }
  const Value& operator[](size_t index) const { return *bound_[index]; }
  Int integer(size_t index, Int otherwise) const;
  bool truth(size_t index, bool otherwise) const;
  // Throws unless the argument is a string.
  const std::string& text(size_t index) const;

 private:
  std::string_view function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> bound_;
};

// A function or method that is not written in the template.
using Native = Value (*)(Interpreter& in, const Value& self, CallArgs& args);
Value make_native(Interpreter& in, std::string_view name, Native function, Value self, bool method);

// Methods of Python's types (jinja_methods.cpp, jinja_string.cpp); null if there is no such method.
Native find_string_method(std::string_view name);
Native find_collection_method(const Value& value, std::string_view name);

}  // namespace tidemill::text::jinja
