#include "hub/model_name.hpp"

#include <string>

#include <gtest/gtest.h>

#include "expect_says.hpp"

namespace tidemill::hub {
namespace {

TEST(HubModelName, Parts) {
  const auto plain = ModelName::parse("hf:acme/tiny-1.5_b");
  ASSERT_TRUE(plain) << plain.error().to_string();
  EXPECT_EQ(plain->repository, "acme/tiny-1.5_b");
  EXPECT_EQ(plain->revision, "main");
  EXPECT_EQ(plain->choice, "");
  const auto whole = ModelName::parse("hf:acme/tiny@refs/pr/1:sub/tiny@2:x.gguf");
  ASSERT_TRUE(whole) << whole.error().to_string();
  EXPECT_EQ(whole->repository, "acme/tiny");
  EXPECT_EQ(whole->revision, "refs/pr/1");
  EXPECT_EQ(whole->choice, "sub/tiny@2:x.gguf");
  for (const char* text : {"hf:acme/tiny", "hf:acme/tiny:Q4_K_M", "hf:acme/tiny@v1", "hf:acme/tiny@v1:a.gguf"})
    EXPECT_EQ(ModelName::parse(text)->text(), text);
  EXPECT_EQ(ModelName::parse("hf:acme/tiny@main")->text(), "hf:acme/tiny");
}

TEST(HubModelName, PathsAreNone) {
  EXPECT_TRUE(ModelName::is_one("hf:x"));
  for (const char* text : {"", "hf", "./hf:a/b", "acme/tiny", "HF:a/b"})
    EXPECT_FALSE(ModelName::is_one(text)) << text;
}

TEST(HubModelName, Refused) {
  for (const char* text : {"hf:",
                           "hf:tiny",
                           "hf:/tiny",
                           "hf:acme/",
                           "hf:acme/tiny/more",
                           "hf:acme/ti ny",
                           "hf:../tiny",
                           "hf:acme/..",
                           "hf:acme/a--b",
                           "hf:acme/tiny:",
                           "hf:acme/tiny@",
                           "hf:acme/tiny@a b",
                           "hf:acme/tiny@\xff",
                           "hf:acme/.",
                           "acme/tiny",
                           "hf:acme/tiny@..",
                           "hf:acme/tiny@.",
                           "hf:acme/tiny@../main",
                           "hf:acme/tiny@refs/./main",
                           "hf:acme/tiny@a/../b"}) {
    const auto name = ModelName::parse(text);
    ASSERT_FALSE(name) << text;
    EXPECT_EQ(name.error().code(), base::ErrorCode::invalid_argument);
    EXPECT_SAYS(name.error().message(), "hf:ORG/REPO");
  }
}

}  // namespace
}  // namespace tidemill::hub
