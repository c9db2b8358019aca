// JSON Schema (draft 2020-12) as a grammar of JSON texts that satisfy it. docs/structured-output.md lists the keywords
// and the form of what is written.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "grammar/builder.hpp"
#include "grammar/notation.hpp"

namespace tidemill::grammar {

struct JsonSchemaOptions {
  enum class Space : uint8_t {
    none,   // no white space at all
    one,    // or one space behind a colon or a comma
    lines,  // or a line feed and up to 32 spaces where JSON is broken into lines
  };
  enum class Texts : uint8_t {
    allowed,
    only,  // of the schema's values those that are texts
    none,  // those that are not
  };
  Space space = Space::one;
  Notation notation = {};        // raw texts come without white space, and with properties in alphabetical order
  bool loose_formats = false;    // a `format` that cannot be held to lets any text pass, instead of being an error
  std::string whose = {};        // the schema, in front of what only build() finds: "the parameters of 'f': "
  Texts texts = Texts::allowed;  // as the whole value: of json_schema(), of a property alone
};

// The texts are JSON (or stand for it in another notation), and validate against `schema`, an object or a boolean. Not
// every text that validates is among them: properties come in the schema's order, white space is as `options` say, and
// numbers have bounded digits. What the schema says and cannot be held to is an error.
//
// Errors, which name a keyword by its JSON pointer: `invalid_argument` for what is no schema and for a schema that
// nothing satisfies (where only parts or conditions of texts show it, GrammarBuilder::build() finds it), `unsupported`,
// `too_large`. Where values are left out by Texts, that none is left is no error: it is nothing().
base::Result<Expression> json_schema(GrammarBuilder& builder, const base::json::value& schema,
                                     const JsonSchemaOptions& options = {});

// The properties of one object's schema, each by itself, for formats that give each a place of its own. The schema is
// gone through once for all of them, and their references reach all of it. Not thread-safe.
class JsonProperties {
 public:
  // The builder and the schema must outlive it. Errors as of json_schema().
  static base::Result<JsonProperties> open(GrammarBuilder& builder, const base::json::value& schema,
                                           bool loose_formats = false);
  JsonProperties(JsonProperties&& other) noexcept;
  JsonProperties& operator=(JsonProperties&& other) noexcept;
  ~JsonProperties();

  // What the value of one of the schema's `properties` may be, by what is said there. `options` but for loose_formats.
  // Errors as of json_schema(); their pointers begin at the schema.
  base::Result<Expression> write(std::string_view name, const JsonSchemaOptions& options = {});

 private:
  struct Opened;
  explicit JsonProperties(std::unique_ptr<Opened> opened);

  std::unique_ptr<Opened> opened_;
};

// Any JSON value, and any object, in the same form.
Expression any_json_value(GrammarBuilder& builder, const JsonSchemaOptions& options = {});
Expression any_json_object(GrammarBuilder& builder, const JsonSchemaOptions& options = {});

}  // namespace tidemill::grammar
