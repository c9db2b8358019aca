#include "hub/fake_hub.hpp"

#include <algorithm>
#include <charconv>
#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "hub/digest.hpp"
#include "wire/http_message.hpp"

namespace tidemill::test {

namespace {

constexpr std::string_view kTree = "/api/models/acme/tiny/tree/";
constexpr std::string_view kRevision = "/api/models/acme/tiny/revision/";
constexpr std::string_view kFile = "/acme/tiny/resolve/";
constexpr int kMostRequests = 200;

bool in_lfs(std::string_view path) {
  return path.ends_with(".gguf") || path.ends_with(".safetensors");
}

std::string entry(const std::string& path, const std::string& content, bool with_oid) {
  const auto oid = [&](hub::DigestKind kind) {
    return with_oid ? fmt::format(R"("oid": "{}", )", hub::digest_of(kind, content)) : std::string();
  };
  if (!in_lfs(path)) {
    return fmt::format(R"({{"type": "file", {}"size": {}, "path": "{}"}})", oid(hub::DigestKind::git_sha1),
                       content.size(), path);
  }
  return fmt::format(R"({{"type": "file", "oid": "{}", "size": 130, "path": "{}", "lfs": {{{}"size": {}}}}})",
                     std::string(40, '0'), path, oid(hub::DigestKind::sha256), content.size());
}

size_t number_behind(std::string_view text, std::string_view before) {
  const size_t at = text.find(before);
  size_t number = 0;
  if (at == std::string_view::npos) return 0;
  std::from_chars(text.data() + at + before.size(), text.data() + text.size(), number);
  return number;
}

}  // namespace

std::string FakeHub::Request::header(std::string_view name) const {
  const std::string start = "\r\n" + std::string(name) + ": ";
  const size_t at = head.find(start);
  if (at == std::string::npos) return {};
  const size_t begin = at + start.size();
  return head.substr(begin, head.find("\r\n", begin) - begin);
}

FakeHub::FakeHub() {
  const ScriptedServer::Script serve = [this](ScriptedConnection& connection) {
    Request request;
    request.head = connection.read_head();
    const size_t begin = request.head.find(' ') + 1;
    request.target = request.head.substr(begin, request.head.find(' ', begin) - begin);
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    std::optional<std::string> bytes;
    if (answer) bytes = answer(request);
    connection.send(bytes ? *bytes : usual_answer(request));
  };
  server_ = std::make_unique<ScriptedServer>(std::vector<ScriptedServer::Script>(kMostRequests, serve));
}

std::vector<FakeHub::Request> FakeHub::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

std::vector<FakeHub::Request> FakeHub::downloads() const {
  std::vector<Request> found = requests();
  std::erase_if(found, [](const Request& request) { return !request.target.starts_with(kFile); });
  return found;
}

std::string FakeHub::whole(int status, std::string_view headers, std::string_view body) {
  return fmt::format("HTTP/1.1 {} {}\r\n{}Content-Length: {}\r\n\r\n{}", status, wire::reason_phrase(status), headers,
                     body.size(), body);
}

std::string FakeHub::usual_answer(const Request& request) const {
  const std::string_view target = request.target;
  if (target.starts_with(kRevision)) {
    return whole(200, "", fmt::format(R"({{"id": "acme/tiny", "sha": "{}"}})", commit));
  }
  if (target.starts_with(kTree)) return tree(target);
  if (target.starts_with(kFile)) {
    const std::string rest(target.substr(kFile.size()));
    const size_t slash = rest.find('/');
    if (slash != std::string::npos && rest.substr(0, slash) == commit) return file(request, rest.substr(slash + 1));
  }
  return whole(404, "X-Error-Code: RepoNotFound\r\n", "");
}

std::string FakeHub::tree(std::string_view target) const {
  const size_t from = number_behind(target, "cursor=");
  std::string list;
  size_t at = 0;
  for (const auto& [path, content] : files) {
    if (at >= from && at < from + page) list += (list.empty() ? "" : ", ") + entry(path, content, has_oids);
    ++at;
  }
  std::string link;
  if (from + page < files.size()) {
    link = fmt::format("Link: <{}{}{}?recursive=true&cursor={}>; rel=\"next\"\r\n", url(), kTree, commit, from + page);
  }
  return whole(200, link, "[" + list + "]");
}

std::string FakeHub::file(const Request& request, const std::string& path) const {
  const auto found = files.find(path);
  if (found == files.end()) return whole(404, "X-Error-Code: EntryNotFound\r\n", "");
  const std::string& content = found->second;
  const std::string tag = fmt::format("\"{}\"", hub::digest_of(hub::DigestKind::sha256, content));
  const std::string tag_line = has_tags ? "ETag: " + tag + "\r\n" : "";
  const std::string range = request.header("Range");
  const std::string condition = request.header("If-Range");
  if (!has_ranges || range.empty() || (!condition.empty() && condition != tag)) return whole(200, tag_line, content);
  const size_t from = number_behind(range, "bytes=");
  if (from >= content.size()) return whole(416, fmt::format("Content-Range: bytes */{}\r\n", content.size()), "");
  return whole(206,
               fmt::format("{}Content-Range: bytes {}-{}/{}\r\n", tag_line, from, content.size() - 1, content.size()),
               content.substr(from));
}

StopSwitch::StopSwitch() {
  EXPECT_EQ(::pipe2(ends_, O_CLOEXEC), 0);
}

StopSwitch::~StopSwitch() {
  ::close(ends_[0]);
  ::close(ends_[1]);
}

void StopSwitch::set() const {
  EXPECT_EQ(::write(ends_[1], "x", 1), 1);
}

HubClient::HubClient(const FakeHub& hub) {
  options.endpoint = hub.url();
  options.pause = [this](base::Duration length) { pauses.push_back(length); };
  options.on_retry = [this](const base::Error& why, base::Duration) { reasons.push_back(why.to_string()); };
}

}  // namespace tidemill::test
