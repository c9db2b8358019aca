// What every generation endpoint does with a request, whatever its dialect: parse, render and tokenise off the
// connection's thread where that takes long, submit, relay the events, answer.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include <boost/asio/awaitable.hpp>

#include "base/result.hpp"
#include "serve/call.hpp"
#include "serve/generation.hpp"
#include "serve/service.hpp"
#include "wire/answer.hpp"
#include "wire/resume.hpp"

namespace tidemill::serve {

struct Pipeline {
  std::string id_prefix;  // of the answer's id: "chatcmpl-"
  // The body to what is asked. May run on another thread, once; must not block.
  std::function<base::Result<wire::Asked>(std::string_view body)> parse;
  bool only_counts = false;    // nothing is generated, and so the prompt may be of any length
  size_t more_text_bytes = 0;  // that parse brings besides the body
  // Called when all events have gone into the answer, before the client is told that it is complete. An error is told
  // in its place. Optional.
  std::function<asio::awaitable<base::Result<void>>(const wire::Usage& usage)> keep;
};

// Compiles what the work still lacks, off the connection's thread: what takes long waits for others that do, as
// Service::run_pooled does. Errors are its and those of compile_grammar().
// What is being compiled ends soon when the client goes, when the server gives up waiting, and when `given_up` is asked
// to stop, for callers with other ways to end a call.
asio::awaitable<base::Result<void>> complete(Service& service, Call& call, EngineWork& work,
                                             std::stop_token given_up = {});

// Answers the call, whatever happens.
asio::awaitable<void> generate(Service& service, Call& call, Pipeline pipeline);

// What is asked, and what the engine is to do for it.
struct Prepared {
  wire::Asked asked;
  EngineWork work;
  wire::StreamOrigin origin;
  std::optional<wire::StreamState> resumed;  // where the stream stands that the request goes on with, if it was marked
};

enum class EngineCheck : uint8_t { spared, wanted };  // whether the engine would take it

// Body to engine requests: all that can be refused without the engine and without compiling a grammar, on a thread
// where it holds nobody up. `origin` is a new one, with a seed if the answer must not depend on draws that nobody knows
// of; a body that resumes a stream brings that stream's. `pipeline` and `body` must outlive the coroutine.
asio::awaitable<base::Result<Prepared>> prepare(Service& service, Call& call, const Pipeline& pipeline,
                                                std::string_view body, wire::StreamOrigin origin, EngineCheck check);

// What a new answer begins with.
wire::StreamOrigin new_origin(const Service& service, std::string_view id_prefix);

}  // namespace tidemill::serve
