// A server's tools as a model can be told of them, and their results as it has room for them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cli/local_engine.hpp"
#include "text/tokenizer.hpp"
#include "wire/mcp.hpp"
#include "wire/request.hpp"

namespace tidemill::cli {

// Those of `offered` that the model can be told of: strict, unless their schemas say what no grammar can hold it to.
// Each can be called, whether a call must come or may. `warn` gets a sentence for each of the others. Compiles their
// grammar, which is then there for the first message.
std::vector<wire::Tool> usable_tools(LocalEngine& local, const std::vector<wire::mcp::Tool>& offered,
                                     const std::function<void(const std::string&)>& warn);

// `result` with about `tokens` tokens at most: the beginning, and how much is missing.
base::Result<std::string> cut_to_tokens(const text::Tokenizer& tokenizer, std::string result, int64_t tokens);

}  // namespace tidemill::cli
