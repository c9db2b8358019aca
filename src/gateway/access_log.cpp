#include "gateway/access_log.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <ctime>
#include <utility>

#include <fmt/format.h>

#include "base/eight_bytes.hpp"
#include "base/json.hpp"
#include "base/utf8.hpp"

namespace tidemill::gateway {

namespace {

// Writes at the end of a string that grows in large steps: strings look after their size with every piece, and fmt
// reads its formats anew for every line. That was a tenth of what a request costs.
class LineWriter {
 public:
  explicit LineWriter(std::string& line) : line_(line), used_(line.size()) { line_.resize(used_ + usual_line); }
  ~LineWriter() { line_.resize(used_); }
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  void raw(std::string_view text) {
    std::memcpy(room(text.size()), text.data(), text.size());
    used_ += text.size();
  }
  template <size_t N>
  void raw(const char (&text)[N]) {
    std::memcpy(room(N), text, N - 1);
    used_ += N - 1;
  }

  void number(int64_t number) {
    constexpr size_t longest = 20;
    char* const at = room(longest);
    used_ += static_cast<size_t>(std::to_chars(at, at + longest, number).ptr - at);
  }

  // Of three digits, with its leading zeros.
  void thousandths(int64_t number) {
    char* const at = room(3);
    at[0] = static_cast<char>('0' + number / 100);
    at[1] = static_cast<char>('0' + number / 10 % 10);
    at[2] = static_cast<char>('0' + number % 10);
    used_ += 3;
  }

 private:
  static constexpr size_t usual_line = 1024;

  char* room(size_t bytes) {
    if (line_.size() - used_ < bytes) line_.resize(used_ + bytes + usual_line);
    return line_.data() + used_;
  }

  std::string& line_;
  size_t used_;
};

// 2026-01-02T03:04:05.678Z
void write_time(LineWriter& line, base::WallTime time) {
  const int64_t milliseconds = base::unix_nanos(time) / 1'000'000;
  static thread_local int64_t of = -1;
  static thread_local std::string seconds;  // made once a second and thread
  if (std::exchange(of, milliseconds / 1000) != milliseconds / 1000) {
    std::tm parts{};
    const std::time_t second = of;
    gmtime_r(&second, &parts);
    seconds = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                          parts.tm_hour, parts.tm_min, parts.tm_sec);
  }
  line.raw(std::string_view(seconds));
  line.thousandths(milliseconds % 1000);
  line.raw("Z");
}

// What stands in JSON as it is: printable ASCII but for the quote and the backslash.
bool is_plain(std::string_view text) {
  using namespace base::eight_bytes;
  return !base::any_of_bytes(text, [](uint64_t eight) {
    return beyond_ascii(eight) | below(eight, ' ') | equal(eight, 0x7f) | equal(eight, '"') | equal(eight, '\\');
  });
}

// The keys of a line come with what surrounds them: `,"key":`.
template <size_t N>
void write_text(LineWriter& line, const char (&key)[N], std::string_view value) {
  if (value.empty()) return;
  line.raw(key);
  if (is_plain(value)) {
    line.raw("\"");
    line.raw(value);
    line.raw("\"");
  } else {
    line.raw(std::string_view(base::json::serialize(base::json::string(base::utf8::sanitize(value)))));
  }
}

template <size_t N>
void write_count(LineWriter& line, const char (&key)[N], int64_t count) {
  if (count < 0) return;
  line.raw(key);
  line.number(count);
}

// To the microsecond.
template <size_t N>
void write_milliseconds(LineWriter& line, const char (&key)[N], base::Duration duration) {
  const int64_t micros = (std::max<int64_t>(duration.count(), 0) + 500) / 1000;
  line.raw(key);
  line.number(micros / 1000);
  line.raw(".");
  line.thousandths(micros % 1000);
}

void append_line(std::string& lines, const AccessRecord& record) {
  LineWriter line(lines);
  line.raw(R"({"time":")");
  write_time(line, record.time);
  line.raw("\"");
  write_text(line, R"(,"id":)", record.id);
  write_text(line, R"(,"trace_id":)", record.trace_id);
  write_text(line, R"(,"peer":)", record.peer);
  write_text(line, R"(,"tenant":)", record.tenant);
  write_text(line, R"(,"key":)", record.key);
  write_text(line, R"(,"method":)", record.method);
  write_text(line, R"(,"path":)", record.path);
  write_text(line, R"(,"model":)", record.model);
  write_text(line, R"(,"route":)", record.route);
  write_text(line, R"(,"target":)", record.target);
  write_text(line, R"(,"backend":)", record.backend);
  write_count(line, R"(,"status":)", record.status);
  write_milliseconds(line, R"(,"duration_ms":)", record.duration);
  if (record.first_byte.count() > 0) write_milliseconds(line, R"(,"ttfb_ms":)", record.first_byte);
  write_count(line, R"(,"prompt_tokens":)", record.prompt_tokens);
  write_count(line, R"(,"cached_tokens":)", record.cached_tokens);
  write_count(line, R"(,"output_tokens":)", record.output_tokens);
  write_text(line, R"(,"cost":)", record.cost);
  write_count(line, R"(,"bytes_in":)", static_cast<int64_t>(record.bytes_in));
  write_count(line, R"(,"bytes_out":)", static_cast<int64_t>(record.bytes_out));
  write_count(line, R"(,"tries":)", record.tries);
  write_count(line, R"(,"resumed":)", record.resumed);
  write_text(line, R"(,"error":)", record.error);
  write_text(line, R"(,"asked":)", record.asked);
  line.raw("}\n");
}

}  // namespace

std::string access_line(const AccessRecord& record) {
  std::string line;
  append_line(line, record);
  return line;
}

base::Result<void> AccessLog::open(const std::string& path) {
  TM_TRY(LineFile file, prepare(path));
  use(std::move(file));
  return {};
}

base::Result<LineFile> AccessLog::prepare(const std::string& path) const {
  auto file = lines_.prepare(path);
  if (!file) return std::move(file).error().with_param("gateway.access_log");
  return file;
}

void AccessLog::write(const AccessRecord& record) {
  if (!enabled()) return;
  lines_.write_with([&record](std::string& lines) { append_line(lines, record); });
}

}  // namespace tidemill::gateway
