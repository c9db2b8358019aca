#include "base/file.hpp"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "temporary_folder.hpp"

namespace tidemill::base {
namespace {

namespace fs = std::filesystem;

TEST(File, ReadsBackWhatWasWritten) {
  const test::TemporaryFolder folder;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, size_t{1'000'003}}) {
    std::string content(size, '\0');
    for (size_t i = 0; i < size; ++i)
      content[i] = static_cast<char>(i * 31);
    const fs::path path = folder.path() / "file";
    ASSERT_TRUE(write_file(path, content));
    const auto read = read_file(path);
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(*read, content);
    EXPECT_TRUE(read_file(path, size));
    if (size > 0) {
      EXPECT_EQ(read_file(path, size - 1).error().code(), ErrorCode::too_large);
    }
    const auto mapped = MappedFile::open(path);
    ASSERT_TRUE(mapped);
    ASSERT_EQ(mapped->bytes().size(), size);
    if (size > 0) {
      EXPECT_EQ(std::memcmp(mapped->bytes().data(), content.data(), size), 0);
    }
  }
  // Nothing temporary is left behind.
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
}

TEST(File, KernelFilesWithoutASizeAreReadWhole) {
  const auto status = read_file("/proc/self/status");
  ASSERT_TRUE(status);
  EXPECT_NE(status->find("VmRSS"), std::string::npos);
  EXPECT_EQ(read_file("/dev/zero", 100'000).error().code(), ErrorCode::too_large);
}

TEST(File, FailuresSayWhatAndWhich) {
  const test::TemporaryFolder folder;
  const fs::path absent = folder.path() / "absent";
  EXPECT_EQ(read_file(absent).error().code(), ErrorCode::not_found);
  EXPECT_NE(read_file(absent).error().message().find(absent.string()), std::string::npos);
  EXPECT_EQ(MappedFile::open(absent).error().code(), ErrorCode::not_found);
  EXPECT_EQ(read_file(folder.path()).error().code(), ErrorCode::io);
  EXPECT_EQ(MappedFile::open(folder.path()).error().code(), ErrorCode::io);
  EXPECT_EQ(MappedFile::open("/dev/null").error().code(), ErrorCode::io);
  EXPECT_EQ(write_file(folder.path(), "x").error().code(), ErrorCode::io);
  EXPECT_FALSE(write_file(absent / "child", "x"));
}

TEST(File, NamedPipeIsRefusedWithoutWaiting) {
  const test::TemporaryFolder folder;
  const fs::path pipe = folder.path() / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(MappedFile::open(pipe).error().code(), ErrorCode::io);
  EXPECT_EQ(read_regular_file(pipe).error().code(), ErrorCode::io);
}

TEST(File, RegularOnesAreReadAndNothingElse) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.put("real", "four");
  fs::create_symlink("real", folder.path() / "link");
  EXPECT_EQ(*read_regular_file(path), "four");
  EXPECT_EQ(*read_regular_file(folder.path() / "link", 4), "four");
  EXPECT_EQ(read_regular_file(path, 3).error().code(), ErrorCode::unsupported);
  EXPECT_EQ(read_regular_file(folder.path() / "absent").error().code(), ErrorCode::not_found);
  EXPECT_EQ(read_regular_file(folder.path()).error().code(), ErrorCode::io);
  EXPECT_EQ(read_regular_file("/dev/null").error().code(), ErrorCode::io);
  EXPECT_EQ(*read_file("/dev/null"), "");
}

TEST(File, LargeMapsBeginAtABorderOfHugePages) {
  const test::TemporaryFolder folder;
  constexpr size_t huge = size_t{2} << 20;
  for (const size_t size : {size_t{1}, huge - 4096, huge, huge + 1, 2 * huge - 4096, 3 * huge - 1}) {
    std::string content(size, 'x');
    content.back() = 'y';
    const auto mapped = MappedFile::open(folder.put("map", content));
    ASSERT_TRUE(mapped) << mapped.error().to_string();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(mapped->bytes().data()) % huge, 0U);
    ASSERT_EQ(mapped->bytes().size(), size);
    EXPECT_EQ(std::memcmp(mapped->bytes().data(), content.data(), size), 0);
  }
}

TEST(File, WritingKeepsModeLinksAndDevices) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.put("real", "old");
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  fs::create_symlink("real", folder.path() / "link");
  ASSERT_TRUE(write_file(folder.path() / "link", "new"));
  EXPECT_TRUE(fs::is_symlink(folder.path() / "link"));
  EXPECT_EQ(*read_file(path), "new");
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  ASSERT_TRUE(write_file("/dev/null", "swallowed"));
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

TEST(File, GrowsOutOfSightAndTakesItsPlaceWhole) {
  const test::TemporaryFolder folder;
  const fs::path real = folder.put("real", "old");
  fs::create_symlink("real", folder.path() / "link");
  {
    auto dropped = FileWriter::create(real);
    ASSERT_TRUE(dropped) << dropped.error().to_string();
    ASSERT_TRUE(dropped->write(bytes_of("dropped")));
  }
  EXPECT_EQ(*read_file(real), "old");
  auto writer = FileWriter::create(folder.path() / "link");
  ASSERT_TRUE(writer) << writer.error().to_string();
  ASSERT_TRUE(writer->write(bytes_of("new")));
  ASSERT_TRUE(writer->write(bytes_of("er")));
  EXPECT_EQ(*read_file(real), "old");
  ASSERT_TRUE(writer->finish());
  EXPECT_EQ(*read_file(real), "newer");
  EXPECT_TRUE(fs::is_symlink(folder.path() / "link"));
  EXPECT_EQ(fs::status(real).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 2);
}

// The file is made where the link points, which may be through others.
TEST(File, IsMadeBehindALinkToNothing) {
  const test::TemporaryFolder folder;
  fs::create_directory(folder.path() / "below");
  fs::create_symlink("below/second", folder.path() / "first");
  fs::create_symlink(folder.path() / "real", folder.path() / "below" / "second");
  const fs::path link = folder.path() / "first";
  const auto expect_content = [&](std::string_view content) {
    EXPECT_TRUE(fs::is_symlink(link));
    EXPECT_TRUE(fs::is_symlink(folder.path() / "below" / "second"));
    EXPECT_FALSE(fs::is_symlink(folder.path() / "real"));
    EXPECT_EQ(*read_file(folder.path() / "real"), content);
  };
  ASSERT_TRUE(write_file(link, "whole"));
  expect_content("whole");
  fs::remove(folder.path() / "real");
  auto writer = FileWriter::create(link);
  ASSERT_TRUE(writer) << writer.error().to_string();
  ASSERT_TRUE(writer->write(bytes_of("grown")));
  EXPECT_FALSE(fs::exists(link)) << "not before it is whole";
  ASSERT_TRUE(writer->finish());
  expect_content("grown");
}

TEST(File, IsNotMadeWhereLinksLeadNowhere) {
  const test::TemporaryFolder folder;
  fs::create_symlink("a", folder.path() / "b");
  fs::create_symlink("b", folder.path() / "a");
  fs::create_symlink("missing/file", folder.path() / "c");
  for (const char* name : {"a", "c"}) {
    EXPECT_FALSE(write_file(folder.path() / name, "x")) << name;
    EXPECT_FALSE(FileWriter::create(folder.path() / name)) << name;
    EXPECT_TRUE(fs::is_symlink(folder.path() / name)) << name;
  }
}

TEST(File, OfAKilledWriterNothingIsLeft) {
  const test::TemporaryFolder folder;
  const int probe = ::open(folder.path().c_str(), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600);
  if (probe < 0) GTEST_SKIP() << "this file system has no files without a name";
  ::close(probe);
  const pid_t child = ::fork();
  if (child == 0) {
    auto writer = FileWriter::create(folder.path() / "file");
    ::_exit(writer && writer->write(bytes_of("half")) ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

// Under a temporary name of the same file, and held by nobody; nothing else.
TEST(File, WhatKilledWritersHaveLeftIsRemoved) {
  const test::TemporaryFolder folder;
  folder.put("file.0123456789ab.tmp", "left");
  const fs::path held = folder.put("file.ba9876543210.tmp", "still being written");
  folder.put("file.0123456789abc.tmp", "of another name");
  folder.put("file.0123456789aX.tmp", "of another name");
  folder.put("other.0123456789ab.tmp", "of another file");
  fs::create_directory(folder.path() / "file.aaaaaaaaaaaa.tmp");
  fs::create_symlink(folder.put("precious", "data"), folder.path() / "file.bbbbbbbbbbbb.tmp");
  const int fd = ::open(held.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd);
    GTEST_SKIP() << "this file system has no locks";
  }
  auto file = NewFile::create(folder.path() / "file", 0644);
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_FALSE(fs::exists(folder.path() / "file.0123456789ab.tmp"));
  EXPECT_TRUE(fs::exists(held));
  EXPECT_TRUE(fs::exists(folder.path() / "precious"));
  EXPECT_TRUE(fs::is_symlink(folder.path() / "file.bbbbbbbbbbbb.tmp"));
  // Nor does a second writer take the first one's, with a name or without.
  auto second = NewFile::create(folder.path() / "file", 0644);
  ASSERT_TRUE(second) << second.error().to_string();
  ASSERT_TRUE(write_all(file->fd(), "first", "file"));
  ASSERT_TRUE(write_all(second->fd(), "second", "file"));
  ASSERT_TRUE(file->finish());
  EXPECT_EQ(*read_file(folder.path() / "file"), "first");
  ASSERT_TRUE(second->finish());
  EXPECT_EQ(*read_file(folder.path() / "file"), "second");
  EXPECT_EQ(folder.entries(), 8);  // the file, what is held, two names, another file, the folder, the link and its file
  ::close(fd);
}

TEST(File, MapOutlivesItsNameMovesAndReleases) {
  const test::TemporaryFolder folder;
  const std::string content(3 * 4096 + 17, 'x');
  auto opened = MappedFile::open(folder.put("map", content));
  ASSERT_TRUE(opened);
  MappedFile first = std::move(opened).value();
  fs::remove(folder.path() / "map");
  MappedFile second = std::move(first);
  EXPECT_TRUE(first.bytes().empty());  // NOLINT(bugprone-use-after-move)
  for (const size_t offset : {size_t{0}, size_t{1}, size_t{4096}, content.size(), content.size() + 1, ~size_t{0}}) {
    for (const size_t length : {size_t{0}, size_t{1}, size_t{9000}, ~size_t{0}})
      second.release(offset, length);
  }
  EXPECT_TRUE(std::all_of(second.bytes().begin(), second.bytes().end(), [](auto b) { return b == std::byte{'x'}; }));
}

}  // namespace
}  // namespace tidemill::base
