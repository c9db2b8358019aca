// Takes a model's output apart into content, reasoning and tool calls while it is being written.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "chat/format.hpp"
#include "chat/tools.hpp"

namespace tidemill::chat {

// A piece of a call. `id` and `name` come in a call's first piece only. All pieces' `arguments` together are the text
// of a JSON object once the call is complete.
struct CallDelta {
  int index = 0;
  std::string id;
  std::string name;
  std::string arguments;
};

struct Delta {
  std::string content;
  std::string reasoning;
  std::vector<CallDelta> calls;  // at most one piece of each call

  bool empty() const { return content.empty() && reasoning.empty() && calls.empty(); }
  void clear();
};

// A state machine that is fed the output in pieces. The same output gives the same content, reasoning and calls however
// it is cut. Time is linear in the output; what is held back is bounded (`max_held`).
//
// - The text must spell control tokens (a Detokenizer with show_special); the token that ends a generation may be left
//   out.
// - With no tools, nothing is a call.
// - Nothing is lost. Text that began like a call and is none (no JSON, no name, an unknown name where plain text may
// look
//   like a call) is content, as it was written. A call is announced with its arguments' first byte; if these stop being
//   JSON after that, the call ends there as it is, incomplete, and the rest is content. Two slips are mended instead: a
//   line break or other control character inside a JSON string, and a backslash that begins no escape.
// - A call that the end of the output cuts off keeps what came out of it.
// - White space next to reasoning or calls is dropped, as is content that is nothing else beside them.
// - Content that the prompt has begun goes on as it is: white space at its front is kept, and what counts only at the
// very beginning of an answer (reasoning, a call without an opening, a recipient's name) is text.
// - Arguments that are a string with JSON inside are taken out of it; missing or null ones are {}.
// - Where the format writes parameters in tags, values become JSON by the tool's schema: text where it admits only
//   text, else JSON if it is some of an admitted type, else text.
//
// For one thread at a time.
class OutputParser {
 public:
  class Machine;  // machine.hpp; of no use to others

  static constexpr size_t max_held = size_t{1} << 20U;  // bytes

  // `random` gives uniformly random numbers for ids: "call_" and 24 letters and digits, 9 for Mistral; Kimi's and
  // Mistral's own ids are kept, but where two calls have one. Copies what it needs of `format` and `tools`.
  OutputParser(const Format& format, std::span<const Tool> tools, Start start,
               std::function<uint64_t()> random = base::random_u64);
  ~OutputParser();
  OutputParser(OutputParser&&) noexcept;
  OutputParser& operator=(OutputParser&&) noexcept;

  // Appends to `out` what `text`, which is whole UTF-8 characters, makes certain.
  void feed(std::string_view text, Delta& out);
  // The output is over: what was held back comes out. Nothing may be fed afterwards. Where it was `cut` off, what may
  // be the beginning of the tag that ends reasoning is no part of reasoning.
  void finish(Delta& out, bool cut = false);

  // Whether what comes next is reasoning, as far as it is no tag.
  bool in_reasoning() const;
  // How many of the last bytes fed are held back and may yet come out as reasoning: white space, and what may be a tag.
  size_t waiting_reasoning() const;
  // White space behind the content so far, which comes out if more content follows.
  std::string_view waiting_content() const;
  // Calls announced so far.
  int calls() const;
  // Whether the last call announced has all of its arguments.
  bool complete() const;

 private:
  std::unique_ptr<Machine> machine_;
};

}  // namespace tidemill::chat
