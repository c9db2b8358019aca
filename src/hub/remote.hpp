// The hub over HTTP, for one repository: redirects followed, what passes tried again, refusals in words that say what
// to do. Files go through redirects to servers of other hosts, which get neither the token nor anything else of ours.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "hub/listing.hpp"
#include "hub/model_name.hpp"
#include "wire/http_client.hpp"
#include "wire/http_message.hpp"
#include "wire/proxy.hpp"
#include "wire/url.hpp"

namespace tidemill::hub {

struct RemoteOptions {
  std::string endpoint = "https://huggingface.co";  // a path may follow the host
  // Sent to the endpoint alone, over https or to this machine; in no message. Empty: none.
  std::string token;
  std::string ca_file;       // PEM file of authorities to trust instead of the system's
  wire::ProxyRules proxies;  // asked for each server anew, also for those that the hub redirects to
  // In a row, without a mebibyte of progress between them.
  int max_tries = 5;
  base::Duration first_pause = std::chrono::seconds(1);  // doubles from try to try
  base::Duration longest_pause = std::chrono::seconds(30);
  // A server that asks to wait for longer ends the work.
  base::Duration longest_wait = std::chrono::minutes(6);  // the hub counts requests over five
  base::Duration idle_timeout = std::chrono::seconds(60);
  // A descriptor that is readable from when everything is to end with `cancelled`. -1: none.
  int stop = -1;
  // Waits, or returns early where `stop` is readable. Empty: by the clock.
  std::function<void(base::Duration)> pause;
  // Told before each pause why, and how long it is. May be empty.
  std::function<void(const base::Error& why, base::Duration wait)> on_retry;
};

// Why a try failed, and whether another one may not.
struct Failure {
  base::Error error;
  bool passing = false;
  int status = 0;                        // that the server answered; 0: none
  std::optional<base::Duration> wait{};  // what the server asks to wait for
  std::optional<uint64_t> whole{};       // of 416: how many bytes the server has

  // Says what was asked for, where it failed by itself.
  void name(const std::string& what);
};

// Counts tries in a row. Of one piece of work.
class Tries {
 public:
  void progressed() { failed_ = 0; }

 private:
  friend class Remote;
  int failed_ = 0;
};

// `corrupt`: the file has come twice with another digest than is listed, the last time with `found`.
base::Error wrong_content(const RepoFile& file, const std::string& found);

// Not thread-safe; calls block.
class Remote {
 public:
  // `invalid_argument` for an endpoint that is no URL, or that the token must not be sent to, also not by a proxy that
  // would read it; for a proxy that is none; and for a token that holds blanks or control characters.
  static base::Result<Remote> create(ModelName name, RemoteOptions options);

  // The commit that the name's revision stands for now, and what it holds.
  base::Result<std::string> commit();
  base::Result<std::vector<RepoFile>> list(const std::string& commit);
  // A small file, checked against its size and digest; of another digest it is fetched once more.
  base::Result<std::string> read(const RepoFile& file, const std::string& commit);

  // Where a file is fetched from.
  std::string url_of(const RepoFile& file, const std::string& commit) const;
  // One try to get what is at `url`. The receiver sees only answers of status 200 and 206; an error of its own that is
  // `unavailable` counts as passing.
  std::optional<Failure> try_get(const std::string& url, const wire::Headers& headers,
                                 const wire::HttpClient::Receiver& receiver);
  // Waits for the next try, or gives the error that ends the work.
  base::Result<void> before_next_try(Failure failure, Tries& tries);
  // Whether `stop` is readable.
  bool stopped() const;

 private:
  Remote(ModelName name, RemoteOptions options, wire::Url endpoint);
  wire::ClientRequest request_to(const wire::Url& url, const wire::Headers& headers) const;
  // `what` is named in errors; empty: nothing.
  base::Result<wire::HttpResponse> get(const std::string& url, const std::string& what = {});
  Failure refusal(const wire::Url& from, const wire::HttpResponse& head) const;
  std::string through(const wire::Url& from) const;
  Failure foreign_refusal(const wire::Url& from, const wire::HttpResponse& head) const;
  base::Error stopped_error() const;
  void wait(base::Duration length) const;

  ModelName name_;
  RemoteOptions options_;
  wire::Url endpoint_;
  std::string base_;  // the endpoint's text, without a slash at its end
  wire::HttpClient client_;
};

}  // namespace tidemill::hub
