#include "grammar/json_schema.hpp"

#include <string>
#include <utility>

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

base::Result<Expression> write_part(GrammarBuilder& builder, SchemaReader& reader, SchemaNode part,
                                    const JsonSchemaOptions& options) {
  SchemaWriter writer(builder, reader, options);
  const TypeSet types = types_with(options.texts);
  TM_TRY(const Expression written, writer.write({part}, types));
  if (types == all_types && written == builder.nothing() && !builder.failed()) {
    const std::string why = writer.why_nothing({part});
    return reader.document().error(base::ErrorCode::invalid_argument, part, "",
                                   "no value satisfies the schema" + (why.empty() ? "" : ": " + why));
  }
  return written;
}

}  // namespace

base::Result<Expression> json_schema(GrammarBuilder& builder, const json::value& schema,
                                     const JsonSchemaOptions& options) {
  TM_TRY(SchemaDocument document, SchemaDocument::open(schema, builder.limits()));
  SchemaReader reader(document, builder.limits(), options.loose_formats);
  return write_part(builder, reader, document.root(), options);
}

struct JsonProperties::Opened {
  GrammarBuilder& builder;
  SchemaDocument document;
  SchemaReader reader;  // of the document beside it

  Opened(GrammarBuilder& for_builder, SchemaDocument opened, bool loose_formats)
      : builder(for_builder), document(std::move(opened)), reader(document, for_builder.limits(), loose_formats) {}
};

JsonProperties::JsonProperties(std::unique_ptr<Opened> opened) : opened_(std::move(opened)) {}
JsonProperties::JsonProperties(JsonProperties&& other) noexcept = default;
JsonProperties& JsonProperties::operator=(JsonProperties&& other) noexcept = default;
JsonProperties::~JsonProperties() = default;

base::Result<JsonProperties> JsonProperties::open(GrammarBuilder& builder, const json::value& schema,
                                                  bool loose_formats) {
  TM_TRY(SchemaDocument document, SchemaDocument::open(schema, builder.limits()));
  return JsonProperties(std::make_unique<Opened>(builder, std::move(document), loose_formats));
}

base::Result<Expression> JsonProperties::write(std::string_view name, const JsonSchemaOptions& options) {
  SchemaDocument& document = opened_->document;
  const auto* schema = document.at(document.root()).if_object();
  const auto* properties = schema != nullptr ? schema->if_contains("properties") : nullptr;
  const auto* members = properties != nullptr ? properties->if_object() : nullptr;
  const auto* property = members != nullptr ? members->if_contains(name) : nullptr;
  if (property == nullptr) {
    return document.error(base::ErrorCode::invalid_argument, document.root(), "properties",
                          "has no \"" + std::string(name) + "\"");
  }
  const SchemaNode list = document.child(document.root(), "properties", *properties);
  return write_part(opened_->builder, opened_->reader, document.child(list, name, *property), options);
}

Expression any_json_value(GrammarBuilder& builder, const JsonSchemaOptions& options) {
  return any_json(builder, options, all_types);
}

Expression any_json_object(GrammarBuilder& builder, const JsonSchemaOptions& options) {
  return any_json(builder, options, object_type);
}

}  // namespace tidemill::grammar
