#include "grammar/json_number.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include <fmt/core.h>

namespace tidemill::grammar {
namespace {

__extension__ using Wide = __int128;

constexpr int integer_digits = 18;
constexpr int number_digits = 17;
constexpr int number_digits_exclusive = 15;
constexpr int64_t exact_integers = int64_t{1} << 53;  // doubles hold every integer up to here

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

int compare(const Decimal& left, const Decimal& right) {
  const auto value = [](const Decimal& decimal) {
    const auto size = static_cast<long double>(decimal.digits) * std::pow(10.0L, decimal.exponent);
    return decimal.negative ? -size : size;
  };
  // Integers are compared exactly; of decimals, which come from doubles, the double decides.
  if (left.exponent >= 0 && right.exponent >= 0) {
    const long double a = value(left);
    const long double b = value(right);
    return a < b ? -1 : static_cast<int>(a > b);
  }
  const double a = left.as_double();
  const double b = right.as_double();
  return a < b ? -1 : static_cast<int>(a > b);
}

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
// over 1e17, or all below 1e-17).
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

Decimal Decimal::of(const base::json::value& value) {
  Decimal decimal;
  if (const auto* integer = value.if_int64()) {
    decimal.negative = *integer < 0;
    decimal.digits = decimal.negative ? 0 - static_cast<uint64_t>(*integer) : static_cast<uint64_t>(*integer);
    return decimal;
  }
  if (const auto* natural = value.if_uint64()) {
    decimal.digits = *natural;
    return decimal;
  }
  std::array<char, 40> text{};
  const double number = value.get_double();
  const auto written = std::to_chars(text.data(), text.data() + text.size(), number, std::chars_format::scientific);
  for (const char* at = text.data(); at != written.ptr; ++at) {
    if (*at == 'e') {
      int exponent = 0;
      const char* digits = at + 1;
      if (*digits == '+') ++digits;
      std::from_chars(digits, written.ptr, exponent);
      decimal.exponent += exponent;
      break;
    }
    if (*at == '-') decimal.negative = true;
    if (*at < '0' || *at > '9') continue;
    decimal.digits = decimal.digits * 10 + static_cast<uint64_t>(*at - '0');
    if (std::string_view(text.data(), static_cast<size_t>(at - text.data())).find('.') != std::string_view::npos) {
      --decimal.exponent;
    }
  }
  while (decimal.digits != 0 && decimal.digits % 10 == 0) {
    decimal.digits /= 10;
    ++decimal.exponent;
  }
  if (decimal.digits == 0) decimal = Decimal();
  return decimal;
}

bool Decimal::is_integer() const {
  uint64_t rest = digits;
  for (int at = exponent; at < 0; ++at) {
    if (rest % 10 != 0) return false;
    rest /= 10;
    if (rest == 0) break;
  }
  return true;
}

double Decimal::as_double() const {
  const std::string text = fmt::format("{}{}e{}", negative ? "-" : "", digits, exponent);
  double value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc::result_out_of_range) value = exponent < 0 ? 0.0 : (negative ? -HUGE_VAL : HUGE_VAL);
  return value;
}

void NumberRange::raise_minimum(const Decimal& bound, bool exclusive) {
  const int order = minimum ? compare(bound, *minimum) : 1;
  if (order > 0) minimum = bound;
  if (order >= 0) exclusive_minimum = order > 0 ? exclusive : exclusive_minimum || exclusive;
}

void NumberRange::lower_maximum(const Decimal& bound, bool exclusive) {
  const int order = maximum ? compare(bound, *maximum) : -1;
  if (order < 0) maximum = bound;
  if (order <= 0) exclusive_maximum = order < 0 ? exclusive : exclusive_maximum || exclusive;
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
  return multiple_of == 1 || std::fmod(value.as_double(), static_cast<double>(multiple_of)) == 0;
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
  const bool exclusive = (range.exclusive_minimum && range.minimum) || (range.exclusive_maximum && range.maximum);
  const auto past_exact = [](const std::optional<Decimal>& bound, bool out) {
    return bound && out && std::abs(bound->as_double()) >= static_cast<double>(exact_integers);
  };
  if (range.integer &&
      (past_exact(range.minimum, range.exclusive_minimum) || past_exact(range.maximum, range.exclusive_maximum))) {
    return base::Error(base::ErrorCode::unsupported,
                       "an exclusive bound of integers past 2^53, where doubles do not tell neighbours apart: use "
                       "minimum or maximum");
  }
  DigitAutomaton::Form form{integer_digits, 0, integer_digits, range.multiple_of};
  Wide limit = power_of_ten(integer_digits) - 1;
  if (!range.integer) {
    const int all = exclusive ? number_digits_exclusive : number_digits;
    form = {all, all, all, 1};
    limit = power_of_ten(all + all) - 1;
  } else if (range.multiple_of != 1) {
    limit = exact_integers - 1;
  }
  const auto side = [&](const Magnitudes& bounds) -> std::optional<Expression> {
    if (bounds.low > bounds.high) return builder.nothing();
    return DigitAutomaton(builder, form, bounds.low, bounds.high).build();
  };
  const auto positive = side(magnitudes(range.minimum, range.exclusive_minimum, range.maximum, range.exclusive_maximum,
                                        false, form.fraction, limit));
  const auto negative = side(magnitudes(range.maximum, range.exclusive_maximum, range.minimum, range.exclusive_minimum,
                                        true, form.fraction, limit));
  if (!positive || !negative) {
    return base::Error(
        base::ErrorCode::unsupported,
        fmt::format("multiples of {} in so wide a range: give a narrower minimum and maximum", range.multiple_of));
  }
  std::vector<Expression> signs{*positive};
  if (*negative != builder.nothing()) {
    signs.push_back(builder.sequence(std::array{builder.literal("-"), *negative}));
  }
  const Expression plain = builder.choice(signs);
  if (plain == builder.nothing()) {
    if (const auto one = number_at_bound(range)) return builder.literal(*one);
  }
  if (range.integer || range.minimum || range.maximum) return plain;
  return builder.sequence(std::array{plain, exponent_part(builder)});
}

}  // namespace tidemill::grammar
