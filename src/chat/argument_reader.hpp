// Reads the arguments of one call, in whatever spelling, and writes them as the text of a JSON object. One file for
// each spelling: json_arguments, gemma_arguments, parameter_arguments, python_arguments.
#pragma once

#include <cstddef>
#include <string>

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

}  // namespace tidemill::chat
