// JSON (RFC 8259) byte by byte: checked, and mended where models slip.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tidemill::chat {

// What became of a byte.
enum class Took : uint8_t {
  more,   // taken
  done,   // taken, and what was read is whole
  ended,  // not taken: what was read was whole before it
  bad,    // not taken: it cannot stand here
};

// Appends `byte` of a text as it must stand inside of a JSON string.
void append_escaped(std::string& out, char byte);
// Appends `text` as a JSON string with its quotes.
void append_quoted(std::string& out, std::string_view text);

// Decodes what stands in a JSON string behind the opening quote. Lone surrogates become U+FFFD; a line break or other
// control character is taken as it is, and a backslash that begins no escape as itself.
class StringDecoder {
 public:
  // Appends to `out`; `done` at the closing quote. Never `ended` or `bad`.
  Took take(char byte, std::string& out);

 private:
  void take_unit(uint32_t unit, std::string& out);
  void release_high(std::string& out);

  enum class At : uint8_t { plain, escape, unicode };
  At at_ = At::plain;
  std::string digits_;
  uint32_t high_ = 0;  // a surrogate that waits for its second half; 0: none
};

// Checks one JSON value and writes it on, mended as StringDecoder does: strings with slips are written with escapes.
class JsonScanner {
 public:
  // Of objects and arrays within each other. A grammar lets a schema that refers to itself go on for ever; requests,
  // which the model does not write, have a lower bound.
  static constexpr size_t max_depth = 1'000;

  // Appends to `out` what may be written on. White space before the value is dropped. A number ends only with the byte
  // behind it (`ended`), any other value with its own last byte (`done`).
  Took take(char byte, std::string& out);

 private:
  enum class At : uint8_t {
    value,
    value_or_end,
    key,
    key_or_end,
    colon,
    comma_or_end,
    string,
    escape,
    unicode,
    number,
    word
  };
  enum class Number : uint8_t { minus, zero, whole, point, fraction, exponent, exponent_sign, power };

  Took take_structure(char byte, std::string& out);
  Took begin_value(char byte, std::string& out);
  Took end_value();
  Took close(char byte, std::string& out);
  void take_string(char byte, std::string& out);
  void take_escape(char byte, std::string& out);
  void take_unicode(char byte, std::string& out);
  void release_high(std::string& out);
  bool extend_number(char byte);
  bool number_may_end() const;

  At at_ = At::value;
  Number number_ = Number::minus;
  bool is_key_ = false;    // the string being read is a key
  std::string open_;       // the brackets that are open
  std::string digits_;     // of a \u escape
  std::string high_;       // digits of a surrogate that waits for its second half
  std::string_view word_;  // what remains of true, false or null
};

}  // namespace tidemill::chat
