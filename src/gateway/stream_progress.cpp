#include "gateway/stream_progress.hpp"

#include <utility>

#include "base/json.hpp"
#include "gateway/json_members.hpp"

namespace tidemill::gateway {

using base::Result;

namespace {

constexpr size_t longest_id = 256;

}  // namespace

std::string first_id(std::string_view text) {
  constexpr std::string_view key = "\"id\":";
  const size_t at = text.find(key);
  if (at == std::string_view::npos) return {};
  const size_t quote = text.find_first_not_of(' ', at + key.size());
  if (quote == std::string_view::npos || text[quote] != '"') return {};
  const size_t end = text.find('"', quote + 1);
  if (end == std::string_view::npos || end - quote > longest_id) return {};
  return std::string(text.substr(quote + 1, end - quote - 1));
}

Result<void> StreamProgress::take(SseMarks& marks, std::string_view bytes, std::string& out) {
  TM_CHECK(marks.add(bytes));
  while (true) {
    const size_t sure = out.size();
    const auto mark = marks.next(out);
    if (!mark) return {};
    auto taken = marks_.take(*mark);
    if (taken) continue;
    out.resize(sure);  // its tokens are not known, so it has to come again
    return taken;
  }
}

void StreamProgress::begin(SseMarks::Kind kind, std::string_view resume) {
  if (kind_ != SseMarks::Kind::undecided) return;
  kind_ = kind;
  resume_ = resume;
  const bool plain_chat = dialect_ == Dialect::chat && outline_.choices == 1 && outline_.prompt.starts_with('[');
  if (foreign() && plain_chat) chat_.emplace();
}

void StreamProgress::sent(std::string_view events) {
  usage_.take(events);
  // Comments only say that the backend still works.
  if (dialect_ != Dialect::other && events.find("data:") == std::string_view::npos) return;
  if (!std::exchange(begun_, true)) response_id_ = first_id(events);
  // Responses and Anthropic's messages announce themselves before there is a token.
  const bool announces = dialect_ == Dialect::responses || dialect_ == Dialect::messages;
  text_begun_ = text_begun_ || !announces || events.find("delta") != std::string_view::npos;
  if (!foreign()) return;
  end_.take(events);
  if (chat_) chat_->take(events);
}

Resume StreamProgress::ways_on() const {
  if (resume_ == "off") return Resume::none;
  if (marked()) return marks_.opened() ? Resume::exact : Resume::none;
  return resume_ == "auto" && chat_ && chat_->resumable() ? Resume::best_effort : Resume::none;
}

Result<std::string> StreamProgress::resume_body() {
  if (!marked()) return chat_->resume_body(body_);
  return with_member(body_, outline_.closing_brace, resume_member, marks_.value());
}

bool StreamProgress::misses_usage() const {
  if (usage_.output_tokens) return false;
  const auto body = base::parse_json(body_);
  const base::json::object* request = body ? body->if_object() : nullptr;
  const base::json::value* options = request == nullptr ? nullptr : request->if_contains("stream_options");
  if (options == nullptr || !options->is_object()) return false;
  const base::json::value* asked = options->get_object().if_contains("include_usage");
  return asked != nullptr && asked->is_bool() && asked->get_bool();
}

TokenUsage StreamProgress::usage() const {
  TokenUsage usage = usage_;
  if (!usage.output_tokens && marked()) usage.output_tokens = marks_.tokens();
  return usage;
}

}  // namespace tidemill::gateway
