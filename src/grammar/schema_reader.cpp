#include "grammar/schema_reader.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "grammar/json_string.hpp"
#include "grammar/look_ahead_patterns.hpp"
#include "grammar/regex_match.hpp"
#include "grammar/schema_reading.hpp"

namespace tidemill::grammar {

using base::Error;
using base::ErrorCode;
namespace json = base::json;

namespace {

constexpr int kMaxDepth = 200;        // of references and combinations into each other without a value between
constexpr size_t kMaxShapes = 1'000;  // of one conjunction
constexpr int kMaxOpenReads = 32;     // of conjunctions that need others to be read

// What may leave no type, and no value of those listed: of the second, all but what other schemas stand for, which are
// looked at on their own.
constexpr std::array<std::string_view, 5> keywords_of_types = {"type", "enum", "const", "not", "multipleOf"};
constexpr std::array<std::string_view, 31> keywords_of_values = {"type",
                                                                 "enum",
                                                                 "const",
                                                                 "not",
                                                                 "minLength",
                                                                 "maxLength",
                                                                 "pattern",
                                                                 "format",
                                                                 "minimum",
                                                                 "maximum",
                                                                 "exclusiveMinimum",
                                                                 "exclusiveMaximum",
                                                                 "multipleOf",
                                                                 "items",
                                                                 "prefixItems",
                                                                 "additionalItems",
                                                                 "unevaluatedItems",
                                                                 "minItems",
                                                                 "maxItems",
                                                                 "uniqueItems",
                                                                 "properties",
                                                                 "patternProperties",
                                                                 "additionalProperties",
                                                                 "unevaluatedProperties",
                                                                 "propertyNames",
                                                                 "minProperties",
                                                                 "maxProperties",
                                                                 "required",
                                                                 "dependentRequired",
                                                                 "dependentSchemas",
                                                                 "dependencies"};

}  // namespace

SchemaReader::~SchemaReader() {
  if (limits_.spent == nullptr) return;
  const auto spent = [this](size_t left, size_t most) {
    const size_t all = share_of(most);
    return all == 0 || left >= all ? 0.0 : 1.0 - static_cast<double>(left) / static_cast<double>(all);
  };
  *limits_.spent += spent(steps_, kMaxSteps) + spent(copying_, kMaxCopying) + spent(comparing_, kMaxComparing) +
                    spent(matching_, kMaxMatching);
}

Error SchemaReader::invalid(SchemaNode node, std::string_view keyword, std::string_view message) const {
  return document_.error(ErrorCode::invalid_argument, node, keyword, message);
}

Error SchemaReader::unsupported(SchemaNode node, std::string_view keyword, std::string_view message) const {
  return document_.error(ErrorCode::unsupported, node, keyword, message);
}

base::Result<const std::vector<Shape>*> SchemaReader::read(const Conjunction& conjunction) {
  if (const auto found = shapes_.find(conjunction); found != shapes_.end()) return found->second.get();
  if (open_reads_ >= kMaxOpenReads) {
    return document_.error(ErrorCode::too_large, conjunction.front(), "",
                           fmt::format("alternatives that can only be told apart by reading more than {} others inside "
                                       "of each other: tell them apart by a required property with a const",
                                       kMaxOpenReads));
  }
  ++open_reads_;
  std::pair<SchemaNode, std::string> why{conjunction.empty() ? document_.root() : conjunction.front(), ""};
  auto* const outer = std::exchange(why_, &why);
  auto shapes = std::make_unique<std::vector<Shape>>();
  Reading reading;
  base::Result<void> result;
  for (const SchemaNode node : conjunction) {
    result = push(reading, node, nullptr);
    if (!result) break;
  }
  if (result) result = branch(std::move(reading), *shapes, 0);
  --open_reads_;
  why_ = outer;
  TM_CHECK(std::move(result));
  if (shapes->empty()) none_.emplace(conjunction, std::move(why.second));
  return shapes_.emplace(conjunction, std::move(shapes)).first->second.get();
}

std::string SchemaReader::why_none(const Conjunction& conjunction) const {
  const auto found = none_.find(conjunction);
  return found != none_.end() ? found->second : "";
}

void SchemaReader::note_contradiction(const Reading& reading, std::span<const std::string_view> keywords) {
  constexpr size_t most_bytes = 80;
  if (!why_->second.empty()) return;
  const SchemaNode place = why_->first;
  std::vector<std::string> parts;
  for (const SchemaNode node : reading.entered) {
    if (document_.is_implied(node)) continue;  // by a keyword that is told
    const json::value& schema = document_.at(node);
    const std::string where = node == place ? "" : fmt::format(" ({})", document_.pointer(node));
    const auto* object = schema.if_object();
    if (object == nullptr) continue;
    for (const auto& member : *object) {
      const std::string_view keyword = member.key();
      if (std::find(keywords.begin(), keywords.end(), keyword) == keywords.end()) continue;
      parts.push_back(fmt::format("{} {}{}", keyword, brief_json(member.value(), most_bytes), where));
    }
  }
  if (!parts.empty()) why_->second = document_.no_value(place, parts);
}

base::Result<void> SchemaReader::push(Reading& reading, SchemaNode node, const std::shared_ptr<Frame>& from) {
  for (const Frame* at = from.get(); at != nullptr; at = at->from.get()) {
    if (at->node == node) {
      return invalid(node, "",
                     "the schema refers to itself without a property or an item between, so it says nothing of any "
                     "value");
    }
  }
  const int depth = from == nullptr ? 0 : from->depth + 1;
  if (depth > kMaxDepth) {
    return document_.error(ErrorCode::too_large, node, "",
                           fmt::format("more than {} references and combinations inside of each other, without a value "
                                       "between: nest less",
                                       kMaxDepth));
  }
  if (limits_.stop.stop_requested()) return stopped();
  if (steps_ == 0) {
    return document_.error(ErrorCode::too_large, node, "",
                           fmt::format("more than {} subschemas are read for the schema's combinations, all together: "
                                       "combine fewer",
                                       kMaxSteps));
  }
  --steps_;
  // What holds already need not hold again. (Not at the top: a frame is what unevaluatedProperties looks for.)
  if (!reading.entered.insert(node).second) {
    if (from != nullptr && document_.names_unevaluated()) reading.again.emplace_back(node, from);
    return {};
  }
  reading.waiting.push_back(std::make_shared<Frame>(Frame{node, from, depth}));
  return {};
}

base::Result<void> SchemaReader::spend_on_copy(const Reading& reading, SchemaNode owner) {
  const size_t values = reading.shape.values ? reading.shape.values->size() : 0;
  return spend_on_copying(1 + reading.entered.size() + reading.again.size() + reading.layers.size() +
                              reading.choices.size() + reading.unevaluated.size() +
                              reading.shape.objects.required.size() + values,
                          owner);
}

base::Result<void> SchemaReader::spend_on_copying(size_t size, SchemaNode owner) {
  if (limits_.stop.stop_requested()) return stopped();
  if (size > copying_) {
    return document_.error(ErrorCode::too_large, owner, "",
                           "alternatives that must hold together with too much else: combining them takes more than a "
                           "few million steps; combine fewer");
  }
  copying_ -= size;
  return {};
}

// Reads what waits; then tries the alternatives of the first choice that is left, each with a copy of what is known.
base::Result<void> SchemaReader::branch(Reading reading, std::vector<Shape>& out, int depth) {
  for (size_t i = 0; i < reading.waiting.size(); ++i) {
    const std::shared_ptr<Frame> frame = reading.waiting[i];
    TM_CHECK(enter(reading, frame));
  }
  reading.waiting.clear();
  if (reading.shape.types == 0) {
    note_contradiction(reading, keywords_of_types);
    return {};
  }
  if (reading.choices.empty()) return finish(reading, out);
  if (depth > kMaxDepth) {
    return document_.error(
        ErrorCode::too_large, reading.choices.front().frame->node, "",
        fmt::format("more than {} combinations of alternatives must hold together: combine fewer", kMaxDepth));
  }
  const Reading::Choice choice = std::move(reading.choices.front());
  reading.choices.erase(reading.choices.begin());
  for (const SchemaNode alternative : choice.alternatives) {
    TM_CHECK(spend_on_copy(reading, choice.frame->node));
    Reading next = reading;
    TM_CHECK(push(next, alternative, choice.frame));
    if (choice.beside_last && alternative == choice.alternatives.back())
      TM_CHECK(push(next, *choice.beside_last, choice.frame));
    TM_CHECK(branch(std::move(next), out, depth + 1));
    if (out.size() > kMaxShapes) {
      return document_.error(
          ErrorCode::too_large, choice.frame->node, "",
          fmt::format("combining the alternatives gives more than {} cases: combine fewer", kMaxShapes));
    }
  }
  return {};
}

base::Result<void> SchemaReader::enter(Reading& reading, const std::shared_ptr<Frame>& frame) {
  const json::value& schema = document_.at(frame->node);
  if (const auto* allowed = schema.if_bool()) {
    if (!*allowed) reading.shape.types = 0;
    return {};
  }
  const auto* object = schema.if_object();
  if (object == nullptr) return invalid(frame->node, "", "a schema must be an object or a boolean");
  TM_CHECK(read_properties(reading, frame, *object));
  TM_CHECK(read_array(reading, frame, *object));
  for (const auto& member : *object) {
    const auto handler = handlers().find(std::string_view(member.key()));
    if (handler == handlers().end()) continue;  // an annotation, or known to others
    TM_CHECK((this->*handler->second)(reading, frame, member.key(), member.value()));
  }
  return {};
}

base::Result<void> SchemaReader::finish(Reading& reading, std::vector<Shape>& out) {
  TM_CHECK(close_properties(reading));
  Shape& shape = reading.shape;
  for (const auto& layered : reading.layers)
    shape.objects.layers.push_back(layered.layer);
  shape.numbers.integer = (shape.types & fraction_type) == 0;
  if (shape.values) {
    std::vector<const json::value*> fitting;
    for (const json::value* value : *shape.values) {
      TM_TRY(const bool fit, fits(shape, *value));
      if (fit) fitting.push_back(value);
    }
    if (fitting.empty()) {
      note_contradiction(reading, keywords_of_values);
      return {};
    }
    shape.values = std::move(fitting);
  }
  out.push_back(std::move(shape));
  return {};
}

bool SchemaReader::leads_from(const std::set<SchemaNode>& nodes, const Frame* to) {
  while (to != nullptr && !nodes.contains(to->node))
    to = to->from.get();
  return to != nullptr;
}

base::Result<std::set<SchemaNode>> SchemaReader::entered_within(const Reading& reading, const Frame& frame) {
  std::set<SchemaNode> within = {frame.node};
  for (bool grows = true; grows;) {
    TM_CHECK(spend_on_copying(reading.again.size(), frame.node));
    grows = false;
    for (const auto& [node, from] : reading.again) {
      if (within.contains(node) || !leads_from(within, from.get())) continue;
      within.insert(node);
      grows = true;
    }
  }
  return within;
}

// unevaluatedProperties looks at all that its schema says about properties, in place: a layer more, whose names and
// patterns are theirs.
base::Result<void> SchemaReader::close_properties(Reading& reading) {
  std::vector<Reading::Layered> closing;
  for (const auto& [frame, schema] : reading.unevaluated) {
    auto layer = std::make_shared<ObjectLayer>();
    layer->owner = frame->node;
    layer->additional = schema;
    bool all_evaluated = false;
    TM_TRY(const std::set<SchemaNode> within, entered_within(reading, *frame));
    const SchemaNode anything = document_.implied(frame->node, true);
    for (const auto& other : reading.layers) {
      if (!leads_from(within, other.frame.get())) continue;
      all_evaluated = all_evaluated || other.layer->additional.has_value();
      for (const auto& [name, node] : other.layer->properties) {
        if (layer->by_name.emplace(name, anything).second) layer->properties.emplace_back(name, anything);
      }
      for (const auto& [pattern, node] : other.layer->patterns)
        layer->patterns.emplace_back(pattern, anything);
    }
    if (all_evaluated) continue;
    closing.push_back({std::move(layer), frame});
    reading.shape.narrowed = true;
  }
  reading.layers.insert(reading.layers.end(), closing.begin(), closing.end());
  return {};
}

base::Result<void> SchemaReader::read_reference(Reading& reading, const std::shared_ptr<Frame>& frame,
                                                std::string_view keyword, const json::value& value) {
  if (!value.is_string()) return invalid(frame->node, keyword, "must be a string");
  TM_TRY(const SchemaNode target, document_.resolve(frame->node, value.get_string()));
  return push(reading, target, frame);
}

base::Result<void> SchemaReader::read_combination(Reading& reading, const std::shared_ptr<Frame>& frame,
                                                  std::string_view keyword, const json::value& value) {
  const auto* members = value.if_array();
  if (members == nullptr || members->empty()) {
    return invalid(frame->node, keyword, "must be an array of at least one schema");
  }
  const SchemaNode list = document_.child(frame->node, keyword, value);
  std::vector<SchemaNode> nodes;
  for (size_t i = 0; i < members->size(); ++i) {
    nodes.push_back(document_.child(list, std::to_string(i), (*members)[i]));
  }
  if (keyword == "allOf") {
    for (const SchemaNode node : nodes)
      TM_CHECK(push(reading, node, frame));
    return {};
  }
  if (keyword == "oneOf" && nodes.size() > 1) TM_CHECK(check_one_of(frame->node, nodes));
  reading.choices.push_back({frame, std::move(nodes)});
  return {};
}

// A property that asks for others: it is absent, or they are there. Drafts before 2019-09 have one word for both.
base::Result<void> SchemaReader::read_dependent(Reading& reading, const std::shared_ptr<Frame>& frame,
                                                std::string_view keyword, const json::value& value) {
  const auto* members = value.if_object();
  if (members == nullptr) return invalid(frame->node, keyword, "must be an object");
  const SchemaNode list = document_.child(frame->node, keyword, value);
  for (const auto& member : *members) {
    const std::string name(member.key());
    const auto implied = [&](char what, std::string_view word, const auto& meant) {
      const auto [at, fresh] = implied_.try_emplace({list, what + name}, SchemaNode{0});
      if (fresh) at->second = document_.implied(list, json::object{{word, meant}});
      return at->second;
    };
    const SchemaNode absent = implied('-', "properties", json::object{{name, false}});
    if (keyword == "dependentRequired" || (keyword == "dependencies" && member.value().is_array())) {
      reading.choices.push_back({frame, {absent, implied('+', "required", member.value())}});
      continue;
    }
    // Its schema says nothing of an object without the property, nor does it evaluate any of its properties.
    const SchemaNode present = implied('=', "required", json::array{json::string(name)});
    reading.choices.push_back({frame, {absent, document_.child(list, name, member.value())}, present});
  }
  return {};
}

base::Result<const Regex*> SchemaReader::pattern(const std::string& source, SchemaNode owner) {
  if (const auto found = regexes_.find(source); found != regexes_.end()) return found->second.get();
  auto parsed = parse_regex(source, limits_);
  if (!parsed) {
    const base::Error error = told_of_part(source, true, std::move(parsed).error(), limits_);
    return document_.error(error.code(), owner, "", fmt::format("pattern \"{}\": {}", source, error.message()));
  }
  return regexes_.emplace(source, std::make_unique<Regex>(std::move(*parsed))).first->second.get();
}

base::Result<bool> SchemaReader::matches_pattern(const std::string& source, SchemaNode owner, std::string_view text) {
  TM_TRY(const Regex* regex, pattern(source, owner));
  const auto match = matches(*regex, text, matching_);
  if (match) return *match;
  return document_.error(ErrorCode::too_large, owner, "",
                         fmt::format("matching values or names with pattern \"{}\" takes too long, more than {} steps "
                                     "for the whole schema: give a simpler pattern, or fewer and shorter values",
                                     source, kMaxMatching));
}

base::Result<Conjunction> SchemaReader::property(const ObjectShape& shape, const std::string& name) {
  Conjunction out;
  for (const auto& layer : shape.layers) {
    Conjunction mine;
    if (const auto found = layer->by_name.find(name); found != layer->by_name.end()) mine.push_back(found->second);
    for (const auto& [source, node] : layer->patterns) {
      TM_TRY(const bool match, matches_pattern(source, layer->owner, name));
      if (match) mine.push_back(node);
    }
    if (mine.empty() && layer->additional) mine.push_back(*layer->additional);
    std::sort(mine.begin(), mine.end());
    mine.erase(std::unique(mine.begin(), mine.end()), mine.end());
    out = united(out, mine);
  }
  return out;
}

}  // namespace tidemill::grammar
