// Reads the arguments of one call, in whatever spelling, and writes them as the text of a JSON object.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "chat/json_stream.hpp"

namespace tidemill::chat {

class ArgumentReader {
 public:
  ArgumentReader() = default;
  ArgumentReader(const ArgumentReader&) = delete;
  ArgumentReader& operator=(const ArgumentReader&) = delete;
  virtual ~ArgumentReader() = default;

  // Appends to `out` what is certain. `done` at the arguments' last byte; never `ended`. A call is announced once
  // anything was written.
  virtual Took take(char byte, std::string& out) = 0;

  // At `bad`: how many of the bytes taken last have had no effect on what was written, and how many of these belong to
  // a text of the format that was not whole.
  virtual size_t without_effect() const { return 0; }
  virtual size_t of_unfinished_text() const { return 0; }
};

// An object, a string with one inside, or null.
class JsonArguments final : public ArgumentReader {
 public:
  Took take(char byte, std::string& out) override;
  size_t without_effect() const override { return without_effect_; }

 private:
  Took read(char byte, std::string& out);
  Took take_inside(std::string& out);

  enum class At : uint8_t { start, object, text, null };
  At at_ = At::start;
  JsonScanner scanner_;
  StringDecoder decoder_;
  std::string decoded_;
  bool inside_begun_ = false;
  bool inside_done_ = false;
  std::string_view rest_of_null_;
  size_t without_effect_ = 0;
};

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
