// The state of SchemaReader while it reads one conjunction.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "grammar/schema_reader.hpp"

namespace tidemill::grammar {

// Members from the innermost subschema to the one that reading began with.
struct SchemaReader::Frame {
  SchemaNode node;
  std::shared_ptr<Frame> from;
  int depth = 0;
};

struct SchemaReader::Reading {
  struct Choice {
    std::shared_ptr<Frame> frame;  // of the schema that offers the alternatives
    std::vector<SchemaNode> alternatives;
    std::optional<SchemaNode> beside_last{};  // holds with the last one as well
  };
  struct Layered {
    std::shared_ptr<const ObjectLayer> layer;
    std::shared_ptr<Frame> frame;
  };

  Shape shape;
  std::vector<std::shared_ptr<Frame>> waiting;  // subschemas that hold as well
  std::vector<Choice> choices;                  // one alternative of each has to hold
  std::set<SchemaNode> entered;
  // What led to a subschema that was entered already, where unevaluatedProperties may look for it.
  std::vector<std::pair<SchemaNode, std::shared_ptr<Frame>>> again;
  std::vector<Layered> layers;
  std::vector<std::pair<std::shared_ptr<Frame>, SchemaNode>> unevaluated;  // by frame, the schema of such properties
};

}  // namespace tidemill::grammar
