// config.json as transformers writes it, made for tests of a model that they have as GGUF, without the code under test.
#pragma once

#include "base/json.hpp"
#include "model/gguf.hpp"

namespace tidemill::test {

// Of any decoder's architecture.
base::json::object config_json(const model::GgufFile& file);

}  // namespace tidemill::test
