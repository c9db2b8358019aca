// What tests ask of /v1/responses.
#pragma once

#include <string>
#include <string_view>

namespace tidemill::test {

// A few tokens of the likeliest kind, and `more`: further members of the object.
inline std::string asked(std::string_view more) {
  return R"({"model":"nano-coder","max_output_tokens":8,"temperature":0,)" + std::string(more) + "}";
}

}  // namespace tidemill::test
