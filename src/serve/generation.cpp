#include "serve/generation.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>
#include <variant>

#include <fmt/core.h>

#include "serve/content_stops.hpp"
#include "serve/tool_prompt.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

engine::Sampling sampling_of(const wire::SamplingFields& fields) {
  engine::Sampling sampling;
  const auto set = [](float& field, const std::optional<double>& value) {
    if (value) field = static_cast<float>(*value);
  };
  set(sampling.temperature, fields.temperature);
  set(sampling.top_p, fields.top_p);
  set(sampling.min_p, fields.min_p);
  set(sampling.repetition_penalty, fields.repetition_penalty);
  set(sampling.frequency_penalty, fields.frequency_penalty);
  set(sampling.presence_penalty, fields.presence_penalty);
  sampling.top_k = static_cast<int>(std::max<int64_t>(fields.top_k.value_or(0), 0));  // -1 is vLLM's word for off
  sampling.logit_bias = fields.logit_bias;
  if (fields.seed) sampling.seed = static_cast<uint64_t>(*fields.seed);
  return sampling;
}

// Everything but the prompt.
engine::Request settings_of(const wire::GenerateRequest& request) {
  engine::Request settings;
  settings.sampling = sampling_of(request.sampling);
  // Without a limit a chat goes on until the model ends it or the context is full.
  settings.max_tokens = static_cast<int>(std::min<int64_t>(
      request.max_tokens.value_or(std::numeric_limits<int32_t>::max()), std::numeric_limits<int32_t>::max()));
  settings.stop = request.stop;
  settings.stop_tokens = request.stop_tokens;
  settings.ignore_eos = request.ignore_eos;
  settings.n = request.n;
  settings.logprobs = request.logprobs;
  settings.top_logprobs = request.top_logprobs;
  settings.echo = request.echo;
  settings.special_text = !request.skip_special_tokens;
  settings.priority = request.priority;
  return settings;
}

// What a text that is too long costs: as much as it takes to tell how long it is, or to see that it is.
enum class Overflow : uint8_t { counted, seen };

Error overlong(std::string_view count, int64_t max_context) {
  return Error(ErrorCode::too_large, fmt::format("the prompt has {} tokens, the context takes {}", count, max_context))
      .with_param("prompt");
}

// What `encode` makes of `text`, where the context takes it.
template <typename Encode>
Result<std::vector<text::Token>> fitting_tokens(const LoadedModel& model, int64_t max_context, std::string_view text,
                                                Overflow overflow, const Encode& encode) {
  const auto most = static_cast<size_t>(max_context);
  const size_t least = model.tokenizer().least_tokens(text, most + 1);
  if (least > most && (overflow == Overflow::seen || text.size() > max_counted_bytes)) {
    return overlong(fmt::format("at least {}", least), max_context);
  }
  TM_TRY(std::vector<text::Token> tokens, encode());
  if (tokens.size() > most) return overlong(fmt::format("{}", tokens.size()), max_context);
  return tokens;
}

}  // namespace

std::optional<size_t> beyond_counting(const text::Tokenizer& tokenizer, std::string_view text, int64_t most) {
  if (text.size() <= max_counted_bytes) return std::nullopt;
  const auto bound = static_cast<size_t>(most);
  const size_t least = tokenizer.least_tokens(text, bound + 1);
  return least > bound ? std::optional(least) : std::nullopt;
}

Result<std::vector<text::Token>> prompt_tokens(const LoadedModel& model, int64_t max_context,
                                               const wire::Prompt& prompt, std::string_view param) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    auto tokens =
        fitting_tokens(model, max_context, *text, Overflow::counted, [&] { return model.encode_prompt(*text); });
    if (!tokens) return std::move(tokens).error().with_param(std::string(param));
    return tokens;
  }
  const wire::TokenIds& ids = std::get<wire::TokenIds>(prompt);
  const int64_t vocabulary = model.hyper_parameters().vocabulary;
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary) {
      return Error(ErrorCode::invalid_argument,
                   fmt::format("'{}' holds the token id {}; this model has tokens 0 to {}", param, id, vocabulary - 1))
          .with_param(std::string(param));
    }
  }
  return ids;
}

namespace {

struct ConversationPrompt {
  std::string text;  // as the template wrote it
  std::vector<text::Token> tokens;
};

std::optional<base::WallTime> time_of(const wire::GenerateRequest& request) {
  if (!request.now) return std::nullopt;
  return base::WallTime(std::chrono::seconds(*request.now));
}

Result<RenderedPrompt> rendered_prompt(const LoadedModel& model, const wire::GenerateRequest& request,
                                       text::StepAllowance* allowance) {
  const ToldConversation told = tell_conversation(model.chat(), request);
  return model.chat().render(told.messages, told.variables, request.add_generation_prompt, time_of(request), allowance);
}

// What the template has refused, with the message that it refuses: the first with which it does, where it takes those
// before it.
Error name_message(const LoadedModel& model, const wire::GenerateRequest& request, Error error,
                   text::StepAllowance* allowance) {
  const bool refused = error.code() == ErrorCode::invalid_argument && model.chat().available();
  // The places of other dialects are known as long as the messages are those of the request.
  const bool placed = request.dialect == wire::Dialect::chat || request.places.size() == request.messages.size();
  if (!refused || !placed) return error;
  wire::GenerateRequest beginning = request;
  const auto refuses = [&](size_t count) {
    beginning.messages =
        base::json::array(request.messages.begin(), request.messages.begin() + static_cast<ptrdiff_t>(count));
    const auto rendered = rendered_prompt(model, beginning, allowance);
    return !rendered && rendered.error().to_string() == error.to_string();
  };
  // So many messages are taken, so many are not.
  size_t taken = 0;
  size_t not_taken = request.messages.size();
  while (taken + 1 < not_taken) {
    const size_t middle = taken + (not_taken - taken) / 2;
    (refuses(middle) ? not_taken : taken) = middle;
  }
  if (taken == 0) return error;  // perhaps it is no message's doing
  const std::string place = request.places.empty() ? fmt::format("messages[{}]", taken) : request.places[taken];
  return std::move(error).wrap(place).with_param(place);
}

Result<ConversationPrompt> prompt_of(const LoadedModel& model, int64_t max_context,
                                     const wire::GenerateRequest& request, Overflow overflow,
                                     text::StepAllowance* allowance) {
  auto attempt = rendered_prompt(model, request, allowance);
  if (!attempt) return name_message(model, request, std::move(attempt).error(), allowance);
  RenderedPrompt rendered = std::move(*attempt);
  if (request.answer_has_begun() &&
      !model.chat().begin_answer(rendered, request.answer_begins, request.answer_reasoning)) {
    return Error(ErrorCode::invalid_argument, "the last message holds every one of the noncharacters U+FDD0 to U+FDEF")
        .with_param("messages");
  }
  ConversationPrompt prompt;
  const auto encode = [&] { return model.chat().encode(rendered); };
  TM_TRY(prompt.tokens, fitting_tokens(model, max_context, rendered.text, overflow, encode));
  prompt.text = std::move(rendered.text);
  return prompt;
}

// The conversation's prompt; where that is too long, and the request allows it, without as many of its oldest parts as
// must go so that there is room for an answer.
Result<ConversationPrompt> fitted_prompt(const LoadedModel& model, int64_t context, const wire::GenerateRequest& given,
                                         Shortening::Dropped& dropped, text::StepAllowance* allowance) {
  const int64_t room = context - std::min(given.max_tokens.value_or(context), context / 4);
  const auto too_long = [&](const Result<ConversationPrompt>& prompt) {
    return prompt ? std::ssize(prompt->tokens) > room : prompt.error().code() == ErrorCode::too_large;
  };
  if (!given.drop_oldest) return prompt_of(model, context, given, Overflow::counted, allowance);
  const Shortening shortening(given.messages);
  if (shortening.parts() == 0) return prompt_of(model, context, given, Overflow::counted, allowance);
  Result<ConversationPrompt> prompt = prompt_of(model, context, given, Overflow::seen, allowance);
  if (!too_long(prompt)) return prompt;

  wire::GenerateRequest request = given;
  request.places.clear();
  const auto without = [&](size_t count, Overflow overflow) {
    request.messages = shortening.without(count);
    return prompt_of(model, context, request, overflow, allowance);
  };
  // The fewest that are enough: with more of them gone the prompt is never longer. Where the template refuses what is
  // left, having taken the whole, it may take it with more of them gone; or else with fewer.
  for (const bool more_where_refused : {true, false}) {
    size_t low = 1;
    size_t high = shortening.parts();
    while (low < high) {
      const size_t middle = low + (high - low) / 2;
      const auto attempt = without(middle, Overflow::seen);
      if (too_long(attempt) || (!attempt && more_where_refused)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    dropped = shortening.dropped(low);
    prompt = without(low, Overflow::counted);
    if (prompt || prompt.error().code() == ErrorCode::too_large) break;
  }
  return prompt;
}

}  // namespace

Result<std::vector<text::Token>> conversation_tokens(const LoadedModel& model, const wire::GenerateRequest& request,
                                                     text::StepAllowance* allowance) {
  TM_TRY(ConversationPrompt prompt,
         prompt_of(model, std::numeric_limits<int64_t>::max(), request, Overflow::counted, allowance));
  return std::move(prompt.tokens);
}

Result<EngineWork> engine_work(const LoadedModel& model, int64_t max_context, const wire::GenerateRequest& request,
                               const std::string& id, text::StepAllowance* allowance) {
  EngineWork work;
  work.id = id;
  engine::Request settings = settings_of(request);
  if (request.dialect == wire::Dialect::completions) {
    TM_TRY(OutputForm form, output_form(model, request, {}));
    settings.grammar = std::move(form.grammar);
    work.order = std::move(form.order);
    work.requests.reserve(request.prompts.size());
    for (size_t i = 0; i < request.prompts.size(); ++i) {
      engine::Request& one = work.requests.emplace_back(settings);
      one.id = request.prompts.size() == 1 ? id : fmt::format("{}-{}", id, i);
      TM_TRY(one.prompt, prompt_tokens(model, max_context, request.prompts[i], "prompt"));
    }
    return work;
  }
  TM_TRY(ConversationPrompt prompt, fitted_prompt(model, max_context, request, work.dropped, allowance));
  TM_TRY(OutputForm form, output_form(model, request, prompt.text));
  settings.id = id;
  settings.prompt = std::move(prompt.tokens);
  settings.grammar = std::move(form.grammar);
  work.order = std::move(form.order);
  // Calls and reasoning may be spelled with control tokens; the reader takes them out of the text.
  settings.special_text = settings.special_text || form.reading.has_value();
  // Where a call must come there is no content that could end.
  using Choice = wire::ToolChoice::Kind;
  if (request.tool_choice.kind == Choice::required || request.tool_choice.kind == Choice::named) settings.stop.clear();
  if (form.reading && !settings.stop.empty()) {
    form.reading->stop = settings.stop;
    settings.stop_watch = stop_watch(*form.reading);
  }
  if (form.reading && request.reasoning_tokens) {
    settings.reasoning = reasoning_budget(model.tokenizer(), *form.reading, *request.reasoning_tokens);
  }
  work.requests.push_back(std::move(settings));
  work.reading = std::move(form.reading);
  return work;
}

Result<bool> complete(const LoadedModel& model, EngineWork& work, GrammarCache::Effort effort,
                      const std::stop_token& stop) {
  if (!work.order) return true;
  auto grammar = compile_grammar(model, *work.order, effort, stop);
  if (!grammar) return false;
  if (!*grammar) return std::move(*grammar).error();
  for (engine::Request& one : work.requests)
    one.grammar = **grammar;
  work.order.reset();
  return true;
}

Result<EngineWork> complete_work(const LoadedModel& model, int64_t max_context, const wire::GenerateRequest& request,
                                 const std::string& id) {
  TM_TRY(EngineWork work, engine_work(model, max_context, request, id));
  TM_CHECK(complete(model, work, GrammarCache::Effort::full));
  return work;
}

Generation::Generation(engine::Engine& engine, EngineWork work, int n)
    : engine_(engine),
      reading_(std::move(work.reading)),
      resumed_(std::move(work.resumed)),
      requests_(std::move(work.requests)),
      n_(n) {
  streams_.reserve(requests_.size());
  const int choices = static_cast<int>(requests_.size()) * n;
  readers_.reserve(static_cast<size_t>(choices));
  for (int i = 0; i < choices; ++i)
    readers_.emplace_back(reading_ ? &*reading_ : nullptr, work.id, i);
  usage_.cached_tokens = resumed_.cached_tokens;
}

Result<std::shared_ptr<Generation>> Generation::submit(engine::Engine& engine, EngineWork work, int n) {
  for (const engine::Request& request : work.requests)
    TM_CHECK(engine.check(request));
  auto generation = std::make_shared<Generation>(engine, std::move(work), n);
  TM_CHECK(generation->advance());  // the destructor cancels
  return generation;
}

Generation::~Generation() {
  on_ready({});
  cancel();
}

Result<void> Generation::advance() {
  if (cancelled_ || streams_.size() == requests_.size()) return {};
  auto in_flight = static_cast<size_t>(
      std::count_if(streams_.begin(), streams_.end(), [](const auto& stream) { return !stream->ended(); }));
  for (; streams_.size() < requests_.size() && in_flight < max_in_flight; ++in_flight) {
    engine::Request& request = requests_[streams_.size()];
    auto stream = engine_.submit(request);  // a copy, for another try
    if (!stream && stream.error().code() == ErrorCode::exhausted && in_flight > 0) return {};
    if (!stream) return std::move(stream).error();
    if (ready_) (*stream)->on_ready(ready_);
    streams_.push_back(std::move(*stream));
    counted_.emplace_back();
    set_counted(streams_.size() - 1, {.prompt_tokens = std::ssize(request.prompt)});
    request = {};
  }
  return {};
}

Error Generation::fail(Error error) {
  failed_ = true;
  cancel();
  return error;
}

std::optional<Result<wire::Event>> Generation::try_next() {
  if (failed_) return std::nullopt;
  if (auto advanced = advance(); !advanced) return fail(std::move(advanced).error());
  for (size_t i = 0; i < streams_.size() && pieces_.empty(); ++i) {
    const size_t at = (turn_ + i) % streams_.size();
    auto event = streams_[at]->try_next();
    if (!event) continue;
    turn_ = at + 1;
    if (auto translated = translate(std::move(*event), at); !translated) return fail(std::move(translated).error());
  }
  if (pieces_.empty()) return std::nullopt;
  wire::Event next = std::move(pieces_.front());
  pieces_.pop_front();
  return next;
}

// The engine's own count comes with the last event; until then its events tell.
void Generation::count(const engine::Event& event, size_t stream) {
  wire::Usage now = counted_[stream];
  if (event.usage) {
    now.prompt_tokens = event.usage->prompt_tokens;
    now.completion_tokens = event.usage->completion_tokens;
    now.cached_tokens = event.usage->cached_tokens;
  } else {
    now.completion_tokens += std::ssize(event.tokens) - event.echoed;
    now.cached_tokens = std::max<int64_t>(now.cached_tokens, event.cached_tokens);
  }
  if (resumed_.has_begun(stream)) now.cached_tokens = 0;
  set_counted(stream, now);
}

void Generation::set_counted(size_t stream, const wire::Usage& now) {
  const wire::Usage before = std::exchange(counted_[stream], now);
  usage_.prompt_tokens += now.prompt_tokens - before.prompt_tokens;
  usage_.completion_tokens += now.completion_tokens - before.completion_tokens;
  usage_.cached_tokens += now.cached_tokens - before.cached_tokens;
}

const wire::Usage& Generation::usage_so_far() {
  for (size_t i = 0; i < streams_.size(); ++i) {
    while (const auto event = streams_[i]->try_next())
      count(*event, i);
  }
  return usage_;
}

Result<void> Generation::translate(engine::Event event, size_t stream) {
  count(event, stream);
  if (event.error) return *event.error;
  if (event.finish == engine::FinishReason::error) {
    return Error(ErrorCode::internal, "the engine gave the request up and did not say why");
  }
  if (event.finish == engine::FinishReason::cancelled) {
    return Error(ErrorCode::unavailable, "the request was cancelled because the server is stopping");
  }
  const size_t choice = stream * static_cast<size_t>(n_) + static_cast<size_t>(event.choice);
  event.resumed = event.resumed || resumed_.has_ended(choice);
  OutputReader& reader = readers_[choice];
  const int64_t reasoned_before = reader.reasoning_tokens();
  std::vector<wire::Event> pieces = reader.read(std::move(event));
  usage_.reasoning_tokens += reader.reasoning_tokens() - reasoned_before;
  if (pieces.back().finish != wire::FinishReason::none)
    finish_reasons_.emplace_back(wire::to_string(pieces.back().finish));
  std::ranges::move(pieces, std::back_inserter(pieces_));
  return {};
}

bool Generation::ended() const {
  if (failed_) return true;
  return pieces_.empty() && streams_.size() == requests_.size() &&
         std::all_of(streams_.begin(), streams_.end(), [](const auto& stream) { return stream->ended(); });
}

void Generation::on_ready(std::function<void()> ready) {
  ready_ = std::move(ready);
  for (const auto& stream : streams_)
    stream->on_ready(ready_);
}

void Generation::cancel() {
  cancelled_ = true;
  for (const auto& stream : streams_)
    stream->cancel();
}

}  // namespace tidemill::serve
