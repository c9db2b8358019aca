#include "serve/generation.hpp"

#include <algorithm>
#include <limits>
#include <utility>
#include <variant>

#include <fmt/core.h>

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;

namespace {

// Requests of one call that are with the engine at a time.
constexpr size_t max_in_flight = 32;

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

wire::TokenLogprob to_wire(engine::TokenLogprob&& token) {
  return {.bytes = std::move(token.bytes), .logprob = token.logprob};
}

wire::TokenInfo to_wire(engine::TokenInfo&& info) {
  wire::TokenInfo token{.chosen = to_wire(std::move(info.chosen)), .top = {}, .text_offset = info.text_offset};
  token.top.reserve(info.top.size());
  for (engine::TokenLogprob& other : info.top)
    token.top.push_back(to_wire(std::move(other)));
  return token;
}

// Refuses text that the context could not take whatever it says, before time and memory are spent on its tokens.
Result<void> check_length(const LoadedModel& model, std::string_view text) {
  const auto context = static_cast<size_t>(model.hyper_parameters().context);
  const size_t least = model.tokenizer().least_tokens(text);
  if (least <= context) return {};
  return Error(ErrorCode::too_large,
               fmt::format("the prompt has at least {} tokens, the context takes {}", least, context))
      .with_param("prompt");
}

// What the dialects can say and the engine cannot do yet.
Result<void> refuse_forms(const wire::GenerateRequest& request) {
  if (request.output.kind != wire::OutputFormat::Kind::text) {
    return Error(ErrorCode::unsupported, "structured output is not supported; the output can be text alone")
        .with_param(request.output.param);
  }
  if (!request.tools.empty() && request.tool_choice.kind != wire::ToolChoice::Kind::none) {
    return Error(ErrorCode::unsupported,
                 "tool calls are not supported; leave 'tools' out or set 'tool_choice' to \"none\"")
        .with_param("tools");
  }
  return {};
}

}  // namespace

Result<std::vector<text::Token>> prompt_tokens(const LoadedModel& model, const wire::Prompt& prompt,
                                               std::string_view param) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    if (auto checked = check_length(model, *text); !checked) {
      return std::move(checked).error().with_param(std::string(param));
    }
    auto tokens = model.encode_prompt(*text);
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

Result<std::vector<engine::Request>> engine_requests(const LoadedModel& model, const wire::GenerateRequest& request,
                                                     const std::string& id) {
  TM_CHECK(refuse_forms(request));
  const engine::Request settings = settings_of(request);
  std::vector<engine::Request> requests;
  if (request.dialect != wire::Dialect::completions) {
    TM_TRY(const RenderedPrompt prompt,
           model.chat().render(request.messages, request.template_variables, request.add_generation_prompt));
    TM_CHECK(check_length(model, prompt.text));
    engine::Request& only = requests.emplace_back(settings);
    only.id = id;
    TM_TRY(only.prompt, model.chat().encode(prompt));
    return requests;
  }
  requests.reserve(request.prompts.size());
  for (size_t i = 0; i < request.prompts.size(); ++i) {
    engine::Request& one = requests.emplace_back(settings);
    one.id = request.prompts.size() == 1 ? id : fmt::format("{}-{}", id, i);
    TM_TRY(one.prompt, prompt_tokens(model, request.prompts[i], "prompt"));
  }
  return requests;
}

Generation::Generation(engine::Engine& engine, std::vector<engine::Request> requests, int n)
    : engine_(engine), requests_(std::move(requests)), n_(n) {
  streams_.reserve(requests_.size());
}

Result<std::shared_ptr<Generation>> Generation::submit(engine::Engine& engine, std::vector<engine::Request> requests,
                                                       int n) {
  for (const engine::Request& request : requests)
    TM_CHECK(engine.check(request));
  auto generation = std::make_shared<Generation>(engine, std::move(requests), n);
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
  for (size_t i = 0; i < streams_.size(); ++i) {
    const size_t at = (turn_ + i) % streams_.size();
    auto event = streams_[at]->try_next();
    if (!event) continue;
    turn_ = at + 1;
    Result<wire::Event> translated = translate(std::move(*event), at);
    if (!translated) return fail(std::move(translated).error());
    return translated;
  }
  return std::nullopt;
}

Result<wire::Event> Generation::translate(engine::Event event, size_t stream) {
  if (event.error) return *event.error;
  if (event.finish == engine::FinishReason::error) {
    return Error(ErrorCode::internal, "the engine gave the request up and did not say why");
  }
  if (event.finish == engine::FinishReason::cancelled) {
    return Error(ErrorCode::unavailable, "the request was cancelled because the server is stopping");
  }
  if (event.usage) {
    usage_.prompt_tokens += event.usage->prompt_tokens;
    usage_.completion_tokens += event.usage->completion_tokens;
    usage_.cached_tokens += event.usage->cached_tokens;
  }
  wire::Event translated;
  translated.choice = static_cast<int>(stream) * n_ + event.choice;
  translated.text = std::move(event.text);
  translated.logprobs.reserve(event.logprobs.size());
  for (engine::TokenInfo& info : event.logprobs)
    translated.logprobs.push_back(to_wire(std::move(info)));
  if (event.finish != engine::FinishReason::none) {
    translated.finish =
        event.finish == engine::FinishReason::stop ? wire::FinishReason::stop : wire::FinishReason::length;
    finish_reasons_.emplace_back(engine::to_string(event.finish));
  }
  return translated;
}

bool Generation::ended() const {
  if (failed_) return true;
  return streams_.size() == requests_.size() &&
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
