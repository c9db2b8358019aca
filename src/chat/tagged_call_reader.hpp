// Calls whose function's name stands outside of the arguments: shapes named_json, parameters and gemma.
#pragma once

#include <memory>
#include <string>

#include "chat/argument_reader.hpp"
#include "chat/call_reader.hpp"

namespace tidemill::chat {

class TaggedCallReader final : public CallReader {
 public:
  // `announced` is `open` or `section_open`; empty where the prompt has written `open`.
  TaggedCallReader(const CallSyntax& syntax, OutputWriter& writer, std::string announced);

  static bool reads_name(const CallSyntax& syntax, std::string_view name);

  bool take(char byte) override;
  void finish() override;

 private:
  bool take_section(char byte);
  bool take_preface(char byte);
  bool take_name(char byte);
  bool take_behind_name(char byte);
  bool take_id(char byte);
  bool take_arguments(char byte);
  bool take_no_arguments(char byte);
  bool take_tail(char byte);
  bool begin_arguments();
  bool announce();
  bool end_call();
  bool after_close();
  void expect_section();
  void expect_name();

  enum class At : uint8_t { section, preface, name, behind_name, id, arguments, no_arguments, tail };
  At at_;
  Alternatives expected_;
  std::string name_;
  std::string id_;
  std::string piece_;
  std::unique_ptr<ArgumentReader> arguments_;
  bool blank_ = true;       // nothing but white space stands where arguments should
  bool announced_ = false;  // the present call
  bool any_ = false;        // a call was announced
};

}  // namespace tidemill::chat
