// Internal events to the answers of Anthropic's Messages API: a message, or the events of its stream.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "wire/answer.hpp"

namespace tidemill::wire {

// What of a request decides how its answer looks.
struct MessagesForm {
  int64_t max_tokens = 0;
  bool thinking = true;  // whether its text is shown; the block is there all the same
};

// One choice. A stream is message_start; for each block content_block_start, its deltas and content_block_stop, one
// block after the other; message_delta with the reason of the end and the usage; message_stop. In long silences, ping.
// What fails in mid-stream is an `error` event, after which nothing follows. message_start comes with the first token:
// clients read there what the cache held, which is known no earlier. Until then a silence has comments, for clients
// expect no ping before it.
//
// A block of thinking is signed with the SHA-256 of its text: clients keep only signed ones, and nobody here checks it.
// `input_tokens` leaves out what the prefix cache held, which is cache_read_input_tokens; every prompt is cached, so
// nothing is charged to cache_creation_input_tokens, which is 0.
class MessagesAnswer final : public Answer {
 public:
  MessagesAnswer(MessagesForm form, AnswerInfo info) : form_(form), info_(std::move(info)) {}

  void stream(const Event& event, std::string& out) override;
  void finish_stream(const Usage& usage, std::string& out) override;
  void fail_stream(const base::Error& error, std::string& out) override;
  void keep_alive(std::string& out) override;
  void collect(const Event& event) override;
  std::string whole(const Usage& usage) override;
  size_t collected_bytes() const override { return collected_bytes_; }
  size_t bytes_per_token() const override { return usual_text_bytes; }

 private:
  enum class Kind : uint8_t { thinking, text, tool_use };
  struct Block {
    Kind kind;
    int call = -1;  // tool_use: which
    std::string id;
    std::string name;
    std::string text;  // or thinking, or the arguments
  };

  void start(int64_t cached_tokens, std::string& out);
  // Takes the event's pieces, block by block; with `out`, as a stream.
  void take(const Event& event, std::string* out);
  void take_piece(Kind kind, const ToolCallDelta* call, std::string_view text, std::string* out);
  void open_block(Block block, std::string* out);
  void close_block(std::string* out);

  base::json::object message(base::json::array content, const Usage& usage) const;
  base::json::object block_json(const Block& block, bool whole) const;
  // stop_reason, stop_sequence and stop_details.
  void set_stop(const Usage& usage, base::json::object& target) const;

  const MessagesForm form_;
  const AnswerInfo info_;
  bool started_ = false;  // message_start is out
  std::vector<Block> blocks_;
  bool open_ = false;  // the last of them
  size_t collected_bytes_ = 0;
  FinishReason finish_ = FinishReason::none;
  std::string matched_stop_;
};

}  // namespace tidemill::wire
