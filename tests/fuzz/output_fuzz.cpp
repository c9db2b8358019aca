// Any text as what a model writes, in any tool format: content, reasoning and calls do not depend on how it is cut, and
// a call that is complete has a JSON object for its arguments.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/utf8.hpp"
#include "chat/reading.hpp"
#include "fuzz/invariant.hpp"

using namespace tidemill;  // NOLINT(google-build-using-namespace)
using chat::test::Reading;
using test::require;

namespace {

std::vector<chat::Tool> tools() {
  const auto schema =
      base::parse_json(R"({"type": "object", "properties": {"a": {"type": "string"}, "n": {"type": "integer"},
                                          "o": {"type": "object"}, "u": {"type": ["string", "null"]}}})");
  return {{"f", *schema, false}, {"now", {}, false}};
}

// Pieces of the sizes given, used in turn, ended where a character does.
std::vector<std::string_view> pieces_of(std::string_view text, size_t first, size_t second) {
  std::vector<size_t> some;
  size_t next = first;
  for (const size_t place : chat::test::cuts(text)) {
    if (place < next) continue;
    some.push_back(place);
    next = place + (some.size() % 2 == 0 ? first : second);
  }
  return chat::test::cut_at(text, some);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 4) return 0;
  const auto number = data[0] % static_cast<int>(chat::ToolFormat::json_in_tags);
  auto format = chat::format_by_name(chat::to_string(static_cast<chat::ToolFormat>(number)));
  require(format.has_value(), "every format has a name");
  const auto reasoning = chat::reasoning_names();
  require(chat::set_reasoning(*format, reasoning[data[1] % reasoning.size()]).has_value(), "so have reasoning tags");
  const chat::Start start = (data[1] & 0x80U) != 0   ? chat::Start::reasoning
                            : (data[1] & 0x40U) != 0 ? chat::Start::content
                                                     : chat::Start::answer;
  const std::string text = base::utf8::sanitize({reinterpret_cast<const char*>(data + 4), size - 4});

  const std::vector<chat::Tool> offered = tools();
  const Reading whole = chat::test::read(*format, offered, start, text);
  require(whole.sound, "deltas are whole characters, and calls come in order with their names first");
  const auto cut = pieces_of(text, size_t{1} + data[2] % 16, size_t{1} + data[3] % 4);
  require(chat::test::read(*format, offered, start, cut) == whole, "pieces read as the whole does");
  if (whole.complete) {
    const auto arguments = base::parse_json(whole.calls.back().arguments, 1'100);
    require(arguments && arguments->is_object(), "the arguments of a complete call are a JSON object");
  }
  const bool begun = start == chat::Start::content && format->tools != chat::ToolFormat::harmony;
  const bool has_machinery =
      !format->syntax.recipient.empty() || (!begun && (format->reasons() || start == chat::Start::reasoning));
  if (!has_machinery && whole.calls.empty()) require(whole.content == text, "what is no call is content");
  return 0;
}
