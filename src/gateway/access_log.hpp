// One line of JSON for each request that was answered. Never what was answered, and what was asked only by choice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "gateway/line_log.hpp"

namespace tidemill::gateway {

// Of what clients have named, so that a line stays one.
inline constexpr size_t longest_logged_path = 200;
inline constexpr size_t longest_logged_method = 20;

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
  std::string_view route;  // that `model` names, and the version or model of it that was chosen
  std::string_view target;
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
  std::string_view asked;  // the body; empty: not to be told
};

// The line, with its line break.
std::string access_line(const AccessRecord& record);

// Thread-safe.
class AccessLog {
 public:
  // See LineLog. io, param "gateway.access_log".
  base::Result<void> open(const std::string& path);
  base::Result<LineFile> prepare(const std::string& path) const;
  void use(LineFile file) { lines_.use(std::move(file)); }
  bool enabled() const { return lines_.enabled(); }

  void write(const AccessRecord& record);
  void flush() { lines_.flush(); }

 private:
  LineLog lines_{"the access log"};
};

}  // namespace tidemill::gateway
