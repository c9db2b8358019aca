// Arguments as Gemma writes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "chat/argument_reader.hpp"

namespace tidemill::chat {

// Gemma's {key:value}: keys bare or between quotes, texts between quotes of the format's own.
class GemmaArguments final : public ArgumentReader {
 public:
  explicit GemmaArguments(std::string quote) : quote_(std::move(quote)) {}
  Took take(char byte, std::string& out) override;
  size_t without_effect() const override { return without_effect_; }

 private:
  Took read(char byte, std::string& out);
  Took take_key(char byte, std::string& out);
  Took take_value(char byte, std::string& out);
  Took take_quoted(char byte, std::string& out);
  Took take_bare(char byte, std::string& out);
  Took take_behind(char byte, std::string& out);
  Took close(char byte, std::string& out);
  // Whether `byte` goes on with the quote that was begun: partial_ is the part so far, all of it once complete.
  bool extend_quote(char byte);

  enum class At : uint8_t { start, key, bare_key, quoted_key, colon, value, text, bare, behind };
  At at_ = At::start;
  bool first_ = false;  // nothing stands in the innermost bracket yet
  std::string quote_;
  std::string partial_;  // of a quote
  std::string word_;     // a bare key or value
  std::string open_;     // the brackets that are open
  size_t without_effect_ = 0;
};

}  // namespace tidemill::chat
