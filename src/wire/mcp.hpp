// The Model Context Protocol (modelcontextprotocol.io): the words that server and client share.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::wire::mcp {

// What is spoken. The newest is first, and is what is answered to a version that is not known. All of these begin with
// "initialize".
inline constexpr std::array<std::string_view, 4> versions = {"2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"};

bool is_known(std::string_view version);
// The version to speak with a client that asked for `wanted`.
std::string_view choose_version(std::string_view wanted);
// "2025-11-25, 2025-06-18, ...", for errors.
std::string known_versions();

// A tool that a server offers.
struct Tool {
  std::string name;
  std::string description;
  base::json::object input_schema;
};

// The result of "initialize", for clients of the versions that begin with it.
base::json::object initialize_result(std::string_view version, std::string_view program_version);
base::json::object tools_result(const std::vector<Tool>& tools);
// What a call gave; `structured` beside the text where it is not empty.
base::json::object call_result(std::string_view text, base::json::object structured = {});
// A call that failed, in words for the model.
base::json::object call_failure(std::string_view why);

// What "initialize" is asked with.
base::json::object initialize_params(std::string_view program_version);
// The version that the result of "initialize" names; an error unless it is known.
base::Result<std::string> parse_version(const base::json::value& result);
// The tools of a "tools/list" result; `cursor` is where to ask on, empty if that was all. One that is not as a tool
// must be is none of them, and does not spoil the others.
struct ToolPage {
  std::vector<Tool> tools;
  std::vector<std::string> left_out;  // why, for each of those
  std::string cursor;
};
base::Result<ToolPage> parse_tools(const base::json::value& result);
// The text of a "tools/call" result; parts that are no text are named. A call that failed gives its words too.
base::Result<std::string> parse_call_result(const base::json::value& result);

}  // namespace tidemill::wire::mcp
