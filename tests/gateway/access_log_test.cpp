#include "gateway/access_log.hpp"

#include <array>
#include <chrono>
#include <fcntl.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "base/json.hpp"
#include "gateway/line_log.hpp"
#include "temporary_folder.hpp"

namespace tidemill::gateway {
namespace {

using test::TemporaryFolder;

AccessRecord record_of(std::string_view path) {
  AccessRecord record;
  record.time = base::WallTime(std::chrono::milliseconds(1'767'323'045'678));
  record.id = "req-1";
  record.method = "POST";
  record.path = path;
  record.status = 200;
  record.duration = std::chrono::nanoseconds(1'234'567'890);
  record.first_byte = std::chrono::nanoseconds(9'500);
  record.prompt_tokens = 12;
  record.output_tokens = 0;
  record.bytes_in = 5'000'000'000;
  record.tries = 2;
  return record;
}

TEST(AccessLine, SaysWhatIsKnownAndNothingElse) {
  EXPECT_EQ(access_line(record_of("/v1/models")),
            R"({"time":"2026-01-02T03:04:05.678Z","id":"req-1","method":"POST","path":"/v1/models","status":200,)"
            R"("duration_ms":1234.568,"ttfb_ms":0.010,"prompt_tokens":12,"output_tokens":0,"bytes_in":5000000000,)"
            R"("bytes_out":0,"tries":2,"resumed":0})"
            "\n");
  AccessRecord later = record_of("/");
  later.time += std::chrono::milliseconds(329);
  EXPECT_NE(access_line(later).find("\"2026-01-02T03:04:06.007Z\""), std::string::npos);
}

TEST(AccessLine, IsJsonWhateverAPathHolds) {
  for (const std::string path :
       {"/a\"b", "/a\\b", "/a\x01\n", "/a\x7f", "/\xc3\xa4", "/\xff\xc3", "/\xe2\x82", "/\xf0\x9f\x8c\x8a"}) {
    const std::string line = access_line(record_of(path));
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
    const auto parsed = base::parse_json(line);
    ASSERT_TRUE(parsed) << line;
    EXPECT_TRUE(parsed->at("path").as_string().starts_with("/")) << line;
  }
  EXPECT_EQ(base::parse_json(access_line(record_of("/a\"b\\")))->at("path"), "/a\"b\\");
}

// What a pipe holds, and whoever reads it. Nothing here waits.
class Pipe {
 public:
  explicit Pipe(const std::string& path) { EXPECT_EQ(mkfifo(path.c_str(), 0600), 0); }
  ~Pipe() {
    if (fd_ >= 0) close(fd_);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void open(const std::string& path) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ASSERT_GE(fd_, 0);
  }
  // All that is there.
  std::string read() const {
    std::string all;
    std::array<char, 65536> part;
    for (ssize_t got = 0; (got = ::read(fd_, part.data(), part.size())) > 0;)
      all.append(part.data(), static_cast<size_t>(got));
    return all;
  }

 private:
  int fd_ = -1;
};

// A pipe without a reader, or with a slow one, holds up neither a reload nor the traffic.
TEST(LineLog, APipeHoldsUpNobody) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "pipe").string();
  Pipe pipe(path);
  LineLog log("the access log");
  const auto unread = log.open(path);
  ASSERT_FALSE(unread);
  EXPECT_NE(unread.error().message().find("nobody reads"), std::string::npos) << unread.error().message();
  EXPECT_FALSE(log.enabled());

  pipe.open(path);
  ASSERT_TRUE(log.open(path));
  const std::string line = std::string(999, 'x') + "\n";
  constexpr size_t fits = 500;  // more than a pipe holds, and less than is kept back
  for (size_t i = 0; i < fits; ++i)
    log.write(line);
  std::string got = pipe.read();
  for (int i = 0; i < 100 && got.size() < fits * line.size(); ++i) {
    log.flush();
    got += pipe.read();
  }
  EXPECT_EQ(got.size(), fits * line.size()) << "none is lost";

  testing::internal::CaptureStderr();
  for (size_t i = 0; i < 3000; ++i)
    log.write(line);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("cannot write the access log"), std::string::npos) << said;
  EXPECT_EQ(said.find("cannot write"), said.rfind("cannot write")) << "once: " << said;
  got.clear();
  for (std::string part = pipe.read(); !part.empty(); part = pipe.read()) {
    got += part;
    log.flush();
  }
  ASSERT_EQ(got.size() % line.size(), 0U) << "no line is torn";
  for (size_t at = 0; at < got.size(); at += line.size())
    EXPECT_EQ(got.compare(at, line.size(), line), 0);
}

}  // namespace
}  // namespace tidemill::gateway
