// One answer from several engine requests: a Completions request may hold many prompts, each of which is a request of
// its own to the engine.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "engine/engine.hpp"
#include "observe/trace.hpp"
#include "serve/loaded_model.hpp"
#include "wire/request.hpp"

namespace tidemill::serve {

// The engine's requests for a request of the API, one for each prompt (one for a chat). `id` is made distinct for each;
// `parent` and `tenant` are copied. Errors name the parameter.
base::Result<std::vector<engine::Request>> engine_requests(const LoadedModel& model,
                                                           const wire::GenerateRequest& request, const std::string& id);

// The tokens of one prompt of the API: text is encoded, ids are checked against the vocabulary. `param` names the
// field.
base::Result<std::vector<text::Token>> prompt_tokens(const LoadedModel& model, const wire::Prompt& prompt,
                                                     std::string_view param);

// The streams of several requests as one. Consumed by one thread, but for cancel(), which any may call.
class Generation {
 public:
  // Empty; see submit().
  Generation() = default;
  // All or nothing: when one request is refused, those before it are cancelled. `n` choices each.
  static base::Result<std::shared_ptr<Generation>> submit(engine::Engine& engine, std::vector<engine::Request> requests,
                                                          int n);
  ~Generation();

  // The next event; its choice counts on over the prompts: prompt * n + choice of the prompt. An error ends the whole:
  // the other requests are cancelled, and there are no further events.
  std::optional<base::Result<wire::Event>> try_next();
  // Whether every event has been taken.
  bool ended() const;
  // Whether an error ended it.
  bool failed() const { return failed_; }

  // As engine::Stream::on_ready, for all streams.
  void on_ready(const std::function<void()>& ready);
  void cancel();

  // Summed over the requests; complete once ended().
  const wire::Usage& usage() const { return usage_; }
  // "stop" or "length" for each choice that has ended, in the order of their ends.
  const std::vector<std::string>& finish_reasons() const { return finish_reasons_; }

 private:
  base::Result<wire::Event> translate(engine::Event event, size_t stream);

  std::vector<std::shared_ptr<engine::Stream>> streams_;
  int n_ = 1;
  size_t turn_ = 0;  // whose event is looked for first, so that no prompt starves the others
  bool failed_ = false;
  wire::Usage usage_;
  std::vector<std::string> finish_reasons_;
};

}  // namespace tidemill::serve
