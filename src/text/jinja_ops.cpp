#include "text/jinja_ops.hpp"

#include <algorithm>
#include <cmath>

#include "base/utf8.hpp"
#include "text/jinja_change.hpp"
#include "text/jinja_eval.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

[[noreturn]] void overflow() {
  throw Fault{"an integer does not fit 128 bits", base::ErrorCode::too_large};
}

[[noreturn]] void unsupported_operands(std::string_view op, const Value& a, const Value& b) {
  throw Fault{"unsupported operand type(s) for " + std::string(op) + ": '" + std::string(a.type_name()) + "' and '" +
              std::string(b.type_name()) + "'"};
}

constexpr std::string_view symbol(Arithmetic op) {
  switch (op) {
    case Arithmetic::add:
      return "+";
    case Arithmetic::subtract:
      return "-";
    case Arithmetic::multiply:
      return "*";
    case Arithmetic::divide:
      return "/";
    case Arithmetic::floor_divide:
      return "//";
    case Arithmetic::modulo:
      return "%";
    case Arithmetic::power:
      return "** or pow()";
  }
  return "?";
}

Int floor_divide(Int a, Int b) {
  if (b == -1) {
    Int result = 0;
    if (__builtin_sub_overflow(Int{0}, a, &result)) overflow();
    return result;
  }
  const Int quotient = a / b;
  return (a % b != 0 && ((a < 0) != (b < 0))) ? quotient - 1 : quotient;
}

Int modulo(Int a, Int b) {
  if (b == -1) return 0;
  const Int rest = a % b;
  return (rest != 0 && ((rest < 0) != (b < 0))) ? rest + b : rest;
}

double float_modulo(double a, double b) {
  double rest = std::fmod(a, b);
  if (rest != 0.0) {
    if ((b < 0) != (rest < 0)) rest += b;
  } else {
    rest = std::copysign(0.0, b);
  }
  return rest;
}

double float_floor_divide(double a, double b) {
  const double quotient = (a - float_modulo(a, b)) / b;
  if (quotient == 0.0) return std::copysign(0.0, a / b);
  const double floor = std::floor(quotient);
  return quotient - floor > 0.5 ? floor + 1.0 : floor;
}

Value power(const Value& a, const Value& b) {
  if (a.is_float() || b.is_float() || b.integral() < 0) {
    if (a.number() == 0.0 && b.number() < 0) throw Fault{"0.0 cannot be raised to a negative power"};
    const double result = std::pow(a.number(), b.number());
    if (std::isnan(result) && !std::isnan(a.number()) && !std::isnan(b.number())) {
      throw Fault{"a negative number to a fractional power is not a real number"};
    }
    if (std::isinf(result) && std::isfinite(a.number()) && std::isfinite(b.number())) {
      throw Fault{"numerical result out of range"};
    }
    return result;
  }
  Int base = a.integral();
  Int exponent = b.integral();
  Int result = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) overflow();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
      overflow();
    }
  }
  return result;
}

Value number_arithmetic(Arithmetic op, const Value& a, const Value& b) {
  const bool divides = op == Arithmetic::divide || op == Arithmetic::floor_divide || op == Arithmetic::modulo;
  if (divides && b.number() == 0.0) {
    throw Fault{a.is_float() || b.is_float() ? "float division by zero" : "division by zero"};
  }
  if (op == Arithmetic::power) return power(a, b);
  if (op == Arithmetic::divide) return a.number() / b.number();
  if (a.is_float() || b.is_float()) {
    const double x = a.number();
    const double y = b.number();
    switch (op) {
      case Arithmetic::add:
        return x + y;
      case Arithmetic::subtract:
        return x - y;
      case Arithmetic::multiply:
        return x * y;
      case Arithmetic::floor_divide:
        return float_floor_divide(x, y);
      default:
        return float_modulo(x, y);
    }
  }
  const Int x = a.integral();
  const Int y = b.integral();
  Int result = 0;
  switch (op) {
    case Arithmetic::add:
      if (__builtin_add_overflow(x, y, &result)) overflow();
      return result;
    case Arithmetic::subtract:
      if (__builtin_sub_overflow(x, y, &result)) overflow();
      return result;
    case Arithmetic::multiply:
      if (__builtin_mul_overflow(x, y, &result)) overflow();
      return result;
    case Arithmetic::floor_divide:
      return floor_divide(x, y);
    default:
      return modulo(x, y);
  }
}

Value add_strings(Interpreter& in, const Value& a, const Value& b) {
  const bool markup = a.is_markup() || b.is_markup();
  TextBuilder out(&in.budget());
  out.add(markup && !a.is_markup() ? escape_html(in, a.text()) : a.text());
  out.add(markup && !b.is_markup() ? escape_html(in, b.text()) : b.text());
  return out.finish(markup);
}

Value repeat(Interpreter& in, const Value& value, Int times) {
  const size_t length = value.is_string() ? value.text().size() : value.seq().items.size() * sizeof(Value);
  if (times < 0) times = 0;
  if (length > 0 && times > static_cast<Int>(SIZE_MAX / 4 / length)) times = static_cast<Int>(SIZE_MAX / 4 / length);
  const size_t count = length == 0 ? 0 : static_cast<size_t>(times);
  in.budget().expect(length * count);
  in.budget().work(length * count);
  if (value.is_string()) {
    std::string text;
    text.reserve(length * count);
    for (size_t i = 0; i < count; ++i)
      text += value.text();
    return make_string(&in.budget(), std::move(text), value.is_markup());
  }
  std::vector<Value> items;
  items.reserve(value.seq().items.size() * count);
  for (size_t i = 0; i < count; ++i) {
    items.insert(items.end(), value.seq().items.begin(), value.seq().items.end());
  }
  return make_seq(&in.budget(), std::move(items), value.is_tuple() ? Seq::Flavor::tuple : Seq::Flavor::list);
}

bool repeatable(const Value& value) {
  return value.is_string() || value.is_seq(Seq::Flavor::list) || value.is_tuple();
}

std::string item_name(Interpreter& in, const Value& value, const Value& key) {
  if (value.is_undefined()) return value.undefined_message();
  std::string type(value.type_name());
  if (value.is_none()) type = "None";
  if (!value.is_none()) type += " object";
  if (key.is_string())
    return "'" + type + "' has no attribute '" + std::string(base::utf8::prefix(key.text(), 200)) + "'";
  return "'" + type + "' has no element " + std::string(base::utf8::prefix(repr_of(in, key), 200));
}

Value unsafe_attribute(const Value& value, std::string_view name) {
  return Value::undefined("access to attribute '" + std::string(name) + "' of '" + std::string(value.type_name()) +
                          "' object is unsafe.");
}

// Methods that would change their list or dict, which the immutable sandbox forbids.
bool mutates(const Value& value, std::string_view name) {
  static constexpr std::array<std::string_view, 5> of_dict = {"clear", "pop", "popitem", "setdefault", "update"};
  static constexpr std::array<std::string_view, 8> of_list = {"append", "clear", "pop",    "reverse",
                                                              "insert", "sort",  "extend", "remove"};
  if (value.is_dict()) return std::find(of_dict.begin(), of_dict.end(), name) != of_dict.end();
  return value.is_seq(Seq::Flavor::list) && std::find(of_list.begin(), of_list.end(), name) != of_list.end();
}

// Python's getattr: false if there is no such attribute.
bool own_attribute(Interpreter& in, const Value& value, std::string_view name, Value& out) {
  if (value.is_object() && value.object().attribute(in, name, out)) return true;
  if (mutates(value, name)) {
    const Native change = in.lenient() ? find_change(value, name) : nullptr;
    out = change != nullptr ? make_native(in, name, change, value, true) : unsafe_attribute(value, name);
    return true;
  }
  if (value.is_seq(Seq::Flavor::group) && (name == "grouper" || name == "list")) {
    out = value.seq().items[name == "grouper" ? 0 : 1];
    return true;
  }
  if (value.is_number() && (name == "real" || name == "numerator")) {
    if (value.is_float() && name == "numerator") return false;
    out = value.is_bool() ? Value(value.integral()) : value;
    return true;
  }
  const Native method = value.is_string() ? find_string_method(name) : find_collection_method(value, name);
  if (method == nullptr) return false;
  out = make_native(in, name, method, value, true);
  return true;
}

// Python's value[key]: false for TypeError and LookupError.
bool own_item(Interpreter& in, const Value& value, const Value& key, Value& out) {
  if (value.is_dict()) {
    if (key.is_dict() || key.is_generator() || (key.is_seq() && !key.is_tuple())) return false;
    const Value* found = value.dict().find(key);
    if (found == nullptr) return false;
    out = *found;
    return true;
  }
  const bool indexable =
      value.is_string() || value.is_seq(Seq::Flavor::list) || value.is_tuple() || value.is_seq(Seq::Flavor::range);
  if (!indexable || !key.is_integral()) return false;
  const auto length = static_cast<Int>(length_of(value));
  Int index = key.integral();
  if (index < 0) index += length;
  if (index < 0 || index >= length) return false;
  if (!value.is_string()) {
    out = value.seq().items[static_cast<size_t>(index)];
    return true;
  }
  const std::string& text = value.text();
  const bool ascii = value.str().length == text.size();
  if (!ascii) in.budget().work(static_cast<size_t>(index) * 4);
  const size_t at = ascii ? static_cast<size_t>(index) : byte_position(text, static_cast<size_t>(index));
  out = make_string(&in.budget(), text.substr(at, character_bytes(text[at])), value.is_markup());
  return true;
}

}  // namespace

Value arithmetic(Interpreter& in, Arithmetic op, const Value& left, const Value& right) {
  in.budget().step();
  if (left.is_undefined()) throw Fault{left.undefined_message()};
  if (op == Arithmetic::modulo && left.is_string()) return format_percent(in, left, right);
  if (right.is_undefined()) throw Fault{right.undefined_message()};
  if (left.is_number() && right.is_number()) return number_arithmetic(op, left, right);
  if (op == Arithmetic::add) {
    if (left.is_string() && right.is_string()) return add_strings(in, left, right);
    const bool lists = left.is_seq(Seq::Flavor::list) && right.is_seq(Seq::Flavor::list);
    if (lists || (left.is_tuple() && right.is_tuple())) {
      const size_t length = left.seq().items.size() + right.seq().items.size();
      in.budget().expect(length * sizeof(Value));
      in.budget().step(length);
      std::vector<Value> items = left.seq().items;
      items.insert(items.end(), right.seq().items.begin(), right.seq().items.end());
      return make_seq(&in.budget(), std::move(items), lists ? Seq::Flavor::list : Seq::Flavor::tuple);
    }
    for (const std::string_view kind : {"str", "list", "tuple"}) {
      if (left.type_name() == kind) {
        throw Fault{"can only concatenate " + std::string(kind) + " (not \"" + std::string(right.type_name()) +
                    "\") to " + std::string(kind)};
      }
    }
  }
  if (op == Arithmetic::multiply) {
    if (repeatable(left) && right.is_integral()) return repeat(in, left, right.integral());
    if (left.is_integral() && repeatable(right)) return repeat(in, right, left.integral());
  }
  unsupported_operands(symbol(op), left, right);
}

Value negate(const Value& value) {
  if (value.is_float()) return -value.number();
  if (value.is_integral()) {
    Int result = 0;
    if (__builtin_sub_overflow(Int{0}, value.integral(), &result)) overflow();
    return result;
  }
  if (value.is_undefined()) throw Fault{value.undefined_message()};
  throw Fault{"bad operand type for unary -: '" + std::string(value.type_name()) + "'"};
}

Value positive(const Value& value) {
  if (value.is_float()) return value;
  if (value.is_integral()) return value.integral();
  if (value.is_undefined()) throw Fault{value.undefined_message()};
  throw Fault{"bad operand type for unary +: '" + std::string(value.type_name()) + "'"};
}

bool contains(Interpreter& in, const Value& container, const Value& item) {
  in.budget().step();
  if (container.is_string()) {
    if (item.is_undefined()) throw Fault{"'in <string>' requires string as left operand, not Undefined"};
    if (!item.is_string()) {
      throw Fault{"'in <string>' requires string as left operand, not " + std::string(item.type_name())};
    }
    return find_text(in, container.text(), item.text(), 0) != std::string::npos;
  }
  if (container.is_dict()) {
    require_hashable(item);
    return container.dict().find(item) != nullptr;
  }
  if (container.is_seq()) {
    for (const Value& candidate : container.seq().items) {
      if (candidate.same_as(item) || equal(in.budget(), candidate, item)) return true;
    }
    return false;
  }
  if (!iterable(container)) {
    throw Fault{"argument of type '" + std::string(container.type_name()) + "' is not iterable"};
  }
  Cursor cursor(in, container);
  Value candidate;
  while (cursor.next(candidate)) {
    if (equal(in.budget(), candidate, item)) return true;
  }
  return false;
}

Value get_attribute(Interpreter& in, const Value& value, std::string_view name) {
  in.budget().step();
  if (value.is_undefined() && in.lenient()) return value;
  if (value.is_undefined()) throw Fault{value.undefined_message()};
  if (name.starts_with("__")) return unsafe_attribute(value, name);
  Value out;
  if (own_attribute(in, value, name, out)) return out;
  if (value.is_dict()) {
    const Value* found = value.dict().find(name);
    if (found != nullptr) return *found;
  }
  return Value::undefined(item_name(in, value, make_string(nullptr, std::string(name))));
}

Value get_item(Interpreter& in, const Value& value, const Value& key) {
  in.budget().step();
  if (value.is_undefined() && in.lenient()) return value;
  if (value.is_undefined()) throw Fault{value.undefined_message()};
  Value out;
  if (own_item(in, value, key, out)) return out;
  if (key.is_string()) {
    if (key.text().starts_with("__")) return unsafe_attribute(value, key.text());
    if (own_attribute(in, value, key.text(), out)) return out;
  }
  return Value::undefined(item_name(in, value, key));
}

Value get_slice(Interpreter& in, const Value& value, const Value& start, const Value& stop, const Value& step) {
  in.budget().step();
  if (value.is_undefined()) throw Fault{value.undefined_message()};
  const bool sliceable =
      value.is_string() || value.is_seq(Seq::Flavor::list) || value.is_tuple() || value.is_seq(Seq::Flavor::range);
  if (!sliceable) throw Fault{"'" + std::string(value.type_name()) + "' object cannot be sliced"};
  const auto length = static_cast<Int>(length_of(value));
  for (const Value* bound : {&start, &stop, &step}) {
    if (bound->is_undefined()) throw Fault{bound->undefined_message()};
    if (!bound->is_none() && !bound->is_integral()) {
      throw Fault{"slice indices must be integers or None, not '" + std::string(bound->type_name()) + "'"};
    }
  }
  const Int stride = step.is_none() ? 1 : step.integral();
  if (stride == 0) throw Fault{"slice step cannot be zero"};
  const Int lowest = stride < 0 ? -1 : 0;
  const Int highest = stride < 0 ? length - 1 : length;
  const auto clip = [&](const Value& bound, Int otherwise) {
    if (bound.is_none()) return otherwise;
    Int at = bound.integral();
    if (at < 0) at = at < -length ? -1 : at + length;  // -1: before the beginning, clipped below
    return std::clamp(at, lowest, highest);
  };
  const Int from = clip(start, stride < 0 ? highest : lowest);
  const Int to = clip(stop, stride < 0 ? lowest : highest);
  const Int reach = stride < 0 ? from - to : to - from;
  const Int stride_size = stride < 0 ? -std::max(stride, -length - 1) : std::min(stride, length + 1);
  const auto count = static_cast<size_t>(reach <= 0 ? 0 : (reach + stride_size - 1) / stride_size);
  const Int advance = stride < 0 ? -stride_size : stride_size;

  if (!value.is_string()) {
    in.budget().expect(count * sizeof(Value));
    std::vector<Value> items;
    items.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      items.push_back(value.seq().items[static_cast<size_t>(from + static_cast<Int>(i) * advance)]);
    }
    if (value.is_seq(Seq::Flavor::range)) {
      const auto& all = value.seq().items;
      const Int unit = all.size() > 1 ? all[1].integral() - all[0].integral() : 1;
      const Int base = all.empty() ? 0 : all[0].integral();
      std::string note = range_note(base + from * unit, base + to * unit, unit * advance);
      return make_seq(&in.budget(), std::move(items), Seq::Flavor::range, std::move(note));
    }
    return make_seq(&in.budget(), std::move(items), value.is_tuple() ? Seq::Flavor::tuple : Seq::Flavor::list);
  }
  const std::string& text = value.text();
  in.budget().work(text.size());
  if (count == 0) return make_string(&in.budget(), "", value.is_markup());
  if (advance == 1) {
    const bool ascii = value.str().length == text.size();
    const size_t begin = ascii ? static_cast<size_t>(from) : byte_position(text, static_cast<size_t>(from));
    const std::string_view rest = std::string_view(text).substr(begin);
    in.budget().expect(rest.size());
    return make_string(&in.budget(), std::string(rest.substr(0, ascii ? count : byte_position(rest, count))),
                       value.is_markup());
  }
  in.budget().expect(text.size() * (1 + sizeof(size_t)));
  std::vector<size_t> starts;
  starts.reserve(value.str().length);
  for (size_t i = 0; i < text.size(); i += character_bytes(text[i]))
    starts.push_back(i);
  std::string out;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = starts[static_cast<size_t>(from + static_cast<Int>(i) * advance)];
    out.append(text, at, character_bytes(text[at]));
  }
  return make_string(&in.budget(), std::move(out), value.is_markup());
}

Int to_index(const Value& value, std::string_view what) {
  if (value.is_undefined()) throw Fault{value.undefined_message()};
  if (!value.is_integral()) {
    throw Fault{std::string(what) + " must be an integer, not '" + std::string(value.type_name()) + "'"};
  }
  return value.integral();
}

std::string range_note(Int start, Int stop, Int step) {
  return "range(" + format_int(start) + ", " + format_int(stop) + (step == 1 ? ")" : ", " + format_int(step) + ")");
}

size_t length_of(const Value& value) {
  if (value.is_string()) return value.str().length;
  if (value.is_seq()) return value.seq().items.size();
  if (value.is_dict()) return value.dict().size();
  if (value.is_undefined()) return 0;
  throw Fault{"object of type '" + std::string(value.type_name()) + "' has no len()"};
}

std::string escape_html(Interpreter& in, std::string_view text) {
  TextBuilder out(&in.budget());
  for (const char c : text) {
    switch (c) {
      case '&':
        out.add("&amp;");
        break;
      case '<':
        out.add("&lt;");
        break;
      case '>':
        out.add("&gt;");
        break;
      case '\'':
        out.add("&#39;");
        break;
      case '"':
        out.add("&#34;");
        break;
      default:
        out.add(c);
    }
  }
  return out.take();
}

bool iterable(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_seq() || value.is_dict() || value.is_generator();
}

Cursor::Cursor(Interpreter& in, Value source) : in_(in), source_(std::move(source)) {
  if (!iterable(source_)) throw Fault{"'" + std::string(source_.type_name()) + "' object is not iterable"};
}

bool Cursor::next(Value& out) {
  in_.budget().step();
  if (source_.is_seq()) {
    if (position_ >= source_.seq().items.size()) return false;
    out = source_.seq().items[position_++];
    return true;
  }
  if (source_.is_dict()) {
    if (position_ >= source_.dict().size()) return false;
    out = source_.dict().entries()[position_++].first;
    return true;
  }
  if (source_.is_string()) {
    const std::string& text = source_.text();
    if (position_ >= text.size()) return false;
    const size_t bytes = character_bytes(text[position_]);
    out = make_string(&in_.budget(), text.substr(position_, bytes));
    position_ += bytes;
    return true;
  }
  return source_.is_generator() && source_.generator().next(out);
}

std::vector<Value> collect(Interpreter& in, const Value& value) {
  if (value.is_seq()) {
    in.budget().expect(value.seq().items.size() * sizeof(Value));
    in.budget().step(1 + value.seq().items.size() / 4);
    return value.seq().items;
  }
  Cursor cursor(in, value);
  std::vector<Value> items;
  Charge held(&in.budget(), 0);
  Value item;
  while (cursor.next(item)) {
    held.grow_to((items.size() + 1) * sizeof(Value));
    items.push_back(std::move(item));
  }
  return items;
}

Arguments::Arguments(std::string_view function, std::initializer_list<std::string_view> names, const CallArgs& args,
                     size_t required)
    : function_(function), names_(names), bound_(names.size(), nullptr) {
  const std::string called = std::string(function) + "()";
  if (args.positional.size() > names_.size()) {
    throw Fault{called + " takes at most " + std::to_string(names_.size()) + " arguments, " +
                std::to_string(args.positional.size()) + " were given"};
  }
  for (size_t i = 0; i < args.positional.size(); ++i)
    bound_[i] = &args.positional[i];
  for (const auto& [name, value] : args.keyword) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    if (found == names_.end())
      throw Fault{std::string(called).append(" got an unexpected keyword argument '").append(name).append("'")};
    const Value*& slot = bound_[static_cast<size_t>(found - names_.begin())];
    if (slot != nullptr)
      throw Fault{std::string(called).append(" got multiple values for argument '").append(name).append("'")};
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound_[i] == nullptr) {
      throw Fault{called + " is missing its argument '" + std::string(names_[i]) + "'"};
    }
  }
}

Int Arguments::integer(size_t index, Int otherwise) const {
  return has(index) ? to_index(*bound_[index], std::string(function_) + "(): " + std::string(names_[index]))
                    : otherwise;
}

bool Arguments::truth(size_t index, bool otherwise) const {
  return has(index) ? truthy(*bound_[index]) : otherwise;
}

const std::string& Arguments::text(size_t index) const {
  const Value& value = *bound_[index];
  if (value.is_undefined()) throw Fault{value.undefined_message()};
  if (!value.is_string()) {
    throw Fault{std::string(function_) + "(): " + std::string(names_[index]) + " must be str, not " +
                std::string(value.type_name())};
  }
  return value.text();
}

}  // namespace tidemill::text::jinja
