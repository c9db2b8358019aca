// Internal events to the answers of OpenAI's Responses API: a response, or the events of its stream.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "wire/answer.hpp"
#include "wire/responses_request.hpp"

namespace tidemill::wire {

// One choice. Its output are items, one after the other: "reasoning" with its text as content (no summary is made),
// "message" with one part of text, "function_call". Ids of items are made of the response's.
//
// A stream is response.created and response.in_progress; for each item response.output_item.added, what its content
// gives rise to (response.content_part.added, response.output_text.delta and .done or response.reasoning_text.delta and
// .done, response.content_part.done; or response.function_call_arguments.delta and .done) and
// response.output_item.done; at last response.completed, or response.incomplete where max_output_tokens or the context
// ended it. What fails in mid-stream is response.failed and then `error`, which clients raise. Events count up in
// sequence_number.
class ResponsesAnswer final : public Answer {
 public:
  ResponsesAnswer(ResponsesForm form, AnswerInfo info) : form_(std::move(form)), info_(std::move(info)) {}

  void open_stream(std::string& out) override;
  void stream(const Event& event, std::string& out) override;
  void finish_stream(const Usage& usage, std::string& out) override;
  void fail_stream(const base::Error& error, std::string& out) override;
  void collect(const Event& event) override;
  std::string whole(const Usage& usage) override;
  size_t collected_bytes() const override { return collected_bytes_; }
  size_t bytes_per_token() const override;
  int64_t sequence() const override { return sequence_; }
  void set_sequence(int64_t next) override { sequence_ = next; }

  // Between the last event and finish_stream or whole: the response as it ends at `now` (seconds since the Unix epoch),
  // with "output" its items.
  const base::json::object& complete(const Usage& usage, int64_t now);

 private:
  enum class Kind : uint8_t { reasoning, message, call };
  struct Item {
    Kind kind;
    int call = -1;  // which
    std::string call_id;
    std::string name;
    std::string text;  // or reasoning, or the arguments
    base::json::array logprobs;
  };

  // Takes the event's pieces, item by item; with `out`, as a stream.
  void take(const Event& event, std::string* out);
  void take_piece(Kind kind, const ToolCallDelta* call, std::string_view text, base::json::array logprobs,
                  std::string* out);
  void open_item(Item item, std::string* out);
  void close_item(std::string* out);
  // Appends the event `type` with the ids of the item that is open.
  void append_of_item(std::string_view type, base::json::object members, std::string& out);
  void append(base::json::object event, std::string& out);

  std::string item_id(size_t index) const;
  base::json::object item_json(size_t index, std::string_view status) const;
  base::json::object part_json(const Item& item, bool whole) const;
  base::json::object response_json(std::string_view status) const;

  const ResponsesForm form_;
  const AnswerInfo info_;
  std::vector<Item> items_;
  bool open_ = false;  // the last of them
  FinishReason finish_ = FinishReason::none;
  size_t collected_bytes_ = 0;
  int64_t sequence_ = 0;
  base::json::object response_;  // once complete
};

}  // namespace tidemill::wire
