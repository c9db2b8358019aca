// Marks that Tidemill's servers put into a stream of server-sent events when asked with `x-tidemill-resumable: 1`:
//
//   : tidemill {JSON}
//   (blank line)
//
// the first before all else, then one behind each group of events that belong together. A stream can be taken up again
// at a mark and nowhere else, so a client gets the bytes up to the last mark, without the marks; what lies behind it is
// held until the next one. A server writes a group and its mark at once, so holding costs no time.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace tidemill::gateway {

// The value of this request header asks for marks.
inline constexpr std::string_view resumable_header = "x-tidemill-resumable";

// Clears it, and gives its memory back if it was for more than pieces of streams have as a rule.
void clear_and_shrink(std::string& buffer);

// One stream from one backend. The bytes may be cut anywhere. Whatever happens, a client never gets a part of an event,
// so that an error can still be told behind it.
//
//   TM_CHECK(marks.add(bytes));
//   while (const auto mark = marks.next(out)) progress.take(*mark);
//   ... send `out` ...
class SseMarks {
 public:
  enum class Kind {
    undecided,  // too few bytes
    marked,     // the first thing was a mark
    foreign,    // it was not: events go on as soon as they are whole
  };

  // A stream that has to hold back more than `max_held` bytes is an error, too_large, with the piece that comes on top
  // of them. As much memory is taken as has to be held, and what a large event took is given back behind it.
  explicit SseMarks(size_t max_held) : max_held_(max_held) {}

  base::Result<void> add(std::string_view bytes);
  // The next mark's JSON, good until the next call of any kind; before it, what may go to the client up to there was
  // appended to `out`. nullopt: no further mark has come yet.
  std::optional<std::string_view> next(std::string& out);

  // The stream has come to its end. What is held of a foreign one goes on as well, as far as it is whole events: their
  // data are JSON objects, or [DONE]. The last one may lack its blank line, and gets it. Half an event does not go on.
  void finish(std::string& out);
  // The same of a stream of which it is not known what its events look like: what is held goes on as it came.
  void finish_unread(std::string& out);

  Kind kind() const { return kind_; }
  // Bytes that have come and can only go on with a mark behind them.
  size_t held() const { return held_.size() - begin_; }
  // Whether they have the beginning of an event, and not of a comment alone.
  bool holds_event() const;

 private:
  void decide();
  void release(std::string& out, size_t to);
  void release_whole_events(std::string& out);

  size_t max_held_;
  Kind kind_ = Kind::undecided;
  std::string held_;
  size_t begin_ = 0;  // of what was not released
  size_t line_ = 0;   // begin of the line that is being looked at
  size_t scan_ = 0;   // up to here there is no end of that line; of a foreign stream, of an event
  bool behind_mark_ = false;
  bool has_fields_ = false;  // between `begin_` and `line_` stand lines that are no comments
};

}  // namespace tidemill::gateway
