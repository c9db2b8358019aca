// The bytes of a streamed answer: a dialect's events, and where they are asked for the marks from which another server
// can go on (docs/resume.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "serve/generation.hpp"
#include "wire/answer.hpp"
#include "wire/resume.hpp"

namespace tidemill::serve {

// What was told before a stream was resumed goes through the dialect's writer like everything else, so that its state
// is what it was, and then nowhere. Used like wire::Answer. Not thread-safe.
class StreamWriter {
 public:
  struct Form {
    std::optional<wire::StreamOrigin> marks;  // none: without marks
    std::optional<wire::StreamState> resumed;
    ResumedPart part;
    size_t choices = 1;  // in all
    size_t n = 1;        // of each prompt
  };
  // `answer` must outlive it.
  StreamWriter(wire::Answer& answer, Form form);

  void open();
  void add(const wire::Event& event);
  void finish(const wire::Usage& usage);
  void fail(const base::Error& error);
  void keep_alive();

  // What has come together, to be sent and cleared. Not between events that the same tokens gave rise to: their mark
  // goes out with them.
  std::string& out() { return out_; }
  bool sendable() const { return !within_; }

 private:
  // What a choice has generated since its last mark.
  struct Unmarked {
    wire::TokenIds tokens;
    int64_t cached_tokens = 0;
  };

  void take_progress(const wire::Event& event, bool shown);
  void mark(size_t choice);

  wire::Answer& answer_;
  const Form form_;
  wire::StreamState state_;
  std::vector<bool> begun_;         // by prompt: marks have told of it
  std::vector<Unmarked> unmarked_;  // by choice
  bool within_ = false;             // the last event was not the last of its tokens
  size_t group_begin_ = 0;          // of those tokens, in out_
  std::string out_;
  std::string told_;  // scratch
};

}  // namespace tidemill::serve
