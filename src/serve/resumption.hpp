// What a request's stream can be resumed from, on this server or another of the same model (docs/resume.md).
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "serve/generation.hpp"
#include "wire/http_message.hpp"
#include "wire/resume.hpp"

namespace tidemill::serve {

struct Serving;

// Whether the caller asks for a stream with marks.
bool asks_for_marks(const wire::HttpRequest& request);

// Of everything that decides which tokens follow a prompt: the model's file, its rotation, the arithmetic, the type of
// the KV cache. Equal on servers that continue each other's streams.
std::string fingerprint(const LoadedModel& model, std::string_view kv_type);

// Of all prompts' tokens.
std::string prompt_checksum(const EngineWork& work);

// Has the requests draw from seeds made of `seed`: different ones, lest equal prompts have equal answers.
void seed_requests(int64_t seed, EngineWork& work);

// Whether a request of `prefix` ("chatcmpl-") that is answered by `serving` with `work` can be what `resume` goes on
// from; then the requests get their tokens. Errors are `invalid_argument` and name the place.
base::Result<void> resume_work(const wire::Resume& resume, const Serving& serving, std::string_view prefix, int n,
                               EngineWork& work);

}  // namespace tidemill::serve
