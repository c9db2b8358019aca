// One line of JSON for each request that was answered. Never what was asked or answered.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/result.hpp"

namespace tidemill::gateway {

struct AccessRecord {
  base::WallTime time;  // when the request's first byte was there
  std::string_view id;
  std::string_view trace_id;
  std::string_view peer;
  std::string_view tenant;
  std::string_view key;  // its public id
  std::string_view method;
  std::string_view path;  // without the query
  std::string_view model;
  std::string_view backend;  // that answered; of several, the last
  int status = 0;            // 499: the client went before there was one; what was sent where it went later
  base::Duration duration{};
  base::Duration first_byte{};  // until the first byte of the answer; 0: there was none
  int64_t prompt_tokens = -1;   // -1: not known, here and below
  int64_t cached_tokens = -1;
  int64_t output_tokens = -1;
  std::string_view cost;  // in the currency of the policy
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
  int tries = 0;
  int resumed = 0;         // how often the stream was taken up elsewhere
  std::string_view error;  // why the answer is none, or broke off
};

// The line, with its line break.
std::string access_line(const AccessRecord& record);

// Thread-safe. Lines are collected and written together: when there are many, on `flush`, and at the end.
class AccessLog {
 public:
  AccessLog() = default;
  ~AccessLog();
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  // From now on to the file at `path`, which is appended to and made where there is none; "-" is standard output, ""
  // nothing. The same path opens it anew, for after a rotation. io, param "gateway.access_log": it cannot be opened;
  // then everything stays as it was.
  base::Result<void> open(const std::string& path);
  bool enabled() const { return enabled_; }

  void write(const AccessRecord& record);
  void flush();

 private:
  void flush_locked();

  std::atomic<bool> enabled_{false};
  std::mutex mutex_;
  std::string lines_;
  int fd_ = -1;
  bool failing_ = false;
};

}  // namespace tidemill::gateway
