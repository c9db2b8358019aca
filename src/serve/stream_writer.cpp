#include "serve/stream_writer.hpp"

#include <utility>

namespace tidemill::serve {

namespace {

// Tokens that show nothing, such as reasoning that the client does not want to see, are marked by themselves when so
// many have come together: a server that goes on would have to generate them again.
constexpr size_t most_unmarked = 16;

// What another server would say too, having the same request.
bool is_of_the_request(const base::Error& error) {
  using base::ErrorCode;
  return error.code() == ErrorCode::invalid_argument || error.code() == ErrorCode::unsupported ||
         error.code() == ErrorCode::too_large;
}

}  // namespace

StreamWriter::StreamWriter(wire::Answer& answer, Form form)
    : answer_(answer),
      form_(std::move(form)),
      state_(form_.resumed.value_or(wire::StreamState())),
      begun_(form_.part.begun),
      unmarked_(form_.choices) {
  begun_.resize(form_.choices / form_.n);
}

void StreamWriter::open() {
  if (form_.marks) wire::append_open_mark(*form_.marks, out_);
  if (form_.resumed) {
    answer_.open_stream(told_);
    answer_.set_sequence(form_.resumed->sequence);
    return;
  }
  const size_t before = out_.size();
  answer_.open_stream(out_);
  if (out_.size() > before) mark(0);
}

void StreamWriter::add(const wire::Event& event) {
  if (event.resumed) {
    told_.clear();
    answer_.stream(event, told_);
    answer_.set_sequence(state_.sequence);
    return;
  }
  if (!within_) group_begin_ = out_.size();
  answer_.stream(event, out_);
  within_ = !event.progress;
  if (event.progress && form_.marks) take_progress(event, out_.size() > group_begin_);
}

void StreamWriter::take_progress(const wire::Event& event, bool shown) {
  const auto choice = static_cast<size_t>(event.choice);
  const bool ended = event.finish != wire::FinishReason::none;
  Unmarked& unmarked = unmarked_[choice];
  const wire::TokenIds& tokens = event.progress->tokens;
  unmarked.tokens.insert(unmarked.tokens.end(), tokens.begin(), tokens.end());
  unmarked.cached_tokens = event.cached_tokens;
  if (!shown && !ended && unmarked.tokens.size() < most_unmarked) return;
  const bool without_token = ended && tokens.empty();
  if (without_token) state_.ended.push_back(event.choice);
  if (!begun_[choice / form_.n] && (without_token || !unmarked.tokens.empty())) {
    begun_[choice / form_.n] = true;
    state_.cached_tokens += unmarked.cached_tokens;
  }
  mark(choice);
}

void StreamWriter::mark(size_t choice) {
  if (!form_.marks) return;
  state_.sequence = answer_.sequence();
  wire::append_choice_mark(static_cast<int>(choice), unmarked_[choice].tokens, state_, out_);
  unmarked_[choice].tokens.clear();
}

void StreamWriter::finish(const wire::Usage& usage) {
  answer_.finish_stream(usage, out_);
  if (form_.marks) wire::append_end_mark(out_);
}

void StreamWriter::fail(const base::Error& error) {
  answer_.fail_stream(error, out_);
  if (form_.marks && is_of_the_request(error)) wire::append_end_mark(out_);
}

void StreamWriter::keep_alive() {
  answer_.keep_alive(out_);
  if (form_.marks) wire::append_choice_mark(0, {}, state_, out_);
}

}  // namespace tidemill::serve
