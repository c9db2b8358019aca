#include "hub/download.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include <fmt/format.h>

#include "base/utf8.hpp"
#include "hub/answer_headers.hpp"
#include "hub/part_file.hpp"

namespace tidemill::hub {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;

constexpr uint64_t kProgress = uint64_t{1} << 20;  // bytes after which tries are counted anew

class Download {
 public:
  Download(Remote& remote, const RepoFile& file, const std::string& url, PartFile part,
           const std::function<void(uint64_t)>& on_have)
      : remote_(remote), file_(file), url_(url), part_(std::move(part)), on_have_(on_have) {}

  Result<void> run() {
    tell();
    while (true) {
      TM_CHECK(fill());
      if (part_.right()) return part_.finish();
      // An older part may have been damaged on the disk: what is new altogether says whether the server is at fault.
      const std::string found = part_.found();
      TM_CHECK(restart());
      if (std::exchange(again_, true)) return wrong_content(file_, found);
    }
  }

 private:
  // Tries until all bytes are there. What comes for a second time, where a server makes it begin anew, is no progress.
  Result<void> fill() {
    Tries tries;
    uint64_t counted = part_.have();
    restarts_ = 0;
    while (!part_.complete()) {
      auto failure = try_once();
      if (part_.have() >= counted + kProgress) {
        tries.progressed();
        counted = part_.have();
      }
      if (!failure && !part_.complete()) failure = ended_early();
      if (!failure) break;
      failure->name(fmt::format("'{}'", shown()));
      auto next = remote_.before_next_try(*std::move(failure), tries);
      if (next) continue;
      Error error = std::move(next).error();
      if (restarts_ == 0 || error.code() != ErrorCode::unavailable) return error;
      return std::move(error).wrap(
          fmt::format("'{}': {} times what had come of its {} bytes was of no use, and it began "
                      "anew",
                      shown(), restarts_, part_.size()));
    }
    return {};
  }

  std::optional<Failure> try_once() {
    wire::Headers headers;
    if (part_.have() > 0) {
      headers.add("Range", fmt::format("bytes={}-", part_.have()));
      if (!tag_.empty()) headers.add("If-Range", tag_);
    }
    wire::HttpClient::Receiver receiver;
    receiver.on_head = [this](const wire::HttpResponse& head) { return begin(head); };
    receiver.on_chunk = [this](std::string_view bytes) { return take(bytes); };
    auto failure = remote_.try_get(url_, headers, receiver);
    if (failure && failure->status == 416 && part_.have() > 0) {
      if (const auto whole = failure->whole; whole && *whole != part_.size()) {
        failure->error = other_size(*whole);
        return failure;
      }
      // What is there is no beginning of what the server has.
      failure->error =
          Error(ErrorCode::unavailable,
                fmt::format("the server has nothing behind the first {} of the {} bytes that the hub lists",
                            part_.have(), part_.size()));
      failure->passing = true;
      if (auto cut = restart(); !cut) return Failure{.error = std::move(cut).error()};
    }
    return failure;
  }

  // The head of an answer decides where its bytes go.
  Result<void> begin(const wire::HttpResponse& head) {
    // Of a file of another size there is no need to see the rest.
    if (const auto whole = whole_size(head.status, head.headers); whole && *whole != part_.size()) {
      return other_size(*whole);
    }
    const std::string tag = strong_tag(head.headers);
    const bool other = !tag_.empty() && !tag.empty() && tag != tag_;
    if (head.status == 200) {
      if (part_.have() > 0) TM_CHECK(restart());
      tag_ = tag;
      return {};
    }
    const auto range = parse_content_range(head.headers.find("content-range").value_or(""));
    const bool follows = range && range->first == part_.have() && range->total.value_or(part_.size()) == part_.size();
    if (follows && !other) {
      tag_ = tag;
      return {};
    }
    TM_CHECK(restart());
    return Error(ErrorCode::unavailable,
                 "the server goes on with another part than was asked for, or with another file");
  }

  Result<void> take(std::string_view bytes) {
    if (bytes.size() > part_.size() - part_.have()) {
      TM_CHECK(restart());
      return Error(ErrorCode::corrupt,
                   fmt::format("the server sends more than the {} bytes that the hub lists", part_.size()));
    }
    TM_CHECK(part_.append(std::as_bytes(std::span(bytes))));
    tell();
    return {};
  }

  Result<void> restart() {
    TM_CHECK(part_.restart());
    ++restarts_;
    tag_.clear();
    tell();
    return {};
  }

  void tell() const {
    if (on_have_) on_have_(part_.have());
  }

  Failure ended_early() const {
    return {.error = Error(ErrorCode::unavailable,
                           fmt::format("the answer ends after {} of {} bytes", part_.have(), part_.size())),
            .passing = true,
            .status = 0,
            .wait = std::nullopt};
  }

  Error other_size(uint64_t whole) const {
    return {ErrorCode::corrupt,
            fmt::format("the server has {} bytes of it, and the hub lists {}", whole, part_.size())};
  }

  std::string shown() const { return base::utf8::printable(file_.path, 200); }

  Remote& remote_;
  const RepoFile& file_;
  const std::string& url_;
  PartFile part_;
  const std::function<void(uint64_t)>& on_have_;
  std::string tag_;     // of the bytes that are there, as far as this run knows
  bool again_ = false;  // the whole was wrong once
  int restarts_ = 0;    // since then
};

}  // namespace

Result<void> download(Remote& remote, const RepoFile& file, const std::string& url, const std::filesystem::path& target,
                      const std::function<void(uint64_t)>& on_have) {
  TM_TRY(PartFile part, PartFile::open(target, file.size, file.digest, [&remote] { return remote.stopped(); }));
  return Download(remote, file, url, std::move(part), on_have).run();
}

}  // namespace tidemill::hub
