// Parses the tokens of a template into its syntax tree. Grammar after Jinja 3.1, with the tags `break`, `continue`,
// `do` and `generation` that chat templates are rendered with.
#pragma once

#include "text/jinja_ast.hpp"
#include "text/jinja_lexer.hpp"

namespace tidemill::text::jinja {

// Throws Fault with the line of what is wrong.
Program parse(std::vector<Token> tokens);

}  // namespace tidemill::text::jinja
