// Arguments as JSON.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "chat/argument_reader.hpp"
#include "chat/json_stream.hpp"

namespace tidemill::chat {

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

}  // namespace tidemill::chat
