// Arguments of which each stands in tags of its own: Qwen3-Coder, GLM, DeepSeek V3.2.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "chat/argument_reader.hpp"
#include "chat/call_reader.hpp"
#include "chat/format.hpp"
#include "chat/tools.hpp"
#include "chat/value_types.hpp"

namespace tidemill::chat {

// Reads from behind the function's name through the text that closes the call. A value that may be text only is written
// as it comes; another waits for its end, since its first bytes do not tell what it is.
class ParameterArguments final : public ArgumentReader {
 public:
  // `tool` may be null; both must outlive this.
  ParameterArguments(const CallSyntax& syntax, const Tool* tool);

  // Whether a parameter of this name is read under it.
  static bool reads_key(std::string_view name);

  Took take(char byte, std::string& out) override;
  size_t without_effect() const override { return without_effect_; }
  size_t of_unfinished_text() const override { return unfinished_; }

 private:
  Took take_between(char byte, std::string& out);
  Took take_key(char byte, std::string& out);
  Took take_key_end(char byte, std::string& out);
  Took take_value_open(char byte, std::string& out);
  void take_value(char byte, std::string& out);
  void begin_value(std::string& out);
  // Whether the byte belongs to an object or array that is being read.
  bool inside_json(char byte);
  void value_byte(char byte, std::string& out);
  void store(char byte, std::string& out);
  void end_value(std::string& out);
  // Whether the value is text alone, or no text at all, by its opening; by the schema otherwise.
  ValueTypes types_of_key(bool marked_as_text) const;

  enum class At : uint8_t { between, key, key_end, value_open, value };
  const CallSyntax& syntax_;
  const Tool* tool_;
  At at_ = At::between;
  bool first_ = true;
  size_t without_effect_ = 0;
  size_t unfinished_ = 0;
  Alternatives expected_;
  std::string key_;
  ValueTypes types_ = ValueTypes::any;
  bool streams_ = false;             // the value is text and is written as it comes
  bool begins_ = false;              // no byte of the value was seen
  bool held_line_break_ = false;     // perhaps the one before the closing text
  std::string held_;                 // perhaps the beginning of the closing text
  std::optional<JsonScanner> json_;  // the value is inside of an object or array, where no text closes it
  std::string ignored_;
  std::string value_;  // that does not stream
};

}  // namespace tidemill::chat
