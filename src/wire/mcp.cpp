#include "wire/mcp.hpp"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "wire/json_fields.hpp"

namespace tidemill::wire::mcp {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

json::array text_content(std::string_view text) {
  return {json::object{{"type", "text"}, {"text", text}}};
}

json::object implementation(std::string_view program_version) {
  return {{"name", "tidemill"}, {"version", program_version}};
}

}  // namespace

bool is_known(std::string_view version) {
  return std::ranges::find(versions, version) != versions.end();
}

std::string_view choose_version(std::string_view wanted) {
  const auto* const found = std::ranges::find(versions, wanted);
  return found == versions.end() ? versions.front() : *found;
}

std::string known_versions() {
  return fmt::format("{}", fmt::join(versions, ", "));
}

json::object initialize_result(std::string_view version, std::string_view program_version) {
  return {{"protocolVersion", version},
          {"capabilities", {{"tools", json::object()}}},
          {"serverInfo", implementation(program_version)}};
}

json::object tools_result(const std::vector<Tool>& tools) {
  json::array list;
  for (const Tool& tool : tools) {
    list.push_back(
        json::object{{"name", tool.name}, {"description", tool.description}, {"inputSchema", tool.input_schema}});
  }
  return {{"tools", std::move(list)}};
}

json::object call_result(std::string_view text, json::object structured) {
  json::object result{{"content", text_content(text)}, {"isError", false}};
  if (!structured.empty()) result["structuredContent"] = std::move(structured);
  return result;
}

json::object call_failure(std::string_view why) {
  return {{"content", text_content(why)}, {"isError", true}};
}

json::object initialize_params(std::string_view program_version) {
  return {{"protocolVersion", versions.front()},
          {"capabilities", json::object()},
          {"clientInfo", implementation(program_version)}};
}

Result<std::string> parse_version(const json::value& result) {
  const json::object* object = result.if_object();
  if (object == nullptr) return Error(ErrorCode::corrupt, "the MCP server's answer to initialize is no object");
  const JsonFields fields(*object, "result");
  TM_TRY(auto version, fields.required_string("protocolVersion"));
  if (is_known(version)) return version;
  return Error(ErrorCode::unsupported, fmt::format("it speaks version '{}' of the protocol; known are {}",
                                                   base::utf8::prefix(version, 40), known_versions()));
}

namespace {

Result<Tool> parse_tool(const json::value& value, const JsonFields& fields, const std::string& place) {
  const json::object* entry = value.if_object();
  if (entry == nullptr) return fields.mismatch(place, "an object", value);
  const JsonFields tool(*entry, fields.path(place));
  TM_TRY(const auto name, tool.string("name"));
  if (!name) return tool.invalid("name", fmt::format("'{}' is missing", tool.path("name")));
  if (name->empty()) return tool.invalid("name", fmt::format("'{}' is empty", tool.path("name")));
  TM_TRY(const auto description, tool.string("description"));
  TM_TRY(const json::object* schema, tool.object("inputSchema"));
  return Tool{*name, description.value_or(""), schema == nullptr ? json::object() : *schema};
}

}  // namespace

Result<ToolPage> parse_tools(const json::value& result) {
  const json::object* object = result.if_object();
  if (object == nullptr) return Error(ErrorCode::corrupt, "the MCP server's list of tools is no object");
  const JsonFields fields(*object, "result");
  ToolPage page;
  TM_TRY(const json::array* list, fields.array("tools"));
  for (size_t i = 0; list != nullptr && i < list->size(); ++i) {
    auto tool = parse_tool((*list)[i], fields, fmt::format("tools[{}]", i));
    if (tool) {
      page.tools.push_back(std::move(*tool));
    } else {
      page.left_out.push_back(tool.error().to_string());
    }
  }
  TM_TRY(const auto cursor, fields.string("nextCursor"));
  page.cursor = cursor.value_or("");
  return page;
}

Result<std::string> parse_call_result(const json::value& result) {
  const json::object* object = result.if_object();
  if (object == nullptr) return Error(ErrorCode::corrupt, "the MCP server's answer to a call is no object");
  const JsonFields fields(*object, "result");
  TM_TRY(const json::array* content, fields.array("content"));
  std::string text;
  for (size_t i = 0; content != nullptr && i < content->size(); ++i) {
    const json::object* entry = (*content)[i].if_object();
    if (entry == nullptr) return fields.mismatch(fmt::format("content[{}]", i), "an object", (*content)[i]);
    const JsonFields part(*entry, fields.path(fmt::format("content[{}]", i)));
    TM_TRY(const auto type, part.string("type"));
    TM_TRY(const auto words, part.string("text"));
    if (!text.empty()) text += '\n';
    text += words ? *words : fmt::format("[{}]", type.value_or("something"));
  }
  if (text.empty() && object->contains("structuredContent")) text = json::serialize(object->at("structuredContent"));
  return text;
}

}  // namespace tidemill::wire::mcp
