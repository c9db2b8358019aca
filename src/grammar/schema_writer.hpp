// Translates shapes to grammar. Objects, arrays and whatever holds them become rules, one for each conjunction, so that
// recursive schemas are finite and shared ones are translated once.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
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

  // Where no value satisfies a conjunction that was written: why, in words that begin with a JSON pointer, or "" where
  // that was not seen.
  std::string why_nothing(const Conjunction& conjunction) const;

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
  base::Result<Expression> string_text(const StringShape& shape, const Conjunction& owner);
  Expression explained(Expression texts, const StringShape& shape, const Conjunction& owner);
  base::Result<Expression> array(const ArrayShape& shape, const Conjunction& owner);
  base::Result<Expression> distinct_items(const ArrayShape& shape, const Conjunction& owner);
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
  // What is being written can have no value: the two exclude each other; something that it needs has none. The first
  // reason stays.
  void contradict(const Conjunction& owner, std::string_view one, std::string_view other);
  void contradict_sizes(const Conjunction& owner, std::string_view of, size_t least, std::optional<size_t> most);
  void because_of(const Conjunction& part);
  // That a required property can have no value.
  void contradict_required(const std::string& name, const Conjunction& schema);
  void contradict_numbers(const Shape& shape, const Conjunction& owner);
  std::string told(const StringPattern& pattern) const;
  SchemaNode place_of(const Conjunction& owner) const {
    return owner.empty() ? reader_.document().root() : owner.front();
  }
  bool lengths_fit(const StringShape& shape, const StringPattern& pattern, const Regex& regex,
                   const Conjunction& owner);
  base::Error error(base::ErrorCode code, const Conjunction& owner, std::string_view keyword,
                    std::string_view message) const;

  GrammarBuilder& builder_;
  SchemaReader& reader_;
  std::string whose_;
  NotationWriter notation_;
  Expression pad_;    // inside of brackets
  Expression comma_;  // with the space behind it
  Expression colon_;
  std::map<Conjunction, Expression> values_;
  std::vector<std::pair<Conjunction, Rule>> waiting_;  // rules to be defined
  std::map<Conjunction, std::string> reasons_;         // of those that are nothing
  std::string why_;                                    // the same of the one that is being written
  size_t alternatives_ = 0;                            // of what may come next, over all places of all objects so far
};

}  // namespace tidemill::grammar
