// Folders with a tiktoken.model in place of tokenizer.json: text has the ids that tiktoken's own algorithm gives, and
// what is wrong with the file is said.
#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/json.hpp"
#include "encoder_writer.hpp"
#include "expect_says.hpp"
#include "folder_fixture.hpp"
#include "model/convert.hpp"
#include "model/hugging_face/base64.hpp"
#include "model/hugging_face/tiktoken_file.hpp"
#include "model/vocabulary.hpp"
#include "temporary_folder.hpp"
#include "text/tokenizer.hpp"
#include "translated_tokenizer.hpp"
#include "words_of.hpp"

namespace tidemill::model {
namespace {

using base::ErrorCode;
using test::base64;
using test::FolderDraft;
using text::Token;
using text::TokenKind;
namespace json = base::json;

// Tokens by rank.
using Ranked = std::vector<std::string>;

std::string file_of(const Ranked& tokens) {
  std::string file;
  for (size_t rank = 0; rank < tokens.size(); ++rank)
    file += fmt::format("{} {}\n", base64(tokens[rank]), rank);
  return file;
}

// tiktoken's algorithm, as plainly as it can be written: a word that is a token is it; else of all neighbours those
// merge first whose text together has the lowest rank, the leftmost of them, until none has one.
std::vector<Token> encode_plainly(const Ranked& tokens, const std::vector<std::string>& words) {
  std::map<std::string, Token> ranks;
  for (size_t rank = 0; rank < tokens.size(); ++rank)
    ranks[tokens[rank]] = static_cast<Token>(rank);
  std::vector<Token> ids;
  for (const std::string& word : words) {
    std::vector<std::string> parts;
    if (ranks.contains(word)) {
      parts = {word};
    } else {
      for (const char c : word)
        parts.emplace_back(1, c);
    }
    while (true) {
      size_t best = parts.size();
      Token lowest = 0;
      for (size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = ranks.find(parts[i] + parts[i + 1]);
        if (found == ranks.end() || (best != parts.size() && found->second >= lowest)) continue;
        best = i;
        lowest = found->second;
      }
      if (best == parts.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    for (const std::string& part : parts)
      ids.push_back(ranks.at(part));
  }
  return ids;
}

// Every byte, whose rank is its number, and these.
Ranked every_byte_and(const Ranked& more) {
  Ranked tokens;
  for (int byte = 0; byte < 256; ++byte)
    tokens.emplace_back(1, static_cast<char>(byte));
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

// Every byte, in an order of its own.
Ranked bytes_in_any_order(std::mt19937& random) {
  Ranked tokens = every_byte_and({});
  std::shuffle(tokens.begin(), tokens.end(), random);
  return tokens;
}

TEST(Base64, IsBytes) {
  // RFC 4648, section 10.
  const std::map<std::string_view, std::string_view> vectors = {{"", ""},
                                                                {"f", "Zg=="},
                                                                {"fo", "Zm8="},
                                                                {"foo", "Zm9v"},
                                                                {"foob", "Zm9vYg=="},
                                                                {"fooba", "Zm9vYmE="},
                                                                {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(base64_bytes(text), bytes);
    EXPECT_EQ(base64_bytes(text.substr(0, text.find('='))), bytes);
  }
  std::string all;
  for (int byte = 0; byte < 256; ++byte)
    all += static_cast<char>(byte);
  for (size_t begin = 0; begin < 4; ++begin)
    EXPECT_EQ(base64_bytes(base64(all.substr(begin))), all.substr(begin));
}

TEST(Base64, IsNothingElse) {
  const std::map<std::string_view, std::vector<std::string_view>> others = {
      {"one digit more than bytes have", {"Q", "QUJDR", "QUJDREVGR", "Q===", "QUJDR==="}},
      {"padding that does not fill up",
       {"=", "==", "QUJD=", "QUJD==", "QUJD===", "QUJD====", "QUI==", "QQ=", "QQ======"}},
      {"bits behind the last byte", {"QR==", "QR", "QW==", "QUJ=", "QUJ", "QUJDQf=="}},
      {"other characters", {"QU-D", "QU_D", "QU D", "QUJD\n", " QUJD", "QQ=Q", "=QQ=", "QQ==QQ==", "QQ== "}}};
  for (const auto& [why, texts] : others) {
    for (const std::string_view text : texts)
      EXPECT_EQ(base64_bytes(text), std::nullopt) << why << ": " << text;
  }
}

class Tiktoken : public testing::Test {
 protected:
  Tiktoken() {
    draft_.tokenizer_config = {
        {"auto_map", {{"AutoTokenizer", json::array{"tokenization_kimi.TikTokenTokenizer", nullptr}}}},
        {"tokenizer_class", "TikTokenTokenizer"}};
  }

  base::Result<test::Translated> read(const std::string& file, size_t tokens,
                                      const std::function<void(FolderDraft&)>& change = {}) {
    FolderDraft draft = draft_;
    if (change) change(draft);
    std::filesystem::remove_all(folder_.path() / "model");
    draft.write(folder_.path() / "model");
    folder_.put("model/tiktoken.model", file);
    return test::translate(folder_.path() / "model", tokens);
  }

  std::string refusal(ErrorCode code, const std::string& file, const std::function<void(FolderDraft&)>& change = {}) {
    const auto read_now = read(file, 300, change);
    if (read_now) return "(accepted)";
    EXPECT_EQ(read_now.error().code(), code) << read_now.error().to_string();
    return read_now.error().to_string();
  }

  test::TemporaryFolder folder_;
  FolderDraft draft_;
};

// Tokens at random, most of which no training would give: some are made by merges in one way, some in several, and some
// in none.
TEST_F(Tiktoken, TextHasTheIdsOfItsOwnAlgorithm) {
  std::mt19937 random(11);
  const std::vector<std::string> letters = {"a", "b", "c", "A", " ", "'s", "é", "中", "1"};
  const auto text_of = [&](size_t most) {
    std::string text;
    for (size_t count = random() % most + 1; count > 0; --count)
      text += letters[random() % letters.size()];
    return text;
  };
  for (int round = 0; round < 20; ++round) {
    Ranked tokens = bytes_in_any_order(random);
    while (tokens.size() < 400) {
      std::string token = text_of(6);
      token = token.substr(random() % 2, 1 + random() % 9);  // also parts of characters
      if (token.empty() || std::find(tokens.begin(), tokens.end(), token) != tokens.end()) continue;
      tokens.push_back(std::move(token));
    }
    if (round % 2 == 0) std::shuffle(tokens.begin(), tokens.end(), random);
    auto translated = read(file_of(tokens), tokens.size());
    ASSERT_TRUE(translated) << translated.error().to_string();
    EXPECT_EQ(translated->vocabulary.pre, "kimi-k2");
    const auto tokenizer = text::Tokenizer::create(std::move(translated->vocabulary));
    ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();
    for (int i = 0; i < 200; ++i) {
      const std::string text = text_of(40);
      const auto ids = (*tokenizer)->encode(text).value();
      EXPECT_EQ(ids, encode_plainly(tokens, test::words_of("kimi-k2", text))) << "'" << text << "'";
      EXPECT_EQ((*tokenizer)->decode(ids, false), text);
    }
  }
}

TEST_F(Tiktoken, SpecialTokensStandBehindTheRanks) {
  const Ranked tokens = every_byte_and({"ab"});
  const auto special = [](std::string_view content, bool is_special) {
    return json::object{{"content", content}, {"special", is_special}, {"lstrip", false}, {"rstrip", false}};
  };
  auto translated = read(file_of(tokens), 264, [&](FolderDraft& d) {
    d.tokenizer_config["added_tokens_decoder"] = {
        {"257", special("[BOS]", true)}, {"258", special("[EOS]", true)}, {"261", special("<|call|>", false)}};
    d.tokenizer_config["bos_token"] = "[BOS]";
    d.tokenizer_config["eos_token"] = "[EOS]";
  });
  ASSERT_TRUE(translated) << translated.error().to_string();
  text::Vocabulary vocabulary = std::move(translated->vocabulary);
  ASSERT_EQ(vocabulary.pieces.size(), 264U);
  EXPECT_EQ(std::vector<std::string>(vocabulary.pieces.begin() + 256, vocabulary.pieces.end()),
            (std::vector<std::string>{"ab", "[BOS]", "[EOS]", "<|reserved_token_259|>", "<|reserved_token_260|>",
                                      "<|call|>", "[PAD262]", "[PAD263]"}));
  EXPECT_EQ(vocabulary.kinds[256], TokenKind::normal);
  EXPECT_EQ(vocabulary.kinds[257], TokenKind::control);
  EXPECT_EQ(vocabulary.kinds[259], TokenKind::control);
  EXPECT_EQ(vocabulary.kinds[261], TokenKind::user_defined);
  EXPECT_EQ(vocabulary.kinds[262], TokenKind::unused);
  EXPECT_EQ(vocabulary.merges, std::vector<std::string>{"a b"});
  EXPECT_EQ(vocabulary.bos, 257);
  EXPECT_EQ(vocabulary.eos, 258);
  EXPECT_FALSE(vocabulary.add_bos || vocabulary.add_eos);
  EXPECT_TRUE(vocabulary.ignore_merges);
  const auto tokenizer = text::Tokenizer::create(std::move(vocabulary)).value();
  EXPECT_EQ(tokenizer->encode("[BOS]ba<|call|>b[EOS]", {.parse_special = true}).value(),
            (std::vector<Token>{257, 'b', 'a', 261, 'b', 258}));
}

// The pieces of bytes are GPT-2's, and lines may end as they do in other places.
TEST_F(Tiktoken, LinesAreBytesAndRanks) {
  std::string others;
  for (int byte = 0, rank = 3; byte < 255; ++byte) {
    if (byte != ' ') others += fmt::format("{} {}\r\n", base64(std::string(1, static_cast<char>(byte))), rank++);
  }
  const auto translated = read(others + "IA== 1\r\n/w== 0\r\n\r\nIP8= 2", 257);
  ASSERT_TRUE(translated) << translated.error().to_string();
  const std::vector<std::string>& pieces = translated->vocabulary.pieces;
  ASSERT_EQ(pieces.size(), 257U);
  EXPECT_EQ(std::vector<std::string>(pieces.begin(), pieces.begin() + 3), (std::vector<std::string>{"ÿ", "Ġ", "Ġÿ"}));
  EXPECT_EQ(translated->vocabulary.merges, std::vector<std::string>{"Ġ ÿ"});
}

TEST_F(Tiktoken, SaysWhatIsWrong) {
  const std::string good = file_of(every_byte_and({"ab"}));
  for (const char* line :
       {"YQ==", "YQ== x", "YQ== -1", "Y!== 257", "YWJjZ 257", "YWJj==== 257", " 257", "YQ== 257 4"}) {
    EXPECT_SAYS(
        refusal(ErrorCode::corrupt, good + line + "\n"),
        fmt::format("tiktoken.model: line 258 is '{}'; expected a token's bytes in base64, a space and its rank",
                    line));
  }
  EXPECT_SAYS(refusal(ErrorCode::corrupt, good + "YWE= 258\n"),
              "there are 258 tokens, but none of the rank 257, or two");
  EXPECT_SAYS(refusal(ErrorCode::corrupt, good + "YWE= 256\n"),
              "there are 258 tokens, but none of the rank 256, or two");
  EXPECT_SAYS(refusal(ErrorCode::corrupt, good + "YQ== 257\n"), "the tokens of the ranks 97 and 257 are the same");
  EXPECT_SAYS(
      refusal(ErrorCode::unsupported, base64(std::string(30000, 'a')) + " 0\n"),
      "tiktoken.model: up to line 1, the squares of the tokens' lengths in bytes add up to 900000000; supported "
      "are at most 536870912");
  EXPECT_SAYS(refusal(ErrorCode::corrupt, good, [](FolderDraft& d) { d.tokenizer_config["eos_token"] = "[EOS]"; }),
              "tokenizer_config.json: 'eos_token' is '[EOS]', which is no token of tiktoken.model");
  const auto code = [&](json::value value) {
    return refusal(ErrorCode::unsupported, good, [&](FolderDraft& d) {
      d.tokenizer_config["auto_map"] = {{"AutoTokenizer", std::move(value)}};
    });
  };
  EXPECT_SAYS(code("tokenization_other.TikTokenTokenizer"),
              "tokenizer_config.json: 'auto_map.AutoTokenizer' is \"tokenization_other.TikTokenTokenizer\", and the "
              "code that it names says how the tokens of 'tiktoken.model' are used; known are "
              "tokenization_kimi.TikTokenTokenizer and tokenization_moonshot.TikTokenTokenizer");
  EXPECT_SAYS(refusal(ErrorCode::unsupported, good, [](FolderDraft& d) { d.tokenizer_config.erase("auto_map"); }),
              "'auto_map.AutoTokenizer' is absent");
  EXPECT_EQ(code("moonshotai/Moonlight--tokenization_moonshot.TikTokenTokenizer"), "(accepted)");
  for (const char* id : {"256", "513", "x", "-3"}) {
    EXPECT_SAYS(refusal(ErrorCode::corrupt, good,
                        [&](FolderDraft& d) {
                          d.tokenizer_config["added_tokens_decoder"] = {{id, {{"content", "[BOS]"}}}};
                        }),
                fmt::format("'added_tokens_decoder.{}' is no id of a special token; 'tiktoken.model' has 257 tokens, "
                            "and special ones are 257 to 512",
                            id));
  }
  // A vocabulary that the model has no rows for.
  const auto small = read(good, 256);
  ASSERT_FALSE(small);
  EXPECT_SAYS(small.error().to_string(),
              "tiktoken.model: token 'ab' of 'model.vocab' has the id 256, but the model has 256 tokens");
  // Where there is a tokenizer.json, it is read.
  const auto both = read("nonsense", 1, [](FolderDraft& d) {
    d.tokenizer = json::object{{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                               {"model", {{"vocab", {{"a", 0}}}, {"merges", json::array()}}}};
  });
  ASSERT_TRUE(both) << both.error().to_string();
  EXPECT_EQ(both->vocabulary.pre, "gpt-2");
}

// Text that no longer token has is made of bytes: one without a token would vanish from it.
TEST_F(Tiktoken, EveryByteHasAToken) {
  const auto without = [&](std::string_view bytes) {
    Ranked tokens = every_byte_and({"ab", " \xFF"});
    for (const char byte : bytes)
      tokens.erase(std::find(tokens.begin(), tokens.end(), std::string(1, byte)));
    return refusal(ErrorCode::corrupt, file_of(tokens));
  };
  EXPECT_EQ(without(""), "(accepted)");
  EXPECT_SAYS(without("c"),
              "tiktoken.model: no token is the byte 0x63 by itself; expected one for each of the 256 bytes, without "
              "which text would be lost");
  EXPECT_SAYS(without("c\n\xFF"), "no token is the byte 0x0A by itself");
  EXPECT_SAYS(without("\xFF"), "no token is the byte 0xFF by itself");
  EXPECT_SAYS(refusal(ErrorCode::corrupt, ""), "no token is the byte 0x00 by itself");
}

class TiktokenFolder : public test::FolderFixture {};

// As Kimi K2 is published, in small: FP8 aside, which has tests of its own.
TEST_F(TiktokenFolder, AModelIsReadAndConvertedWithIt) {
  use("deepseek3-tiny");
  std::mt19937 random(3);
  Ranked tokens = bytes_in_any_order(random);
  for (const char* token : {"th", "the", " the", "中文"})
    tokens.emplace_back(token);
  draft_.tokenizer.reset();
  draft_.config["model_type"] = "kimi_k2";
  draft_.tokenizer_config["auto_map"] = {{"AutoTokenizer", "tokenization_kimi.TikTokenTokenizer"}};
  draft_.tokenizer_config["added_tokens_decoder"] = {{"260", {{"content", "[BOS]"}, {"special", true}}},
                                                     {"261", {{"content", "[EOS]"}, {"special", true}}},
                                                     {"515", {{"content", "[PAD]"}, {"special", true}}}};
  draft_.tokenizer_config["bos_token"] = "[BOS]";
  draft_.tokenizer_config["eos_token"] = "[EOS]";
  draft_.tokenizer_config.erase("pad_token");
  draft_.write(model());
  folder_.put("model/tiktoken.model", file_of(tokens));
  const auto file = Checkpoint::open(model());
  ASSERT_TRUE(file) << file.error().to_string();
  EXPECT_TRUE(file->has_file(model() / "tiktoken.model"));
  const auto out = folder_.path() / "out.gguf";
  const auto converted = convert_model(*file, out, {});
  ASSERT_TRUE(converted) << converted.error().to_string();
  for (const auto& path : {model(), out}) {
    const Checkpoint read_now = Checkpoint::open(path).value();
    const auto tokenizer = text::Tokenizer::create(read_vocabulary(read_now).value());
    ASSERT_TRUE(tokenizer) << tokenizer.error().to_string();
    const std::string text = "Then the 中文 is the end";
    EXPECT_EQ((*tokenizer)->encode(text).value(), encode_plainly(tokens, test::words_of("kimi-k2", text)));
  }
}

}  // namespace
}  // namespace tidemill::model
