#include "grammar/schema_writer.hpp"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

#include <fmt/format.h>

#include "grammar/json_number.hpp"
#include "grammar/json_string.hpp"
#include "grammar/regex_match.hpp"
#include "grammar/string_formats.hpp"

namespace tidemill::grammar {

using base::ErrorCode;
namespace json = base::json;

namespace {

constexpr size_t kMaxIndent = 32;    // spaces at the beginning of a line
constexpr size_t kShortBound = 100;  // of length: conditions that have many states have fewer within
constexpr size_t kMaxDistinct = 10;  // values of items that differ; which of them have come is a state
constexpr TypeSet kHolders = array_type | object_type;

}  // namespace

SchemaWriter::SchemaWriter(GrammarBuilder& builder, SchemaReader& reader, const JsonSchemaOptions& options)
    : builder_(builder), reader_(reader), whose_(options.whose), notation_(builder, options.notation) {
  const Expression space = builder.literal(" ");
  const Expression none = builder.empty();
  const Expression line = builder.sequence({builder.literal("\n"), builder.repeat(space, 0, kMaxIndent)});
  const bool lines = options.space == JsonSchemaOptions::Space::lines && !notation_.raw();
  const bool tight = options.space == JsonSchemaOptions::Space::none || notation_.raw();
  const Expression one = tight ? none : builder.optional(space);
  pad_ = lines ? builder.optional(line) : none;
  comma_ = builder.sequence({builder.literal(","), lines ? builder.choice({one, line}) : one});
  colon_ = builder.sequence({builder.literal(":"), one});
}

base::Error SchemaWriter::error(ErrorCode code, const Conjunction& owner, std::string_view keyword,
                                std::string_view message) const {
  return reader_.document().error(code, place_of(owner), keyword, message);
}

std::string SchemaWriter::why_nothing(const Conjunction& conjunction) const {
  const auto found = reasons_.find(conjunction);
  return found != reasons_.end() ? found->second : "";
}

void SchemaWriter::because_of(const Conjunction& part) {
  if (why_.empty()) why_ = why_nothing(part);
}

void SchemaWriter::contradict(const Conjunction& owner, std::string_view one, std::string_view other) {
  if (why_.empty()) why_ = reader_.document().no_value(place_of(owner), {std::string(one), std::string(other)});
}

void SchemaWriter::contradict_sizes(const Conjunction& owner, std::string_view of, size_t least,
                                    std::optional<size_t> most) {
  if (most && *most < least) contradict(owner, fmt::format("min{} {}", of, least), fmt::format("max{} {}", of, *most));
}

void SchemaWriter::contradict_numbers(const Shape& shape, const Conjunction& owner) {
  const NumberRange& range = shape.numbers;
  if (!range.minimum || !range.maximum) return;
  // A keyword with its value, or what stands for one that a format implies, perhaps tighter than a keyword beside it.
  const auto bound = [&](SchemaNode node, std::string_view keyword, const Decimal& tightest) {
    const auto* schema = reader_.document().at(node).if_object();
    const auto* value = schema != nullptr ? schema->if_contains(keyword) : nullptr;
    const bool is_it = value != nullptr && value->is_number() && compare(Decimal::of(*value), tightest) == 0;
    return is_it ? fmt::format("{} {}", keyword, compact_json(*value)) : fmt::format("the format's {}", keyword);
  };
  const std::string multiples = range.multiple_of > 1 ? fmt::format(" (multipleOf {})", range.multiple_of) : "";
  const NumberKeywords& from = shape.number_keywords;
  contradict(owner, bound(from.minimum, range.exclusive_minimum ? "exclusiveMinimum" : "minimum", *range.minimum),
             bound(from.maximum, range.exclusive_maximum ? "exclusiveMaximum" : "maximum", *range.maximum) + multiples);
}

base::Result<Expression> SchemaWriter::write(const Conjunction& conjunction, TypeSet types) {
  TM_TRY(Expression root, types == all_types ? value(conjunction) : body(conjunction, types));
  while (!waiting_.empty() && !builder_.failed()) {
    const auto [next, rule] = std::move(waiting_.back());
    waiting_.pop_back();
    TM_TRY(const Expression defined, body(next, all_types));
    builder_.define(rule, defined);
    const std::string why = defined == builder_.nothing() ? why_nothing(next) : "";
    if (!why.empty()) builder_.explain(rule, whose_ + why);
    if (next == conjunction && defined == builder_.nothing()) root = defined;
  }
  return root;
}

base::Result<Expression> SchemaWriter::value(const Conjunction& conjunction) {
  if (const auto found = values_.find(conjunction); found != values_.end()) return found->second;
  TM_TRY(const std::vector<Shape>* shapes, reader_.read(conjunction));
  const bool holds = std::any_of(shapes->begin(), shapes->end(),
                                 [](const Shape& shape) { return !shape.values && (shape.types & kHolders) != 0; });
  Expression result;
  if (holds) {
    const Rule rule = builder_.declare(conjunction.empty() ? "any" : reader_.document().pointer(conjunction.front()));
    waiting_.emplace_back(conjunction, rule);
    result = builder_.use(rule);
  } else {
    TM_TRY(result, body(conjunction, all_types));
  }
  values_.emplace(conjunction, result);
  return result;
}

base::Result<Expression> SchemaWriter::body(const Conjunction& conjunction, TypeSet types) {
  TM_TRY(const std::vector<Shape>* shapes, reader_.read(conjunction));
  std::string outer = std::exchange(why_, shapes->empty() ? reader_.why_none(conjunction) : "");
  std::vector<Expression> ways;
  for (const Shape& shape : *shapes) {
    TM_TRY(const Expression way, of_shape(shape, conjunction, shape.types & types));
    ways.push_back(way);
  }
  const Expression all = builder_.choice(ways);
  if (all == builder_.nothing()) reasons_.emplace(conjunction, std::move(why_));
  why_ = std::move(outer);
  // The limit of a grammar that was gone over here.
  if (const base::Error* failure = builder_.failure())
    return error(failure->code(), conjunction, "", failure->message());
  return all;
}

base::Result<Expression> SchemaWriter::of_shape(const Shape& shape, const Conjunction& owner, TypeSet types) {
  if (shape.values) {
    std::vector<const json::value*> values;
    std::copy_if(shape.values->begin(), shape.values->end(), std::back_inserter(values),
                 [types](const json::value* one) { return (type_of(*one) & types) != 0; });
    const Expression written = notation_.values(values);
    const auto ends = [this](const json::value* one) {
      return one->is_string() && notation_.ends_a_text(one->get_string());
    };
    if (written == builder_.nothing() && why_.empty() && std::any_of(values.begin(), values.end(), ends)) {
      why_ =
          fmt::format("{}: texts with {} in them cannot be written, since it ends them",
                      reader_.document().pointer(place_of(owner)), compact_json(json::value(notation_.end_of_text())));
    }
    return written;
  }
  std::vector<Expression> ways;
  if ((types & null_type) != 0) ways.push_back(notation_.word("null"));
  if ((types & boolean_type) != 0) {
    ways.push_back(notation_.word("true"));
    ways.push_back(notation_.word("false"));
  }
  if ((types & number_types) != 0) {
    const auto numbers = json_number(builder_, shape.numbers);
    if (!numbers) {
      const std::string& keyword = numbers.error().param();
      return reader_.document().error(numbers.error().code(), shape.number_keywords.owner(keyword), keyword,
                                      numbers.error().message());
    }
    if (*numbers == builder_.nothing()) contradict_numbers(shape, owner);
    ways.push_back(*numbers);
  }
  if ((types & string_type) != 0) {
    contradict_sizes(owner, "Length", shape.strings.min_length, shape.strings.max_length);
    TM_TRY(const Expression text, string_text(shape.strings, owner));
    ways.push_back(explained(notation_.quoted(text), shape.strings, owner));
  }
  if ((types & array_type) != 0) {
    contradict_sizes(owner, "Items", shape.arrays.min_items, shape.arrays.max_items);
    TM_TRY(const Expression items, array(shape.arrays, owner));
    ways.push_back(items);
  }
  if ((types & object_type) != 0) {
    contradict_sizes(owner, "Properties", shape.objects.min_properties, shape.objects.max_properties);
    TM_TRY(const Expression members, object(shape.objects, owner));
    ways.push_back(members);
  }
  return builder_.choice(ways);
}

base::Result<Expression> SchemaWriter::string_text(const StringShape& shape, const Conjunction& owner) {
  // A mistake in any of them is told, also where no text can be.
  for (const StringPattern& pattern : shape.patterns)
    TM_CHECK(reader_.pattern(pattern.source, pattern.owner));
  if (shape.max_length && *shape.max_length < shape.min_length) return builder_.nothing();
  if (shape.patterns.empty()) return notation_.text(shape.min_length, shape.max_length);
  const auto is_required = [](const StringPattern& pattern) { return !pattern.excluded; };
  const auto last = std::find_if(shape.patterns.rbegin(), shape.patterns.rend(), is_required);
  // One has the bounds of length. Beside several short ones are a condition more, with its own place among them; long
  // ones are counted in what is left of all.
  const bool alone = shape.patterns.size() == 1;
  const size_t least = alone ? shape.min_length : 0;
  const std::optional<size_t> most = alone ? shape.max_length : std::nullopt;
  const bool counted = shape.min_length > 0 || shape.max_length;
  const size_t longest = shape.max_length.value_or(shape.min_length);
  const bool is_short = longest <= kShortBound;
  Conditions conditions;
  for (const StringPattern& pattern : shape.patterns) {
    TM_TRY(const Regex* regex, reader_.pattern(pattern.source, pattern.owner));
    if (pattern.excluded) {
      conditions.excluded.push_back(notation_.text_searched(*regex));
      continue;
    }
    const std::optional<size_t> own = lengths_of(*regex).most;
    if (shape.max_length && (!own || *own > *shape.max_length)) {
      const std::string shorter = format_pattern_within(pattern.format, *shape.max_length);
      if (!shorter.empty()) {
        TM_TRY(regex, reader_.pattern(shorter, pattern.owner));
      }
    }
    if (!lengths_fit(shape, pattern, *regex, owner)) return builder_.nothing();
    const Expression texts =
        &pattern == &*last ? notation_.text_matching(*regex, least, most) : notation_.text_searched(*regex);
    conditions.required.push_back({texts, likely_states(*regex)});
  }
  if (!alone && counted && is_short) {
    conditions.required.push_back({notation_.text_counted(shape.min_length, shape.max_length), longest});
  }
  const Expression texts = under_conditions(builder_, std::move(conditions));
  return alone || is_short ? texts : notation_.counted(texts, shape.min_length, shape.max_length);
}

// What the schema says, of which the pattern may be a part, or another way to say it.
std::string SchemaWriter::told(const StringPattern& pattern) const {
  constexpr size_t most_bytes = 200;
  const json::value& said = reader_.document().at(pattern.owner);
  const bool is_format = !pattern.format.empty() && said == json::value(pattern.format);
  return fmt::format("{} {}", is_format ? "format" : "pattern", brief_json(said, most_bytes));
}

// Of conditions that must hold together it may be seen only when they are computed that they contradict each other:
// a rule of their own says which then.
Expression SchemaWriter::explained(Expression texts, const StringShape& shape, const Conjunction& owner) {
  const bool counted = shape.min_length > 0 || shape.max_length;
  if (shape.patterns.empty() || (shape.patterns.size() == 1 && !counted)) return texts;
  std::vector<std::string> parts;
  constexpr size_t most_parts = 6;
  for (const StringPattern& pattern : shape.patterns) {
    if (parts.size() == most_parts) break;
    std::string said = told(pattern);
    if (std::find(parts.begin(), parts.end(), said) == parts.end()) parts.push_back(std::move(said));
  }
  if (shape.min_length > 0) parts.push_back(fmt::format("minLength {}", shape.min_length));
  if (shape.max_length) parts.push_back(fmt::format("maxLength {}", *shape.max_length));
  std::string why = reader_.document().no_value(place_of(owner), parts);
  if (notation_.has_other_readings()) {
    why += " but texts that are read as another type";  // whether there are any is not looked at
  } else if (parts.size() == 1) {
    why += ": what it looks ahead for contradicts the rest of it";
  }
  if (texts == builder_.nothing()) {
    if (why_.empty()) why_ = std::move(why);
    return texts;
  }
  const Rule rule = builder_.declare(whose_ + reader_.document().pointer(place_of(owner)));
  builder_.define(rule, texts);
  builder_.explain(rule, whose_ + why);
  return builder_.use(rule);
}

// Whether the pattern's own texts may be as long as the bounds want them.
bool SchemaWriter::lengths_fit(const StringShape& shape, const StringPattern& pattern, const Regex& regex,
                               const Conjunction& owner) {
  const LengthRange own = lengths_of(regex);
  const bool too_short = own.most && *own.most < shape.min_length;
  const bool too_long = shape.max_length && own.least > *shape.max_length;
  if (!too_short && !too_long) return true;
  contradict(
      owner, told(pattern),
      too_short ? fmt::format("minLength {}", shape.min_length) : fmt::format("maxLength {}", *shape.max_length));
  return false;
}

// Items that differ from each other, in any order: each of a few values, once.
base::Result<Expression> SchemaWriter::distinct_items(const ArrayShape& shape, const Conjunction& owner) {
  std::vector<const json::value*> values;
  bool listed = shape.prefix.empty() && !shape.rest.empty();
  if (listed) {
    TM_TRY(const std::vector<Shape>* shapes, reader_.read(shape.rest));
    for (const Shape& one : *shapes) {
      listed = listed && one.values.has_value();
      for (size_t i = 0; listed && i < one.values->size() && values.size() <= kMaxDistinct; ++i) {
        const json::value* value = (*one.values)[i];
        const auto same = [value](const json::value* other) { return same_value(*other, *value); };
        if (std::none_of(values.begin(), values.end(), same)) values.push_back(value);
      }
    }
  }
  if (!listed || values.size() > kMaxDistinct) {
    return error(
        ErrorCode::unsupported, {*shape.unique}, "uniqueItems",
        fmt::format("that items differ from each other can be enforced where 'items' has an enum of at most {} "
                    "values: give one, or leave it out and drop doubles from what comes",
                    kMaxDistinct));
  }
  if (values.size() < shape.min_items) {
    contradict(owner, fmt::format("minItems {}", shape.min_items),
               fmt::format("uniqueItems, of {} values,", values.size()));
  }
  std::vector<Expression> items;
  items.reserve(values.size());
  for (const json::value* value : values)
    items.push_back(notation_.values(std::vector<const json::value*>{value}));
  // What may follow when those of a set, whose bits are the values', have come; from the full set down.
  std::vector<Expression> behind(size_t{1} << items.size());
  for (size_t come = behind.size(); come-- > 0;) {
    const auto count = static_cast<size_t>(std::popcount(come));
    std::vector<Expression> ways;
    if (count >= shape.min_items) ways.push_back(builder_.empty());
    for (size_t i = 0; i < items.size() && count < shape.max_items.value_or(items.size()); ++i) {
      const size_t bit = size_t{1} << i;
      if ((come & bit) != 0) continue;
      ways.push_back(builder_.sequence({come == 0 ? builder_.empty() : comma_, items[i], behind[come | bit]}));
    }
    behind[come] = builder_.choice(ways);
  }
  return behind[0];
}

base::Result<Expression> SchemaWriter::array(const ArrayShape& shape, const Conjunction& owner) {
  const size_t most = shape.max_items.value_or(SIZE_MAX);
  if (most < shape.min_items) return builder_.nothing();
  if (shape.unique && most > 1) {
    TM_TRY(const Expression items, distinct_items(shape, owner));
    return builder_.sequence({builder_.literal("["), pad_, items, pad_, builder_.literal("]")});
  }
  TM_TRY(const Expression rest, value(shape.rest));
  const size_t fixed = std::min(shape.prefix.size(), most);
  // From the end: what may follow when so many items have come.
  const size_t least_more = shape.min_items - std::min(shape.min_items, fixed);
  const std::optional<size_t> most_more = shape.max_items ? std::optional(most - fixed) : std::nullopt;
  Expression tail;
  if (fixed > 0 || most_more == 0) {
    tail = builder_.repeat(builder_.sequence({comma_, rest}), least_more, most_more);
  } else {
    const std::optional<size_t> behind = most_more ? std::optional(*most_more - 1) : std::nullopt;
    const size_t least_behind = least_more == 0 ? 0 : least_more - 1;
    tail = builder_.sequence({rest, builder_.repeat(builder_.sequence({comma_, rest}), least_behind, behind)});
    if (least_more == 0) tail = builder_.optional(tail);
  }
  for (size_t i = fixed; i-- > 0;) {
    TM_TRY(const Expression item, value(shape.prefix[i]));
    tail = builder_.sequence({i > 0 ? comma_ : builder_.empty(), item, tail});
    if (i >= shape.min_items) tail = builder_.optional(tail);
  }
  for (size_t i = 0; tail == builder_.nothing() && i < shape.min_items && i <= shape.prefix.size(); ++i)
    because_of(shape.item(i));
  if (tail == builder_.nothing() && shape.min_items > shape.prefix.size()) {
    contradict(owner, fmt::format("minItems {}", shape.min_items),
               fmt::format("no items past number {}", shape.prefix.size()));
  }
  return builder_.sequence({builder_.literal("["), pad_, tail, pad_, builder_.literal("]")});
}

}  // namespace tidemill::grammar
