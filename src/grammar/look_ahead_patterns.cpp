#include "grammar/look_ahead_patterns.hpp"

#include <map>

#include "grammar/named_formats.hpp"
#include "grammar/string_formats.hpp"

namespace tidemill::grammar {
namespace {

// ISO 8601, of zod: weeks, or the others in their order, of which there is one, the last with a fraction.
std::string zod_duration() {
  const std::string seconds = "\\d+(?:[.,]\\d+)?S";
  const std::string time = "T(?:\\d+H(?:\\d+M)?(?:" + seconds + ")?|\\d+M(?:" + seconds + ")?|" + seconds + ")";
  const std::string date = "(?:\\d+Y(?:\\d+M)?(?:\\d+D)?|\\d+M(?:\\d+D)?|\\d+D)";
  return "^P(?:\\d+W|" + date + "(?:" + time + ")?|" + time + ")$";
}

const std::map<std::string, PlainPattern, std::less<>>& plain_patterns() {
  static const auto all = [] {
    // No dot at the beginning, and no two in a row.
    const PlainPattern email{
        R"(^(?:[A-Za-z0-9_'+\-]+\.)*[A-Za-z0-9_'+\-]*[A-Za-z0-9_+\-]@(?:[A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$)",
        ""};
    const PlainPattern hostname{std::string(format_pattern("hostname")), "hostname"};
    const PlainPattern emoji{std::string(named_format_pattern("emoji")), "emoji"};
    return std::map<std::string, PlainPattern, std::less<>>{
        {R"(^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$)", email},
        {R"(^(?!\.)(?!.*\.\.)([a-zA-Z0-9_'+\-\.]*)[a-zA-Z0-9_+-]@([a-zA-Z0-9][a-zA-Z0-9\-]*\.)+[a-zA-Z]{2,}$)", email},
        {R"(^(?!\.)(?!.*\.\.)([a-zA-Z0-9_'+\-.]*)[a-zA-Z0-9_+-]@([a-zA-Z0-9][a-zA-Z0-9-]*\.)+[a-zA-Z]{2,}$)", email},
        {R"(^P(?:(\d+W)|(?!.*W)(?=\d|T\d)(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+([.,]\d+)?S)?)?)$)",
         {zod_duration(), ""}},
        {R"(^(?=.{1,253}\.?$)[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[-0-9a-zA-Z]{0,61}[0-9a-zA-Z])?)*\.?$)",
         hostname},
        {R"(^(?=.{1,253}$)([a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z]{2,63}$)",
         {R"(^(?:[a-zA-Z0-9](?:[a-zA-Z0-9\-]{0,60}[a-zA-Z0-9])?\.){1,3}[a-zA-Z]{2,63}$)", ""}},
        {R"(^(?=[\s\S]*[\p{Extended_Pictographic}\p{Regional_Indicator}\u20E3])[\p{Extended_Pictographic}\p{Emoji_Component}]+$)",
         emoji},
        {R"(^(\p{Extended_Pictographic}|\p{Emoji_Component})+$)", emoji},
        {R"(^[A-Z]{2}(?!00|01|99)\d{2}[A-Z0-9]{11,30}$)",
         {R"(^[A-Z]{2}(?:0[2-9]|[1-8]\d|9[0-8])[A-Z0-9]{11,30}$)", ""}},
    };
  }();
  return all;
}

}  // namespace

const PlainPattern* without_look_ahead(std::string_view pattern) {
  const auto found = plain_patterns().find(pattern);
  return found == plain_patterns().end() ? nullptr : &found->second;
}

}  // namespace tidemill::grammar
