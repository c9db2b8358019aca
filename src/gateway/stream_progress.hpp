// How far a stream has come that a client is reading, over all the backends that have worked on it, and how another can
// take it up. Nothing but state: what is read and sent is handed in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "gateway/foreign_chat.hpp"
#include "gateway/request_outline.hpp"
#include "gateway/resumption.hpp"
#include "gateway/sse_marks.hpp"
#include "gateway/stream_error.hpp"
#include "gateway/token_usage.hpp"

namespace tidemill::gateway {

// The value of the first "id" in a text; empty if there is none.
std::string first_id(std::string_view text);

// How the stream can be taken up.
enum class Resume : uint8_t { none, exact, best_effort };

// One request. The body and what the outline views must outlive it.
class StreamProgress {
 public:
  StreamProgress(Dialect dialect, std::string_view body, const RequestOutline& outline)
      : dialect_(dialect), body_(body), outline_(outline), end_(dialect) {}

  // The client has got nothing of the answer, and another backend begins anew: what marks have said is forgotten.
  void start_over() { marks_ = Resumption(); }
  // What a backend has sent. Appends to `out` what may go to the client; on an error, what came before it is there all
  // the same.
  base::Result<void> take(SseMarks& marks, std::string_view bytes, std::string& out);
  // The first backend whose words go to the client: of which kind its stream is, and what its configuration says of
  // resuming ("auto", "exact", "off"). The first call counts.
  void begin(SseMarks::Kind kind, std::string_view resume);
  // What goes to the client: whole events.
  void sent(std::string_view events);
  // The words of a backend that goes on, as if they were the first one's: appended to `out`.
  void adopt(std::string_view events, std::string& out) const { chat_->adopt(events, out); }

  bool marked() const { return kind_ == SseMarks::Kind::marked; }
  bool foreign() const { return kind_ == SseMarks::Kind::foreign; }
  Resume ways_on() const;
  // The request that asks another backend to go on. Only if there is a way.
  base::Result<std::string> resume_body();

  // Tokens that marks have told of.
  int64_t marked_tokens() const { return marks_.tokens(); }
  // By its marks, it is complete.
  bool ended() const { return marks_.ended(); }
  // By its words, it is; only of one without marks.
  bool end_seen() const { return end_.seen(); }
  // Nothing but the last words of a foreign chat can be missing.
  bool chat_finished() const { return chat_ && chat_->finished(); }
  bool chat_done() const { return chat_ && chat_->done(); }
  // The request has asked for a usage, and none has come.
  bool misses_usage() const;

  // As the answer calls itself; empty: its first event does not.
  const std::string& response_id() const { return response_id_; }
  // The first token has gone to the client, as far as its dialect tells it from what only announces the answer.
  bool text_begun() const { return text_begun_; }
  // What the answer says of itself, and what its marks say.
  TokenUsage usage() const;
  int64_t events() const { return end_.events(); }

 private:
  Dialect dialect_;
  std::string_view body_;
  const RequestOutline& outline_;
  SseMarks::Kind kind_ = SseMarks::Kind::undecided;
  std::string resume_;
  Resumption marks_;
  std::optional<ForeignChat> chat_;
  StreamEnd end_;
  TokenUsage usage_;
  std::string response_id_;
  bool begun_ = false;
  bool text_begun_ = false;
};

}  // namespace tidemill::gateway
