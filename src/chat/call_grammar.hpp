// Calls as grammars: what OutputParser reads into exactly these calls.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "chat/format.hpp"
#include "chat/tools.hpp"
#include "grammar/builder.hpp"
#include "grammar/json_schema.hpp"

namespace tidemill::chat {

// "the parameters of the tool 'f'", for errors.
std::string parameters_of(const Tool& tool);

// `unsupported`: a function or parameter of this name would not be read back under it.
base::Error cannot_write(std::string_view name);

class CallGrammar {
 public:
  // All must outlive this.
  CallGrammar(grammar::GrammarBuilder& builder, const CallSyntax& syntax, std::span<const Tool> tools)
      : builder_(builder), syntax_(syntax), tools_(tools) {}

  // One call, or one and more, with everything around them.
  base::Result<grammar::Expression> calls(bool several);

  // A text of the format: tags are control tokens where the vocabulary has them, and white space at its ends may be
  // left out.
  grammar::Expression spelled(std::string_view text);
  // Any text without `tag`, and then `tag`.
  grammar::Expression text_to(std::string_view tag);
  // The arguments as JSON, or in another notation of it.
  base::Result<grammar::Expression> arguments(const Tool& tool, grammar::JsonSchemaOptions options = {});

 private:
  using Expression = grammar::Expression;

  // Of every tool, one of which is called.
  base::Result<Expression> any_call();
  base::Result<Expression> call(const Tool& tool);
  Expression joined(Expression one, bool several);
  Expression marked(std::string_view text);
  Expression space(std::string_view text);
  Expression name_in_json(const Tool& tool);
  Expression preface();

  grammar::GrammarBuilder& builder_;
  const CallSyntax& syntax_;
  std::span<const Tool> tools_;
};

// Arguments in tags (CallSyntax::Shape::parameters). Strict tools are held to their schema as far as the spelling
// allows; a keyword past that is `unsupported`, by its name.
base::Result<grammar::Expression> parameters_grammar(grammar::GrammarBuilder& builder, const CallSyntax& syntax,
                                                     CallGrammar& calls, const Tool& tool);

// What stands between the parentheses of a call in Python (CallSyntax::Shape::python), likewise.
base::Result<grammar::Expression> python_grammar(grammar::GrammarBuilder& builder, const Tool& tool);

}  // namespace tidemill::chat
