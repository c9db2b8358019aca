// Moments on the disk: what comes back is what was put there, and nothing stays behind.
#include "quantize/moment_file.hpp"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <random>
#include <sys/resource.h>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "temporary_folder.hpp"

namespace tidemill::quantize {
namespace {

namespace fs = std::filesystem;

class MomentFileTest : public testing::Test {
 protected:
  // Of more columns than a stretch has.
  Moments moments_of(uint32_t seed, int64_t rows, int64_t cols = kMostCorrelated + 32) {
    std::mt19937 random(seed);
    std::normal_distribution<float> distribution;
    std::vector<float> x(static_cast<size_t>(rows * cols));
    for (float& value : x)
      value = distribution(random);
    Moments moments(cols);
    moments.add(x.data(), rows, cols, team_);
    return moments;
  }
  static void expect_same(Moments found, Moments expected) {
    EXPECT_EQ(found.cols(), expected.cols());
    EXPECT_EQ(found.rows(), expected.rows());
    const auto pieces = found.pieces();
    const auto others = expected.pieces();
    ASSERT_EQ(pieces.size(), others.size());
    size_t bytes = 0;
    for (size_t i = 0; i < pieces.size(); ++i) {
      EXPECT_TRUE(std::equal(pieces[i].begin(), pieces[i].end(), others[i].begin(), others[i].end()));
      bytes += pieces[i].size_bytes();
    }
    EXPECT_EQ(bytes, Moments::bytes(found.cols()));
  }

  const test::TemporaryFolder folder_;
  base::ThreadTeam team_{1};
};

TEST_F(MomentFileTest, GivesBackWhatWasPutThere) {
  auto file = MomentFile::create(folder_.path(), 2 * Moments::bytes(kMostCorrelated + 32));
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_TRUE(fs::is_empty(folder_.path())) << "the file has a name";
  const auto first = file->put(moments_of(1, 3));
  const auto second = file->put(moments_of(2, 5, 64));
  ASSERT_TRUE(first && second);
  for (int time = 0; time < 2; ++time) {
    auto found = file->get(*second);
    ASSERT_TRUE(found) << found.error().to_string();
    expect_same(std::move(*found), moments_of(2, 5, 64));
  }
  auto found = file->get(*first);
  ASSERT_TRUE(found) << found.error().to_string();
  expect_same(std::move(*found), moments_of(1, 3));
}

TEST_F(MomentFileTest, SaysWhatIsWrongWithTheFolder) {
  const auto file = MomentFile::create(folder_.path() / "none", 0);
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code(), base::ErrorCode::not_found);
  EXPECT_NE(file.error().to_string().find("none"), std::string::npos) << file.error().to_string();
}

TEST_F(MomentFileTest, SaysAtOnceThatADiskIsTooSmall) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto signal = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const auto claimed = MomentFile::create(folder_.path(), 8192);
  auto file = MomentFile::create(folder_.path(), 0);
  base::Result<MomentFile::Place> put = MomentFile::Place{};
  if (file) put = file->put(moments_of(1, 3, 64));  // of 8,320 bytes
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, signal);
  ASSERT_FALSE(claimed);
  EXPECT_EQ(claimed.error().code(), base::ErrorCode::io);
  EXPECT_NE(claimed.error().to_string().find("8192 bytes"), std::string::npos) << claimed.error().to_string();
  ASSERT_TRUE(file);
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code(), base::ErrorCode::io);
}

}  // namespace
}  // namespace tidemill::quantize
