#include "hub/remote.hpp"

#include <algorithm>
#include <limits>
#include <poll.h>
#include <utility>

#include <fmt/format.h>

#include "base/units.hpp"
#include "base/utf8.hpp"
#include "base/version.hpp"
#include "hub/answer_headers.hpp"

namespace tidemill::hub {

namespace {

using base::Error;
using base::ErrorCode;
using base::Result;
using wire::HttpResponse;

constexpr int kMostRedirects = 8;
constexpr int kMostPages = 1000;  // of the list of files, 1,000 each
constexpr size_t kMostAnswerBytes = size_t{64} << 20;

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool is_passing(int status) {
  return status == 408 || status == 429 || (status >= 500 && status != 501 && status != 505);
}

bool is_this_machine(const wire::Url& url) {
  return url.host == "localhost" || url.host == "::1" || url.host.starts_with("127.");
}

// For a path of a URL; slashes stay where `slashes` says so.
std::string percent_encode(std::string_view text, bool slashes) {
  constexpr std::string_view plain = "-._~";
  std::string out;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || plain.find(c) != std::string_view::npos || (slashes && c == '/')) {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

// Of a token: what a header's value cannot hold, and blanks, which none has.
bool has_blank_or_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; });
}

std::string quoted(const RepoFile& file) {
  return fmt::format("'{}'", base::utf8::printable(file.path, 200));
}

bool is_readable(int descriptor, int milliseconds) {
  pollfd asked{.fd = descriptor, .events = POLLIN, .revents = 0};
  return descriptor >= 0 && ::poll(&asked, 1, milliseconds) > 0;
}

}  // namespace

Remote::Remote(ModelName name, RemoteOptions options, wire::Url endpoint)
    : name_(std::move(name)),
      options_(std::move(options)),
      endpoint_(std::move(endpoint)),
      base_(endpoint_.text()),
      client_([this] {
        wire::HttpClientOptions client;
        client.idle_timeout = options_.idle_timeout;
        client.ca_file = options_.ca_file;
        client.proxies = options_.proxies;
        return client;
      }()) {
  while (base_.ends_with('/'))
    base_.pop_back();
}

Result<Remote> Remote::create(ModelName name, RemoteOptions options) {
  auto endpoint = wire::Url::parse(options.endpoint);
  if (!endpoint) return std::move(endpoint).error().wrap("the hub's endpoint (HF_ENDPOINT)");
  if (endpoint->target.find('?') != std::string::npos) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("the hub's endpoint (HF_ENDPOINT) '{}' has a query; it should look like "
                             "https://huggingface.co",
                             options.endpoint));
  }
  if (has_blank_or_control(options.token)) {
    return Error(ErrorCode::invalid_argument,
                 "the token (HF_TOKEN) holds a blank, a line break or another control character; it should be the "
                 "token alone, such as hf_...");
  }
  if (!options.token.empty() && !endpoint->https && !is_this_machine(*endpoint)) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("the token (HF_TOKEN) would go to {} for all to read: take an endpoint (HF_ENDPOINT) of "
                             "https, or unset the token",
                             endpoint->authority()));
  }
  TM_TRY(const wire::Proxy* const proxy, options.proxies.find(*endpoint));
  if (!options.token.empty() && !endpoint->https && proxy != nullptr) {
    return Error(ErrorCode::invalid_argument,
                 fmt::format("the token (HF_TOKEN) for {} would go to {} for it to read: name the host in NO_PROXY, "
                             "take an endpoint (HF_ENDPOINT) of https, or unset the token",
                             endpoint->authority(), proxy->text()));
  }
  return Remote(std::move(name), std::move(options), *std::move(endpoint));
}

Result<std::string> Remote::commit() {
  // A revision is one segment of the path, whatever slashes it has.
  TM_TRY(const HttpResponse answer, get(fmt::format("{}/api/models/{}/revision/{}", base_, name_.repository,
                                                    percent_encode(name_.revision, false))));
  auto commit = parse_commit(answer.body);
  if (!commit) return std::move(commit).error().wrap(fmt::format("{} at {}", name_.repository, base_));
  return commit;
}

Result<std::vector<RepoFile>> Remote::list(const std::string& commit) {
  std::vector<RepoFile> files;
  std::string url = fmt::format("{}/api/models/{}/tree/{}?recursive=true", base_, name_.repository, commit);
  for (int page = 0; page < kMostPages; ++page) {
    TM_TRY(const HttpResponse answer, get(url));
    if (auto added = add_files(answer.body, files); !added) {
      return std::move(added).error().wrap(fmt::format("{} at {}", name_.repository, base_));
    }
    const std::optional<std::string> next = next_page(answer.headers);
    if (!next) return files;
    TM_TRY(const wire::Url here, wire::Url::parse(url));
    TM_TRY(const wire::Url there, here.refer(*next));
    url = there.text();
  }
  return Error(ErrorCode::unsupported, fmt::format("{} has more than {} pages of files", name_.repository, kMostPages));
}

Result<std::string> Remote::read(const RepoFile& file, const std::string& commit) {
  if (file.size > kMostAnswerBytes) {
    return Error(ErrorCode::unsupported, fmt::format("{}: {} has {} bytes, and at most {} are read", name_.text(),
                                                     quoted(file), file.size, kMostAnswerBytes));
  }
  bool again = false;
  while (true) {
    TM_TRY(HttpResponse answer, get(url_of(file, commit), quoted(file)));
    if (answer.body.size() != file.size) {
      return Error(ErrorCode::corrupt, fmt::format("{}: the server has {} bytes of it, and the hub lists {}",
                                                   quoted(file), answer.body.size(), file.size));
    }
    if (!file.digest) return std::move(answer.body);
    const std::string found = digest_of(file.digest->kind, answer.body);
    if (found == file.digest->hex) return std::move(answer.body);
    if (std::exchange(again, true)) return wrong_content(file, found);
  }
}

Error wrong_content(const RepoFile& file, const std::string& found) {
  return {ErrorCode::corrupt,
          fmt::format("{}: what the server sends is not what the hub lists, twice: its {} is {}, and should be {}",
                      quoted(file), to_string(file.digest->kind), found.empty() ? "unknown here" : found,
                      file.digest->hex)};
}

std::string Remote::url_of(const RepoFile& file, const std::string& commit) const {
  return fmt::format("{}/{}/resolve/{}/{}", base_, name_.repository, commit, percent_encode(file.path, true));
}

wire::ClientRequest Remote::request_to(const wire::Url& url, const wire::Headers& headers) const {
  wire::ClientRequest request;
  request.url = url.text();
  request.headers = headers;
  request.headers.add("User-Agent", fmt::format("tidemill/{}", base::version()));
  request.headers.add("Accept-Encoding", "identity");  // what is counted and hashed are the file's own bytes
  if (!options_.token.empty() && url.same_origin(endpoint_)) {
    request.headers.add("Authorization", "Bearer " + options_.token);
  }
  return request;
}

std::optional<Failure> Remote::try_get(const std::string& first, const wire::Headers& headers,
                                       const wire::HttpClient::Receiver& receiver) {
  auto url = wire::Url::parse(first);
  for (int hop = 0; hop <= kMostRedirects; ++hop) {
    if (!url) return Failure{.error = std::move(url).error()};
    HttpResponse head{.status = 0, .headers = {}, .body = {}};
    wire::HttpClient::Receiver watching;
    watching.stop = options_.stop;
    watching.on_head = [&](const HttpResponse& seen) -> Result<void> {
      head = seen;
      // Nothing that follows another answer is of use.
      if (seen.status != 200 && seen.status != 206) return Error(ErrorCode::unavailable, "another answer");
      if (const auto coding = seen.headers.find("content-encoding"); coding && *coding != "identity") {
        return Error(ErrorCode::corrupt,
                     fmt::format("{} sends its answer packed ('{}'), unasked", url->authority(), *coding));
      }
      return receiver.on_head ? receiver.on_head(seen) : Result<void>();
    };
    watching.on_chunk = [&](std::string_view bytes) -> Result<void> {
      if (stopped()) return stopped_error();
      return receiver.on_chunk(bytes);
    };
    auto answer = client_.fetch(request_to(*url, headers), watching);
    if (answer) return std::nullopt;
    if (is_redirect(head.status)) {
      const auto location = head.headers.find("location");
      const bool secure = url->https;
      if (location) url = url->refer(*location);
      if (!location || !url || (secure && !url->https)) {
        return Failure{.error = Error(ErrorCode::corrupt, fmt::format("{}: the hub redirects to nowhere, or from https "
                                                                      "to http",
                                                                      name_.text())),
                       .status = head.status};
      }
      continue;
    }
    if (head.status != 0 && head.status != 200 && head.status != 206) {
      Failure failure = refusal(*url, head);
      failure.whole = whole_size(head.status, head.headers);
      return failure;
    }
    const ErrorCode code = answer.error().code();
    if (code == ErrorCode::too_large) {  // the client's limit of heads: it is the hub's fault, and not the caller's
      return Failure{.error = Error(ErrorCode::corrupt, answer.error().to_string()), .status = head.status};
    }
    return Failure{.error = std::move(answer).error(),
                   .passing = code == ErrorCode::unavailable || code == ErrorCode::timeout,
                   .status = head.status};
  }
  return Failure{.error = Error(ErrorCode::corrupt, fmt::format("{}: more than {} redirects one after the other",
                                                                name_.text(), kMostRedirects))};
}

Result<HttpResponse> Remote::get(const std::string& url, const std::string& what) {
  Tries tries;
  while (true) {
    HttpResponse answer;
    wire::HttpClient::Receiver receiver;
    receiver.on_head = [&](const HttpResponse& head) -> Result<void> {
      answer = head;
      return {};
    };
    receiver.on_chunk = [&](std::string_view bytes) -> Result<void> {
      if (answer.body.size() + bytes.size() > kMostAnswerBytes) {
        return Error(ErrorCode::corrupt,
                     fmt::format("{}: the hub's answer has more than {} bytes", name_.text(), kMostAnswerBytes));
      }
      answer.body += bytes;
      return {};
    };
    auto failure = try_get(url, {}, receiver);
    if (!failure) return answer;
    if (!what.empty()) failure->name(what);
    TM_CHECK(before_next_try(*std::move(failure), tries));
  }
}

// What an answer without content means, and what to do about it.
Failure Remote::refusal(const wire::Url& from, const HttpResponse& head) const {
  if (!from.same_origin(endpoint_)) return foreign_refusal(from, head);
  const int status = head.status;
  const std::string_view kind = head.headers.find("x-error-code").value_or("");
  const std::string page = fmt::format("{}/{}", base_, name_.repository);
  const std::string model = base::utf8::printable(name_.text());
  // Whoever is in between may answer 403 too, and says nothing of licences.
  const bool gated = kind == "GatedRepo" || (status == 403 && !kind.empty());
  const auto said = [&](ErrorCode code, std::string message) {
    return Failure{.error = Error(code, message + through(from)), .status = status};
  };
  if (gated && (status == 401 || status == 403)) {
    return said(ErrorCode::unavailable,
                fmt::format("{} is not open to {}: accept its licence at {}, and set HF_TOKEN to a token of that "
                            "account that may read it",
                            model, options_.token.empty() ? "everybody" : "the token in HF_TOKEN", page));
  }
  if (status == 401) {
    return said(
        ErrorCode::not_found,
        options_.token.empty()
            ? fmt::format("{} does not exist, or is private or gated: check the name; if {} is there, set "
                          "HF_TOKEN to a token of an account that may read it",
                          model, page)
            : fmt::format("{} does not exist, or the token in HF_TOKEN is not valid or may not read it", model));
  }
  if (status == 404 && kind == "RevisionNotFound") {
    return said(ErrorCode::not_found, fmt::format("{} has no branch, tag or commit '{}'", name_.repository,
                                                  base::utf8::printable(name_.revision)));
  }
  // Mirrors may not say what it is that they lack.
  if (status == 404 &&
      (kind == "EntryNotFound" || (kind.empty() && from.target.find("/resolve/") != from.target.npos))) {
    return said(ErrorCode::not_found, fmt::format("{} has no such file, though the hub lists it", model));
  }
  if (status == 404) return said(ErrorCode::not_found, fmt::format("there is no {} (looked at {})", model, page));
  std::string message = fmt::format("{}: the hub answers {} {}", model, status, wire::reason_phrase(status));
  if (const auto more = head.headers.find("x-error-message")) message += ": " + base::utf8::printable(*more, 200);
  Failure failure = said(ErrorCode::unavailable, std::move(message));
  failure.passing = is_passing(status);
  if (failure.passing) failure.wait = asked_wait(head.headers);
  return failure;
}

// ", asked through the proxy 10.0.0.1:3128 (http_proxy)" of a server of http, whose answer may be the proxy's own; of
// https nobody but the server can have given it.
std::string Remote::through(const wire::Url& from) const {
  if (from.https) return {};
  const auto proxy = options_.proxies.find(from);
  return proxy && *proxy != nullptr ? ", asked through " + (*proxy)->text() : std::string();
}

// Of a server that the hub redirects to. The addresses there are signed for some minutes: a new try gets a new one.
Failure Remote::foreign_refusal(const wire::Url& from, const HttpResponse& head) const {
  return {.error = Error(ErrorCode::unavailable,
                         fmt::format("{}: {} answers {} {}{}", base::utf8::printable(name_.text()), from.authority(),
                                     head.status, wire::reason_phrase(head.status), through(from))),
          .passing = is_passing(head.status) || head.status == 403,
          .status = head.status,
          .wait = asked_wait(head.headers)};
}

void Failure::name(const std::string& what) {
  if (error.code() != ErrorCode::cancelled) error = std::move(error).wrap(what);
}

Result<void> Remote::before_next_try(Failure failure, Tries& tries) {
  if (stopped()) return stopped_error();
  if (!failure.passing) return std::move(failure).error;
  if (++tries.failed_ >= options_.max_tries) {
    return std::move(failure).error.wrap(fmt::format("given up after {} tries", tries.failed_));
  }
  if (failure.wait && *failure.wait > options_.longest_wait) {
    const std::string asked = base::format_duration(*failure.wait);
    return std::move(failure).error.wrap(fmt::format("the hub asks to wait for {}", asked));
  }
  base::Duration wait_for = options_.first_pause * (int64_t{1} << std::min(tries.failed_ - 1, 20));
  wait_for = std::max(std::min(wait_for, options_.longest_pause), failure.wait.value_or(base::Duration(0)));
  if (options_.on_retry) options_.on_retry(failure.error, wait_for);
  wait(wait_for);
  return stopped() ? Result<void>(stopped_error()) : Result<void>();
}

void Remote::wait(base::Duration length) const {
  if (options_.pause) return options_.pause(length);
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(length).count();
  const int most = static_cast<int>(std::min<int64_t>(milliseconds, std::numeric_limits<int>::max()));
  if (options_.stop >= 0) {
    (void)is_readable(options_.stop, most);
  } else {
    ::poll(nullptr, 0, most);
  }
}

bool Remote::stopped() const {
  return is_readable(options_.stop, 0);
}

Error Remote::stopped_error() const {
  return {ErrorCode::cancelled, fmt::format("fetching {} was stopped; what has come is kept, and the same command goes "
                                            "on with it",
                                            name_.text())};
}

}  // namespace tidemill::hub
