// What a dialect is: how it asks, and how it is answered.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "wire/error_body.hpp"
#include "wire/request.hpp"
#include "wire/sse.hpp"

namespace tidemill::wire {

// Writes the answer to one generation request: server-sent events, or one body. Fed with the events in order. Not
// thread-safe.
class Answer {
 public:
  virtual ~Answer() = default;

  // A stream: each appends server-sent events to `out`, perhaps none. open_stream once, before all; then stream for
  // each event; then either finish_stream, after the last, or fail_stream, after which the stream ends.
  virtual void open_stream(std::string& out) { (void)out; }
  virtual void stream(const Event& event, std::string& out) = 0;
  virtual void finish_stream(const Usage& usage, std::string& out) = 0;
  virtual void fail_stream(const base::Error& error, std::string& out) = 0;
  // What a stream carries in a long silence.
  virtual void keep_alive(std::string& out) { out += sse_comment("waiting"); }
  // The number of the next event of a stream whose events count up; else 0. It alone depends on how the text was cut,
  // and has to be set when a stream is resumed.
  virtual int64_t sequence() const { return 0; }
  virtual void set_sequence(int64_t next) { (void)next; }

  // No stream: collect for each event; then whole, once, the body. What was collected takes about collected_bytes(),
  // and up to three times as much at the time when the body is written. A token of the request takes about
  // bytes_per_token(), as tokens usually are.
  virtual void collect(const Event& event) = 0;
  virtual std::string whole(const Usage& usage) = 0;
  virtual size_t collected_bytes() const = 0;
  virtual size_t bytes_per_token() const = 0;
};

struct AnswerInfo {
  std::string id;
  std::string model;
  int64_t created = 0;  // seconds since the Unix epoch
  int choices = 1;      // prompts times n
  int64_t prompt_tokens = 0;
  // GenerateRequest::drop_oldest: turns, and calls with their results in turns that stayed.
  int64_t dropped_turns = 0;
  int64_t dropped_calls = 0;
};

// What the text of a token usually takes, in bytes.
inline constexpr size_t usual_text_bytes = 4;

// A request and the writer of its answer, which keeps what it needs of the request.
struct Asked {
  GenerateRequest request;
  std::function<std::unique_ptr<Answer>(const AnswerInfo&)> answer;
};

}  // namespace tidemill::wire
