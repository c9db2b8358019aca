#include "grammar/builder.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "grammar/counted_automaton.hpp"
#include "grammar/grammar_check.hpp"

namespace tidemill::grammar {

using base::Error;
using base::ErrorCode;

namespace {

double share(size_t taken, size_t most) {
  return static_cast<double>(taken) / static_cast<double>(std::max<size_t>(most, 1));
}

}  // namespace

GrammarBuilder::GrammarBuilder(GrammarLimits limits)
    : limits_(std::move(limits)), budget_(limits_.max_states, limits_.stop) {}

void GrammarBuilder::fail(ErrorCode code, std::string message) {
  if (!error_) error_.emplace(code, std::move(message));
}

// Whether it is to stop, which is the error then.
bool GrammarBuilder::stops() {
  if (!limits_.stop.stop_requested()) return false;
  if (!error_) error_ = stopped();
  return true;
}

// Adds what was taken since the last time.
void GrammarBuilder::charge() {
  if (limits_.spent == nullptr) return;
  const double taken = share(expressions_.size(), limits_.max_nodes) +
                       share(expressions_.alternatives(), limits_.max_alternatives) +
                       budget_.share_spent(limits_.max_states);
  *limits_.spent += taken - charged_;
  charged_ = taken;
}

Expression GrammarBuilder::keep(NodeIndex node) {
  charge();
  if (stops()) return nothing();
  if (expressions_.size() > limits_.max_nodes)
    fail(ErrorCode::too_large,
         fmt::format("the grammar has more than {} parts: ask for less in one request", limits_.max_nodes));
  if (expressions_.alternatives() > limits_.max_alternatives)
    fail(ErrorCode::too_large,
         fmt::format("the choices of the grammar have more than {} alternatives: ask for fewer in one request",
                     limits_.max_alternatives));
  return failed() ? nothing() : Expression{node};
}

Expression GrammarBuilder::bytes(const ByteSet& set) {
  return failed() ? nothing() : keep(expressions_.bytes(set));
}

Expression GrammarBuilder::literal(std::string_view text) {
  if (failed()) return nothing();
  if (expressions_.text().size() + text.size() > limits_.max_text_bytes) {
    fail(ErrorCode::too_large, fmt::format("the grammar's texts are longer than {} bytes, all together: give fewer or "
                                           "shorter ones",
                                           limits_.max_text_bytes));
    return nothing();
  }
  return keep(expressions_.literal(text));
}

Expression GrammarBuilder::special(std::string_view name) {
  return failed() ? nothing() : keep(expressions_.special(name));
}

// `bits` of a code point are still to come, six in each byte; what came before says that it lies at or behind `base`.
NodeIndex GrammarBuilder::continuation(std::span<const CodePointRange> ranges, char32_t base, int bits) {
  const char32_t last = base + (char32_t{1} << bits) - 1;
  while (!ranges.empty() && ranges.front().second < base)
    ranges = ranges.subspan(1);
  while (!ranges.empty() && ranges.back().first > last)
    ranges = ranges.first(ranges.size() - 1);
  if (ranges.empty()) return Expressions::nothing;
  if (bits == 0) return Expressions::empty;
  if (ranges.front().first <= base && ranges.front().second >= last) {
    ByteSet any;
    for (size_t byte = 0x80; byte <= 0xBF; ++byte)
      any.set(byte);
    const NodeIndex one = expressions_.bytes(any);
    NodeIndex chain = one;
    for (int rest = bits - 6; rest > 0; rest -= 6)
      chain = expressions_.sequence(one, chain);
    return chain;
  }
  std::map<NodeIndex, ByteSet> by_rest;
  for (char32_t i = 0; i < 64; ++i)
    by_rest[continuation(ranges, base + (i << (bits - 6)), bits - 6)].set(0x80 + i);
  std::vector<NodeIndex> parts;
  parts.reserve(by_rest.size());
  for (const auto& [rest, set] : by_rest)
    parts.push_back(expressions_.sequence(expressions_.bytes(set), rest));
  return expressions_.choice(parts);
}

// The characters of `set` from `first` to `last`, all of whose encodings begin with bytes counted up from `lead` and
// go on with `bits` bits.
NodeIndex GrammarBuilder::lead_bytes(const CodePointSet& set, char32_t first, char32_t last, unsigned lead, int bits) {
  const CodePointSet part = set.common(CodePointSet({{first, last}}));
  std::map<NodeIndex, ByteSet> by_rest;
  const char32_t step = char32_t{1} << bits;
  for (char32_t base = first & ~(step - 1); base <= last; base += step)
    by_rest[continuation(part.ranges(), base, bits)].set(lead + (base >> bits));
  std::vector<NodeIndex> parts;
  parts.reserve(by_rest.size());
  for (const auto& [rest, bytes] : by_rest)
    parts.push_back(expressions_.sequence(expressions_.bytes(bytes), rest));
  return expressions_.choice(parts);
}

Expression GrammarBuilder::code_points(std::span<const CodePointRange> ranges) {
  if (failed()) return nothing();
  const CodePointSet set(std::vector<CodePointRange>(ranges.begin(), ranges.end()));
  ByteSet ascii;
  for (const auto& [first, last] : set.ranges())
    for (char32_t c = first; c <= std::min<char32_t>(last, 0x7F); ++c)
      ascii.set(c);
  const std::array<NodeIndex, 4> parts{
      expressions_.bytes(ascii),
      lead_bytes(set, 0x80, 0x7FF, 0xC0, 6),
      lead_bytes(set, 0x800, 0xFFFF, 0xE0, 12),
      lead_bytes(set, 0x10000, CodePointSet::last_code_point, 0xF0, 18),
  };
  return keep(expressions_.choice(parts));
}

Expression GrammarBuilder::any_character() {
  return code_points(CodePointSet::all());
}

Expression GrammarBuilder::sequence(std::span<const Expression> parts) {
  if (failed()) return nothing();
  NodeIndex node = Expressions::empty;
  for (size_t i = parts.size(); i-- > 0;)
    node = expressions_.sequence(parts[i].index, node);
  return keep(node);
}

Expression GrammarBuilder::choice(std::span<const Expression> parts) {
  if (failed()) return nothing();
  std::vector<NodeIndex> nodes;
  nodes.reserve(parts.size());
  for (const Expression part : parts)
    nodes.push_back(part.index);
  return keep(expressions_.choice(nodes));
}

bool GrammarBuilder::may_repeat(size_t times) {
  if (times > limits_.max_repeat) {
    fail(ErrorCode::too_large,
         fmt::format("a repetition of {} times is over the limit of {}: give a smaller bound, or none", times,
                     limits_.max_repeat));
  }
  return !failed();
}

Expression GrammarBuilder::repeat(Expression part, size_t least, std::optional<size_t> most) {
  if (failed() || (most && *most < least) || !may_repeat(most.value_or(least))) return nothing();
  return keep(expressions_.repeat(part.index, static_cast<uint32_t>(least),
                                  most ? static_cast<uint32_t>(*most) : Expressions::unbounded));
}

Expression GrammarBuilder::both(Expression left, Expression right) {
  if (failed()) return nothing();
  if (expressions_.at(left.index).irregular || expressions_.at(right.index).irregular) {
    fail(ErrorCode::unsupported, "the intersection of parts with rules or control tokens is not supported");
    return nothing();
  }
  return keep(expressions_.both(left.index, right.index));
}

Expression GrammarBuilder::except(Expression left, Expression right) {
  if (failed()) return nothing();
  if (expressions_.at(left.index).irregular || expressions_.at(right.index).irregular) {
    fail(ErrorCode::unsupported, "to leave out parts with rules or control tokens is not supported");
    return nothing();
  }
  const auto [found, is_new] = differences_.try_emplace({left, right});
  if (!is_new) return found->second;
  const auto automaton = difference(expressions_, left.index, right.index, budget_);
  charge();
  if (automaton == nullptr) {
    fail_over_states("what must not match, such as what a pattern looks ahead for or what is read as another type,");
    return nothing();
  }
  found->second = keep(expressions_.automaton(automaton, Automaton::start));
  return found->second;
}

void GrammarBuilder::fail_over_states(std::string_view what) {
  if (stops()) return;
  fail(ErrorCode::too_large,
       fmt::format("{} takes together with the others more than {} states, or {} on the way to them: give fewer or "
                   "simpler patterns",
                   what, limits_.max_states, limits_.max_states * ProductBudget::explored_per_state));
}

Expression GrammarBuilder::counted(Expression texts, Expression character, size_t least, std::optional<size_t> most) {
  if (failed() || (most && *most < least) || !may_repeat(most.value_or(least))) return nothing();
  if (expressions_.at(texts.index).irregular || expressions_.at(character.index).irregular) {
    fail(ErrorCode::unsupported, "to count the characters of parts with rules or control tokens is not supported");
    return nothing();
  }
  if (texts == nothing()) return nothing();
  const auto over_limit = [&] {
    fail_over_states("a pattern beside a bound of length");
    return nothing();
  };
  const auto [found, is_new] = characters_.try_emplace({texts, character});
  if (is_new) {
    const NodeIndex characters = expressions_.repeat(character.index, 0, Expressions::unbounded);
    auto automaton = character_automaton(expressions_, texts.index, characters, budget_);
    charge();
    if (!automaton) return over_limit();
    found->second = *std::move(automaton);
  }
  const CountedAutomaton::Bounds bounds{static_cast<uint32_t>(least),
                                        most ? static_cast<uint32_t>(*most) : CountedAutomaton::unbounded};
  const auto counted = CountedAutomaton::create(found->second, bounds, budget_);
  charge();
  return counted == nullptr ? over_limit() : keep(expressions_.counted(counted, Automaton::start, 0));
}

bool GrammarBuilder::apart(Expression left, Expression right) {
  if (failed() || expressions_.at(left.index).irregular || expressions_.at(right.index).irregular) return false;
  return are_apart(expressions_, left.index, right.index, budget_);
}

bool GrammarBuilder::check_triggers(std::span<const std::string> triggers) {
  size_t states = 0;
  for (const std::string& trigger : triggers) {
    states += trigger.size() + 8;
    if (!base::utf8::is_valid(trigger)) fail(ErrorCode::invalid_argument, "a text to search for is not UTF-8");
  }
  if (states > budget_.states)
    fail(ErrorCode::too_large,
         fmt::format("the grammar's automata have more than {} states: search for fewer or shorter texts",
                     limits_.max_states));
  if (!failed()) budget_.states -= states;
  return !failed();
}

Expression GrammarBuilder::text_through(std::span<const std::string> triggers) {
  if (failed() || !check_triggers(triggers)) return nothing();
  if (std::any_of(triggers.begin(), triggers.end(), [](const std::string& trigger) { return trigger.empty(); }))
    return empty();
  return keep(expressions_.automaton(text_through_automaton(triggers), Automaton::start));
}

Expression GrammarBuilder::text_without(std::span<const std::string> triggers) {
  if (failed()) return nothing();
  const auto [found, is_new] = without_.try_emplace(std::vector<std::string>(triggers.begin(), triggers.end()));
  if (!is_new) return found->second;
  if (!check_triggers(triggers)) return nothing();
  if (std::any_of(triggers.begin(), triggers.end(), [](const std::string& trigger) { return trigger.empty(); }))
    return nothing();
  found->second = keep(expressions_.automaton(text_without_automaton(triggers), Automaton::start));
  return found->second;
}

Rule GrammarBuilder::declare(std::string name) {
  if (rules_.size() > limits_.max_nodes) {
    fail(ErrorCode::too_large,
         fmt::format("the grammar has more than {} rules: ask for less in one request", limits_.max_nodes));
    return {};
  }
  rules_.push_back({std::move(name), std::nullopt});
  return {expressions_.add_rule()};
}

void GrammarBuilder::define(Rule rule, Expression body) {
  if (failed()) return;
  Definition& definition = rules_[rule.index];
  if (definition.body)
    return fail(ErrorCode::invalid_argument, fmt::format("rule '{}' is defined twice", definition.name));
  definition.body = body.index;
}

void GrammarBuilder::explain(Rule rule, std::string why) {
  if (!failed()) rules_[rule.index].why_nothing = std::move(why);
}

Expression GrammarBuilder::use(Rule rule) {
  return failed() ? nothing() : keep(expressions_.use(rule.index));
}

base::Result<std::shared_ptr<const Grammar>> GrammarBuilder::build(Expression root) && {
  if (error_ || stops()) return *std::move(error_);
  std::vector<NodeIndex> bodies;
  std::vector<std::string> reasons;
  auto grammar = std::make_shared<Grammar>();
  grammar->limits_ = limits_;
  for (Definition& definition : rules_) {
    if (!definition.body)
      return Error(ErrorCode::invalid_argument, fmt::format("rule '{}' is used but not defined", definition.name));
    bodies.push_back(*definition.body);
    grammar->rule_names_.push_back(std::move(definition.name));
    reasons.push_back(std::move(definition.why_nothing));
  }
  GrammarCheck check(expressions_, bodies, root.index, *grammar, std::move(reasons));
  TM_CHECK(check.run(nullptr));
  grammar->limits_.spent = {};  // which is of this time
  return std::shared_ptr<const Grammar>(std::move(grammar));
}

}  // namespace tidemill::grammar
