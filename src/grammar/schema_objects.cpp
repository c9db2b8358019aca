// How SchemaWriter writes objects: the named properties in their order, then others.
#include <algorithm>
#include <map>
#include <unordered_set>

#include <fmt/format.h>

#include "grammar/json_string.hpp"
#include "grammar/schema_writer.hpp"

namespace tidemill::grammar {

using base::ErrorCode;
namespace json = base::json;

namespace {

constexpr size_t kMaxCounted = 40'000;          // pairs of a property and how many came before
constexpr size_t kMaxAlternatives = 1'000'000;  // of what may come next, over all places in an object
constexpr size_t kMaxWork = 4'000'000;          // the same over all objects, those included that turn out to be equal

}  // namespace

Expression SchemaWriter::member(Expression key, Expression value) {
  return builder_.sequence({key, colon_, value});
}

base::Result<Expression> SchemaWriter::object(const ObjectShape& shape, const Conjunction& owner) {
  TM_TRY(const std::vector<Property> properties, named(shape));
  TM_TRY(const Others rest, others(shape, properties, owner));
  TM_TRY(const Expression inside, members(shape, properties, rest, owner));
  return builder_.sequence({builder_.literal("{"), pad_, inside, pad_, builder_.literal("}")});
}

// In the order of the layers, then those that are only required. A property that cannot be there is kept, with nothing
// as its member: its key is not for others.
base::Result<std::vector<SchemaWriter::Property>> SchemaWriter::named(const ObjectShape& shape) {
  std::vector<std::string> names;
  std::unordered_set<std::string> known;
  for (const auto& layer : shape.layers) {
    for (const auto& [name, node] : layer->properties) {
      if (known.insert(name).second) names.push_back(name);
    }
  }
  const std::unordered_set<std::string> required(shape.required.begin(), shape.required.end());
  for (const std::string& name : shape.required) {
    if (known.insert(name).second) names.push_back(name);
  }
  if (notation_.raw()) std::sort(names.begin(), names.end());
  std::vector<Property> out;
  for (std::string& name : names) {
    TM_TRY(const Conjunction schema, reader_.property(shape, name));
    TM_TRY(const bool allowed, reader_.accepts(shape.names, json::value(name)));
    Expression written = builder_.nothing();
    if (allowed) {
      TM_TRY(written, value(schema));
    }
    if (written != builder_.nothing()) written = member(notation_.key(name), written);
    const bool needed = required.contains(name);
    if (needed && written == builder_.nothing() && !schema.empty()) contradict_required(name, schema);
    out.push_back({std::move(name), needed, written});
  }
  return out;
}

void SchemaWriter::contradict_required(const std::string& name, const Conjunction& schema) {
  if (!why_.empty()) return;
  const SchemaDocument& document = reader_.document();
  const auto is_false = [&](SchemaNode node) { return document.at(node) == json::value(false); };
  const auto forbids = std::find_if(schema.begin(), schema.end(), is_false);
  const bool beside_others = forbids != schema.end() && schema.size() > 1;
  // Where it is to be absent since it asks for another property, why that cannot be there is told.
  if (beside_others && document.is_made_up(*forbids)) return;
  if (!beside_others) because_of(schema);
  if (!why_.empty()) return;
  why_ = fmt::format("{}: {} is required, and can have no value",
                     document.pointer(beside_others ? *forbids : schema.front()), compact_json(json::value(name)));
}

base::Result<SchemaWriter::Others> SchemaWriter::others(const ObjectShape& shape,
                                                        const std::vector<Property>& properties,
                                                        const Conjunction& owner) {
  std::vector<std::string> names;
  names.reserve(properties.size());
  for (const Property& property : properties)
    names.push_back(property.name);
  std::map<std::string, SchemaNode> patterns;
  Conjunction plain;  // for keys that match no pattern
  for (const auto& layer : shape.layers) {
    for (const auto& [source, node] : layer->patterns)
      patterns.emplace(source, layer->owner);
    if (layer->additional) plain = united(plain, {*layer->additional});
  }
  Others out;
  Conjunction schema = plain;
  Expression keys = builder_.nothing();
  if (patterns.empty()) {
    TM_TRY(const std::vector<Shape>* shapes, reader_.read(schema));
    if (shapes->empty()) return out;
    TM_TRY(keys, other_keys(shape, names, owner));
  } else {
    // Keys of the pattern alone. Where keys that do not match it are free they are not written, which is allowed; where
    // they have a schema of their own that would be missed.
    const std::string& source = patterns.begin()->first;
    const SchemaNode asking = patterns.begin()->second;
    if (patterns.size() > 1) {
      return reader_.document().error(ErrorCode::unsupported, asking, "patternProperties",
                                      "more than one pattern: a key might match several of them");
    }
    TM_TRY(const std::vector<Shape>* shapes, reader_.read(plain));
    const bool free = plain.empty() || (shapes->size() == 1 && reader_.document().at(plain.front()).is_bool());
    if (!shapes->empty() && !free) {
      return reader_.document().error(ErrorCode::unsupported, asking, "patternProperties",
                                      "a pattern beside a schema for additionalProperties, which would be for keys "
                                      "that do not match: make additionalProperties false");
    }
    if (!shape.names.empty()) {
      return reader_.document().error(ErrorCode::unsupported, asking, "patternProperties",
                                      "beside propertyNames: say it in the pattern");
    }
    schema.clear();
    for (const auto& layer : shape.layers) {
      const auto found = std::find_if(layer->patterns.begin(), layer->patterns.end(),
                                      [&wanted = source](const auto& one) { return one.first == wanted; });
      if (found != layer->patterns.end()) {
        schema = united(schema, {found->second});
      } else if (layer->additional) {
        schema = united(schema, {*layer->additional});
      }
    }
    TM_TRY(const Regex* regex, reader_.pattern(source, asking));
    std::vector<std::string> matching;
    for (const std::string& name : names) {
      TM_TRY(const bool match, reader_.matches_pattern(source, asking, name));
      if (match) matching.push_back(name);
    }
    TM_TRY(keys, besides(notation_.keys_matching(*regex, matching), owner));
  }
  TM_TRY(const Expression written, value(schema));
  out.member = member(keys, written);
  out.possible = out.member != builder_.nothing();
  return out;
}

// Names besides those that are given, which may be too long to be told from them.
base::Result<Expression> SchemaWriter::besides(base::Result<Expression> keys, const Conjunction& owner) const {
  return keys ? std::move(keys) : error(keys.error().code(), owner, "properties", keys.error().message());
}

base::Result<Expression> SchemaWriter::other_keys(const ObjectShape& shape, const std::vector<std::string>& names,
                                                  const Conjunction& owner) {
  if (shape.names.empty()) return besides(notation_.other_keys(names), owner);
  TM_TRY(const std::vector<Shape>* shapes, reader_.read(shape.names));
  const std::unordered_set<std::string> taken(names.begin(), names.end());
  std::vector<Expression> ways;
  for (const Shape& one : *shapes) {
    if ((one.types & string_type) == 0) continue;
    if (one.values) {
      for (const json::value* value : *one.values) {
        if (value->is_string() && !taken.contains(std::string(value->get_string()))) {
          ways.push_back(notation_.key(std::string(value->get_string())));
        }
      }
      continue;
    }
    const StringShape& strings = one.strings;
    const bool free = strings.patterns.empty() && strings.min_length == 0 && !strings.max_length;
    Expression keys;
    if (free) {
      TM_TRY(keys, besides(notation_.other_keys(names), owner));
    } else {
      TM_TRY(const Expression text, string_text(strings, shape.names));
      TM_TRY(keys, besides(notation_.keys_of(text, names), owner));
    }
    ways.push_back(keys);
  }
  return builder_.choice(ways);
}

// What stands between the braces, put together from its end: what may follow when the properties before `i` are done
// and `count` of them were written, which is counted as far as it matters.
base::Result<Expression> SchemaWriter::members(const ObjectShape& shape, const std::vector<Property>& properties,
                                               const Others& others, const Conjunction& owner) {
  const size_t required = static_cast<size_t>(
      std::count_if(properties.begin(), properties.end(), [](const Property& property) { return property.required; }));
  const size_t possible =
      static_cast<size_t>(std::count_if(properties.begin(), properties.end(), [&](const Property& property) {
        return property.member != builder_.nothing();
      }));
  const size_t least = shape.min_properties <= required ? 0 : shape.min_properties;
  const bool at_most = shape.max_properties && (others.possible || *shape.max_properties < possible);
  const size_t most = at_most ? *shape.max_properties : SIZE_MAX;
  if (most < required || (at_most && most < least)) {
    contradict(owner, fmt::format("maxProperties {}", most), fmt::format("{} required properties", required));
    return builder_.nothing();
  }
  if (!others.possible && least > possible) {
    contradict(owner, fmt::format("minProperties {}", least), fmt::format("{} properties that may be there", possible));
    return builder_.nothing();
  }
  if (others.possible && least > required + 1) {
    return error(ErrorCode::unsupported, owner, "minProperties",
                 fmt::format("{} properties, of which {} would have names that the schema does not give: that they "
                             "differ cannot be enforced",
                             least, least - required));
  }
  const size_t top = at_most ? std::min(most, properties.size() + 1) : std::max<size_t>(least, 1);
  if ((top + 1) * (properties.size() + 1) > kMaxCounted) {
    if (!at_most && least == 0) {
      return error(ErrorCode::too_large, owner, "",
                   fmt::format("{} properties are too many in one object, which takes {} at most: name fewer, or put "
                               "some into objects of their own",
                               properties.size(), kMaxCounted / 2 - 1));
    }
    return error(ErrorCode::too_large, owner, at_most ? "maxProperties" : "minProperties",
                 fmt::format("{} properties are too many to be counted: their number times that of those counted may "
                             "be {}; leave out the keyword, or name fewer",
                             properties.size(), kMaxCounted));
  }
  // At each place any of the properties up to the next required one may come.
  size_t alternatives = 0;
  for (size_t i = properties.size(), open = 1; i-- > 0; alternatives += (top + 1) * open)
    open = properties[i].required ? 1 : open + 1;
  if (alternatives > kMaxAlternatives) {
    return error(
        ErrorCode::too_large, owner, "properties",
        fmt::format("{} properties, {} of them optional, are too many in one object: about a thousand optional "
                    "ones are taken, or more with required ones between them",
                    properties.size(), properties.size() - required));
  }
  alternatives_ += alternatives;
  if (alternatives_ > kMaxWork) {
    return error(ErrorCode::too_large, owner, "properties",
                 fmt::format("the objects up to this one have too many optional properties, all together: more than {} "
                             "alternatives of what may come next; require more of them, or name fewer",
                             kMaxWork));
  }
  std::vector<Expression> after(top + 1);  // by count
  for (size_t count = 0; count <= top; ++count) {
    const size_t missing = least > count ? least - count : 0;
    const std::optional<size_t> room = at_most ? std::optional(most - std::min(count, most)) : std::nullopt;
    const Expression next = builder_.sequence({comma_, others.member});
    if (!others.possible || room == 0) {
      after[count] = missing == 0 ? builder_.empty() : builder_.nothing();
    } else if (count > 0) {
      after[count] = builder_.repeat(next, missing, room);
    } else {
      const std::optional<size_t> behind = room ? std::optional(*room - 1) : std::nullopt;
      after[0] = builder_.sequence({others.member, builder_.repeat(next, missing == 0 ? 0 : missing - 1, behind)});
      if (missing == 0) after[0] = builder_.optional(after[0]);
    }
  }
  for (size_t i = properties.size(); i-- > 0;) {
    const Property& property = properties[i];
    const Expression first = property.member;
    const Expression next = builder_.sequence({comma_, property.member});
    std::vector<Expression> before(top + 1);
    for (size_t count = 0; count <= top; ++count) {
      const bool full = at_most && count >= most;
      const Expression there =
          full ? builder_.nothing() : builder_.sequence({count == 0 ? first : next, after[std::min(count + 1, top)]});
      before[count] = property.required ? there : builder_.choice({there, after[count]});
    }
    after = std::move(before);
  }
  return after[0];
}

}  // namespace tidemill::grammar
