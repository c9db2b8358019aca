// What names and references in a schema mean, and what properties are evaluated through them.
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "grammar/schema_cases.hpp"
#include "grammar/uri_reference.hpp"

namespace tidemill::grammar {
namespace {

using base::ErrorCode;
using test::check;
using test::expect_refusal;
using test::expect_refusal_saying;

// The examples of RFC 3986, sections 5.4.1 and 5.4.2, without fragments.
TEST(UriReference, MeansWhatTheStandardSays) {
  const std::string base = "http://a/b/c/d;p?q";
  for (const auto& [reference, wanted] :
       std::vector<std::pair<std::string, std::string>>{{"g:h", "g:h"},
                                                        {"g", "http://a/b/c/g"},
                                                        {"./g", "http://a/b/c/g"},
                                                        {"g/", "http://a/b/c/g/"},
                                                        {"/g", "http://a/g"},
                                                        {"//g", "http://g"},
                                                        {"?y", "http://a/b/c/d;p?y"},
                                                        {"g?y", "http://a/b/c/g?y"},
                                                        {";x", "http://a/b/c/;x"},
                                                        {"g;x", "http://a/b/c/g;x"},
                                                        {"g;x?y", "http://a/b/c/g;x?y"},
                                                        {"", "http://a/b/c/d;p?q"},
                                                        {".", "http://a/b/c/"},
                                                        {"./", "http://a/b/c/"},
                                                        {"..", "http://a/b/"},
                                                        {"../", "http://a/b/"},
                                                        {"../g", "http://a/b/g"},
                                                        {"../..", "http://a/"},
                                                        {"../../", "http://a/"},
                                                        {"../../g", "http://a/g"},
                                                        {"../../../g", "http://a/g"},
                                                        {"../../../../g", "http://a/g"},
                                                        {"/./g", "http://a/g"},
                                                        {"/../g", "http://a/g"},
                                                        {"g.", "http://a/b/c/g."},
                                                        {".g", "http://a/b/c/.g"},
                                                        {"g..", "http://a/b/c/g.."},
                                                        {"..g", "http://a/b/c/..g"},
                                                        {"./../g", "http://a/b/g"},
                                                        {"./g/.", "http://a/b/c/g/"},
                                                        {"g/./h", "http://a/b/c/g/h"},
                                                        {"g/../h", "http://a/b/c/h"},
                                                        {"g;x=1/./y", "http://a/b/c/g;x=1/y"},
                                                        {"g;x=1/../y", "http://a/b/c/y"},
                                                        {"g?y/./x", "http://a/b/c/g?y/./x"},
                                                        {"g?y/../x", "http://a/b/c/g?y/../x"},
                                                        {"http:g", "http:g"}}) {
    EXPECT_EQ(resolved_uri(base, reference), wanted) << reference;
  }
  EXPECT_EQ(resolved_uri("http://a", "g"), "http://a/g");
  EXPECT_EQ(resolved_uri("urn:x:a", "urn:x:b"), "urn:x:b");
  EXPECT_EQ(resolved_uri("", "sub/r.json"), "sub/r.json");
  EXPECT_EQ(resolved_uri("sub/r.json", "s.json"), "sub/s.json");
  EXPECT_EQ(resolved_uri("", ""), "");
}

TEST(SchemaReferences, AreResolvedWithinTheIdsAroundThem) {
  check({R"({"$id":"http://ex.org/root.json","$defs":{"r":{"$id":"sub/r.json","type":"null","$defs":{
             "s":{"$id":"s.json","type":"boolean"}}}},
             "prefixItems":[{"$ref":"http://ex.org/sub/r.json"},{"$ref":"sub/r.json"},{"$ref":"/sub/r.json"},
                            {"$ref":"sub/s.json"},{"$ref":"http://ex.org/sub/s.json#"},{"$ref":"root.json#/$defs/r"}],
             "type":"array","minItems":6,"maxItems":6})",
         {"[null,null,null,true,false,null]"},
         {"[null,null,null,null,false,null]", "[true,null,null,true,false,null]"}});
  // Two of the same text are two where what stands around them differs, and each is found from within.
  check({R"({"$defs":{"a":{"$id":"http://ex.org/a/","$defs":{"i":{"$id":"item","type":"null"}},"$ref":"item"},
                      "b":{"$id":"http://ex.org/b/","$defs":{"i":{"$id":"item","type":"boolean"}},"$ref":"item"}},
             "prefixItems":[{"$ref":"http://ex.org/a/"},{"$ref":"http://ex.org/b/"},{"$ref":"http://ex.org/b/item"}],
             "type":"array","minItems":3,"maxItems":3})",
         {"[null,true,false]"},
         {"[null,null,false]", "[true,true,false]", "[null,true,null]"}});
  // A root without an $id, or with one that is relative itself.
  check({R"({"$defs":{"r":{"$id":"r","type":"null"}},"$ref":"./r"})", {"null"}, {"1"}});
  check({R"({"$id":"s/root","$defs":{"r":{"$id":"r","type":"null"}},"$ref":"r"})", {"null"}, {"1"}});
  expect_refusal_saying(R"({"$id":"http://ex.org/root.json","properties":{"a":{"$ref":"r.json"}}})",
                        ErrorCode::unsupported,
                        {"#/properties/a/$ref", "\"r.json\"", "\"http://ex.org/r.json\"", "another document"});
}

TEST(SchemaReferences, NamesOfTwoSubschemasAreRefused) {
  expect_refusal(R"({"$defs":{"a":{"$id":"http://ex.org/x"},"b":{"$id":"http://ex.org/x"}}})",
                 ErrorCode::invalid_argument, R"(#/$defs/b/$id: "http://ex.org/x" names two subschemas)");
  expect_refusal(R"({"$id":"http://ex.org/r","$defs":{"a":{"$id":"x"},"b":{"$id":"http://ex.org/x#"}}})",
                 ErrorCode::invalid_argument, R"(#/$defs/b/$id: "http://ex.org/x" names two subschemas)");
  expect_refusal(R"({"$id":"http://ex.org/r","$defs":{"a":{"$id":"r"}}})", ErrorCode::invalid_argument,
                 R"(#/$defs/a/$id: "http://ex.org/r" names two subschemas)");
  expect_refusal(R"({"$defs":{"a":{"$anchor":"x"},"b":{"$anchor":"x"}}})", ErrorCode::invalid_argument,
                 R"(#/$defs/b/$anchor: "x" names two subschemas)");
}

// Some programs write a pointer as each property's $id, and older drafts have anchors there.
TEST(SchemaReferences, IdsOfFragmentsAloneAreNoDocuments) {
  check({R"({"$id":"http://ex.org/r","definitions":{"n":{"type":"null"}},"type":"object","properties":{
             "a":{"$id":"#/properties/a","$ref":"#/definitions/n"},
             "b":{"$id":"#/properties/a","$ref":"#/definitions/n"}},"required":["a","b"]})",
         {R"({"a":null,"b":null})"},
         {R"({"a":1,"b":null})"}});
  check({R"({"definitions":{"n":{"$id":"#n","type":"null"}},"$ref":"#n"})", {"null"}, {"1"}});
}

// Names of properties and definitions are no keywords, whatever they are.
TEST(SchemaReferences, AreFoundUnderNamesThatKeywordsHave) {
  for (const char* name : {"const", "enum", "default", "examples", "properties", "$defs"}) {
    const std::string key(name);
    check({R"({"$defs":{")" + key + R"(":{"$anchor":"x","type":"null"}},"$ref":"#x"})", {"null"}, {"1"}});
    check({R"({"$defs":{")" + key + R"(":{"$id":"http://ex.org/x","type":"null"}},"$ref":"http://ex.org/x"})",
           {"null"},
           {"1"}});
    check({R"({"type":"object","properties":{")" + key + R"(":{"$anchor":"x","type":"null"},"b":{"$ref":"#x"}},
              "required":[")" +
               key + R"(","b"]})",
           {"{\"" + key + R"(":null,"b":null})"},
           {"{\"" + key + R"(":null,"b":1})"}});
  }
  // Values are no schemas.
  check({R"({"const":{"$id":"http://ex.org/x","$anchor":"x"},"$defs":{"a":{"$id":"http://ex.org/x","$anchor":"x"}}})",
         {R"({"$id":"http://ex.org/x","$anchor":"x"})"},
         {"null"}});
  check({R"({"type":"null","default":{"properties":{"a":{"$id":"http://ex.org/x"}}},"examples":[{"$anchor":"x"}],
             "$defs":{"a":{"$id":"http://ex.org/x"},"b":{"$anchor":"x"}}})",
         {"null"},
         {"1"}});
  expect_refusal(R"({"$ref":"#x","enum":[{"$anchor":"x"}]})", ErrorCode::invalid_argument, "points to nothing");
}

// Where the property is absent its schema says nothing, so that what it names is not evaluated.
TEST(UnevaluatedProperties, AreThoseOfDependentSchemasThatDoNotHold) {
  for (const char* keyword : {"dependentSchemas", "dependencies"}) {
    check({R"({"type":"object","properties":{"k":{"type":"null"}},")" + std::string(keyword) +
               R"(":{"k":{"properties":{"dd":{"type":"null"}}}},"unevaluatedProperties":false})",
           {"{}", R"({"k":null})", R"({"k":null,"dd":null})"},
           {R"({"dd":null})", R"({"k":null,"dd":1})", R"({"k":null,"x":null})"}});
  }
  check({R"({"type":"object","dependentSchemas":{"k":{"properties":{"k":{"type":"null"},"dd":{"type":"null"}},
             "required":["dd"]}},"unevaluatedProperties":{"type":"boolean"}})",
         {"{}", R"({"k":null,"dd":null})", R"({"dd":true})", R"({"x":true})"},
         {R"({"dd":null})", R"({"k":null})", R"({"k":true})", R"({"x":null})"}});
  check({R"({"type":"object","properties":{"k":{},"a":{"type":"null"}},"additionalProperties":false,
             "dependentSchemas":{"k":{"required":["a"]}}})",
         {"{}", R"({"a":null})", R"({"k":1,"a":null})"},
         {R"({"k":1})"}});
}

TEST(UnevaluatedProperties, SeeWhatHeldAlready) {
  check({R"({"$defs":{"A":{"properties":{"a":{"type":"null"}}}},"type":"object",
             "allOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/A","unevaluatedProperties":false}],"required":["a"]})",
         {R"({"a":null})"},
         {R"({"a":1})", R"({"a":null,"b":null})"}});
  // By way of others, which held already as well.
  check({R"({"$defs":{"A":{"properties":{"a":{"type":"null"}}},"B":{"$ref":"#/$defs/A"},
                      "C":{"properties":{"c":{"type":"null"}},"allOf":[{"$ref":"#/$defs/B"}]}},"type":"object",
             "allOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/B"},{"$ref":"#/$defs/C"},
                      {"properties":{"d":{"type":"null"}},"anyOf":[{"$ref":"#/$defs/C"}],"unevaluatedProperties":false}]})",
         {"{}", R"({"d":null,"a":null,"c":null})"},
         {R"({"a":1})", R"({"b":null})"}});
  // What holds beside it, and not by way of it, is not seen.
  check({R"({"$defs":{"A":{"properties":{"a":{"type":"null"}}}},"type":"object",
             "allOf":[{"$ref":"#/$defs/A"},{"properties":{"b":{"type":"null"}},"unevaluatedProperties":false}]})",
         {"{}", R"({"b":null})"},
         {R"({"a":null})"}});
}

}  // namespace
}  // namespace tidemill::grammar
