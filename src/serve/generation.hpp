// One answer from several engine requests: a Completions request may hold many prompts, each of which is a request of
// its own to the engine.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "engine/engine.hpp"
#include "observe/trace.hpp"
#include "serve/loaded_model.hpp"
#include "serve/output_form.hpp"
#include "serve/output_reader.hpp"
#include "serve/shortening.hpp"
#include "wire/request.hpp"

namespace tidemill::serve {

// Requests of one call that are with the engine at a time.
inline constexpr size_t max_in_flight = 32;

// What of an answer is told already, when its stream is resumed.
struct ResumedPart {
  int64_t cached_tokens = 0;  // of the prompts that have begun
  std::vector<bool> begun;    // by request; empty: none
  std::vector<bool> ended;    // by choice: those without a token whose end is told; empty: none

  bool has_begun(size_t request) const { return request < begun.size() && begun[request]; }
  bool has_ended(size_t choice) const { return choice < ended.size() && ended[choice]; }
};

// What the engine is asked for one request of the API.
struct EngineWork {
  std::string id;                         // of the answer
  std::vector<engine::Request> requests;  // one for each prompt, one for a conversation
  std::optional<GrammarOrder> order;      // of the grammar that they lack yet
  std::optional<ReadingRules> reading;    // of their text
  Shortening::Dropped dropped;            // what the context had no room for, where the request lets it go
  ResumedPart resumed;
};

// `max_context` is the engine's. `id` is made distinct for each request. Takes milliseconds at most for a prompt of
// some ten thousand bytes, with an allowance of some hundred thousand steps for the chat template; what may take longer
// is left to complete(). As ChatPrompt::render: with an allowance that is exceeded afterwards, what is returned is no
// answer. Errors name the parameter.
base::Result<EngineWork> engine_work(const LoadedModel& model, int64_t max_context,
                                     const wire::GenerateRequest& request, const std::string& id,
                                     text::StepAllowance* allowance = nullptr);

// Gives the requests the grammar that is ordered. False, and nothing changes: it takes more than the effort. Errors:
// those of compile_grammar().
base::Result<bool> complete(const LoadedModel& model, EngineWork& work, GrammarCache::Effort effort,
                            const std::stop_token& stop = {});
// As both together.
base::Result<EngineWork> complete_work(const LoadedModel& model, int64_t max_context,
                                       const wire::GenerateRequest& request, const std::string& id);

// The longest text that is encoded though `max_context` tokens cannot hold it whatever it says, so that the error has
// its count: some tenths of a second. Of a longer one the error tells how many tokens it has at least.
inline constexpr size_t max_counted_bytes = size_t{4} << 20;
// How many tokens such a longer text has at least, where that is more than `most`; else nullopt.
std::optional<size_t> beyond_counting(const text::Tokenizer& tokenizer, std::string_view text, int64_t most);

// The tokens of one prompt of the API: text is encoded, ids are checked against the vocabulary. Error `too_large` for
// text that `max_context` tokens cannot hold. `param` names the field.
base::Result<std::vector<text::Token>> prompt_tokens(const LoadedModel& model, int64_t max_context,
                                                     const wire::Prompt& prompt, std::string_view param);

// The tokens of a conversation's prompt, those that generating has. The allowance as for engine_work(). Errors name the
// parameter.
base::Result<std::vector<text::Token>> conversation_tokens(const LoadedModel& model,
                                                           const wire::GenerateRequest& request,
                                                           text::StepAllowance* allowance = nullptr);

// The streams of several requests as one. A few of the requests are with the engine at a time, the next as those end,
// so that many prompts neither overflow the queue nor keep others out of it. Used on one strand.
class Generation {
 public:
  // Fails if one of the requests is not as the engine takes them, or if there is no room for the first. `n` choices
  // each.
  static base::Result<std::shared_ptr<Generation>> submit(engine::Engine& engine, EngineWork work, int n);
  Generation(engine::Engine& engine, EngineWork work, int n);
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // The next event; its choice counts on over the prompts: prompt * n + choice of the prompt. An error ends the whole:
  // the other requests are cancelled, and there are no further events.
  std::optional<base::Result<wire::Event>> try_next();
  // Whether every event has been taken.
  bool ended() const;
  // Whether an error ended it.
  bool failed() const { return failed_; }

  // As engine::Stream::on_ready, for all streams.
  void on_ready(std::function<void()> ready);
  // Ends what runs; the rest is not submitted any more.
  void cancel();

  // Summed over the requests; complete once ended().
  const wire::Usage& usage() const { return usage_; }
  // What has been computed for it until now, for one that failed or that nobody reads any more: what is there of its
  // events is counted and dropped. Of a request that is not handed over yet nothing counts.
  const wire::Usage& usage_so_far();
  // "stop", "length" or "tool_calls" for each choice that has ended, in the order of their ends.
  const std::vector<std::string>& finish_reasons() const { return finish_reasons_; }

 private:
  // Hands over what there is room for. A full queue is an error only while none of these requests is in it.
  base::Result<void> advance();
  base::Error fail(base::Error error);
  void count(const engine::Event& event, size_t stream);
  void set_counted(size_t stream, const wire::Usage& now);
  base::Result<void> translate(engine::Event event, size_t stream);

  engine::Engine& engine_;
  std::optional<ReadingRules> reading_;
  std::vector<OutputReader> readers_;  // by choice
  std::deque<wire::Event> pieces_;     // read and not taken yet
  const ResumedPart resumed_;
  std::vector<engine::Request> requests_;                 // as far as `streams_` goes, moved from
  std::vector<std::shared_ptr<engine::Stream>> streams_;  // of the requests handed over
  std::function<void()> ready_;
  int n_;
  size_t turn_ = 0;  // whose event is looked for first, so that no prompt starves the others
  bool failed_ = false;
  bool cancelled_ = false;
  wire::Usage usage_;
  std::vector<wire::Usage> counted_;  // what of `usage_` is each stream's
  std::vector<std::string> finish_reasons_;
};

}  // namespace tidemill::serve
