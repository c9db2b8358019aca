// Reads conjunctions of subschemas as unions of shapes: keywords, references and combinations (allOf, anyOf, oneOf).
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "grammar/regex.hpp"
#include "grammar/schema_document.hpp"
#include "grammar/schema_shape.hpp"

namespace tidemill::grammar {

// Not thread-safe. `document` must outlive it.
class SchemaReader {
 public:
  // `loose_formats`: values of `format` that cannot be held to pass, instead of being an error.
  SchemaReader(SchemaDocument& document, const GrammarLimits& limits, bool loose_formats = false)
      : document_(document), limits_(limits), loose_formats_(loose_formats) {}
  SchemaReader(const SchemaReader&) = delete;
  SchemaReader& operator=(const SchemaReader&) = delete;
  ~SchemaReader();  // adds to the limits' `spent`

  SchemaDocument& document() { return document_; }

  // The shapes of a conjunction; a value belongs to it if it fits one of them. None: nothing does. Valid as long as the
  // reader. Errors: `invalid_argument`, `unsupported`, `too_large`; they name a keyword by its JSON pointer.
  base::Result<const std::vector<Shape>*> read(const Conjunction& conjunction);

  // Of a conjunction that was read and has no shapes: why, in words that begin with a JSON pointer, or "".
  std::string why_none(const Conjunction& conjunction) const;

  // What the value of the property `name` must satisfy.
  base::Result<Conjunction> property(const ObjectShape& shape, const std::string& name);

  // Whether `value` fits. True is certain; false is certain but where a format's pattern is narrower than its standard.
  base::Result<bool> accepts(const Conjunction& conjunction, const base::json::value& value);

  // A pattern of ECMA-262; `owner` is named in errors.
  base::Result<const Regex*> pattern(const std::string& source, SchemaNode owner);
  // Whether it matches somewhere in `text`.
  base::Result<bool> matches_pattern(const std::string& source, SchemaNode owner, std::string_view text);

 private:
  struct Frame;    // a subschema, and the one that led to it
  struct Reading;  // a shape that is being put together
  using Handler = base::Result<void> (SchemaReader::*)(Reading&, const std::shared_ptr<Frame>&, std::string_view,
                                                       const base::json::value&);
  static const std::map<std::string_view, Handler>& handlers();

  // What reading may spend; less where the limits are below the usual ones.
  static constexpr size_t kMaxSteps = 200'000;         // subschemas entered
  static constexpr size_t kMaxCopying = 5'000'000;     // subschemas, known to hold, that alternatives begin with
  static constexpr size_t kMaxComparing = 20'000'000;  // values and parts of values compared
  static constexpr size_t kMaxMatching = 10'000'000;   // steps of patterns through texts
  size_t share_of(size_t most) const { return most / GrammarLimits().max_nodes * limits_.max_nodes; }

  base::Result<void> spend_on_copying(size_t size, SchemaNode owner);
  base::Result<void> spend_on_copy(const Reading& reading, SchemaNode owner);
  base::Result<void> branch(Reading reading, std::vector<Shape>& out, int depth);
  base::Result<void> enter(Reading& reading, const std::shared_ptr<Frame>& frame);
  base::Result<void> push(Reading& reading, SchemaNode node, const std::shared_ptr<Frame>& from);
  base::Result<void> finish(Reading& reading, std::vector<Shape>& out);
  base::Result<void> close_properties(Reading& reading);
  // Whether a subschema was entered by way of one of these, or is one of them.
  static bool leads_from(const std::set<SchemaNode>& nodes, const Frame* to);
  // The subschema of `frame`, and those that it leads to but that were entered from elsewhere before.
  base::Result<std::set<SchemaNode>> entered_within(const Reading& reading, const Frame& frame);
  // Notes that the keywords of what was read so far leave no value; `keywords` are those to name.
  void note_contradiction(const Reading& reading, std::span<const std::string_view> keywords);

  // One for each keyword or group of keywords.
  base::Result<void> read_type(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_enum(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_bound(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_multiple(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_size(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_pattern(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_format(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_items(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_unique(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_required(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_names(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_dependent(Reading&, const std::shared_ptr<Frame>&, std::string_view,
                                    const base::json::value&);
  base::Result<void> read_unevaluated(Reading&, const std::shared_ptr<Frame>&, std::string_view,
                                      const base::json::value&);
  base::Result<void> read_reference(Reading&, const std::shared_ptr<Frame>&, std::string_view,
                                    const base::json::value&);
  base::Result<void> read_combination(Reading&, const std::shared_ptr<Frame>&, std::string_view,
                                      const base::json::value&);
  base::Result<void> read_not(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  base::Result<void> read_condition(Reading&, const std::shared_ptr<Frame>&, std::string_view,
                                    const base::json::value&);
  base::Result<void> refuse(Reading&, const std::shared_ptr<Frame>&, std::string_view, const base::json::value&);
  // properties, patternProperties and additionalProperties of one schema object, which depend on each other.
  base::Result<void> read_properties(Reading& reading, const std::shared_ptr<Frame>& frame,
                                     const base::json::object& schema);
  base::Result<void> read_array(Reading& reading, const std::shared_ptr<Frame>& frame,
                                const base::json::object& schema);

  // Whether `value` is one of `values`; `owner` is named in errors.
  base::Result<bool> among(const std::vector<const base::json::value*>& values, const base::json::value& value,
                           SchemaNode owner);
  base::Result<bool> fits(const Shape& shape, const base::json::value& value);
  base::Result<bool> fits_string(const StringShape& shape, std::string_view text);
  base::Result<bool> fits_object(const ObjectShape& shape, const base::json::object& object);
  // Whether no value can belong to both, as far as that can be seen. `required`: names that both ask for besides.
  base::Result<bool> disjoint(const Conjunction& left, const Conjunction& right, const Shape& context, int depth);
  base::Result<bool> disjoint(const Shape& left, const Shape& right, const Shape& context, int depth);
  base::Result<bool> disjoint_objects(const ObjectShape& left, const ObjectShape& right, const Shape& context,
                                      int depth);
  base::Result<void> check_one_of(SchemaNode node, const std::vector<SchemaNode>& alternatives);

  base::Error invalid(SchemaNode node, std::string_view keyword, std::string_view message) const;
  base::Error unsupported(SchemaNode node, std::string_view keyword, std::string_view message) const;

  SchemaDocument& document_;
  const GrammarLimits limits_;
  const bool loose_formats_;
  std::map<Conjunction, std::unique_ptr<std::vector<Shape>>> shapes_;
  std::map<Conjunction, std::string> none_;            // of those without shapes: why
  std::pair<SchemaNode, std::string>* why_ = nullptr;  // the first reason of what is being read, and its place
  std::map<std::string, std::unique_ptr<Regex>, std::less<>> regexes_;
  std::set<SchemaNode> one_of_checked_;
  std::set<SchemaNode> one_of_open_;
  std::map<std::pair<SchemaNode, std::string>, SchemaNode> implied_;
  // What may still be spent.
  size_t steps_ = share_of(kMaxSteps);
  size_t copying_ = share_of(kMaxCopying);
  size_t comparing_ = share_of(kMaxComparing);
  size_t matching_ = share_of(kMaxMatching);
  int open_reads_ = 0;
};

}  // namespace tidemill::grammar
