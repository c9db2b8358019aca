// What form a request's output has: the grammar that holds the engine to it, and how its text is read.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "base/result.hpp"
#include "grammar/token_grammar.hpp"
#include "serve/grammar_order.hpp"
#include "serve/loaded_model.hpp"
#include "serve/reading_rules.hpp"
#include "wire/request.hpp"

namespace tidemill::serve {

struct OutputForm {
  std::shared_ptr<const grammar::TokenGrammar> grammar;  // null: any text, unless there is an order
  std::optional<GrammarOrder> order;                     // of the grammar, where it is not compiled yet
  std::optional<ReadingRules> reading;                   // none: the text is the content
};

// `rendered` is the prompt that the chat template made; empty for Completions. Errors name the parameter.
base::Result<OutputForm> output_form(const LoadedModel& model, const wire::GenerateRequest& request,
                                     std::string_view rendered);

}  // namespace tidemill::serve
