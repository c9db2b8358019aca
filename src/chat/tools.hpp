// What a request lets the model call.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.hpp"

namespace tidemill::chat {

struct Tool {
  std::string name;
  base::json::value parameters;  // a JSON Schema of an object; null: anything
  bool strict = false;           // arguments must follow the schema
  // But as far as it goes: a `format` that cannot be held to is no error, and where the schema says nothing of names
  // any may be written.
  bool loosely = false;
};

struct ToolChoice {
  enum class Kind : uint8_t {
    none,       // no call, though tools are there
    automatic,  // the model decides
    required,   // at least one call
    named,      // a call of `name`
  };
  Kind kind = Kind::automatic;
  std::string name;
};

}  // namespace tidemill::chat
