#include "gateway/access_log.hpp"

#include <chrono>

#include <gtest/gtest.h>

#include "base/json.hpp"
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

}  // namespace
}  // namespace tidemill::gateway
