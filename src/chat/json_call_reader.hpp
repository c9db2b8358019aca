// Calls that are JSON objects with the function's name inside: shapes json_object and name_as_key.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "chat/call_reader.hpp"
#include "chat/json_arguments.hpp"

namespace tidemill::chat {

class JsonCallReader final : public CallReader {
 public:
  // `announced` is `open`, or empty where the output begins with JSON.
  JsonCallReader(const CallSyntax& syntax, OutputWriter& writer, std::string announced)
      : CallReader(syntax, writer, std::move(announced)) {}

  static bool reads_name(std::string_view name) { return !name.empty() && name.size() <= max_name; }

  bool take(char byte) override;
  void finish() override;

 private:
  bool dispatch(char byte);
  bool take_opened(char byte);
  bool take_structure(char byte);
  bool take_key(char byte);
  bool begin_value(char byte);
  bool take_text(char byte);
  bool take_other(char byte);
  bool take_arguments(char byte);
  bool take_between(char byte);
  bool take_tail(char byte);
  void begin_object();
  bool end_object();
  void announce();
  bool fail();
  void expect_tail();

  enum class At : uint8_t {
    opened,
    key_or_end,
    key_begin,
    key,
    colon,
    value,
    text,
    other,
    arguments,
    comma_or_end,
    between,
    tail
  };
  enum class Member : uint8_t { name, arguments, id, other };

  At at_ = At::opened;
  bool list_ = false;
  bool any_ = false;  // a call was announced
  // Of the present object:
  bool announced_ = false;
  bool has_name_ = false;
  bool has_arguments_ = false;  // has the key
  bool complete_ = false;       // and the whole value
  std::string name_;
  std::string id_;
  std::string waiting_;  // arguments that came before the name
  // Of the present member:
  Member member_ = Member::other;
  std::string text_;
  StringDecoder decoder_;
  JsonScanner scanner_;
  std::optional<JsonArguments> arguments_;
  std::string piece_;
  Alternatives expected_{{}};
};

}  // namespace tidemill::chat
