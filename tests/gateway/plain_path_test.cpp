#include "gateway/plain_path.hpp"

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

TEST(PlainPath, WhatClientsSendIsPlain) {
  for (const char* target : {"/v1/chat/completions", "/v1/chat/completions?x=/../y", "/v1/models/ft:m%20x", "/v1/..x",
                             "/v1/x..", "/v1/.x", "/v1/a%2Eb", "/tokenize"})
    EXPECT_EQ(why_not_plain(target), nullptr) << target;
}

TEST(PlainPath, WhatServersReadDifferentlyIsNot) {
  for (const char* target : {"//v1/chat",
                             "/v1//chat",
                             "/v1/chat/",
                             "/v1/./chat",
                             "/v1/../admin",
                             "/v1/..",
                             "/v1/.",
                             "/v1/%2e%2e/admin",
                             "/v1/%2E/x",
                             "/v1/.%2e/admin",
                             "/v1/x%2Fy",
                             "/v1/x%2fy",
                             "/v1/x\\y",
                             "/v1/x%5cy",
                             "/v1/..\\..\\admin",
                             "/v1/embeddings;x=1",
                             "/v1/embeddings%3bx",
                             "/v1/embeddings#x",
                             "/v1/embeddings?a#x",
                             "/v1/x%0d%0ay",
                             "/v1/x%7f",
                             "/v1/x%00",
                             "/v1/x%2",
                             "/",
                             "v1/x",
                             ""})
    EXPECT_NE(why_not_plain(target), nullptr) << target;
}

}  // namespace
}  // namespace tidemill::gateway
