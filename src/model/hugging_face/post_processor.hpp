// What a tokenizer.json's post-processor puts around texts.
#pragma once

#include <string_view>

#include "base/json.hpp"

namespace tidemill::model {

// The special token before (or behind) a single text, by its name; empty: none. Views live as long as the JSON.
std::string_view token_around(const base::json::value* processor, bool before);

// Whether two special tokens stand between the texts of a pair, as RoBERTa has it.
bool parts_pairs_twice(const base::json::value* processor);

}  // namespace tidemill::model
