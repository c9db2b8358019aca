#include "text/jinja_value.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tidemill::text::jinja {
namespace {

int deepest(const std::vector<Value>& items) {
  int depth = 0;
  for (const Value& item : items)
    depth = std::max(depth, item.depth());
  return depth;
}

int checked_depth(int inner) {
  if (inner + 1 > max_nesting) {
    throw Fault{"values are nested more than " + std::to_string(max_nesting) + " levels deep",
                base::ErrorCode::too_large};
  }
  return inner + 1;
}

// Keys that compare equal in Python share a rank: True, 1 and 1.0 are one key.
int key_rank(const Value& key) {
  if (key.is_number()) return 0;
  if (key.is_string()) return 1;
  if (key.is_none()) return 2;
  if (key.is_seq()) return 3;
  return 4;
}

template <typename T>
int three_way(const T& a, const T& b) {
  return a < b ? -1 : b < a ? 1 : 0;
}

int compare_numbers(const Value& a, const Value& b) {
  if (!a.is_float() && !b.is_float()) return three_way(a.integral(), b.integral());
  return three_way(a.number(), b.number());
}

// A total order of hashable keys; NaN is one key, before all other numbers.
int compare_keys(const Value& a, const Value& b) {
  if (const int rank = three_way(key_rank(a), key_rank(b)); rank != 0) return rank;
  switch (key_rank(a)) {
    case 0: {
      const bool a_nan = a.is_float() && std::isnan(a.number());
      const bool b_nan = b.is_float() && std::isnan(b.number());
      return a_nan || b_nan ? three_way(b_nan, a_nan) : compare_numbers(a, b);
    }
    case 1:
      return a.text().compare(b.text());
    case 2:
      return 0;
    case 3: {
      const auto& left = a.seq().items;
      const auto& right = b.seq().items;
      for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
        if (const int order = compare_keys(left[i], right[i]); order != 0) return order;
      }
      return three_way(left.size(), right.size());
    }
    default:
      return a.is_undefined() || b.is_undefined() ? three_way(a.is_undefined(), b.is_undefined())
                                                  : three_way(&a.object(), &b.object());
  }
}

}  // namespace

void Budget::out_of_steps() {
  overrun_ = true;
  throw Fault{"the template takes too many steps to render", base::ErrorCode::too_large};
}
void Budget::out_of_memory() {
  throw Fault{"the template needs too much memory to render", base::ErrorCode::too_large};
}

bool Object::attribute(Interpreter&, std::string_view, Value&) {
  return false;
}
Value Object::call(Interpreter&, CallArgs&) {
  throw Fault{"'" + std::string(type_name()) + "' object is not callable"};
}

Value Value::none() {
  Value value;
  value.state_ = None{};
  return value;
}

Value Value::undefined(std::string message) {
  Value value;
  value.state_ = Undefined{std::make_shared<const UndefinedInfo>(UndefinedInfo{std::move(message)})};
  return value;
}

std::string Value::undefined_message() const {
  const auto& info = std::get<Undefined>(state_).info;
  return info ? info->message : "the value is undefined";
}

std::string_view Value::type_name() const {
  struct Namer {
    std::string_view operator()(const Undefined&) const { return "Undefined"; }
    std::string_view operator()(const None&) const { return "NoneType"; }
    std::string_view operator()(bool) const { return "bool"; }
    std::string_view operator()(Int) const { return "int"; }
    std::string_view operator()(double) const { return "float"; }
    std::string_view operator()(const std::shared_ptr<const Str>& s) const { return s->markup ? "Markup" : "str"; }
    std::string_view operator()(const std::shared_ptr<const Seq>& s) const {
      switch (s->flavor) {
        case Seq::Flavor::list:
          return "list";
        case Seq::Flavor::tuple:
          return "tuple";
        case Seq::Flavor::group:
          return "_GroupTuple";
        case Seq::Flavor::range:
          return "range";
        case Seq::Flavor::keys:
          return "dict_keys";
        case Seq::Flavor::values:
          return "dict_values";
        case Seq::Flavor::items:
          return "dict_items";
      }
      return "list";
    }
    std::string_view operator()(const std::shared_ptr<const Dict>&) const { return "dict"; }
    std::string_view operator()(const std::shared_ptr<Generator>&) const { return "generator"; }
    std::string_view operator()(const std::shared_ptr<Object>& o) const { return o->type_name(); }
  };
  return std::visit(Namer{}, state_);
}

int Value::depth() const {
  if (is_seq()) return seq().depth;
  if (is_dict()) return dict().depth();
  if (is_generator()) return generator().depth;
  if (is_object()) return object().depth();
  return 0;
}

bool Value::same_as(const Value& other) const {
  if (state_.index() != other.state_.index()) return false;
  if (is_string()) return &str() == &other.str();
  if (is_seq()) return &seq() == &other.seq();
  if (is_dict()) return &dict() == &other.dict();
  if (is_generator()) return &generator() == &other.generator();
  if (is_object()) return &object() == &other.object();
  if (is_bool()) return boolean() == other.boolean();
  // CPython keeps one object for each of these integers.
  if (is_int()) return integral() == other.integral() && integral() >= -5 && integral() <= 256;
  return is_none();
}

Dict::Dict(Budget* budget, std::vector<Entry> entries)
    : entries_(std::move(entries)), charge_(budget, sizeof(Dict) + entries_.size() * (sizeof(Entry) + 8)) {
  if (budget != nullptr) budget->step(1 + entries_.size());
  int inner = 0;
  for (const Entry& entry : entries_) {
    require_hashable(entry.first);
    inner = std::max({inner, entry.first.depth(), entry.second.depth()});
  }
  depth_ = checked_depth(inner);
  order_.resize(entries_.size());
  std::iota(order_.begin(), order_.end(), 0U);
  const auto less = [this](uint32_t a, uint32_t b) { return compare_keys(entries_[a].first, entries_[b].first) < 0; };
  std::stable_sort(order_.begin(), order_.end(), less);
  bool repeated = false;
  for (size_t i = 1; i < order_.size() && !repeated; ++i)
    repeated = !less(order_[i - 1], order_[i]);
  if (!repeated) return;

  std::vector<bool> dropped(entries_.size(), false);
  for (size_t begin = 0, end = 0; begin < order_.size(); begin = end) {
    for (end = begin + 1; end < order_.size() && !less(order_[begin], order_[end]); ++end)
      dropped[order_[end]] = true;
    if (end - begin > 1) entries_[order_[begin]].second = entries_[order_[end - 1]].second;
  }
  size_t kept = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!dropped[i]) {
      if (kept != i) entries_[kept] = std::move(entries_[i]);
      ++kept;
    }
  }
  entries_.resize(kept);
  sort_keys();
}

void Dict::sort_keys() {
  order_.resize(entries_.size());
  std::iota(order_.begin(), order_.end(), 0U);
  std::sort(order_.begin(), order_.end(),
            [this](uint32_t a, uint32_t b) { return compare_keys(entries_[a].first, entries_[b].first) < 0; });
}

void Dict::set(Value key, Value value) {
  depth_ = std::max(depth_, checked_depth(std::max(key.depth(), value.depth())));
  const auto held = std::find_if(entries_.begin(), entries_.end(),
                                 [&](const Entry& entry) { return compare_keys(entry.first, key) == 0; });
  if (held != entries_.end()) {
    held->second = std::move(value);
    return;
  }
  charge_.grow_to(sizeof(Dict) + (entries_.size() + 1) * (sizeof(Entry) + 8));
  entries_.emplace_back(std::move(key), std::move(value));
  sort_keys();
}

void Dict::erase(const Value& key) {
  entries_.erase(std::remove_if(entries_.begin(), entries_.end(),
                                [&](const Entry& entry) { return compare_keys(entry.first, key) == 0; }),
                 entries_.end());
  sort_keys();
}

void Dict::clear() {
  entries_.clear();
  order_.clear();
}

template <typename Compare>
const Value* Dict::search(Compare compare) const {
  size_t low = 0;
  size_t high = order_.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    const Entry& entry = entries_[order_[middle]];
    const int order = compare(entry.first);
    if (order == 0) return &entry.second;
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return nullptr;
}

const Value* Dict::find(const Value& key) const {
  return search([&key](const Value& candidate) { return compare_keys(candidate, key); });
}

const Value* Dict::find(std::string_view key) const {
  return search([key](const Value& candidate) {
    return candidate.is_string() ? std::string_view(candidate.text()).compare(key) : three_way(key_rank(candidate), 1);
  });
}

void require_hashable(const Value& key) {
  const bool frozen = key.is_tuple() || key.is_seq(Seq::Flavor::range);
  if (key.is_dict() || key.is_generator() || (key.is_seq() && !frozen)) {
    throw Fault{"unhashable type: '" + std::string(key.type_name()) + "'"};
  }
  if (frozen) {
    for (const Value& item : key.seq().items)
      require_hashable(item);
  }
}

Value make_string(Budget* budget, std::string text, bool markup) {
  if (budget != nullptr) budget->work(text.size());
  const size_t length = code_points(text);
  const size_t bytes = sizeof(Str) + 16 + text.size();
  return std::shared_ptr<const Str>(new Str{std::move(text), length, markup, Charge(budget, bytes)});
}

Value make_seq(Budget* budget, std::vector<Value> items, Seq::Flavor flavor, std::string note) {
  if (budget != nullptr) budget->step(1 + items.size() / 4);
  const int depth = checked_depth(deepest(items));
  const size_t bytes = sizeof(Seq) + 16 + items.size() * sizeof(Value);
  return std::shared_ptr<const Seq>(new Seq{flavor, std::move(items), depth, std::move(note), Charge(budget, bytes)});
}

Value make_dict(Budget* budget, std::vector<Dict::Entry> entries) {
  return std::shared_ptr<const Dict>(std::make_shared<Dict>(budget, std::move(entries)));
}

Value make_generator(Budget* budget, int source_depth, std::function<bool(Value&)> next) {
  const int depth = checked_depth(source_depth);
  return std::shared_ptr<Generator>(new Generator{std::move(next), depth, Charge(budget, sizeof(Generator) + 256)});
}

Value from_json(Budget* budget, const base::json::value& json, int level) {
  (void)checked_depth(level);
  switch (json.kind()) {
    case base::json::kind::null:
      return Value::none();
    case base::json::kind::bool_:
      return Value(json.get_bool());
    case base::json::kind::int64:
      return Value(static_cast<Int>(json.get_int64()));
    case base::json::kind::uint64:
      return Value(static_cast<Int>(json.get_uint64()));
    case base::json::kind::double_:
      return Value(json.get_double());
    case base::json::kind::string:
      return make_string(budget, std::string(json.get_string()));
    case base::json::kind::array: {
      std::vector<Value> items;
      items.reserve(json.get_array().size());
      for (const auto& item : json.get_array())
        items.push_back(from_json(budget, item, level + 1));
      return make_seq(budget, std::move(items));
    }
    case base::json::kind::object: {
      std::vector<Dict::Entry> entries;
      entries.reserve(json.get_object().size());
      for (const auto& member : json.get_object()) {
        entries.emplace_back(make_string(budget, std::string(member.key())),
                             from_json(budget, member.value(), level + 1));
      }
      return make_dict(budget, std::move(entries));
    }
  }
  return Value::none();
}

void TextBuilder::add(size_t count, char c) {
  if (budget_ != nullptr) {
    budget_->expect(count);
    budget_->work(count);
  }
  if (count > text_.capacity() - text_.size()) grow(count);
  text_.append(count, c);
}

void TextBuilder::grow(size_t more) {
  const size_t capacity = std::max(text_.size() + more, text_.capacity() * 2);
  charge_.grow_to(capacity);
  text_.reserve(capacity);
}

bool truthy(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_bool()) return value.boolean();
  if (value.is_int()) return value.integral() != 0;
  if (value.is_float()) return value.number() != 0.0;
  if (value.is_string()) return !value.text().empty();
  if (value.is_seq()) return !value.seq().items.empty();
  if (value.is_dict()) return value.dict().size() != 0;
  return true;
}

bool equal(Budget& budget, const Value& a, const Value& b) {
  budget.step();
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0 && a.number() == b.number();
  if (a.is_string() && b.is_string()) {
    budget.work(std::min(a.text().size(), b.text().size()));
    return a.text() == b.text();
  }
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_seq() && b.is_seq()) {
    if (&a.seq() == &b.seq()) return true;
    const bool tuples = a.is_tuple() && b.is_tuple();
    if ((!tuples && a.seq().flavor != b.seq().flavor) || a.seq().items.size() != b.seq().items.size()) return false;
    if (a.is_seq(Seq::Flavor::values)) return false;
    for (size_t i = 0; i < a.seq().items.size(); ++i) {
      if (!equal(budget, a.seq().items[i], b.seq().items[i])) return false;
    }
    return true;
  }
  if (a.is_dict() && b.is_dict()) {
    if (&a.dict() == &b.dict()) return true;
    if (a.dict().size() != b.dict().size()) return false;
    return std::all_of(a.dict().entries().begin(), a.dict().entries().end(), [&](const Dict::Entry& entry) {
      const Value* other = b.dict().find(entry.first);
      return other != nullptr && equal(budget, entry.second, *other);
    });
  }
  return (a.is_object() || a.is_generator()) && a.same_as(b);
}

int compare(Budget& budget, const Value& a, const Value& b, bool& unordered) {
  budget.step();
  if (a.is_undefined()) throw Fault{a.undefined_message()};
  if (b.is_undefined()) throw Fault{b.undefined_message()};
  if (a.is_number() && b.is_number()) {
    if ((a.is_float() && std::isnan(a.number())) || (b.is_float() && std::isnan(b.number()))) {
      unordered = true;
      return 0;
    }
    return compare_numbers(a, b);
  }
  if (a.is_string() && b.is_string()) {
    budget.work(std::min(a.text().size(), b.text().size()));
    return a.text().compare(b.text());  // UTF-8's byte order is the order of code points
  }
  const bool lists = a.is_seq(Seq::Flavor::list) && b.is_seq(Seq::Flavor::list);
  if (lists || (a.is_tuple() && b.is_tuple())) {
    const auto& left = a.seq().items;
    const auto& right = b.seq().items;
    for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
      if (!equal(budget, left[i], right[i])) return compare(budget, left[i], right[i], unordered);
    }
    return three_way(left.size(), right.size());
  }
  throw Fault{"'<' not supported between instances of '" + std::string(a.type_name()) + "' and '" +
              std::string(b.type_name()) + "'"};
}

size_t code_points(std::string_view text) {
  size_t count = 0;
  for (const char c : text)
    count += (static_cast<unsigned char>(c) & 0xC0U) != 0x80U ? 1 : 0;
  return count;
}

size_t byte_position(std::string_view text, size_t code_point_index) {
  size_t position = 0;
  while (code_point_index > 0 && position < text.size()) {
    position += character_bytes(text[position]);
    --code_point_index;
  }
  return std::min(position, text.size());
}

}  // namespace tidemill::text::jinja
