// The parameters of the tools of the Berkeley Function-Calling Leaderboard, and its answers to them.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "data.hpp"
#include "grammar/acceptor.hpp"
#include "grammar/json_schema.hpp"

namespace tidemill::grammar {
namespace {

namespace json = base::json;

// The leaderboard writes Python's types, and what an array's items may be beside the array.
void translate(json::value& schema) {
  if (auto* object = schema.if_object()) {
    if (auto* type = object->if_contains("type"); type != nullptr && type->is_string()) {
      const std::string name(type->get_string());
      if (name == "dict") *type = "object";
      if (name == "float") *type = "number";
      if (name == "tuple") *type = "array";
      if (name == "any") object->erase("type");
      if (name == "array" && object->contains("enum")) {
        json::value values = object->at("enum");
        object->erase("enum");
        if (values.is_array() && !values.get_array().empty() && !values.get_array()[0].is_array()) {
          json::value& items = (*object)["items"];
          if (!items.is_object()) items = json::object();
          items.get_object()["enum"] = std::move(values);
        }
      }
    }
    for (const std::string_view keyword : {"properties"}) {
      auto* members = object->if_contains(keyword);
      if (members == nullptr || !members->is_object()) continue;
      for (auto& member : members->get_object())
        translate(member.value());
    }
    for (const std::string_view keyword : {"items", "additionalProperties"}) {
      if (auto* part = object->if_contains(keyword)) translate(*part);
    }
  }
}

// An object of the properties' first listed values, in the schema's order; "" where the answer is nested or does not
// name all that is required.
std::string first_answer(const json::object& schema, const json::object& answer) {
  const json::array required = schema.contains("required") ? schema.at("required").as_array() : json::array();
  std::string out = "{";
  for (const auto& property : schema.at("properties").as_object()) {
    const bool needed = std::any_of(required.begin(), required.end(),
                                    [&](const json::value& name) { return name == json::value(property.key()); });
    const auto* values = answer.if_contains(property.key());
    const bool left_out = values == nullptr || values->as_array().at(0) == json::value("");
    if (left_out && needed) return "";
    if (left_out) continue;
    const json::value& value = values->as_array().at(0);
    if (value.is_object() || value.is_array()) return "";
    const auto& type = property.value().as_object();
    const bool is_number = type.contains("type") && type.at("type") == json::value("number");
    out += (out == "{" ? "\"" : ", \"") + std::string(property.key()) + "\": ";
    out += is_number && value.is_double() ? base::pretty_json(value) : json::serialize(value);
  }
  return out + "}";
}

TEST(ToolSchemas, AllCompile) {
  const auto folder = test::data_root() / "eval/bfcl";
  TM_SKIP_WITHOUT(folder);
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      auto problem = base::parse_json(line);
      ASSERT_TRUE(problem);
      for (json::value& tool : problem->at("function").as_array()) {
        translate(tool.at("parameters"));
        SCOPED_TRACE(json::serialize(tool));
        GrammarBuilder builder;
        const auto root = json_schema(builder, tool.at("parameters"));
        ASSERT_TRUE(root) << root.error().message();
        const auto built = std::move(builder).build(*root);
        ASSERT_TRUE(built) << built.error().message();
        ++count;
      }
    }
  }
  EXPECT_GT(count, 1000U);
}

TEST(ToolSchemas, AnswersAreAllowed) {
  const auto folder = test::data_root() / "eval/bfcl";
  TM_SKIP_WITHOUT(folder / "possible_answer");
  std::ifstream problems(folder / "BFCL_v4_simple_python.json");
  std::ifstream answers(folder / "possible_answer/BFCL_v4_simple_python.json");
  size_t allowed = 0;
  for (std::string line, answer_line; std::getline(problems, line) && std::getline(answers, answer_line);) {
    auto problem = base::parse_json(line);
    const auto answer = base::parse_json(answer_line);
    ASSERT_TRUE(problem && answer);
    ASSERT_EQ(problem->at("id"), answer->at("id"));
    json::value& parameters = problem->at("function").at(0).at("parameters");
    translate(parameters);
    const json::object& call = answer->at("ground_truth").at(0).as_object();
    const std::string text = first_answer(parameters.as_object(), call.begin()->value().as_object());
    if (text.empty()) continue;
    GrammarBuilder builder;
    const auto root = json_schema(builder, parameters);
    ASSERT_TRUE(root) << root.error().message();
    test::Acceptor accepts(std::move(builder), *root);
    ++allowed;
    EXPECT_TRUE(accepts(text)) << text << "\n" << json::serialize(parameters);
  }
  EXPECT_GT(allowed, 200U);
}

}  // namespace
}  // namespace tidemill::grammar
