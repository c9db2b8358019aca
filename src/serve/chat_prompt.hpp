// From chat messages to the tokens of a prompt.
//
// The text of messages cannot forge the protocol: where a message spells out the name of a control token
// ("<|im_end|>"), those characters are tokenised as plain text, while the same characters written by the template are
// the token. To tell them apart, each such place in a message is marked, before rendering, with a character that no
// message holds (a Unicode noncharacter); the marks are taken out of the rendered text and their places handed to the
// tokenizer. A template that compares messages with such names does not see them either.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/json.hpp"
#include "base/result.hpp"
#include "chat/format.hpp"
#include "text/chat_template.hpp"
#include "text/tokenizer.hpp"

namespace tidemill::serve {

// A rendered prompt. `literal` are byte offsets, ascending: a control token's name that covers one is plain text.
struct RenderedPrompt {
  std::string text;
  std::vector<size_t> literal;
};

// Immutable; thread-safe. The tokenizer must outlive it.
class ChatPrompt {
 public:
  // `source` is the template's text, empty for none. Without a template, or with one that does not compile, there is a
  // ChatPrompt all the same, whose render() says what is wrong. `clock`, which must outlive it too, gives templates
  // that ask for it the date (UTC). `name` is what errors call it.
  ChatPrompt(const text::Tokenizer& tokenizer, const std::string& source,
             const base::Clock& clock = base::SystemClock::instance(), std::string name = "the model's chat template");
  ~ChatPrompt();

  bool available() const { return template_.has_value(); }
  // Why it is not available.
  const base::Error& fault() const { return *fault_; }
  // Whether finding out what follows took more steps than there are for it: what was left to find counts as not there.
  bool probed_in_part() const { return probed_in_part_; }
  // What the template does with what it is given; nothing, without one.
  const text::TemplateTraits& traits() const { return traits_; }
  // How the model writes reasoning and tool calls, as far as the template shows.
  const chat::Format& format() const { return format_; }
  // False where the template does not write both of two calls of one message: it refuses them, or leaves one out.
  bool takes_parallel_calls() const { return takes_parallel_calls_; }
  // What stands for an answer where the model gave none: a space, for some templates refuse an empty one.
  static constexpr std::string_view no_answer = " ";
  // True where the template refuses words of the user's right behind the result of a call, and takes them behind an
  // answer: the roles must take turns.
  bool answers_results() const { return answers_results_; }
  // True where the template refuses an answer without text or calls, and takes no_answer.
  bool fills_answers() const { return fills_answers_; }
  // True where the template refuses words of the user's right behind others, and takes them behind an answer.
  bool takes_turns() const { return takes_turns_; }
  void set_format(chat::Format format) { format_ = std::move(format); }

  // `messages` as wire::parse_messages gives them; the role "developer" becomes "system" unless the template knows it,
  // the arguments of tool calls become text again where the template wants text, and "reasoning_content" gets the name
  // under which the template looks for it. `variables` are further ones for
  // the template; messages, add_generation_prompt, bos_token and eos_token cannot be overridden. `now` is the time for
  // templates that ask; none: the clock's. Where the template fails for a schema of `tools` with a type that it does
  // not know, as some do not know null, those are put into other words. Errors: invalid_argument with param "messages"
  // (what the template refuses, or no template), too_large with param wire::template_param (over the limits of
  // rendering). With an allowance that is exceeded afterwards, whatever is returned is no answer: ask again with a
  // greater one, or without.
  base::Result<RenderedPrompt> render(const base::json::array& messages, const base::json::object& variables = {},
                                      bool add_generation_prompt = true,
                                      std::optional<base::WallTime> now = std::nullopt,
                                      text::StepAllowance* allowance = nullptr) const;

  // Adds the beginning of the answer, from which the model is to go on (chat::Start::content): behind its `reasoning`,
  // where the format has tags for that and the prompt has not closed them, and behind whatever else the format has
  // before content. False where it holds every noncharacter.
  bool begin_answer(RenderedPrompt& prompt, std::string_view beginning, std::string_view reasoning = {}) const;

  // The tokens, with the beginning-of-sequence token first where the vocabulary asks for one and the template did not
  // write it.
  base::Result<std::vector<text::Token>> encode(const RenderedPrompt& prompt) const;

 private:
  void probe(const std::string& source, text::StepAllowance& allowance);
  bool append_text(RenderedPrompt& prompt, std::string_view text) const;
  bool append_reasoning(RenderedPrompt& prompt, std::string_view reasoning) const;

  const text::Tokenizer& tokenizer_;
  const base::Clock& clock_;
  const std::string name_;
  std::optional<text::ChatTemplate> template_;
  std::optional<base::Error> fault_;
  text::TemplateTraits traits_;
  chat::Format format_;
  bool probed_in_part_ = false;
  bool takes_parallel_calls_ = true;
  bool answers_results_ = false;
  bool fills_answers_ = false;
  bool takes_turns_ = false;
  std::string reasoning_key_ = "reasoning_content";
  bool joins_reasoning_ = false;  // with the content beside calls, which the template takes one of
  bool knows_developer_ = false;
};

}  // namespace tidemill::serve
