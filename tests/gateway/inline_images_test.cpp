#include "gateway/inline_images.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tidemill::gateway {
namespace {

const std::string picture(1000, 'A');

TEST(InlineImages, AreFoundInEveryDialect) {
  const std::string url = "data:image/png;base64," + picture;
  const std::string chat =
      R"([{"role":"user","content":[{"type":"text","text":"what?"},{"type":"image_url","image_url":{"url":")" + url +
      R"("}},{"type":"image_url","image_url":{"detail":"low", "url" : ")" + url + R"("}}]}])";
  EXPECT_EQ(inline_images(chat).count, 2);
  EXPECT_EQ(inline_images(chat).bytes, 2 * url.size());
  const std::string responses = R"([{"role":"user","content":[{"type":"input_image","image_url":")" + url + R"("}]}])";
  EXPECT_EQ(inline_images(responses).count, 1);
  EXPECT_EQ(inline_images(responses).bytes, url.size());
  for (const std::string& source : {R"({"type":"base64","media_type":"image/jpeg","data":")" + picture + "\"}",
                                    R"({ "data" : ")" + picture + R"(", "media_type":"image/png","type":"base64"})"}) {
    const std::string messages =
        R"([{"role":"user","content":[{"type":"tool_result","content":[{"type":"image","source": )" + source + "}]}]}]";
    EXPECT_EQ(inline_images(messages).count, 1) << messages;
    EXPECT_EQ(inline_images(messages).bytes, picture.size());
  }
  // As encoders write it that escape slashes.
  EXPECT_EQ(inline_images(R"([{"image_url":{"url":"data:image\/png;base64,AA\/A"}}])").count, 1);
}

// All of these are text to the model, or not here.
TEST(InlineImages, AreNotWhatIsSaidOfThem) {
  const std::string url = "data:image/png;base64," + picture;
  const std::vector<std::string> prompts = {
      "",
      "\"base64\"",
      R"([{"role":"user","content":")" + url + "\"}]",
      R"([{"content":[{"type":"text","text":")" + url + "\"}]}]",
      R"([{"content":"{\"url\":\"data:image/png;base64,AAAA\"}"}])",
      R"([{"content":"{\"source\":{\"type\":\"base64\",\"media_type\":\"image/png\",\"data\":\"AAAA\"}}"}])",
      R"([{"image_url":{"url":"https://example.com/base64.png"}}])",
      R"([{"image_url":{"url":"data:image/png;base64,now comes a text"}}])",
      R"([{"image_url":{"url":"data:image/png;base64,cut)",
      R"([{"source":{"type":"url","media_type":"image/png","data":"base64"}}])",
      R"([{"source":{"type":"base64","media_type":"application/pdf","data":"AAAA"}}])",
      R"("base64","source")",
      R"("base64","source":)",
      R"({"source":{"type":"base64","data":)"};
  for (const std::string& prompt : prompts) {
    EXPECT_EQ(inline_images(prompt).count, 0) << prompt;
    EXPECT_EQ(inline_images(prompt).bytes, 0U) << prompt;
  }
}

// Each would be read to its end if all were.
TEST(InlineImages, SourcesWithinSourcesAreReadAFewTimesAlone) {
  std::string nested = R"("base64")";
  for (int i = 0; i < 200'000; ++i)
    nested += R"({"source":)";
  EXPECT_EQ(inline_images(nested).count, 0);
}

}  // namespace
}  // namespace tidemill::gateway
