// Schemas with texts that their grammars must and must not allow, and what is said of schemas that are refused.
#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "grammar/acceptor.hpp"
#include "grammar/json_schema.hpp"

namespace tidemill::test {

struct SchemaCase {
  std::string schema;
  std::vector<std::string> accepted;
  std::vector<std::string> rejected;
};

inline void check(const SchemaCase& one, const grammar::JsonSchemaOptions& options = {}) {
  SCOPED_TRACE(one.schema.substr(0, 2'000));
  const auto schema = base::parse_json(one.schema);
  ASSERT_TRUE(schema) << schema.error().message();
  grammar::GrammarBuilder builder;
  const auto root = grammar::json_schema(builder, *schema, options);
  ASSERT_TRUE(root) << root.error().message();
  Acceptor accepts(std::move(builder), *root);
  for (const std::string& text : one.accepted)
    EXPECT_TRUE(accepts(text)) << text;
  for (const std::string& text : one.rejected)
    EXPECT_FALSE(accepts(text)) << text;
}

// The message of the error; "" with a failure where there is none.
inline std::string refusal(const std::string& schema, base::ErrorCode code) {
  const auto parsed = base::parse_json(schema, 1000);
  if (!parsed) return ADD_FAILURE() << parsed.error().message(), "";
  grammar::GrammarBuilder builder;
  const auto root = grammar::json_schema(builder, *parsed);
  if (!root) {
    EXPECT_EQ(root.error().code(), code) << root.error().message();
    return root.error().message();
  }
  const auto built = std::move(builder).build(*root);
  if (built) return ADD_FAILURE() << "accepted: " << schema.substr(0, 200), "";
  EXPECT_EQ(built.error().code(), code) << built.error().message();
  return built.error().message();
}

// The message holds each of the parts.
inline void expect_refusal_saying(const std::string& schema, base::ErrorCode code,
                                  const std::vector<std::string>& parts) {
  const std::string message = refusal(schema, code);
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << schema.substr(0, 2'000) << "\n"
                                                     << message << "\nlacks " << part;
}
inline void expect_refusal(const std::string& schema, base::ErrorCode code, const std::string& part) {
  expect_refusal_saying(schema, code, {part});
}

}  // namespace tidemill::test
