// The tests of `is`.
#include <unordered_map>

#include "text/jinja_eval.hpp"
#include "text/jinja_ops.hpp"
#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

// A test that only looks at its value.
template <auto P>
bool plain(Interpreter&, const Value& value, CallArgs& call) {
  const Arguments args("the test", {}, call);
  return P(value);
}

template <int Rest>
bool parity(Interpreter& in, const Value& value, CallArgs& call) {
  const Arguments args(Rest == 0 ? "even" : "odd", {}, call);
  const Value rest = arithmetic(in, Arithmetic::modulo, value, Value::integer(2));
  return equal(in.budget(), rest, Value::integer(Rest));
}

bool divisible_by(Interpreter& in, const Value& value, CallArgs& call) {
  const Arguments args("divisibleby", {"num"}, call, 1);
  return equal(in.budget(), arithmetic(in, Arithmetic::modulo, value, args[0]), Value::integer(0));
}

template <bool Wanted>
bool equals(Interpreter& in, const Value& value, CallArgs& call) {
  const Arguments args("eq", {"other"}, call, 1);
  return equal(in.budget(), value, args[0]) == Wanted;
}

// Less, less or equal, greater, greater or equal: which orders pass.
template <bool Below, bool Same, bool Above>
bool ordered(Interpreter& in, const Value& value, CallArgs& call) {
  const Arguments args("comparison", {"other"}, call, 1);
  bool unordered = false;
  const int order = compare(in.budget(), value, args[0], unordered);
  return !unordered && ((Below && order < 0) || (Same && order == 0) || (Above && order > 0));
}

bool is_in(Interpreter& in, const Value& value, CallArgs& call) {
  const Arguments args("in", {"seq"}, call, 1);
  return contains(in, args[0], value);
}

bool same_as(Interpreter&, const Value& value, CallArgs& call) {
  const Arguments args("sameas", {"other"}, call, 1);
  return value.same_as(args[0]);
}

template <bool Upper>
bool is_case(Interpreter& in, const Value& value, CallArgs& call) {
  const Arguments args(Upper ? "upper" : "lower", {}, call);
  const std::string text = str_of(in, value);
  in.budget().work(text.size() * 8);
  return is_all(Upper ? "isupper" : "islower", text);
}

template <bool OfFilter>
bool exists(Interpreter&, const Value& value, CallArgs& call) {
  const Arguments args("the test", {}, call);
  if (!value.is_string()) return false;
  return OfFilter ? find_filter(value.text()) != nullptr : find_test(value.text()) != nullptr;
}

bool is_sequence(const Value& value) {
  if (value.is_seq()) {
    const Seq::Flavor flavor = value.seq().flavor;
    return flavor != Seq::Flavor::keys && flavor != Seq::Flavor::values && flavor != Seq::Flavor::items;
  }
  return value.is_string() || value.is_dict() || value.is_undefined();
}

}  // namespace

Test find_test(std::string_view name) {
  static const std::unordered_map<std::string_view, Test> tests = {
      {"boolean", plain<[](const Value& v) { return v.is_bool(); }>},
      {"callable", plain<[](const Value& v) { return v.is_undefined() || (v.is_object() && v.object().callable()); }>},
      {"defined", plain<[](const Value& v) { return !v.is_undefined(); }>},
      {"undefined", plain<[](const Value& v) { return v.is_undefined(); }>},
      {"escaped", plain<[](const Value& v) { return v.is_markup(); }>},
      {"false", plain<[](const Value& v) { return v.is_bool() && !v.boolean(); }>},
      {"true", plain<[](const Value& v) { return v.is_bool() && v.boolean(); }>},
      {"float", plain<[](const Value& v) { return v.is_float(); }>},
      {"integer", plain<[](const Value& v) { return v.is_int(); }>},
      {"iterable", plain<[](const Value& v) { return iterable(v); }>},
      {"mapping", plain<[](const Value& v) { return v.is_dict(); }>},
      {"none", plain<[](const Value& v) { return v.is_none(); }>},
      {"number", plain<[](const Value& v) { return v.is_number(); }>},
      {"sequence", plain<is_sequence>},
      {"string", plain<[](const Value& v) { return v.is_string(); }>},
      {"divisibleby", divisible_by},
      {"even", parity<0>},
      {"odd", parity<1>},
      {"eq", equals<true>},
      {"equalto", equals<true>},
      {"==", equals<true>},
      {"ne", equals<false>},
      {"!=", equals<false>},
      {"lt", ordered<true, false, false>},
      {"lessthan", ordered<true, false, false>},
      {"<", ordered<true, false, false>},
      {"le", ordered<true, true, false>},
      {"<=", ordered<true, true, false>},
      {"gt", ordered<false, false, true>},
      {"greaterthan", ordered<false, false, true>},
      {">", ordered<false, false, true>},
      {"ge", ordered<false, true, true>},
      {">=", ordered<false, true, true>},
      {"in", is_in},
      {"sameas", same_as},
      {"lower", is_case<false>},
      {"upper", is_case<true>},
      {"filter", exists<true>},
      {"test", exists<false>},
  };
  const auto found = tests.find(name);
  return found == tests.end() ? nullptr : found->second;
}

}  // namespace tidemill::text::jinja
