// Internal events to OpenAI's response bodies: whole objects, and the chunks of a stream.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "wire/answer.hpp"
#include "wire/request.hpp"

namespace tidemill::wire {

// What of a request decides how its answer looks.
struct AnswerForm {
  bool logprobs = false;
  int top_logprobs = 0;
  bool include_usage = false;
  bool function_call = false;  // GenerateRequest::tells_function_call

  static AnswerForm of(const GenerateRequest& request) {
    return {request.logprobs, request.top_logprobs, request.include_usage, request.tells_function_call};
  }
};

// What Chat Completions and Completions have in common. Streams end with "[DONE]", unless an error ended them.
class OpenAiAnswer : public Answer {
 public:
  void stream(const Event& event, std::string& out) override;
  void finish_stream(const Usage& usage, std::string& out) override;
  void fail_stream(const base::Error& error, std::string& out) override;
  void collect(const Event& event) override;
  std::string whole(const Usage& usage) override;
  size_t collected_bytes() const override { return collected_bytes_; }
  size_t bytes_per_token() const override;

 protected:
  struct ToolCall {
    std::string id;
    std::string name;
    std::string arguments;
  };
  // Probabilities as JSON text, for they are most of an answer and as values would take ten times that: the entries of
  // the lists that a choice has of them, joined by commas.
  using LogprobLists = std::array<std::string, 4>;
  struct Choice {
    bool opened = false;  // a chunk of it has been sent
    std::string reasoning;
    std::string text;
    std::vector<ToolCall> calls;
    LogprobLists logprobs;
    FinishReason finish = FinishReason::none;
  };

  OpenAiAnswer(const AnswerForm& form, AnswerInfo info);

  virtual std::string_view object_name(bool chunk) const = 0;
  // The members of a choice that this piece of it gives rise to, in the order of sending, without index, logprobs and
  // finish_reason. At least one if `has_logprobs`.
  virtual std::vector<base::json::object> pieces(const Event& event, bool has_logprobs, bool first) const = 0;
  // The members of the piece that says how the choice ended.
  virtual base::json::object last_piece() const = 0;
  // The whole choice's, likewise.
  virtual base::json::object whole_choice(const Choice& choice) const = 0;
  // Adds the entries of these tokens; appends the member "logprobs" of all.
  virtual void add_logprobs(const std::vector<TokenInfo>& tokens, LogprobLists& lists) const = 0;
  virtual void append_logprobs(const LogprobLists& lists, std::string& out) const = 0;
  virtual size_t bytes_per_logprob() const = 0;  // usually, of one token among the likeliest

  base::json::value finish_json(FinishReason reason) const;

  const AnswerForm form_;

 private:
  base::json::object envelope(bool chunk) const;
  // An entry of "choices" as JSON text. Without `logprobs` they are null.
  void append_choice(base::json::object members, int index, const LogprobLists* logprobs, FinishReason finish,
                     std::string& out) const;
  void append_chunk(base::json::object piece, int choice, const LogprobLists* logprobs, FinishReason finish,
                    std::string& out) const;

  AnswerInfo info_;
  std::vector<Choice> choices_;
  size_t collected_bytes_ = 0;
};

class ChatAnswer : public OpenAiAnswer {
 public:
  ChatAnswer(const AnswerForm& form, AnswerInfo info) : OpenAiAnswer(form, std::move(info)) {}

 private:
  std::string_view object_name(bool chunk) const override;
  std::vector<base::json::object> pieces(const Event& event, bool has_logprobs, bool first) const override;
  base::json::object last_piece() const override;
  base::json::object whole_choice(const Choice& choice) const override;
  void add_logprobs(const std::vector<TokenInfo>& tokens, LogprobLists& lists) const override;
  void append_logprobs(const LogprobLists& lists, std::string& out) const override;
  size_t bytes_per_logprob() const override;
};

class CompletionAnswer : public OpenAiAnswer {
 public:
  CompletionAnswer(const AnswerForm& form, AnswerInfo info) : OpenAiAnswer(form, std::move(info)) {}

 private:
  std::string_view object_name(bool chunk) const override;
  std::vector<base::json::object> pieces(const Event& event, bool has_logprobs, bool first) const override;
  base::json::object last_piece() const override;
  base::json::object whole_choice(const Choice& choice) const override;
  void add_logprobs(const std::vector<TokenInfo>& tokens, LogprobLists& lists) const override;
  void append_logprobs(const LogprobLists& lists, std::string& out) const override;
  size_t bytes_per_logprob() const override;
};

base::json::object usage_json(const Usage& usage);

// The body of /v1/embeddings. Base64 holds the floats' bytes in little-endian order, as OpenAI's clients decode them.
std::string embedding_response(std::span<const std::vector<float>> embeddings, std::string_view model,
                               int64_t prompt_tokens, bool base64);

}  // namespace tidemill::wire
