// Arguments as keywords of a call in Python: (city="Paris", days=3, where={"a": None}).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "chat/argument_reader.hpp"

namespace tidemill::chat {

// Reads from the opening parenthesis through the closing one. Values are literals: texts between either quotation mark,
// numbers, True, False, None (and JSON's words), lists, tuples and dicts. Texts are written as they come.
class PythonArguments final : public ArgumentReader {
 public:
  // Whether a keyword of this name is one of Python's and is read under it.
  static bool reads_keyword(std::string_view name);

  Took take(char byte, std::string& out) override;
  size_t without_effect() const override { return without_effect_; }

 private:
  Took read(char byte, std::string& out);
  Took take_keyword(char byte, std::string& out);
  Took begin_value(char byte, std::string& out);
  Took take_text(char byte, std::string& out);
  Took take_escape(char byte, std::string& out);
  Took take_digits(char byte, std::string& out);
  Took take_bare(char byte, std::string& out);
  Took take_behind(char byte, std::string& out);
  Took close(char byte, std::string& out);
  void end_value();
  void write_comma(std::string& out);
  void write_character(char32_t character, std::string& out);
  void write_unit(uint32_t unit, std::string& out);

  enum class At : uint8_t { start, keyword, equals, value, text, escape, digits, bare, colon, behind };
  At at_ = At::start;
  std::string open_;        // brackets: '(' of the call, '[', '{', and 't' for a tuple
  bool may_close_ = false;  // nothing stands here yet, or a comma that may be the last
  bool comma_ = false;      // stands before what comes next
  bool is_key_ = false;     // the value is a dict's key
  char quote_ = '"';
  std::string word_;    // a keyword, or a bare value
  std::string digits_;  // of an escape
  size_t digits_wanted_ = 0;
  uint32_t high_ = 0;  // a surrogate that waits for its second half; 0: none
  size_t without_effect_ = 0;
};

}  // namespace tidemill::chat
