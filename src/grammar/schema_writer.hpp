// Translates shapes to grammar. Objects, arrays and whatever holds them become rules, one for each conjunction, so that
// recursive schemas are finite and shared ones are translated once.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "grammar/builder.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/schema_reader.hpp"

namespace tidemill::grammar {

// Not thread-safe. The builder and the reader must outlive it.
class SchemaWriter {
 public:
  SchemaWriter(GrammarBuilder& builder, SchemaReader& reader, const JsonSchemaOptions& options);

  // The values that satisfy `conjunction` and are of one of the types.
  base::Result<Expression> write(const Conjunction& conjunction, TypeSet types = all_types);

  // Where something was found that no value satisfies and a value needs: the first one's JSON pointer, or nothing.
  const std::string& impossible() const { return impossible_; }

 private:
  struct Property {
    std::string name;
    bool required;
    Expression member;  // name, colon and value
  };
  struct Others {  // properties that are not named
    Expression member;
    bool possible = false;
  };

  base::Result<Expression> value(const Conjunction& conjunction);
  base::Result<Expression> body(const Conjunction& conjunction, TypeSet types);
  base::Result<Expression> of_shape(const Shape& shape, const Conjunction& owner, TypeSet types);
  base::Result<Expression> string_text(const StringShape& shape);
  base::Result<Expression> array(const ArrayShape& shape);
  base::Result<Expression> distinct_items(const ArrayShape& shape);
  base::Result<Expression> object(const ObjectShape& shape, const Conjunction& owner);
  base::Result<std::vector<Property>> named(const ObjectShape& shape);
  base::Result<Others> others(const ObjectShape& shape, const std::vector<Property>& properties,
                              const Conjunction& owner);
  base::Result<Expression> other_keys(const ObjectShape& shape, const std::vector<std::string>& names,
                                      const Conjunction& owner);
  base::Result<Expression> besides(base::Result<Expression> keys, const Conjunction& owner) const;
  base::Result<Expression> members(const ObjectShape& shape, const std::vector<Property>& properties,
                                   const Others& others, const Conjunction& owner);
  Expression member(Expression key, Expression value);
  base::Error error(base::ErrorCode code, const Conjunction& owner, std::string_view keyword,
                    std::string_view message) const;

  GrammarBuilder& builder_;
  SchemaReader& reader_;
  NotationWriter notation_;
  Expression pad_;    // inside of brackets
  Expression comma_;  // with the space behind it
  Expression colon_;
  std::map<Conjunction, Expression> values_;
  std::vector<std::pair<Conjunction, Rule>> waiting_;  // rules to be defined
  std::string impossible_;
  size_t alternatives_ = 0;  // of what may come next, over all places of all objects so far
};

}  // namespace tidemill::grammar
