#include "base/nameless_file.hpp"

#include <fcntl.h>
#include <filesystem>
#include <span>
#include <string>
#include <unistd.h>
#include <utility>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "base/positioned_io.hpp"
#include "temporary_folder.hpp"

namespace tidemill::base {
namespace {

namespace fs = std::filesystem;

TEST(PositionedIo, BytesAtAPlaceAreAllThereOrCounted) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "file";
  ASSERT_TRUE(write_file(path, "0123456789"));
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  ASSERT_TRUE(write_at(fd, std::as_bytes(std::span("abc", 3)), 8, path));
  std::string found(6, '-');
  EXPECT_EQ(read_at(fd, std::as_writable_bytes(std::span(found)), 2, path).value(), 6U);
  EXPECT_EQ(found, "234567");
  EXPECT_EQ(read_at(fd, std::as_writable_bytes(std::span(found)), 7, path).value(), 4U);
  EXPECT_EQ(found, "7abc67");
  EXPECT_EQ(read_at(fd, std::as_writable_bytes(std::span(found)), 100, path).value(), 0U);
  ::close(fd);
  for (const auto& failed : {write_at(fd, std::as_bytes(std::span("a", 1)), 0, path).error(),
                             read_at(fd, std::as_writable_bytes(std::span(found)), 0, path).error()}) {
    EXPECT_EQ(failed.code(), ErrorCode::io);
    EXPECT_NE(failed.to_string().find(path.string()), std::string::npos) << failed.to_string();
  }
}

TEST(NamelessFile, KeepsBytesAndLeavesNothing) {
  const test::TemporaryFolder folder;
  {
    auto made = NamelessFile::create(folder.path());
    ASSERT_TRUE(made) << made.error().to_string();
    const NamelessFile file = std::move(*made);
    EXPECT_TRUE(fs::is_empty(folder.path()));
    EXPECT_TRUE(file.claim(4096));
    ASSERT_TRUE(file.write_at(std::as_bytes(std::span("abc", 3)), 5000));
    std::string found(3, '-');
    ASSERT_TRUE(file.read_at(std::as_writable_bytes(std::span(found)), 5000));
    EXPECT_EQ(found, "abc");
    const auto beyond = file.read_at(std::as_writable_bytes(std::span(found)), 5001);
    ASSERT_FALSE(beyond);
    EXPECT_EQ(beyond.error().code(), ErrorCode::io);
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  const auto nowhere = NamelessFile::create(folder.path() / "none");
  ASSERT_FALSE(nowhere);
  EXPECT_EQ(nowhere.error().code(), ErrorCode::not_found);
}

}  // namespace
}  // namespace tidemill::base
