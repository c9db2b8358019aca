// Chat templates: turns a conversation into the prompt a model was trained on, by the Jinja template that comes with
// it.
//
// The language is that of Jinja 3.1 in its immutable sandbox, as transformers' `apply_chat_template` renders it: with
// trim_blocks and lstrip_blocks, the tags break, continue, do and generation, `tojson` without HTML escaping,
// `raise_exception` and `strftime_now`, autoescape off. A template stands alone: include, import and extends are
// errors. A hostile template is refused, never obeyed: time, memory, output and recursion are bounded.
//
// Some templates of released models do not run under these rules: they were written for, and tried with, the engines of
// llama.cpp. TemplateRules::lenient is for them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/json.hpp"
#include "base/result.hpp"

namespace tidemill::text {

namespace jinja {
struct Program;
class Budget;
}  // namespace jinja

enum class TemplateRules : uint8_t {
  reference,  // the immutable sandbox
  // Beyond it: lists and dicts may be changed (append, pop, update, `set message.content = ...`), macros see the names
  // of their callers, attributes of undefined are undefined, and `functions` (the tools as JSON text) and `datetime`
  // are there. A rendering changes its own copy of what it is given.
  lenient,
};

// Steps that several renderings share. Not thread-safe.
class StepAllowance {
 public:
  explicit StepAllowance(uint64_t steps) : left_(steps) {}
  uint64_t left() const { return left_; }
  // Whether a rendering has failed for want of them, which by its own limits it would not have yet. What came of it, or
  // of it not being tried again, then says nothing of the template.
  bool exceeded() const { return exceeded_; }

 private:
  friend class ChatTemplate;
  uint64_t left_;
  bool exceeded_ = false;
};

// What one rendering may spend. Going over is `too_large`, but `invalid_argument` for depth.
struct TemplateLimits {
  size_t max_output = size_t{16} << 20U;   // bytes
  size_t max_memory = size_t{256} << 20U;  // bytes of values held at once, the context included
  uint64_t max_steps = 50'000'000;         // visited nodes, items, and every 64 bytes of text touched; 2 to 5 seconds
  int max_depth = 1000;                    // nested evaluations: macros, recursive loops, expressions
  StepAllowance* allowance = nullptr;      // that the steps are taken from, besides; outlives the rendering
};

// What a template does with what it is given, found out by rendering small conversations.
struct TemplateTraits {
  bool tools = false;              // renders `tools`
  bool system = false;             // takes a system message
  bool tool_calls = false;         // renders an assistant's tool calls
  bool arguments_as_text = false;  // wants a call's `arguments` as JSON text instead of as an object
  bool thinking_switch = false;    // `enable_thinking` changes the prompt
  bool reasoning_content = false;  // renders an assistant's `reasoning_content`
};

// Immutable once compiled; any number of threads may render at the same time. Cheap to copy.
class ChatTemplate {
 public:
  struct Options {
    bool trim_blocks = true;    // the first line break after a block goes
    bool lstrip_blocks = true;  // spaces between a line's start and a block go
    TemplateRules rules = TemplateRules::reference;
  };

  // Errors (`invalid_argument`, `unsupported` or `too_large`) name the line: "line 12: no filter named 'x'".
  static base::Result<ChatTemplate> compile(std::string_view source, Options options);
  static base::Result<ChatTemplate> compile(std::string_view source) { return compile(source, Options{}); }

  // By the rules under which the template renders a round of tool calls: the reference's, and the lenient ones only
  // where those alone do. Finding that out takes no more than the allowance.
  static base::Result<ChatTemplate> compile_as_meant(std::string_view source, StepAllowance* allowance = nullptr);

  // `context` holds the template's variables: messages, tools, bos_token, eos_token, add_generation_prompt and any
  // other. `now` is what strftime_now sees, broken down as UTC (add the offset for local time).
  // Errors name the line, except raise_exception's, which are `invalid_argument` with the template's own words.
  base::Result<std::string> render(const base::json::object& context, base::WallTime now,
                                   const TemplateLimits& limits = {}) const;

  // Whether the template reads a variable of this name anywhere.
  bool mentions(std::string_view variable) const;

  // Renders within the allowance: what that does not last for counts as not found.
  TemplateTraits probe(StepAllowance* allowance = nullptr) const;

 private:
  ChatTemplate(std::shared_ptr<const jinja::Program> program, TemplateRules rules)
      : program_(std::move(program)), rules_(rules) {}
  base::Result<std::string> render(const base::json::object& context, base::WallTime now, const TemplateLimits& limits,
                                   jinja::Budget& budget) const;
  std::shared_ptr<const jinja::Program> program_;
  TemplateRules rules_;
};

}  // namespace tidemill::text
