#include "grammar/json_number.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <fmt/core.h>

namespace tidemill::grammar {
namespace {

__extension__ using Wide = __int128;

constexpr int number_digits = 17;
constexpr int number_digits_exclusive = 15;

// Integers are written with up to 18 digits, or as far as a bound within 64 bits, signed or not, allows.
constexpr int integer_digits = 20;
constexpr Wide usual_integer = 999'999'999'999'999'999;
constexpr Wide least_integer = std::numeric_limits<int64_t>::min();
constexpr Wide most_integer = std::numeric_limits<uint64_t>::max();
// Multiples as far as readers that divide doubles take them for multiples, where that leaves any but zero.
constexpr Wide usual_multiple = (int64_t{1} << 53) - 1;
constexpr Wide listed_multiples = 1'000;  // so many are listed one by one

Wide power_of_ten(int exponent) {
  Wide power = 1;
  for (int i = 0; i < exponent; ++i)
    power *= 10;
  return power;
}

// The magnitude times 10^scale, rounded down, or up where `up`; at most `limit`.
Wide scaled(const Decimal& decimal, int scale, bool up, Wide limit, bool& exact) {
  exact = true;
  if (decimal.digits == 0) return 0;
  Wide value = decimal.digits;
  int shift = decimal.exponent + scale;
  for (; shift > 0; --shift) {
    if (value >= limit) return limit;
    value *= 10;
  }
  Wide divisor = 1;
  for (; shift < 0 && divisor <= value; ++shift)
    divisor *= 10;
  exact = shift == 0 && value % divisor == 0;
  Wide result = shift < 0 ? 0 : value / divisor;
  if (up && !exact) ++result;
  return std::min(result, limit);
}

// The decimal spellings of the integers times 10^-fraction between two bounds, both at least zero, as a deterministic
// automaton built from its ends: equal nodes are one in the builder, which makes it the smallest one.
class DigitAutomaton {
 public:
  struct Form {
    int whole;     // digits before the point, at most
    int fraction;  // behind it, at most; 0 for integers
    int all;       // together, at most, but for a zero before the point
    uint64_t multiple_of;
  };

  DigitAutomaton(GrammarBuilder& builder, const Form& form, Wide low, Wide high)
      : builder_(builder), form_(form), low_(low), high_(high), scale_(power_of_ten(form.fraction)) {}

  // Nothing where too many states would be needed.
  std::optional<Expression> build() {
    std::vector<std::pair<char, Expression>> first;
    first.reserve(10);
    for (int digit = 0; digit < 10; ++digit)
      first.emplace_back(static_cast<char>('0' + digit), whole(digit, 1));
    const Expression result = by_digit(first);
    if (states_ > most_states) return std::nullopt;
    return result;
  }

 private:
  static constexpr size_t most_states = 50'000;
  enum class Fit : uint8_t { none, part, full };

  Fit fit(Wide from, Wide to) const {
    if (to < low_ || from > high_) return Fit::none;
    return from >= low_ && to <= high_ ? Fit::full : Fit::part;
  }

  Expression by_digit(const std::vector<std::pair<char, Expression>>& ways) {
    std::map<uint32_t, std::pair<ByteSet, Expression>> together;
    for (const auto& [digit, rest] : ways) {
      auto& entry = together.try_emplace(rest.index, ByteSet(), rest).first->second;
      entry.first.set(static_cast<uint8_t>(digit));
    }
    std::vector<Expression> choices;
    for (const auto& [index, entry] : together) {
      if (entry.second == builder_.nothing()) continue;
      choices.push_back(builder_.sequence(std::array{builder_.bytes(entry.first), entry.second}));
    }
    return builder_.choice(choices);
  }

  // What may follow `prefix`, of `count` digits, all of them before the point.
  Expression whole(Wide prefix, int count) {
    if (++states_ > most_states) return builder_.nothing();
    // How the numbers that begin so lie between the bounds, by how many digits more they have before the point.
    uint32_t inside = 0;
    bool uniform = true;
    bool any = false;
    const int longest = prefix == 0 ? 0 : form_.whole - count;
    Wide from = prefix * scale_;
    Wide to = from + scale_ - 1;
    for (int more = 0; more <= longest; ++more, from *= 10, to = to * 10 + 9) {
      const Fit found = fit(from, to);
      any = any || found != Fit::none;
      uniform = uniform && found != Fit::part;
      if (found == Fit::full) inside |= 1U << more;
    }
    if (!any) return builder_.nothing();
    const auto key = std::make_tuple(prefix == 0, count, inside,
                                     static_cast<uint64_t>(prefix % static_cast<Wide>(form_.multiple_of)));
    if (uniform) {
      if (const auto found = wholes_.find(key); found != wholes_.end()) return found->second;
    }
    std::vector<Expression> choices;
    const Wide value = prefix * scale_;
    if (value >= low_ && value <= high_ && prefix % static_cast<Wide>(form_.multiple_of) == 0) {
      choices.push_back(builder_.empty());
    }
    if (form_.fraction > 0) {
      const int before = prefix == 0 ? 0 : count;  // a zero in front is no significant digit
      const Expression behind = fraction(value, 0, std::min(form_.fraction, form_.all - before));
      choices.push_back(builder_.sequence(std::array{builder_.literal("."), behind}));
    }
    if (longest > 0) {
      std::vector<std::pair<char, Expression>> ways;
      ways.reserve(10);
      for (int digit = 0; digit < 10; ++digit) {
        ways.emplace_back(static_cast<char>('0' + digit), whole(prefix * 10 + digit, count + 1));
      }
      choices.push_back(by_digit(ways));
    }
    const Expression result = builder_.choice(choices);
    if (uniform) wholes_.emplace(key, result);
    return result;
  }

  // What may follow behind the point when `count` digits have come, which make `value`, and `left` more may.
  Expression fraction(Wide value, int count, int left) {
    if (++states_ > most_states || left < 0) return builder_.nothing();
    const Wide unit = power_of_ten(form_.fraction - count);
    const Fit found = fit(value, value + unit - 1);
    if (found == Fit::none) return builder_.nothing();
    if (found == Fit::full) {
      ByteSet digits;
      for (char digit = '0'; digit <= '9'; ++digit)
        digits.set(static_cast<uint8_t>(digit));
      const size_t least = count == 0 ? 1 : 0;
      if (static_cast<size_t>(left) < least) return builder_.nothing();
      return builder_.repeat(builder_.bytes(digits), least, static_cast<size_t>(left));
    }
    std::vector<Expression> choices;
    if (count > 0 && value >= low_ && value <= high_) choices.push_back(builder_.empty());
    if (left > 0) {
      std::vector<std::pair<char, Expression>> ways;
      ways.reserve(10);
      for (int digit = 0; digit < 10; ++digit) {
        ways.emplace_back(static_cast<char>('0' + digit), fraction(value + digit * (unit / 10), count + 1, left - 1));
      }
      choices.push_back(by_digit(ways));
    }
    return builder_.choice(choices);
  }

  GrammarBuilder& builder_;
  const Form form_;
  const Wide low_;
  const Wide high_;
  const Wide scale_;
  size_t states_ = 0;
  std::map<std::tuple<bool, int, uint32_t, uint64_t>, Expression> wholes_;
};

// A range of magnitudes, scaled; empty where low > high.
struct Magnitudes {
  Wide low;
  Wide high;
};

// The magnitudes on one side of zero: of the numbers >= 0, or of those < 0. `near` is the bound towards zero.
Magnitudes magnitudes(const std::optional<Decimal>& near, bool near_out, const std::optional<Decimal>& far,
                      bool far_out, bool negative, int scale, Wide limit) {
  const Magnitudes none{1, 0};
  Magnitudes result{negative ? Wide{1} : Wide{0}, limit};
  bool exact = true;
  if (far) {
    if (far->digits != 0 && far->negative != negative) return none;
    result.high = scaled(*far, scale, false, limit + 1, exact);
    if (exact && far_out) --result.high;
    result.high = std::min(result.high, limit);
  }
  if (near && near->negative == negative) {
    Wide low = scaled(*near, scale, true, limit + 1, exact);
    if (exact && near_out) ++low;
    result.low = std::max(result.low, low);
  } else if (near && near->digits == 0 && near_out) {
    result.low = std::max<Wide>(result.low, 1);  // -0, which is 0
  }
  return result;
}

Wide quotient_down(Wide value, Wide divisor) {
  return value / divisor - (value % divisor < 0 ? 1 : 0);
}

Wide quotient_up(Wide value, Wide divisor) {
  return value / divisor + (value % divisor > 0 ? 1 : 0);
}

std::string digits_of(Wide value) {
  const bool negative = value < 0;
  return (negative ? "-" : "") + std::to_string(static_cast<uint64_t>(negative ? -value : value));
}

base::Error past_64_bits(std::string_view keyword) {
  return base::Error(base::ErrorCode::unsupported,
                     fmt::format("all integers that it leaves are past 64 bits, which are not written: give a bound "
                                 "from {} to {}",
                                 digits_of(least_integer), digits_of(most_integer)))
      .with_param(std::string(keyword));
}

// A range of integers as JSON writes them.
class Integers {
 public:
  Integers(GrammarBuilder& builder, const NumberRange& range) : builder_(builder), range_(range) {}

  // Errors name the keyword as their parameter.
  base::Result<Expression> written() {
    TM_CHECK(find_bounds());
    if (range_.multiple_of != 1) return multiples();
    return between(low_, high_, 1).value_or(builder_.nothing());  // there are few states without multiples
  }

 private:
  static constexpr Wide beyond = most_integer * 4;

  // The least integer at or above the bound, or the greatest at or below it.
  static Wide within(const Decimal& bound, bool is_minimum, bool exclusive) {
    bool exact = true;
    const Wide magnitude = scaled(bound, 0, is_minimum != bound.negative, beyond, exact);
    const Wide value = bound.negative ? -magnitude : magnitude;
    if (!exact || !exclusive) return value;
    return is_minimum ? value + 1 : value - 1;
  }

  // Of a bound that counts, the digits must be known.
  static base::Result<void> check_digits(const std::optional<Decimal>& bound, std::string_view keyword) {
    if (!bound || !bound->rounded) return {};
    const Wide value = within(*bound, true, false);
    if (value < least_integer || value > most_integer) return {};
    return base::Error(base::ErrorCode::unsupported,
                       fmt::format("a number past 2^53 with a fraction or an exponent is read as a double, which may "
                                   "stand for another integer: write digits alone, as in {}",
                                   digits_of(value)))
        .with_param(std::string(keyword));
  }

  base::Result<void> find_bounds() {
    const std::string_view minimum = range_.exclusive_minimum ? "exclusiveMinimum" : "minimum";
    const std::string_view maximum = range_.exclusive_maximum ? "exclusiveMaximum" : "maximum";
    TM_CHECK(check_digits(range_.minimum, minimum));
    TM_CHECK(check_digits(range_.maximum, maximum));
    std::optional<Wide> low;
    std::optional<Wide> high;
    if (range_.minimum) low = within(*range_.minimum, true, range_.exclusive_minimum);
    if (range_.maximum) high = within(*range_.maximum, false, range_.exclusive_maximum);
    if (low && *low > most_integer) return past_64_bits(minimum);
    if (high && *high < least_integer) return past_64_bits(maximum);
    // Bounds past 64 bits leave out nothing that is written.
    if (low && *low < least_integer) low = std::nullopt;
    if (high && *high > most_integer) high = std::nullopt;
    low_is_free_ = !low;
    high_is_free_ = !high;
    constexpr Wide most_signed = std::numeric_limits<int64_t>::max();
    low_ = low ? *low : (high && *high < -usual_integer ? least_integer : -usual_integer);
    high_ = high ? *high : (low_ <= usual_integer ? usual_integer : (low_ <= most_signed ? most_signed : most_integer));
    return {};
  }

  base::Result<Expression> multiples() {
    auto factor = static_cast<Wide>(range_.multiple_of);
    const Wide usual_low = std::max(low_, -usual_multiple);
    const Wide usual_high = std::min(high_, usual_multiple);
    const Wide usual_from = quotient_up(usual_low, factor);
    const Wide usual_to = quotient_down(usual_high, factor);
    if (usual_from <= usual_to && (usual_from < 0 || usual_to > 0)) {
      low_ = usual_low;
      high_ = usual_high;
    }
    Wide from = quotient_up(low_, factor);
    Wide to = quotient_down(high_, factor);
    if (from > to) {  // there may be some past the usual digits
      if (low_is_free_) from = quotient_up(least_integer, factor);
      if (high_is_free_) to = quotient_down(most_integer, factor);
    }
    if (from > to) return builder_.nothing();
    if (to - from < listed_multiples) {
      std::vector<std::string> texts;
      for (; from <= to; ++from)
        texts.push_back(digits_of(from * factor));
      return builder_.one_of(texts);
    }
    // A multiple of a thousand times n is one of n with three zeros behind it.
    std::string zeros;
    for (; factor % 10 == 0; factor /= 10)
      zeros += '0';
    const Wide unit = power_of_ten(static_cast<int>(zeros.size()));
    const Wide low = quotient_up(low_, unit);
    const Wide high = quotient_down(high_, unit);
    const auto below = between(low, std::min<Wide>(high, -1), factor);
    const auto above = between(std::max<Wide>(low, 1), high, factor);
    if (!below || !above) {
      return base::Error(base::ErrorCode::unsupported,
                         fmt::format("multiples of {} in so wide a range: give a narrower minimum and maximum",
                                     range_.multiple_of))
          .with_param("multipleOf");
    }
    const Expression zero = low <= 0 && high >= 0 ? builder_.literal("0") : builder_.nothing();
    return builder_.choice({zero, builder_.sequence({builder_.choice({*below, *above}), builder_.literal(zeros)})});
  }

  // Nothing where multiples take too many states.
  std::optional<Expression> between(Wide low, Wide high, Wide factor) {
    const DigitAutomaton::Form form{integer_digits, 0, integer_digits, static_cast<uint64_t>(factor)};
    const auto side = [&](Wide from, Wide to) -> std::optional<Expression> {
      if (from > to) return builder_.nothing();
      return DigitAutomaton(builder_, form, from, to).build();
    };
    const auto positive = side(std::max<Wide>(low, 0), high);
    const auto negative = side(std::max<Wide>(-high, 1), -low);
    if (!positive || !negative) return std::nullopt;
    return builder_.choice({*positive, builder_.sequence({builder_.literal("-"), *negative})});
  }

  GrammarBuilder& builder_;
  const NumberRange& range_;
  Wide low_ = 0;
  Wide high_ = 0;
  bool low_is_free_ = false;  // no bound within 64 bits gives it
  bool high_is_free_ = false;
};

Expression exponent_part(GrammarBuilder& builder) {
  ByteSet letters;
  letters.set('e').set('E');
  ByteSet signs;
  signs.set('+').set('-');
  ByteSet digits;
  for (char digit = '0'; digit <= '9'; ++digit)
    digits.set(static_cast<uint8_t>(digit));
  return builder.optional(builder.sequence(std::array{builder.bytes(letters), builder.optional(builder.bytes(signs)),
                                                      builder.repeat(builder.bytes(digits), 1, 2)}));
}

// A number in the range that lies at one of its bounds, for ranges out of reach of the digits that are written (numbers
// past 64 bits, or all below 1e-17).
std::optional<std::string> number_at_bound(const NumberRange& range) {
  std::vector<double> candidates;
  for (const auto& [bound, inwards] : {std::pair(range.minimum, HUGE_VAL), std::pair(range.maximum, -HUGE_VAL)}) {
    if (!bound) continue;
    candidates.push_back(bound->as_double());
    candidates.push_back(std::nextafter(bound->as_double(), inwards));
  }
  for (const double candidate : candidates) {
    if (!std::isfinite(candidate) || !range.contains(base::json::value(candidate))) continue;
    std::array<char, 40> text{};
    const auto written = std::to_chars(text.data(), text.data() + text.size(), candidate);
    return std::string(text.data(), written.ptr);
  }
  return std::nullopt;
}

}  // namespace

bool NumberRange::raise_minimum(const Decimal& bound, bool exclusive) {
  const int order = minimum ? compare(bound, *minimum) : 1;
  if (order < 0 || (order == 0 && (!exclusive || exclusive_minimum))) return false;
  minimum = bound;
  exclusive_minimum = exclusive;
  return true;
}

bool NumberRange::lower_maximum(const Decimal& bound, bool exclusive) {
  const int order = maximum ? compare(bound, *maximum) : -1;
  if (order > 0 || (order == 0 && (!exclusive || exclusive_maximum))) return false;
  maximum = bound;
  exclusive_maximum = exclusive;
  return true;
}

bool NumberRange::contains(const base::json::value& number) const {
  const Decimal value = Decimal::of(number);
  if (integer && !value.is_integer()) return false;
  if (minimum) {
    const int order = compare(value, *minimum);
    if (order < 0 || (order == 0 && exclusive_minimum)) return false;
  }
  if (maximum) {
    const int order = compare(value, *maximum);
    if (order > 0 || (order == 0 && exclusive_maximum)) return false;
  }
  return multiple_of == 1 || value.is_multiple_of(multiple_of);
}

bool NumberRange::disjoint(const NumberRange& other) const {
  const auto below = [](const NumberRange& left, const NumberRange& right) {
    if (!left.maximum || !right.minimum) return false;
    const int order = compare(*left.maximum, *right.minimum);
    return order < 0 || (order == 0 && (left.exclusive_maximum || right.exclusive_minimum));
  };
  return below(*this, other) || below(other, *this);
}

base::Result<Expression> json_number(GrammarBuilder& builder, const NumberRange& range) {
  if (range.integer) return Integers(builder, range).written();
  const bool exclusive = (range.exclusive_minimum && range.minimum) || (range.exclusive_maximum && range.maximum);
  const int all = exclusive ? number_digits_exclusive : number_digits;
  const DigitAutomaton::Form form{all, all, all, 1};
  const Wide limit = power_of_ten(all + all) - 1;
  const auto side = [&](const Magnitudes& bounds) {
    if (bounds.low > bounds.high) return builder.nothing();
    // Without multiples there are few states.
    return DigitAutomaton(builder, form, bounds.low, bounds.high).build().value_or(builder.nothing());
  };
  const Expression positive = side(magnitudes(range.minimum, range.exclusive_minimum, range.maximum,
                                              range.exclusive_maximum, false, form.fraction, limit));
  const Expression negative = side(magnitudes(range.maximum, range.exclusive_maximum, range.minimum,
                                              range.exclusive_minimum, true, form.fraction, limit));
  const Expression plain = builder.choice({positive, builder.sequence({builder.literal("-"), negative})});
  if (plain == builder.nothing()) {
    NumberRange whole = range;
    whole.integer = true;
    const auto integers = Integers(builder, whole).written();
    if (integers && *integers != builder.nothing()) return *integers;
    if (const auto one = number_at_bound(range)) return builder.literal(*one);
  }
  if (range.minimum || range.maximum) return plain;
  return builder.sequence({plain, exponent_part(builder)});
}

}  // namespace tidemill::grammar
