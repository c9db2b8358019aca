// What a tokenizer.json does to text before it looks for tokens, told in one line each: the names under which GGUF
// knows the same.
#pragma once

#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::model {

// The steps of a "normalizer" or "pre_tokenizer" (null: none), written as "NAME(ARGUMENTS) | NAME(ARGUMENTS)". For
// comparing and for errors: what is not known is written out by its type alone.
std::string describe_steps(const base::json::value* steps);

// GGUF's name (tokenizer.ggml.pre) for how a byte-level vocabulary cuts text into words; empty for steps that none of
// the known pre-tokenizers takes. `ignore_merges` is the member of that name of the tokenizer's model; where GGUF's
// name stands for the other, it is to be said beside it (kIgnoreMergesKey).
std::string_view known_pre_tokenizer(std::string_view steps, bool ignore_merges);

// The regular expression that Kimi K2's words match, as its authors publish it: all there is to its pre-tokenizer.
std::string_view kimi_expression();

// The names and what they stand for are those of text/pre_tokenizer.hpp; for errors.
std::string known_pre_tokenizers_text();

}  // namespace tidemill::model
