// Files of parts, stopped at every part and in the middle of one, and told lies about.
#include "quantize/partial_file.hpp"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "temporary_folder.hpp"

namespace tidemill::quantize {
namespace {

namespace fs = std::filesystem;

using base::ErrorCode;

class Partial : public testing::Test {
 protected:
  using File = std::unique_ptr<PartialFile>;

  base::Result<File> open(PartialOptions options = {.fingerprint = 7, .restart = false, .flush_bytes = 1}) {
    return PartialFile::open(path_, header_, {100, 1, 64, 3000}, 32, options);
  }
  base::Result<void> check(PartialOptions options = {.fingerprint = 7, .restart = false, .flush_bytes = 1}) {
    return PartialFile::check(path_, header_, {100, 1, 64, 3000}, 32, options);
  }
  // The content of a part.
  static std::string part(size_t index) {
    const std::vector<size_t> sizes = {100, 1, 64, 3000};
    std::string text(sizes[index], '\0');
    for (size_t i = 0; i < text.size(); ++i)
      text[i] = static_cast<char>('a' + (index * 7 + i) % 26);
    return text;
  }
  static void write(PartialFile& file, size_t parts) {
    while (file.done() < parts) {
      const std::string text = part(file.done());
      const size_t half = text.size() / 2;
      ASSERT_TRUE(file.write(std::as_bytes(std::span(text).first(half))));
      ASSERT_TRUE(file.write(std::as_bytes(std::span(text).subspan(half))));
    }
  }
  std::string whole() const {
    std::string text = header_;
    for (size_t i = 0; i < 4; ++i) {
      text += part(i);
      while ((text.size() - header_.size()) % 32 != 0)
        text += '\0';
    }
    return text;
  }

  test::TemporaryFolder folder_;
  fs::path path_ = folder_.path() / "out.bin";
  std::string header_ = std::string("header of 32 bytes, more or less") + std::string(32, '.');
};

TEST_F(Partial, IsHeaderAndPaddedParts) {
  auto file = open();
  ASSERT_TRUE(file) << file.error().to_string();
  write(**file, 4);
  EXPECT_FALSE(fs::exists(path_));
  ASSERT_TRUE((*file)->finish());
  EXPECT_EQ(base::read_file(path_).value(), whole());
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(Partial, GoesOnWhereItWas) {
  for (size_t stop = 0; stop <= 4; ++stop) {
    {
      auto file = open();
      ASSERT_TRUE(file);
      write(**file, stop);
      // And a piece of the next, which is written again.
      if (stop < 3) {
        const std::string torn = part(stop).substr(0, part(stop).size() / 2);
        ASSERT_TRUE((*file)->write(std::as_bytes(std::span(torn))));
      }
    }
    auto again = open();
    ASSERT_TRUE(again) << again.error().to_string();
    EXPECT_EQ((*again)->done(), stop);
    write(**again, 4);
    ASSERT_TRUE((*again)->finish());
    EXPECT_EQ(base::read_file(path_).value(), whole());
    EXPECT_EQ(folder_.entries(), 1);
    fs::remove(path_);
  }
}

TEST_F(Partial, WhatIsNotPutDownIsWrittenAgain) {
  {
    auto file = open({.fingerprint = 7, .restart = false, .flush_bytes = 1'000'000});
    ASSERT_TRUE(file);
    write(**file, 3);
  }
  EXPECT_EQ((*open())->done(), 0U);
  {
    auto file = open({.fingerprint = 7, .restart = false, .flush_bytes = 1'000'000});
    ASSERT_TRUE(file);
    write(**file, 2);
    ASSERT_TRUE((*file)->flush());
  }
  EXPECT_EQ((*open())->done(), 2U);
}

TEST_F(Partial, IsNotTakenForWhatItWillBe) {
  const auto begins_unfinished = [this] {
    return base::read_file(partial_path(path_)).value().starts_with(model::kUnfinishedMagic);
  };
  for (size_t stop = 0; stop <= 4; ++stop) {
    auto file = open();
    ASSERT_TRUE(file);
    write(**file, stop);
    EXPECT_TRUE(begins_unfinished()) << stop;
  }
  {  // A kill may come between the last bytes and the name.
    std::fstream out(partial_path(path_), std::ios::in | std::ios::out | std::ios::binary);
    out << header_.substr(0, model::kUnfinishedMagic.size());
  }
  auto file = open();
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ((*file)->done(), 4U);
  EXPECT_TRUE(begins_unfinished());
  ASSERT_TRUE((*file)->finish());
  EXPECT_EQ(base::read_file(path_).value(), whole());
}

TEST_F(Partial, TrustsNoJournalOverTheBytes) {
  {
    auto file = open();
    ASSERT_TRUE(file);
    write(**file, 3);
  }
  {
    std::fstream out(partial_path(path_), std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(static_cast<std::streamoff>(header_.size() + 128));  // the second part
    out.put('?');
  }
  auto file = open();
  ASSERT_TRUE(file);
  EXPECT_EQ((*file)->done(), 1U);
  write(**file, 4);
  ASSERT_TRUE((*file)->finish());
  EXPECT_EQ(base::read_file(path_).value(), whole());
}

TEST_F(Partial, ATornLineOfTheJournalIsLeftOut) {
  {
    auto file = open();
    ASSERT_TRUE(file);
    write(**file, 2);
  }
  const std::string journal = base::read_file(journal_path(path_)).value();
  for (size_t cut = 1; cut <= 18; ++cut) {
    std::ofstream(journal_path(path_), std::ios::binary) << journal.substr(0, journal.size() - cut);
    auto file = open();
    ASSERT_TRUE(file);
    EXPECT_EQ((*file)->done(), 1U) << cut;
  }
}

TEST_F(Partial, OfSomethingElseIsRefusedOrThrownAway) {
  {
    auto file = open();
    ASSERT_TRUE(file);
    write(**file, 2);
  }
  PartialOptions other{.fingerprint = 8, .restart = false, .flush_bytes = 1};
  const auto refused = open(other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::invalid_argument);
  EXPECT_NE(refused.error().to_string().find("out.bin.partial' is the unfinished file of another model"),
            std::string::npos);
  EXPECT_EQ((*open())->done(), 2U);  // nothing was lost by it
  header_[0] = 'H';
  EXPECT_FALSE(open());
  header_[0] = 'h';
  other.restart = true;
  {
    auto file = open(other);
    ASSERT_TRUE(file);
    EXPECT_EQ((*file)->done(), 0U);
  }
  EXPECT_FALSE(open());
}

TEST_F(Partial, AJournalThatWasLeftAloneIsNoObstacle) {
  {
    auto file = open();
    ASSERT_TRUE(file);
    write(**file, 2);
  }
  fs::remove(partial_path(path_));
  auto file = open({.fingerprint = 8, .restart = false, .flush_bytes = 1});
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_EQ((*file)->done(), 0U);
  write(**file, 4);
  ASSERT_TRUE((*file)->finish());
  EXPECT_EQ(base::read_file(path_).value(), whole());
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(Partial, FilesOfThoseNamesThatAreNotOursAreNotTouched) {
  for (const fs::path& path : {partial_path(path_), journal_path(path_)}) {
    std::ofstream(path) << "a download of somebody's";
    for (const bool restart : {false, true}) {
      const PartialOptions options{.fingerprint = 7, .restart = restart, .flush_bytes = 1};
      const auto refused = open(options);
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().code(), ErrorCode::invalid_argument);
      EXPECT_NE(refused.error().to_string().find("'" + path.string() + "' is in the way"), std::string::npos)
          << refused.error().to_string();
      EXPECT_EQ(check(options).error().code(), ErrorCode::invalid_argument);
      EXPECT_EQ(base::read_file(path).value(), "a download of somebody's");
      EXPECT_EQ(folder_.entries(), 1);
    }
    fs::remove(path);
  }
}

TEST_F(Partial, LinksOfThoseNamesAreNotFollowed) {
  const fs::path theirs = path_.parent_path() / "theirs";
  std::ofstream(theirs) << "";
  for (const fs::path& path : {partial_path(path_), journal_path(path_)}) {
    for (const fs::path& target : {theirs, path_.parent_path() / "nothing"}) {
      fs::create_symlink(target, path);
      const auto refused = open();
      ASSERT_FALSE(refused);
      EXPECT_NE(refused.error().to_string().find("'" + path.string() + "' is in the way"), std::string::npos)
          << refused.error().to_string();
      EXPECT_EQ(check().error().code(), ErrorCode::invalid_argument);
      EXPECT_EQ(folder_.entries(), 2);
      EXPECT_EQ(fs::file_size(theirs), 0U);
      fs::remove(path);
    }
  }
}

TEST_F(Partial, WithoutItsJournalItIsRefusedForThat) {
  {
    auto file = open();
    ASSERT_TRUE(file);
    write(**file, 2);
  }
  const std::string left = base::read_file(partial_path(path_)).value();
  fs::remove(journal_path(path_));
  for (const bool restart : {false, true}) {
    const auto refused = open({.fingerprint = 7, .restart = restart, .flush_bytes = 1});
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().to_string().find("unfinished file without its journal"), std::string::npos)
        << refused.error().to_string();
    EXPECT_EQ(base::read_file(partial_path(path_)).value(), left);
    EXPECT_EQ(folder_.entries(), 1);
  }
}

TEST_F(Partial, AnErrorLeavesNothingThatWasNotThere) {
  fs::create_directory(journal_path(path_));
  EXPECT_FALSE(open());
  EXPECT_EQ(folder_.entries(), 1);
  fs::remove(journal_path(path_));
  fs::create_directory(partial_path(path_));
  EXPECT_FALSE(open());
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(Partial, IsWrittenByOneAtATime) {
  auto first = open();
  ASSERT_TRUE(first);
  const auto second = open();
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::unavailable);
  EXPECT_EQ(check().error().code(), ErrorCode::unavailable);
  EXPECT_EQ(folder_.entries(), 2);
}

TEST_F(Partial, IsItsWritersUntilItHasItsName) {
  auto file = open();
  ASSERT_TRUE(file);
  write(**file, 4);
  fs::create_directory(path_);
  EXPECT_FALSE((*file)->finish());
  fs::remove(path_);
  const auto other = open();
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code(), ErrorCode::unavailable);
  ASSERT_TRUE((*file)->finish());
  EXPECT_EQ(base::read_file(path_).value(), whole());
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(Partial, IsCheckedBeforeItIsBegun) {
  EXPECT_TRUE(check());
  EXPECT_EQ(folder_.entries(), 0);
  {
    auto file = open();
    ASSERT_TRUE(file);
    write(**file, 2);
  }
  EXPECT_TRUE(check());
  PartialOptions other{.fingerprint = 8, .restart = false, .flush_bytes = 1};
  EXPECT_EQ(check(other).error().code(), ErrorCode::invalid_argument);
  other.restart = true;
  EXPECT_TRUE(check(other));
  // Where the header is not known yet, the fingerprint is.
  EXPECT_TRUE(PartialFile::check(path_, {}, {}, 32, {.fingerprint = 7}));
  EXPECT_FALSE(PartialFile::check(path_, {}, {}, 32, {.fingerprint = 8}));
  EXPECT_FALSE(PartialFile::check(path_, "another", {}, 32, {.fingerprint = 7}));
  EXPECT_EQ((*open())->done(), 2U);  // nothing was lost by it
  const auto large = PartialFile::check(folder_.path() / "large", header_, {uint64_t{1} << 60}, 32, {});
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), ErrorCode::io);
  EXPECT_NE(large.error().to_string().find("bytes left, and the file takes"), std::string::npos);
  // So is what is there before it.
  const auto before = check({.fingerprint = 7, .before_bytes = uint64_t{1} << 60});
  ASSERT_FALSE(before);
  EXPECT_EQ(before.error().code(), ErrorCode::io);
  EXPECT_NE(before.error().to_string().find("calibrating 1152921504606846976"), std::string::npos)
      << before.error().to_string();
  EXPECT_EQ(PartialFile::check(folder_.path() / "no" / "out.bin", header_, {}, 32, {}).error().code(),
            ErrorCode::not_found);
  EXPECT_EQ(folder_.entries(), 2);
}

TEST_F(Partial, DiscardedLeavesNothing) {
  auto file = open();
  ASSERT_TRUE(file);
  write(**file, 2);
  (*file)->discard();
  EXPECT_EQ(folder_.entries(), 0);
}

TEST_F(Partial, ADiskThatIsTooSmallSaysSoAtOnce) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small{2000, limit.rlim_max};
  const auto ignored = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto full = open();
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, ignored);
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), ErrorCode::io);
  EXPECT_NE(full.error().to_string().find("cannot claim"), std::string::npos) << full.error().to_string();
  EXPECT_EQ(folder_.entries(), 0);
}

TEST_F(Partial, FoldersAreNotWrittenOver) {
  fs::create_directory(path_);
  const auto refused = open();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::io);
  fs::remove(path_);
  path_ = folder_.path() / "no" / "such" / "out.bin";
  EXPECT_EQ(open().error().code(), ErrorCode::not_found);
}

TEST_F(Partial, ALinkStaysALink) {
  const fs::path real = folder_.put("real.bin", "old");
  fs::create_symlink(real, path_);
  auto file = open();
  ASSERT_TRUE(file);
  write(**file, 4);
  ASSERT_TRUE((*file)->finish());
  EXPECT_TRUE(fs::is_symlink(path_));
  EXPECT_EQ(base::read_file(real).value(), whole());
}

}  // namespace
}  // namespace tidemill::quantize
