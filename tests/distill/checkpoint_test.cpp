// The file that a training goes on from: whole or refused.
#include "distill/checkpoint.hpp"

#include <fstream>
#include <limits>

#include <gtest/gtest.h>

#include "base/file.hpp"
#include "expect_says.hpp"
#include "model/small_disk.hpp"
#include "temporary_folder.hpp"

namespace tidemill::distill {
namespace {

class Checkpoint : public testing::Test {
 protected:
  std::string refusal(uint64_t fingerprint = 7) const {
    const auto state = load_state(path_, fingerprint);
    return state ? "loaded" : state.error().to_string();
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_.path() / "student.gguf.checkpoint";
  TrainingState state_{.fingerprint = 7,
                       .step = 1234,
                       .seconds = 56.5,
                       .arrays = {{"matrix", {2, 3}, {1, 2, 3, 4, 5, 0.1F}},
                                  {"matrix/momentum", {2, 3}, {0, 0, -0.0F, 1e-40F, 0, 0}},
                                  {"vector", {1}, {std::numeric_limits<float>::max()}},
                                  {"empty", {0}, {}}}};
};

TEST_F(Checkpoint, IsReadAsItWasWritten) {
  ASSERT_TRUE(save_state(state_, path_));
  const auto found = load_state(path_, 7);
  ASSERT_TRUE(found) << found.error().to_string();
  EXPECT_EQ(found->step, 1234);
  EXPECT_EQ(found->seconds, 56.5);
  ASSERT_EQ(found->arrays.size(), state_.arrays.size());
  for (size_t i = 0; i < state_.arrays.size(); ++i) {
    EXPECT_EQ(found->arrays[i].name, state_.arrays[i].name);
    EXPECT_EQ(found->arrays[i].shape, state_.arrays[i].shape);
    EXPECT_EQ(found->arrays[i].values, state_.arrays[i].values);
  }
  EXPECT_EQ(folder_.entries(), 1);
}

TEST_F(Checkpoint, OfAnotherTrainingIsRefused) {
  ASSERT_TRUE(save_state(state_, path_));
  EXPECT_SAYS(refusal(8), "the checkpoint of another training, after 1234 steps");
  EXPECT_SAYS(refusal(8), "--restart");
}

TEST_F(Checkpoint, IsWholeOrRefused) {
  ASSERT_TRUE(save_state(state_, path_));
  const std::string whole = base::read_file(path_).value();
  // Every cut, and a changed bit in every byte.
  for (size_t i = 0; i < whole.size(); ++i) {
    folder_.put(path_.filename(), std::string_view(whole).substr(0, i));
    EXPECT_NE(refusal(), "loaded") << i;
    std::string changed = whole;
    changed[i] = static_cast<char>(changed[i] ^ 4);
    folder_.put(path_.filename(), changed);
    EXPECT_NE(refusal(), "loaded") << i;
  }
  folder_.put(path_.filename(), "something else");
  EXPECT_SAYS(refusal(), "is in the way, and no checkpoint");
  std::filesystem::remove(path_);
  EXPECT_EQ(load_state(path_, 7).error().code(), base::ErrorCode::not_found);
}

TEST_F(Checkpoint, StaysWhereTheNextOneFindsAFullDisk) {
  ASSERT_TRUE(save_state(state_, path_));
  TrainingState next = state_;
  next.step = 2000;
  next.arrays.push_back({"large", {1 << 20}, std::vector<float>(1 << 20)});
  base::Result<void> saved;
  {
    const test::SmallDisk disk;
    disk.end_at(100'000);
    saved = save_state(next, path_);
  }
  ASSERT_FALSE(saved);
  EXPECT_EQ(saved.error().code(), base::ErrorCode::io);
  EXPECT_EQ(load_state(path_, 7).value().step, 1234);
  EXPECT_EQ(folder_.entries(), 1);
}

}  // namespace
}  // namespace tidemill::distill
