// Calls as Python writes them: a list of calls between tags (CallSyntax::Shape::python).
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "chat/call_reader.hpp"
#include "chat/python_arguments.hpp"

namespace tidemill::chat {

class PythonCallReader final : public CallReader {
 public:
  // `announced` is `open`.
  PythonCallReader(const CallSyntax& syntax, OutputWriter& writer, std::string announced)
      : CallReader(syntax, writer, std::move(announced)) {}

  static bool reads_name(std::string_view name);

  bool take(char byte) override;
  void finish() override;

 private:
  bool take_name(char byte);
  bool take_arguments(char byte);
  bool take_tail(char byte);

  enum class At : uint8_t { opened, name, arguments, between, tail };
  At at_ = At::opened;
  bool announced_ = false;  // the present call
  bool any_ = false;        // a call was announced
  std::string name_;
  std::string piece_;
  std::unique_ptr<PythonArguments> arguments_;
  Alternatives expected_{{}};
};

}  // namespace tidemill::chat
