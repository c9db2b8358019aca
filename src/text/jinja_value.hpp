// Values of the template language: Python's own, as far as a template can see them, with every allocation charged to a
// budget so that a hostile template cannot fill memory.
//
// Strings, sequences and dicts are immutable once built (templates run under the rules of Jinja's immutable sandbox),
// so their nesting depth is known when they are built and bounded by `max_nesting`: printing, comparing and destroying
// a value never recurses deeper. Under the lenient rules some may be changed (jinja_change.hpp): twice as deep then.
// Inside this interpreter failures travel as the exception `Fault`; chat_template.cpp turns them into base::Error at
// the border.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::text::jinja {

// Python's integers are unbounded; these are 128 bits wide and overflow is an error.
__extension__ typedef __int128 Int;  // NOLINT(modernize-use-using)

inline constexpr int max_nesting = 200;  // of lists in lists, generators over generators, ...

// What went wrong while compiling or rendering. `line` is 0 until somebody knows it.
struct Fault {
  std::string message;
  base::ErrorCode code = base::ErrorCode::invalid_argument;
  int line = 0;
};

// What one rendering may still spend. Not thread-safe: one per rendering.
class Budget {
 public:
  Budget(uint64_t max_steps, size_t max_memory) : steps_left_(max_steps), memory_left_(max_memory) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // Charges time: about one step per visited node or item.
  void step(uint64_t count = 1) {
    if (count > steps_left_) out_of_steps();
    steps_left_ -= count;
  }
  uint64_t steps_left() const { return steps_left_; }
  // Whether more steps were charged than there were.
  bool overrun() const { return overrun_; }
  // Charges the time of touching `bytes` of text.
  void work(size_t bytes) { step(1 + bytes / 64); }

  // Charges memory that is held until `release`. Throws before anything is allocated.
  void hold(size_t bytes) {
    if (bytes > memory_left_) out_of_memory();
    memory_left_ -= bytes;
  }
  void release(size_t bytes) noexcept { memory_left_ += bytes; }
  // Throws if `bytes` more could not be held now: to be asked before building a large value.
  void expect(size_t bytes) const {
    if (bytes > memory_left_) out_of_memory();
  }

 private:
  [[noreturn]] void out_of_steps();
  [[noreturn]] static void out_of_memory();
  uint64_t steps_left_;
  size_t memory_left_;
  bool overrun_ = false;
};

// Memory held for as long as this lives. Without a budget (constants of a compiled template) it counts nothing.
class Charge {
 public:
  Charge() = default;
  Charge(Budget* budget, size_t bytes) : budget_(budget), bytes_(bytes) {
    if (budget_ != nullptr) budget_->hold(bytes);
  }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  ~Charge() {
    if (budget_ != nullptr) budget_->release(bytes_);
  }
  // Raises what is held to at least `bytes`.
  void grow_to(size_t bytes) {
    if (budget_ != nullptr && bytes > bytes_) {
      budget_->hold(bytes - bytes_);
      bytes_ = bytes;
    }
  }

 private:
  Budget* budget_ = nullptr;
  size_t bytes_ = 0;
};

class Value;
class Dict;
class Interpreter;

struct Str {
  std::string text;  // valid UTF-8
  size_t length;     // in code points
  bool markup;       // the result of `safe` or `escape`: joined with plain text, the plain text is escaped
  Charge charge;
};

// What is undefined and how to say so when somebody insists on using it.
struct UndefinedInfo {
  std::string message;
};

struct Seq {
  enum class Flavor : uint8_t { list, tuple, group, range, keys, values, items };
  Flavor flavor;
  std::vector<Value> items;
  int depth;
  std::string note;  // a range's repr
  Charge charge;
  bool fixed = false;  // part of a value that was changed: no longer to be changed itself (jinja_change.hpp)
};

// A lazily produced, once-consumable sequence.
struct Generator {
  std::function<bool(Value&)> next;  // false at the end, and ever after
  int depth;
  Charge charge;
};

// Positional and keyword arguments of a call.
struct CallArgs {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
};

// Everything with behaviour of its own: macros, methods, namespaces, `loop`, global functions.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  virtual std::string repr(Interpreter& interpreter) const = 0;
  // False if there is no such attribute.
  virtual bool attribute(Interpreter& interpreter, std::string_view name, Value& out);
  virtual bool callable() const { return false; }
  virtual Value call(Interpreter& interpreter, CallArgs& args);
  virtual int depth() const { return 1; }
};

class Value {
 public:
  struct Undefined {
    std::shared_ptr<const UndefinedInfo> info;
  };
  struct None {};

  Value() = default;                                              // undefined
  Value(bool value) : state_(value) {}                            // NOLINT(google-explicit-constructor)
  Value(Int value) : state_(value) {}                             // NOLINT(google-explicit-constructor)
  Value(double value) : state_(value) {}                          // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<const Str> s) : state_(std::move(s)) {}   // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<const Seq> s) : state_(std::move(s)) {}   // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<const Dict> d) : state_(std::move(d)) {}  // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<Generator> g) : state_(std::move(g)) {}   // NOLINT(google-explicit-constructor)
  Value(std::shared_ptr<Object> o) : state_(std::move(o)) {}      // NOLINT(google-explicit-constructor)
  Value(const void*) = delete;

  static Value none();
  static Value integer(long long value) { return Value(static_cast<Int>(value)); }
  static Value undefined(std::string message);

  bool is_undefined() const { return std::holds_alternative<Undefined>(state_); }
  bool is_none() const { return std::holds_alternative<None>(state_); }
  bool is_bool() const { return std::holds_alternative<bool>(state_); }
  bool is_int() const { return std::holds_alternative<Int>(state_); }  // not bool
  bool is_float() const { return std::holds_alternative<double>(state_); }
  bool is_integral() const { return is_int() || is_bool(); }
  bool is_number() const { return is_integral() || is_float(); }
  bool is_string() const { return std::holds_alternative<std::shared_ptr<const Str>>(state_); }
  bool is_seq() const { return std::holds_alternative<std::shared_ptr<const Seq>>(state_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<const Dict>>(state_); }
  bool is_generator() const { return std::holds_alternative<std::shared_ptr<Generator>>(state_); }
  bool is_object() const { return std::holds_alternative<std::shared_ptr<Object>>(state_); }
  bool is_seq(Seq::Flavor flavor) const { return is_seq() && seq().flavor == flavor; }
  bool is_tuple() const {
    return is_seq() && (seq().flavor == Seq::Flavor::tuple || seq().flavor == Seq::Flavor::group);
  }
  bool is_markup() const { return is_string() && str().markup; }

  bool boolean() const { return std::get<bool>(state_); }
  Int integral() const { return is_bool() ? static_cast<Int>(boolean()) : std::get<Int>(state_); }
  double number() const { return is_float() ? std::get<double>(state_) : static_cast<double>(integral()); }
  const Str& str() const { return *std::get<std::shared_ptr<const Str>>(state_); }
  const std::string& text() const { return str().text; }
  const Seq& seq() const { return *std::get<std::shared_ptr<const Seq>>(state_); }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(state_); }
  Generator& generator() const { return *std::get<std::shared_ptr<Generator>>(state_); }
  Object& object() const { return *std::get<std::shared_ptr<Object>>(state_); }

  // Why an undefined value is undefined: "'x' is undefined".
  std::string undefined_message() const;
  // Python's name of the type: 'str', 'dict', 'NoneType', ...
  std::string_view type_name() const;
  // How deeply values nest inside this one; 0 for scalars and strings.
  int depth() const;
  // Object identity, as `is` would see it.
  bool same_as(const Value& other) const;

 private:
  std::variant<Undefined, None, bool, Int, double, std::shared_ptr<const Str>, std::shared_ptr<const Seq>,
               std::shared_ptr<const Dict>, std::shared_ptr<Generator>, std::shared_ptr<Object>>
      state_;
};

// An insertion-ordered map, found by binary search over an order of its keys, which no choice of keys can slow down.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;
  // Later entries win over earlier ones with an equal key but keep the earlier position. Throws on unhashable keys.
  Dict(Budget* budget, std::vector<Entry> entries);

  const std::vector<Entry>& entries() const { return entries_; }
  size_t size() const { return entries_.size(); }
  // Null if absent. `key` must be hashable.
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  int depth() const { return depth_; }

  // Changes (jinja_change.hpp). Keys must be hashable.
  bool fixed() const { return fixed_; }
  void fix() { fixed_ = true; }
  void set(Value key, Value value);
  void erase(const Value& key);
  void clear();

 private:
  template <typename Compare>
  const Value* search(Compare compare) const;
  void sort_keys();
  std::vector<Entry> entries_;
  std::vector<uint32_t> order_;  // positions in entries_, sorted by key
  int depth_ = 1;
  bool fixed_ = false;
  Charge charge_;
};

// Makers. A null budget charges nothing.
Value make_string(Budget* budget, std::string text, bool markup = false);
Value make_seq(Budget* budget, std::vector<Value> items, Seq::Flavor flavor = Seq::Flavor::list, std::string note = {});
Value make_dict(Budget* budget, std::vector<Dict::Entry> entries);
Value make_generator(Budget* budget, int source_depth, std::function<bool(Value&)> next);
Value from_json(Budget* budget, const base::json::value& json, int level = 0);

// Text under construction, charged as it grows.
class TextBuilder {
 public:
  explicit TextBuilder(Budget* budget) : budget_(budget), charge_(budget, 0) {}
  void add(std::string_view piece) {
    if (budget_ != nullptr) budget_->work(piece.size());
    if (piece.size() > text_.capacity() - text_.size()) grow(piece.size());
    text_.append(piece);
  }
  void add(char c) { add(std::string_view(&c, 1)); }
  void add(size_t count, char c);
  size_t size() const { return text_.size(); }
  const std::string& text() const { return text_; }
  // The text, no longer charged here.
  std::string take() { return std::move(text_); }
  Value finish(bool markup = false) { return make_string(budget_, std::move(text_), markup); }

 private:
  void grow(size_t more);
  Budget* budget_;
  std::string text_;
  Charge charge_;
};

bool truthy(const Value& value);
// Python's ==. Never throws except for an exhausted budget.
bool equal(Budget& budget, const Value& a, const Value& b);
// Python's ordering: negative, zero or positive; throws a TypeError's words where Python has no order. NaN compares as
// unordered: `unordered` is set and 0 returned.
int compare(Budget& budget, const Value& a, const Value& b, bool& unordered);
// Throws if a dict could not have this key.
void require_hashable(const Value& key);

// The number of code points of valid UTF-8, and the byte position of code point `index` (the end if past it).
size_t code_points(std::string_view text);
size_t byte_position(std::string_view text, size_t code_point_index);
// Bytes of the character whose first byte is `lead`.
inline size_t character_bytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace tidemill::text::jinja
