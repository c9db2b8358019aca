#include "serve/output_form.hpp"

#include <algorithm>
#include <functional>
#include <span>
#include <string>
#include <utility>

#include <fmt/core.h>

#include "base/checksum.hpp"
#include "base/utf8.hpp"
#include "chat/constraint.hpp"
#include "chat/spelling.hpp"
#include "grammar/gbnf.hpp"
#include "grammar/json_schema.hpp"
#include "grammar/regex.hpp"
#include "serve/tool_prompt.hpp"

namespace tidemill::serve {

using base::Error;
using base::ErrorCode;
using base::Result;
namespace json = base::json;

namespace {

using OutputKind = wire::OutputFormat::Kind;

chat::ToolChoice to_chat(const wire::ToolChoice& choice) {
  using From = wire::ToolChoice::Kind;
  using To = chat::ToolChoice::Kind;
  switch (choice.kind) {
    case From::none:
      return {To::none, ""};
    case From::automatic:
      return {To::automatic, ""};
    case From::required:
      return {To::required, ""};
    case From::named:
      return {To::named, choice.name};
  }
  return {To::none, ""};
}

// What the content must be, in the builder's terms.
Result<grammar::Expression> content_expression(const wire::OutputFormat& output, grammar::GrammarBuilder& builder) {
  const auto named = [&](auto result) -> Result<grammar::Expression> {
    if (!result) return std::move(result).error().with_param(output.param);
    return *result;
  };
  switch (output.kind) {
    case OutputKind::json_object:
      return grammar::any_json_object(builder);
    case OutputKind::json_schema:
      return named(grammar::json_schema(builder, output.schema));
    case OutputKind::regex:
      return named(grammar::regular_expression(builder, output.pattern));
    case OutputKind::grammar:
      return named(grammar::gbnf(builder, output.pattern));
    case OutputKind::choice: {
      std::vector<grammar::Expression> parts;
      for (const std::string& text : output.choices)
        parts.push_back(builder.literal(text));
      return builder.choice(parts);
    }
    case OutputKind::text:
      break;
  }
  return Error(ErrorCode::internal, "text has no grammar");
}

bool thinking_is_off(const wire::GenerateRequest& request) {
  const json::value* on = request.template_variables.if_contains("enable_thinking");
  return on != nullptr && *on == false;
}

// Equal for requests whose outputs have the same grammar.
std::string cache_key(const wire::GenerateRequest& request, const OutputForm& form) {
  const wire::OutputFormat& output = request.output;
  json::array tools;
  if (form.reading) {
    for (const chat::Tool& tool : form.reading->tools)
      tools.push_back({json::string(tool.name), tool.parameters, tool.strict});
  }
  json::array preferences;
  for (size_t i = 0; form.reading && i < form.reading->prefer_strict.size(); ++i)
    preferences.emplace_back(static_cast<bool>(form.reading->prefer_strict[i]));
  json::array choices;
  for (const std::string& choice : output.choices)
    choices.push_back(json::string(choice));
  const json::array key{static_cast<int>(output.kind),
                        output.schema,
                        json::string(output.pattern),
                        std::move(choices),
                        std::move(tools),
                        static_cast<int>(request.tool_choice.kind),
                        json::string(request.tool_choice.name),
                        request.parallel_tool_calls,
                        form.reading && form.reading->starts_in_reasoning,
                        form.reading.has_value(),
                        std::move(preferences),
                        thinking_is_off(request)};
  return json::serialize(key);
}

ReadingRules reading_rules(const LoadedModel& model, const wire::GenerateRequest& request, std::string_view rendered) {
  ReadingRules rules;
  rules.format = tool_format(model.chat(), request);
  for (const wire::Tool& tool : request.tools) {
    const std::vector<std::string>& allowed = request.tool_choice.allowed;
    if (!allowed.empty() && std::ranges::find(allowed, tool.name) == allowed.end()) continue;
    rules.tools.push_back({tool.name, tool.parameters, tool.strict});
    rules.prefer_strict.push_back(tool.prefers_strict);
  }
  rules.starts_in_reasoning = chat::opens_reasoning(rules.format, rendered);
  return rules;
}

bool must_call(const wire::GenerateRequest& request) {
  using Kind = wire::ToolChoice::Kind;
  return request.tool_choice.kind == Kind::required || request.tool_choice.kind == Kind::named;
}

// The tools with as much strictness as was asked for, or is wanted where a grammar can follow the schema: for tools
// that prefer it, and for all where a call must be made, which is held to a grammar anyway.
std::vector<chat::Tool> strict_where_possible(const ReadingRules& reading, const wire::GenerateRequest& request) {
  std::vector<chat::Tool> tools = reading.tools;
  // They must find room in one grammar, and trying them must not take longer than that.
  grammar::GrammarLimits limits;
  const size_t share = std::max<size_t>(1, tools.size() / 4);
  limits.max_nodes /= share;
  limits.max_states /= share;
  for (size_t i = 0; i < tools.size(); ++i) {
    chat::Tool& tool = tools[i];
    const bool other =
        request.tool_choice.kind == wire::ToolChoice::Kind::named && tool.name != request.tool_choice.name;
    const bool wanted = !other && (must_call(request) || reading.prefer_strict[i]);
    if (!wanted || tool.strict || tool.parameters.is_null()) continue;
    chat::Tool strict = tool;
    strict.strict = true;
    const chat::ToolRules alone{.choice = {chat::ToolChoice::Kind::required, ""}, .parallel = false, .content = {}};
    grammar::GrammarBuilder trial(limits);
    const auto expression = chat::tool_grammar(trial, reading.format, std::span(&strict, 1), alone);
    tool.strict = expression && *expression && std::move(trial).build(**expression);
  }
  return tools;
}

bool constrains_calls(const wire::GenerateRequest& request) {
  if (request.tools.empty()) return false;
  if (request.tool_choice.kind != wire::ToolChoice::Kind::automatic || !request.tool_choice.allowed.empty())
    return true;
  for (const wire::Tool& tool : request.tools) {
    if (tool.strict || tool.prefers_strict) return true;
  }
  return false;
}

}  // namespace

Result<OutputForm> output_form(const LoadedModel& model, const wire::GenerateRequest& request,
                               std::string_view rendered) {
  OutputForm form;
  const bool conversation = request.dialect != wire::Dialect::completions;
  if (conversation) {
    ReadingRules rules = reading_rules(model, request, rendered);
    if (!rules.tools.empty() || rules.format.reasons()) form.reading = std::move(rules);
  }
  const bool formed = request.output.kind != OutputKind::text;
  if (!formed && !constrains_calls(request)) return form;

  bool preferred = true;  // as strict as is preferred, or only as was asked for
  bool stricter = false;  // that makes a difference
  const auto build = [&](grammar::GrammarBuilder& builder) -> Result<grammar::Expression> {
    std::optional<grammar::Expression> content;
    if (formed) {
      TM_TRY(content, content_expression(request.output, builder));
    }
    if (!form.reading) return *content;
    const std::vector<chat::Tool> tools =
        preferred ? strict_where_possible(*form.reading, request) : form.reading->tools;
    for (size_t i = 0; i < tools.size(); ++i)
      stricter = stricter || tools[i].strict != form.reading->tools[i].strict;
    const chat::ToolRules rules{.choice = to_chat(request.tool_choice),
                                // Who names a function wants it called, once.
                                .parallel = request.parallel_tool_calls && model.chat().takes_parallel_calls() &&
                                            request.tool_choice.kind != wire::ToolChoice::Kind::named,
                                .reasoning_first = form.reading->starts_in_reasoning,
                                .may_reason = !thinking_is_off(request),
                                .always = constrains_calls(request),
                                .content = content};
    auto built = chat::tool_grammar(builder, form.reading->format, tools, rules);
    if (!built) {
      Error error = std::move(built).error();
      return error.param().empty() ? std::move(error).with_param("tools") : std::move(error);
    }
    if (!*built) return Error(ErrorCode::internal, "the tools gave no grammar");
    return **built;
  };
  const std::string key = cache_key(request, form);
  auto compiled = model.grammars().find_or_compile(key, build);
  if (!compiled && stricter) {
    // Schemas that can be followed one by one may be too much together.
    preferred = false;
    compiled = model.grammars().find_or_compile(key + " as asked", build);
  }
  if (!compiled) {
    Error error = std::move(compiled).error();
    if (error.param().empty()) error = std::move(error).with_param(formed ? request.output.param : "tools");
    // A grammar over its limits is the request's fault, not the context's.
    if (error.code() != ErrorCode::too_large) return error;
    return Error(ErrorCode::invalid_argument, error.to_string()).with_param(error.param());
  }
  form.grammar = std::move(*compiled);
  return form;
}

// Puts pieces of text together as long as they are of one kind.
class PieceList {
 public:
  void add(const chat::Delta& delta) {
    if (!delta.reasoning.empty()) piece(Kind::reasoning).reasoning += delta.reasoning;
    if (!delta.content.empty()) piece(Kind::content).text += delta.content;
    for (const chat::CallDelta& call : delta.calls) {
      wire::Event& target = piece(Kind::calls);
      if (!target.tool_calls.empty() && target.tool_calls.back().index == call.index) {
        target.tool_calls.back().arguments += call.arguments;
      } else {
        target.tool_calls.push_back({call.index, call.id, call.name, call.arguments});
      }
    }
  }
  void add_content(std::string_view text) {
    if (!text.empty()) piece(Kind::content).text += text;
  }

  // Gives the pieces since the last call probabilities, to the first of them (there is one then), and no more text.
  void seal(std::span<engine::TokenInfo> infos) {
    if (sealed_ == pieces_.size()) pieces_.emplace_back();
    std::vector<wire::TokenInfo>& logprobs = pieces_[sealed_].logprobs;
    for (engine::TokenInfo& info : infos)
      logprobs.push_back(to_wire(std::move(info)));
    sealed_ = pieces_.size();
    last_ = Kind::none;
  }

  // At least one, which may be empty.
  std::vector<wire::Event> take() && {
    if (pieces_.empty()) pieces_.emplace_back();
    return std::move(pieces_);
  }

 private:
  enum class Kind : uint8_t { none, reasoning, content, calls };

  wire::Event& piece(Kind kind) {
    if (kind != last_) pieces_.emplace_back();
    last_ = kind;
    return pieces_.back();
  }
  static wire::TokenLogprob to_wire(engine::TokenLogprob&& token) {
    return {.bytes = std::move(token.bytes), .logprob = token.logprob};
  }
  static wire::TokenInfo to_wire(engine::TokenInfo&& info) {
    wire::TokenInfo token{.chosen = to_wire(std::move(info.chosen)), .top = {}, .text_offset = info.text_offset};
    token.top.reserve(info.top.size());
    for (engine::TokenLogprob& other : info.top)
      token.top.push_back(to_wire(std::move(other)));
    return token;
  }

  std::vector<wire::Event> pieces_;
  size_t sealed_ = 0;
  Kind last_ = Kind::none;
};

namespace {

// Whether what a limit cut off is the beginning of a call, of which no name or argument had come yet: nobody wants to
// read that.
bool begins_call(std::string_view content, const std::vector<std::string>& triggers) {
  const size_t begin = std::min(content.find_first_not_of(" \n\t\r"), content.size());
  return std::ranges::any_of(triggers, [&](std::string_view trigger) {
    const size_t last = trigger.find_last_not_of(" \n\t\r");
    if (last == std::string_view::npos || last < 2) return false;  // too short to be sure
    return content.substr(begin).starts_with(trigger.substr(0, last + 1));
  });
}

// Numbers that follow from what they are for (SplitMix64, Steele, Lea and Flood 2014).
std::function<uint64_t()> numbers_of(std::string_view id, int choice) {
  const std::string name = fmt::format("{}/{}", id, choice);
  return [state = base::checksum(std::as_bytes(std::span(name)))]() mutable {
    uint64_t z = (state += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  };
}

}  // namespace

engine::QuietText quiet_of(const ReadingRules& rules) {
  engine::QuietText quiet;
  const chat::Format& format = rules.format;
  const auto text = [](const std::string& spelled) { return std::string(chat::trimmed(spelled)); };
  if (format.tools == chat::ToolFormat::harmony) {
    const std::string answer = "final<|message|>";
    quiet.spans = {{"<|start|>", answer}, {"<|channel|>", answer}};
    return quiet;
  }
  const std::string reasoning_end = text(format.reasoning_close);
  if (rules.starts_in_reasoning) quiet.begins_before = reasoning_end;
  if (!reasoning_end.empty() && !format.reasoning_open.empty()) {
    quiet.spans.push_back({text(format.reasoning_open), reasoning_end});
  }
  if (rules.tools.empty()) return quiet;
  const chat::CallSyntax& syntax = format.syntax;
  if (!syntax.recipient.empty()) {
    // The prompt has announced a recipient; what is for the user stands behind its name.
    quiet.begins_before = syntax.recipient + "\n";
    quiet.spans.push_back({text(syntax.open), quiet.begins_before});
    return quiet;
  }
  const std::string section_end = text(syntax.section_close);
  for (std::string& trigger : chat::call_triggers(syntax)) {
    const bool section = !section_end.empty() && trigger == chat::trimmed(syntax.section_open);
    quiet.spans.push_back({std::move(trigger), section ? section_end : text(syntax.close)});
  }
  if (syntax.bare) quiet.first_bytes = "{[";
  return quiet;
}

OutputReader::OutputReader(const ReadingRules* rules, std::string_view id, int choice) : choice_(choice) {
  if (rules == nullptr) return;
  parser_.emplace(rules->format, rules->tools, rules->starts_in_reasoning, numbers_of(id, choice));
  if (!rules->tools.empty()) triggers_ = chat::call_triggers(rules->format.syntax);
}

void OutputReader::note(const chat::Delta& delta) {
  reasoned_ = reasoned_ || !delta.reasoning.empty();
  answered_ = answered_ || !delta.content.empty() || !delta.calls.empty();
}

// Character by character, so that pieces come out in the order in which they were written.
void OutputReader::take_text(std::string_view text, PieceList& pieces) {
  if (!parser_) return pieces.add_content(text);
  chat::Delta delta;
  while (!text.empty()) {
    const size_t length = std::min<size_t>(text.size(), base::utf8::decode(text).length);
    parser_->feed(text.substr(0, length), delta);
    text.remove_prefix(length);
    if (delta.empty()) continue;
    note(delta);
    pieces.add(delta);
    delta.clear();
  }
}

void OutputReader::take_end(engine::FinishReason finish, PieceList& pieces) {
  if (!parser_) return;
  chat::Delta delta;
  parser_->finish(delta);
  const bool cut_call = finish == engine::FinishReason::length && begins_call(delta.content, triggers_);
  if (cut_call) delta.content.clear();
  note(delta);
  pieces.add(delta);
}

std::vector<wire::Event> OutputReader::take_apart(engine::Event& event) {
  PieceList pieces;
  const std::string_view text = event.text;
  const bool ends = event.finish != engine::FinishReason::none;
  std::span<engine::TokenInfo> infos = event.logprobs;
  size_t begin = 0;
  for (size_t i = 0; i < event.text_ends.size(); ++i) {
    reasoned_ = false;
    answered_ = false;
    take_text(text.substr(begin, event.text_ends[i] - begin), pieces);
    begin = event.text_ends[i];
    const bool last = i + 1 == event.text_ends.size();
    if (last && ends) take_end(event.finish, pieces);
    // Tokens whose text is held back are of the kind of what comes out next.
    ++waiting_tokens_;
    if (reasoned_) reasoning_tokens_ += waiting_tokens_;
    if (reasoned_ || answered_) waiting_tokens_ = 0;
    if (infos.empty()) continue;
    // An echoed prompt comes with the first token.
    const size_t count = i == 0 ? static_cast<size_t>(event.echoed) + 1 : 1;
    pieces.seal(infos.first(count));
    infos = infos.subspan(count);
  }
  if (!event.text_ends.empty()) return std::move(pieces).take();
  take_text(text, pieces);
  if (ends) take_end(event.finish, pieces);
  if (!infos.empty()) pieces.seal(infos);
  return std::move(pieces).take();
}

std::vector<wire::Event> OutputReader::read(engine::Event event) {
  std::vector<wire::Event> pieces = take_apart(event);
  for (wire::Event& piece : pieces) {
    piece.choice = choice_;
    piece.resumed = event.resumed;
  }
  wire::Event& last = pieces.back();
  last.matched_stop = std::move(event.matched_stop);
  if (event.finish == engine::FinishReason::length) last.finish = wire::FinishReason::length;
  if (event.finish == engine::FinishReason::stop) {
    const bool called = parser_ && parser_->calls() > 0 && parser_->complete();
    last.finish = called ? wire::FinishReason::tool_calls : wire::FinishReason::stop;
  }
  wire::Progress& progress = last.progress.emplace();
  progress.tokens.assign(event.tokens.begin() + event.echoed, event.tokens.end());
  progress.cached_tokens = event.cached_tokens;
  return pieces;
}

}  // namespace tidemill::serve
