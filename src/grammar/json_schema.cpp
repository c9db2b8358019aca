#include "grammar/json_schema.hpp"

#include <string>

#include "grammar/schema_document.hpp"
#include "grammar/schema_reader.hpp"
#include "grammar/schema_writer.hpp"

namespace tidemill::grammar {

namespace json = base::json;

namespace {

Expression any_json(GrammarBuilder& builder, const JsonSchemaOptions& options, TypeSet types) {
  const json::value anything(true);
  auto document = SchemaDocument::open(anything, builder.limits());
  SchemaReader reader(*document, builder.limits());
  auto written = SchemaWriter(builder, reader, options).write({}, types);
  return written ? *written : builder.nothing();
}

TypeSet types_with(JsonSchemaOptions::Texts texts) {
  if (texts == JsonSchemaOptions::Texts::only) return string_type;
  return texts == JsonSchemaOptions::Texts::none ? static_cast<TypeSet>(all_types & ~string_type) : all_types;
}

}  // namespace

base::Result<Expression> json_schema(GrammarBuilder& builder, const json::value& schema,
                                     const JsonSchemaOptions& options) {
  TM_TRY(SchemaDocument document, SchemaDocument::open(schema, builder.limits()));
  SchemaReader reader(document, builder.limits(), options.loose_formats);
  SchemaWriter writer(builder, reader, options);
  const TypeSet types = types_with(options.texts);
  TM_TRY(const Expression written, writer.write({document.root()}, types));
  if (types == all_types && written == builder.nothing() && !builder.failed()) {
    const std::string why = writer.why_nothing({document.root()});
    return document.error(base::ErrorCode::invalid_argument, document.root(), "",
                          "no value satisfies the schema" + (why.empty() ? "" : ": " + why));
  }
  return written;
}

Expression any_json_value(GrammarBuilder& builder, const JsonSchemaOptions& options) {
  return any_json(builder, options, all_types);
}

Expression any_json_object(GrammarBuilder& builder, const JsonSchemaOptions& options) {
  return any_json(builder, options, object_type);
}

}  // namespace tidemill::grammar
