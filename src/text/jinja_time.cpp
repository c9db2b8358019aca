// strftime, apart from the process's locale and time zone.
#include <array>
#include <cstdio>

#include "text/jinja_string.hpp"

namespace tidemill::text::jinja {
namespace {

constexpr std::array<std::string_view, 7> day_names = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                       "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> month_names = {"January",   "February", "March",    "April",
                                                          "May",       "June",     "July",     "August",
                                                          "September", "October",  "November", "December"};

struct Moment {
  int year, month, day, hour, minute, second, microsecond;
  int weekday;   // 0: Sunday
  int year_day;  // 0: 1 January
  long long epoch;
};

Moment break_down(base::WallTime when) {
  using namespace std::chrono;
  const auto days = floor<std::chrono::days>(when);
  const year_month_day date(days);
  const hh_mm_ss time(floor<microseconds>(when - days));
  return {.year = static_cast<int>(date.year()),
          .month = static_cast<int>(static_cast<unsigned>(date.month())),
          .day = static_cast<int>(static_cast<unsigned>(date.day())),
          .hour = static_cast<int>(time.hours().count()),
          .minute = static_cast<int>(time.minutes().count()),
          .second = static_cast<int>(time.seconds().count()),
          .microsecond = static_cast<int>(time.subseconds().count()),
          .weekday = static_cast<int>(weekday(days).c_encoding()),
          .year_day = static_cast<int>((days - sys_days(date.year() / January / 1)).count()),
          .epoch = floor<seconds>(when).time_since_epoch().count()};
}

// ISO 8601 week and the year it belongs to.
std::pair<int, int> iso_week(const Moment& m) {
  const int monday_based = (m.weekday + 6) % 7;
  const int week = (m.year_day - monday_based + 10) / 7;
  const auto weeks_in = [](int year) {
    const auto p = [](int y) { return (y + y / 4 - y / 100 + y / 400) % 7; };
    return p(year) == 4 || p(year - 1) == 3 ? 53 : 52;
  };
  if (week < 1) return {weeks_in(m.year - 1), m.year - 1};
  if (week > weeks_in(m.year)) return {1, m.year + 1};
  return {week, m.year};
}

// `flag` overrides the padding: '-' none, '_' spaces, '0' zeros.
std::string number(long long value, int width, char padding, char flag) {
  const char fill = flag == '_' ? ' ' : flag == '0' ? '0' : padding;
  std::string digits = std::to_string(value);
  if (flag != '-' && static_cast<int>(digits.size()) < width) {
    digits.insert(0, static_cast<size_t>(width) - digits.size(), fill);
  }
  return digits;
}

std::string expand(const Moment& m, std::string_view format);

// One conversion; empty optional-like: false if the letter means nothing.
bool convert(const Moment& m, char letter, char flag, std::string& out) {
  const int hour12 = m.hour % 12 == 0 ? 12 : m.hour % 12;
  const auto padded = [&](long long value, int width) { out = number(value, width, '0', flag); };
  const auto spaced = [&](long long value, int width) { out = number(value, width, ' ', flag); };
  switch (letter) {
    case 'a':
      out = day_names[static_cast<size_t>(m.weekday)].substr(0, 3);
      break;
    case 'A':
      out = day_names[static_cast<size_t>(m.weekday)];
      break;
    case 'b':
    case 'h':
      out = month_names[static_cast<size_t>(m.month - 1)].substr(0, 3);
      break;
    case 'B':
      out = month_names[static_cast<size_t>(m.month - 1)];
      break;
    case 'p':
      out = m.hour < 12 ? "AM" : "PM";
      break;
    case 'P':
      out = m.hour < 12 ? "am" : "pm";
      break;
    case 'd':
      padded(m.day, 2);
      break;
    case 'e':
      spaced(m.day, 2);
      break;
    case 'H':
      padded(m.hour, 2);
      break;
    case 'k':
      spaced(m.hour, 2);
      break;
    case 'I':
      padded(hour12, 2);
      break;
    case 'l':
      spaced(hour12, 2);
      break;
    case 'j':
      padded(m.year_day + 1, 3);
      break;
    case 'm':
      padded(m.month, 2);
      break;
    case 'M':
      padded(m.minute, 2);
      break;
    case 'S':
      padded(m.second, 2);
      break;
    case 'f':
      out = number(m.microsecond, 6, '0', '0');
      break;
    case 's':
      out = std::to_string(m.epoch);
      break;
    case 'u':
      padded(m.weekday == 0 ? 7 : m.weekday, 1);
      break;
    case 'w':
      padded(m.weekday, 1);
      break;
    case 'U':
      padded((m.year_day + 7 - m.weekday) / 7, 2);
      break;
    case 'W':
      padded((m.year_day + 7 - (m.weekday + 6) % 7) / 7, 2);
      break;
    case 'V':
      padded(iso_week(m).first, 2);
      break;
    case 'G':
      padded(iso_week(m).second, 4);
      break;
    case 'g':
      padded(iso_week(m).second % 100, 2);
      break;
    case 'y':
      padded(m.year % 100, 2);
      break;
    case 'C':
      padded(m.year / 100, 2);
      break;
    case 'Y':
      out = std::to_string(m.year);
      break;
    case 'c':
      out = expand(m, "%a %b %e %H:%M:%S %Y");
      break;
    case 'D':
    case 'x':
      out = expand(m, "%m/%d/%y");
      break;
    case 'F':
      out = expand(m, "%Y-%m-%d");
      break;
    case 'R':
      out = expand(m, "%H:%M");
      break;
    case 'r':
      out = expand(m, "%I:%M:%S %p");
      break;
    case 'T':
    case 'X':
      out = expand(m, "%H:%M:%S");
      break;
    case 'n':
      out = "\n";
      break;
    case 't':
      out = "\t";
      break;
    case 'z':
    case 'Z':
      out.clear();
      break;  // the moment has no time zone, as datetime.now() has none
    case '%':
      out = "%";
      break;
    default:
      return false;
  }
  return true;
}

std::string expand(const Moment& m, std::string_view format) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out.push_back(format[i]);
      continue;
    }
    size_t at = i + 1;
    char flag = '\0';
    while (at < format.size() && std::string_view("-_0^#").find(format[at]) != std::string_view::npos) {
      flag = format[at++];
    }
    std::string piece;
    if (at >= format.size() || !convert(m, format[at], flag, piece)) {
      out.push_back('%');
      continue;
    }
    if (flag == '^' || (flag == '#' && format[at] != 'p')) piece = upper_case(piece);
    if (flag == '#' && format[at] == 'p') piece = lower_case(piece);
    out += piece;
    i = at;
  }
  return out;
}

}  // namespace

std::string format_time(Budget& budget, base::WallTime when, std::string_view format) {
  budget.work(format.size() * 64);
  budget.expect(format.size() * 32);
  return expand(break_down(when), format);
}

}  // namespace tidemill::text::jinja
